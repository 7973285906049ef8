"""Checks and comparison as a person reads them."""

from collections.abc import Sequence

from mslab.reproduce.comparing import LOSS_FACTOR, Comparison, Metric, largest
from mslab.reproduce.differing import Check
from mslab.runtime import console
from mslab.runtime.tables import cell, empty_table, render

MATTERS = {
    "stops": "yes: another experiment",
    "matters": "yes: other figures possible",
    "bits": "last digits only",
    "no": "no",
}
VERDICTS = {"same": "same", "within": "within tolerance", "outside": "DIFFERENT", "missing": "missing in one"}


def checks_table(checks: Sequence[Check]) -> str:
    """What, then, now, whether it matters; below it, why, and which images."""
    names = ("what", "then", "now", "does it matter?")
    grid = empty_table("before it runs again", names, left=names)
    for check in checks:
        same = not check.differs
        now = "the same" if same and check.then else check.now
        matters = MATTERS[check.level] if check.level != "no" or not same else ""
        grid.add_row(cell(check.what), cell(check.then), cell(now), cell(matters))
    lines = [render(grid)]
    for check in checks:
        if check.level != "no":
            lines.append(f"{check.what}: {check.why}")
        lines += [f"    {line}" for line in check.details if check.differs]
    return console.escape_control("\n".join(lines))


def comparison_table(found: Comparison) -> str:
    grid = empty_table("figures", ("figure", "then", "now", "difference", "verdict"), left=("figure", "verdict"))
    for metric in found.metrics:
        one, two = (f"{value:.6g}" if value is not None else "–" for value in (metric.then, metric.now))
        grid.add_row(metric.name, one, two, difference(metric), VERDICTS[metric.verdict])
    for name, epoch, then, now in found.columns:
        grid.add_row(f"{name}, every epoch", f"{then:.6g}", f"{now:.6g}", "", f"parts in epoch {epoch}")
    if not found.columns and found.epoch is None:
        grid.add_row("every epoch's figures", "", "", "", "same")
    one, two = (value[:12] if value else "–" for value in found.weights)
    grid.add_row("best.ckpt (sha256)", one, two, "", "same" if one == two else "other weights")
    return render(grid)


def difference(metric: Metric) -> str:
    if metric.difference is None:
        return ""
    return f"{100 * metric.difference:.2g} %" if metric.kind == "loss" else f"{metric.difference:.4g}"


def conclusion(found: Comparison, checks: Sequence[Check]) -> str:
    """The verdict, where they part, and what differed."""
    lines = [verdict(found)]
    if found.step is not None:
        then, now = found.losses
        lines.append(f"the losses part in step {found.step}: {then} then, {now} now")
    if found.epoch is not None:
        lines.append(f"the figures part in epoch {found.epoch}")
    if found.parts and found.step is None and found.has_steps:
        lines.append("every step's loss is the same")
    lines += [f"note: {note}" for note in found.notes]
    if found.verdict != "identical":
        causes = [check.cause() for check in checks if check.level != "no"]
        lines += [f"what differed: {cause}" for cause in causes] or ["nothing that was recorded differs"]
    return console.escape_control("\n".join(lines))


def verdict(found: Comparison) -> str:
    accuracy, loss = found.tolerance, found.tolerance * LOSS_FACTOR
    kinds = largest(found.metrics)
    allowed = f"accuracies may differ by {accuracy:g}, losses by {100 * loss:.3g} %"
    if found.verdict == "identical":
        steps = ", every step's loss" if found.has_steps else ""
        weights = f" and best.ckpt ({found.weights[0][:12]}…)" if found.weights[0] else ""
        return f"identical: every epoch's figures{steps}{weights} are the same"
    if found.verdict == "within tolerance":
        one, two = kinds.get("accuracy", 0.0), kinds.get("loss", 0.0)
        return f"within tolerance: accuracies differ by at most {one:.3g}, losses by {100 * two:.2g} % ({allowed})"
    names = [metric.name for metric in found.metrics if metric.verdict in ("outside", "missing")]
    return f"different: {', '.join(names)} ({allowed})"
