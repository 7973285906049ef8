"""Write the results of grading: tables, results for Gradescope and Otter, a page per student, one for the teacher.

The three files in a student's folder depend only on that student's record and the rubric. Figures, flags and pairs are
for the teacher: only in grades.json, grades.csv, copies.csv and summary.html. No file contains a time or a path.
"""

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from jinja2 import Environment, FileSystemLoader

from mslab.escaping import escape_control
from mslab.files import for_people, make_folder, write_text
from mslab.grade import rubric as rubrics
from mslab.grade.courses import canvas_row, moodle_row, same_rows
from mslab.grade.records import Graded, Outcome
from mslab.grade.words import CHINESE, shown, shown_outcome
from mslab.inference.predicting import csv_line
from mslab.report import charts, writing
from mslab.report.single import table_of
from mslab.report.translation import translator
from mslab.runtime.tables import one_line

LONGEST = 2000  # characters of a text on a page or in a result; longer texts are cut
STATUSES = ("full", "part", "none", "manual")
SYMBOLS = {"full": "✓", "part": "◐", "none": "✗", "manual": "…"}
MEASURED = ("accuracy", "gain", "predictions", "reproduced")  # kinds whose points depend on the hidden images
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?")  # names that Windows does not allow
Texts = Iterator[tuple[str, str]]  # (file below --out, content)


def write_all(
    graded: Sequence[Graded],
    rubric: Any,
    pairs: Sequence[Mapping[str, Any]],
    out: Path,
    *,
    moodle: bool = False,
    canvas: bool = False,
    confusion: Mapping[str, tuple[Sequence[str], np.ndarray]] | None = None,
    left_out: Sequence[tuple[str, str]] = (),
    lang: str = "en",
) -> list[str]:
    """Write all files below `out`, each atomically. Returns the folders in out/students/ that an earlier run left.

    left_out: (file, reason) of what is no submission.
    pairs: {"a", "b": ids, "kind", "evidence", "likeness", "last_year"}; confusion: by network, class names and summed
    counts of all submissions, int (C, C), row = true class. Equal input gives equal bytes.
    """
    graded = sorted(graded, key=lambda g: g.id)
    pairs = sorted(pairs, key=lambda p: (-p["likeness"], p["a"], p["b"], p["kind"], p["evidence"]))
    for folder in (out, *(out / "students" / folder_of(g.id) for g in graded)):
        make_folder(folder)
    for name, text in [
        *tables(graded, rubric, pairs, moodle, canvas),
        ("grades.json", json_text(grades_content(graded, rubric, pairs, confusion or {}, left_out))),
        ("summary.html", summary(graded, rubric, pairs, confusion or {}, lang)),
    ]:
        write_text(out / name, text)
    for g in graded:
        for name, text in student_files(g, rubric, lang):
            write_text(out / "students" / folder_of(g.id) / name, text)
    written = {folder_of(g.id) for g in graded}
    existing = (out / "students").iterdir() if graded else ()
    return sorted(path.name for path in existing if path.is_dir() and path.name not in written)


def write_so_far(graded: Sequence[Graded], missing: Sequence[str], rubric: Any, out: Path) -> None:
    """Write grades.csv and grades.json of an unfinished grading, each atomically: `missing` ids have no points yet."""
    graded = sorted(graded, key=lambda g: g.id)
    make_folder(out)
    content = {"unfinished": "points so far, without pairs; the same command goes on", "missing": missing}
    write_text(out / "grades.csv", for_people(grades_table(graded, rubric, missing)))
    write_text(out / "grades.json", json_text(content | grades_content(graded, rubric, [], {})))


def student_files(g: Graded, rubric: Any, lang: str = "en") -> Texts:
    """Files of one student's folder."""
    yield "results.json", json_text(gradescope(g, rubric))
    yield "otter.json", json_text(otter(g, rubric))
    yield "feedback.html", feedback(g, rubric, lang)


def folder_of(name: str) -> str:
    """A unique folder name for this submission that every system allows.

    It depends only on the submission's name, not on other students. Names of lower-case letters and digits are
    unchanged; others get a hash, because on Windows and macOS "Anna" and "anna" are the same folder.
    """
    # folder_of("s1234567") -> "s1234567"; folder_of("Anna Ö.") -> "Anna~" and 32 digits of its hash
    if re.fullmatch(r"[a-z0-9]([a-z0-9._-]{0,58}[a-z0-9])?", name) and not RESERVED.fullmatch(name):
        return name
    # 128 bits: a student could search for a name that has the first 12 digits of another's
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return f"{re.sub('[^A-Za-z0-9]+', '_', name).strip('_')[:26] or 'id'}~{digest}"


def clean(text: Any, most: int = LONGEST) -> str:
    """Clean text from a submission: no control or direction characters except newlines; a long text is cut."""
    plain = escape_control(str(text), safe="\n").strip()
    return plain if len(plain) <= most else f"{plain[: most - 1]}…"


def number(points: float) -> str:
    # number(2.0) -> "2", number(2 / 3) -> "0.67"
    return f"{round(float(points), 2) + 0.0:.10g}"


def title_of(item: Any) -> str:
    return one_line(item.title or item.id, 120)


def secret(item: Any) -> bool:
    """Whether the points reveal something about the hidden images that the rubric does not make public."""
    return item.kind in MEASURED and not item.public


def requirement(item: Any) -> str:
    """The requirement for the student. For a secret item without its scale, which would turn points into the figure."""
    text: str = rubrics.described(item)
    return clean(re.split(", | above ", text)[0] if secret(item) else text, 400)


# --- tables ----------------------------------------------------------------------------------------------------------


def tables(
    graded: Sequence[Graded], rubric: Any, pairs: Sequence[Mapping[str, Any]], moodle: bool, canvas: bool
) -> Texts:
    """grades.csv, copies.csv and files for course systems. A cell that the teacher fills in is empty."""
    yield "grades.csv", for_people(grades_table(graded, rubric))
    lines = [line("a", "b", "kind", "likeness", "last_year", "evidence")]
    for p in pairs:
        last = "yes" if p["last_year"] else "no"
        lines.append(line(p["a"], p["b"], p["kind"], f"{p['likeness']:.4f}", last, p["evidence"]))
    yield "copies.csv", for_people("".join(lines))
    if moodle:
        yield "moodle.csv", "".join(moodle_lines(graded, rubric))
    if canvas:
        yield "canvas.csv", "".join(canvas_lines(graded, rubric))


def grades_table(graded: Sequence[Graded], rubric: Any, missing: Sequence[str] = ()) -> str:
    """Content of grades.csv: `graded`, and then the ids that are not graded yet."""
    named = any(g.name for g in graded)  # by a learning platform
    head = ["id", *["name"] * named, "total"]
    lines = [line(*head, *(item.id for item in rubric.items), "deductions", "flags")]
    for g in graded:
        points = ["" if o.status == "manual" else number(o.points) for _, o in by_item(g, rubric)]
        lines.append(line(g.id, *[g.name] * named, number(g.points), *points, number(deducted(g)), "; ".join(g.flags)))
    lines += [line(id, *[""] * (len(head) - 1 + len(rubric.items)), "", "not graded yet") for id in missing]
    return "".join(lines)


def line(*values: Any) -> str:
    """A line of CSV without control characters and without cells that a spreadsheet would run."""
    texts = [escape_control(str(value), safe="")[:32_000] for value in values]  # Excel's cells have at most 32,767
    # csv_line checks the first character; some spreadsheets trim spaces first, Japanese ones accept wide signs
    return csv_line([f"'{text}" if text.lstrip()[:1] in set("=+-@＝＋－＠") else text for text in texts])


def moodle_lines(graded: Sequence[Graded], rubric: Any) -> Iterator[str]:
    """Lines for Moodle's gradebook (Import > CSV file, "ID number") and an assignment's "Upload grading worksheet".

    The worksheet's Identifier comes from the names that Moodle gives to downloaded submissions.
    """
    shared = shared_ids(graded)
    yield line("Identifier", "Full name", "ID number", "Grade", "Maximum Grade", "Last modified (grade)",
               "Feedback comments")  # fmt: skip
    for g in graded:
        if g.given_name in shared:
            continue
        parts = [f"{title_of(item)}: {worth(item, o)}" for item, o in by_item(g, rubric)]
        parts += [f"{one_line(reason, 200)}: −{number(cost)}" for reason, cost in g.deductions]
        # Moodle parses feedback as HTML; with an empty time it warns if a grade exists already
        yield line(
            *moodle_row(g.id, g.given_name), number(g.points), number(rubric.total), "", escape("; ".join(parts))
        )


def canvas_lines(graded: Sequence[Graded], rubric: Any) -> Iterator[str]:
    """Lines for Canvas' gradebook (Import): by the user's number, or a submission's name as the student's login."""
    yield line("Student", "ID", "SIS User ID", "SIS Login ID", "Section", one_line(rubric.title, 200))
    yield line("    Points Possible", "", "", "", "", number(rubric.total))
    shared = shared_ids(graded)
    for g in graded:
        if g.given_name not in shared:
            student, user, login = canvas_row(g.id, g.given_name)
            yield line(student, user, "", login, "", number(g.points))


def shared_ids(graded: Sequence[Graded]) -> set[str]:
    """Names that a course system may take for one row; their rows are left out, so that none gets another's points."""
    return {id for ids in same_rows((g.id, g.given_name) for g in graded).values() for id in ids}


def by_item(g: Graded, rubric: Any) -> list[tuple[Any, Outcome]]:
    return [(item, g.outcomes[item.id]) for item in rubric.items]


def deducted(g: Graded) -> float:
    return sum(cost for _, cost in g.deductions)


def worth(item: Any, outcome: Outcome) -> str:
    # worth(…) -> "3 of 4", or "open, of 4" if the teacher fills it in
    return f"{'open,' if outcome.status == 'manual' else number(outcome.points)} of {number(item.points)}"


# --- JSON ------------------------------------------------------------------------------------------------------------


def json_text(content: Any) -> str:
    # ASCII: a submission's name may be invalid Unicode, and in ASCII it is restored unchanged
    return json.dumps(plain(content), indent=1, allow_nan=False) + "\n"


def plain(value: Any) -> Any:
    """Convert to JSON types: NumPy's numbers and arrays to Python's, numbers that are not finite to null."""
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(part) for part in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | None) else str(value)


def grades_content(
    graded: Sequence[Graded],
    rubric: Any,
    pairs: Sequence[Mapping[str, Any]],
    confusion: Mapping[str, Any],
    left_out: Sequence[tuple[str, str]] = (),
) -> dict[str, Any]:
    """Content of grades.json: all outcomes with their figures; of the facts only the problems with files."""
    keys = ("id", "title", "kind", "points", "public")
    students = [
        {"id": g.id, "name": g.name, "folder": folder_of(g.id), "sha256": g.sha256, "points": g.points}
        | {"outcomes": {name: vars(outcome) for name, outcome in g.outcomes.items()}}
        | {"deductions": [{"why": reason, "points": cost} for reason, cost in g.deductions], "flags": g.flags}
        | {"problems": g.facts.get("problems", [])}
        | {"engines": {name: n["engine"] for name, n in g.facts.get("networks", {}).items() if n.get("engine")}}
        for g in graded
    ]
    return {
        "mslab": "grades",
        "schema": 1,
        "rubric": {"title": rubric.title, "total": rubric.total}
        | {"items": [{key: getattr(item, key) for key in keys} for item in rubric.items]},
        "students": students,
        "not_graded": [{"file": name, "why": reason} for name, reason in left_out],
        "pairs": [dict(pair) for pair in pairs],
        "confusion": {name: {"class_names": list(c), "matrix": m} for name, (c, m) in sorted(confusion.items())},
    }


def gradescope(g: Graded, rubric: Any) -> dict[str, Any]:
    """Content of results.json, as in Gradescope's "Autograder Specifications".

    Secret items become visible when grades are published, and until then Gradescope shows no total: otherwise a student
    could upload repeatedly and learn about the hidden images from the points.
    """
    tests = []
    for item, outcome in by_item(g, rubric):
        test: dict[str, Any] = {"name": title_of(item), "output": outcome_text(outcome), "output_format": "text"}
        if outcome.status != "manual":  # a test without a score is a note; the teacher enters its points there
            test |= {"score": round(float(outcome.points), 4), "max_score": round(float(item.points), 4)}
            test |= {"status": "passed" if outcome.status == "full" else "failed"}
        tests.append(test | {"visibility": "after_published" if secret(item) else "visible"})
    lines = [
        one_line(rubric.title, 200),
        *(f"Deduction: {clean(reason)}: -{number(cost)}" for reason, cost in g.deductions),
    ]
    return {
        "score": round(float(g.points), 4),  # includes deductions; Gradescope prefers it to the sum of the tests
        "output": "\n".join(lines),
        "output_format": "text",
        "visibility": "visible",
        "stdout_visibility": "hidden",
        "tests": tests,
    }


def outcome_text(outcome: Outcome) -> str:
    text, fix = clean(outcome.said), clean(outcome.fix)
    return f"{text}\nHow to fix: {fix}" if fix else text


def otter(g: Graded, rubric: Any) -> dict[str, Any]:
    """Content as in Otter's GradingResults.to_dict(): by name, a test file with its only test case.

    Otter has no deductions; they are a test file of 0 possible points with a negative score, so that the sum is right.
    """
    rows = [
        (item.id, item.points, outcome.points, secret(item), outcome.status == "full", outcome_text(outcome))
        for item, outcome in by_item(g, rubric)
        if outcome.status != "manual"
    ]
    if g.deductions:
        lost = g.points - sum(row[2] for row in rows)
        reason = "\n".join(f"{clean(reason)}: -{number(cost)}" for reason, cost in g.deductions)
        rows.append(("deductions", 0, lost, False, False, reason))
    test_files = {}
    for name, most, points, hidden, passed, message in rows:
        case = {"name": name, "body": "", "hidden": hidden, "points": most}
        case |= {"success_message": None, "failure_message": None}
        test_files[name] = {
            "score": round(float(points), 4),
            "possible": most,
            "name": name,
            "path": "",
            "test_cases": [case],
            "all_or_nothing": False,
            "test_case_results": [{"test_case": case, "message": message, "passed": passed}],
        }
    return test_files


# --- pages -----------------------------------------------------------------------------------------------------------


def page(template: str, facts: Mapping[str, Any], lang: str) -> str:
    """Render a page in the report's style. Everything in `facts` except charts is escaped."""
    template_folders = [Path(__file__).parent, Path(writing.__file__).parent]
    environment = Environment(autoescape=True, loader=FileSystemLoader(template_folders))
    t = translator(lang, CHINESE)
    environment.globals |= {"t": t, "short": one_line, "clean": clean, "number": number, "symbols": SYMBOLS}
    text = environment.get_template(template).render(facts, lang={"zh": "zh-Hans"}.get(lang, lang))
    return escape_control(text) + "\n"


def feedback(g: Graded, rubric: Any, lang: str = "en") -> str:
    """A student's page: requirements, findings and fixes; no figures and no flags."""
    rows = [
        {"id": item.id, "title": title_of(item), "checked": shown(item, requirement(item), lang), "most": item.points}
        | {"outcome": shown_outcome(item, outcome, lang)}
        for item, outcome in by_item(g, rubric)
    ]
    who = f"{one_line(g.name)} ({one_line(g.id)})" if g.name else one_line(g.id)
    facts = {"title": f"{who}: {one_line(rubric.title)}", "g": g, "rubric": rubric, "rows": rows}
    facts |= {"open": sum(row["most"] for row in rows if row["outcome"].status == "manual")}
    return page("feedback.html", facts, lang)


def summary(
    graded: Sequence[Graded],
    rubric: Any,
    pairs: Sequence[Mapping[str, Any]],
    confusion: Mapping[str, tuple[Sequence[str], np.ndarray]],
    lang: str = "en",
) -> str:
    """The teacher's page about the entire class."""
    items = []
    for item in rubric.items:
        outcomes = [g.outcomes[item.id] for g in graded]
        counts = Counter(outcome.status for outcome in outcomes)
        scored = [outcome.points for outcome in outcomes if outcome.status != "manual"]
        mean = float(np.mean(scored)) if scored else None
        items.append({"item": item, "title": title_of(item), "mean": mean, "counts": [counts[s] for s in STATUSES]})
    networks = []
    for name, (classes, matrix) in sorted(confusion.items()):
        matrix = np.asarray(matrix)
        row = {"name": name, "classes": list(classes), "table": table_of(matrix, classes)}
        networks.append(row | {"images": int(matrix.sum()), "right": int(matrix.diagonal().sum())})
    totals = [g.points for g in graded]
    facts: dict[str, Any] = {"title": one_line(rubric.title), "rubric": rubric, "items": items, "pairs": pairs}
    facts |= {"graded": graded, "networks": networks, "statuses": STATUSES}
    facts |= {"link": lambda g: f"students/{quote(folder_of(g.id))}/feedback.html", "deducted": deducted}
    if totals:
        facts |= {"mean": float(np.mean(totals)), "median": float(np.median(totals))}
        facts |= {"lowest": min(totals), "highest": max(totals)} | distribution(totals, rubric.total, lang)
    return page("summary.html", facts, lang)


def distribution(totals: Sequence[float], most: float, lang: str) -> dict[str, Any]:
    """Ten bins from 0 to the rubric's total, as a chart and as rows (from, to, count)."""
    t = translator(lang, CHINESE)
    edges = [float(edge) for edge in np.linspace(0, max(most, *totals, 1e-9), 11)]
    counts = [int(count) for count in np.histogram(totals, edges)[0]]
    bins = list(zip(edges, edges[1:], counts, strict=False))
    tips = [t("{low} to {high} points: {n}").format(low=number(a), high=number(b), n=n) for a, b, n in bins]
    chart = charts.histogram(counts, edges, t("How the totals are distributed"), t("points"), tips)
    return {"chart": chart, "bins": bins}
