"""Checks and comparison as text: tables and the verdict."""

from collections.abc import Sequence

from mslab.escaping import escape_control
from mslab.reproduce.comparing import LOSS_FACTOR, Comparison, Metric, largest
from mslab.reproduce.differing import Check
from mslab.runtime.tables import cell, empty_table, render

MATTERS = {
    "stops": "yes: a different experiment",
    "matters": "yes: figures may differ",
    "bits": "last digits only",
    "no": "no",
}
VERDICTS = {"same": "same", "within": "within tolerance", "outside": "DIFFERENT", "missing": "missing in one"}


def checks_table(checks: Sequence[Check]) -> str:
    """Table of what, then, now and whether it matters; below it the reasons and the images that differ."""
    names = ("what", "then", "now", "does it matter?")
    grid = empty_table("checks before the repetition", names, left=names)
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
    return escape_control("\n".join(lines))


def comparison_table(comparison: Comparison) -> str:
    grid = empty_table("figures", ("figure", "then", "now", "difference", "verdict"), left=("figure", "verdict"))
    grid.leave_out, grid.complete = ("difference", "then", "now"), "--json FILE"
    for metric in comparison.metrics:
        then_text, now_text = (f"{value:.6g}" if value is not None else "–" for value in (metric.then, metric.now))
        grid.add_row(metric.name, then_text, now_text, difference(metric), VERDICTS[metric.verdict])
    for name, epoch, then, now in comparison.columns:
        grid.add_row(f"{name}, every epoch", f"{then:.6g}", f"{now:.6g}", "", f"differs from epoch {epoch} on")
    if not comparison.columns and comparison.epoch is None:
        grid.add_row("every epoch's figures", "", "", "", "same")
    then_text, now_text = (value[:12] if value else "–" for value in comparison.weights)
    grid.add_row(
        "best.ckpt (sha256)", then_text, now_text, "", "same" if then_text == now_text else "different weights"
    )
    return render(grid)


def difference(metric: Metric) -> str:
    if metric.difference is None:
        return ""
    return f"{100 * metric.difference:.2g} %" if metric.kind == "loss" else f"{metric.difference:.4g}"


def conclusion(comparison: Comparison, checks: Sequence[Check]) -> str:
    """The verdict, the first step and epoch that differ, and the possible causes."""
    lines = [verdict(comparison)]
    if comparison.step is not None:
        then, now = comparison.losses
        lines.append(f"the losses differ from step {comparison.step} on: {then} then, {now} now")
    if comparison.epoch is not None:
        lines.append(f"the figures differ from epoch {comparison.epoch} on")
    if comparison.first_difference and comparison.step is None and comparison.has_steps:
        lines.append("every step's loss is the same")
    lines += [f"note: {note}" for note in comparison.notes]
    if comparison.verdict != "identical":
        causes = [check.cause() for check in checks if check.level != "no"]
        lines += [f"what differed: {cause}" for cause in causes] or ["nothing that was recorded differs"]
    return escape_control("\n".join(lines))


def verdict(comparison: Comparison) -> str:
    accuracy, loss = comparison.tolerance, comparison.tolerance * LOSS_FACTOR
    kinds = largest(comparison.metrics)
    allowed = f"accuracies may differ by {accuracy:g}, losses by {100 * loss:.3g} %"
    if comparison.verdict == "identical":
        steps = ", every step's loss" if comparison.has_steps else ""
        weights = f" and best.ckpt ({comparison.weights[0][:12]}…)" if comparison.weights[0] else ""
        return f"identical: every epoch's figures{steps}{weights} are the same"
    if comparison.verdict == "within tolerance":
        most, relative = kinds.get("accuracy", 0.0), kinds.get("loss", 0.0)
        return (
            f"within tolerance: accuracies differ by at most {most:.3g}, losses by {100 * relative:.2g} % ({allowed})"
        )
    names = [metric.name for metric in comparison.metrics if metric.verdict in ("outside", "missing")]
    return f"different: {', '.join(names)} ({allowed})"
