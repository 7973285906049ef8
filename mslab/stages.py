"""The table of stages that a network is built from: what is wrong with one, in a config, a checkpoint or model.py.

It needs no MindSpore, so a table that is wrong ends a command before its data is checked.
"""

import ast
import operator
from pathlib import Path
from typing import Any

from mslab.errors import MODEL, ConfigError, MslabError, broken_code

COLUMNS = {"blocks": 256, "width": 4096, "stride": 32}  # of a row, with the largest number of each
MOST_ROWS = 16
ROW = "[3, 64, 1]"
EXPECTED = f"1 to {MOST_ROWS} rows such as {ROW}: " + ", ".join(f"{name} 1 to {top}" for name, top in COLUMNS.items())


def stage_table(table: Any, source: str = "stages") -> list[list[int]]:
    """The table as a list of [blocks, width, stride]. Raises ConfigError that names every row that is wrong.

    `source`: what the table is, for the message.
    """
    rows, problems = read_table(table)
    if problems:
        raise wrong_table(source, problems)
    return rows


def wrong_table(source: str, problems: list[tuple[str, str]]) -> ConfigError:
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    return ConfigError(
        f"{source}: the table of stages has {count}.",
        details=problems,
        expected=EXPECTED,
        fix=f"correct what is named above; [{ROW}, [4, 128, 2]] is a table of two rows",
    )


def read_table(table: Any) -> tuple[list[list[int]], list[tuple[str, str]]]:
    """Return (the table, [(row, what is wrong with it)]). Rows are lists, tuples or arrays."""
    # read_table([(3, 64, 1), (4, 128)]) -> ([[3, 64, 1]], [("row 2", "(4, 128) has 2 numbers, not ...")])
    if not is_row(table):
        return [], [("table", f"{shown(table)} is not a list of rows")]
    if not 1 <= len(table) <= MOST_ROWS:
        return [], [("table", f"it has {len(table)} rows")]
    if all(is_number(item) for item in table):
        return [], [("table", f"{shown(table)} is one row: write [[{', '.join(map(str, table))}]]")]
    rows, problems = [], []
    for number, row in enumerate(table, start=1):
        if wrong := row_problems(row):
            problems.append((f"row {number}", f"{shown(row)} {'; '.join(wrong)}"))
        else:
            rows.append([operator.index(value) for value in row])
    return rows, problems


def row_problems(row: Any) -> list[str]:
    """What is wrong with one row."""
    if not is_row(row):
        return ["is not a row of blocks, width, stride"]
    if len(row) != len(COLUMNS):
        return [f"has {len(row)} {'number' if len(row) == 1 else 'numbers'}, not blocks, width, stride"]
    problems = []
    for (name, most), value in zip(COLUMNS.items(), row, strict=True):
        whole = float(value) if is_number(value) else 0.5
        if not isinstance(value, bool) and hasattr(value, "__index__"):
            if not 1 <= operator.index(value) <= most:
                problems.append(f"{name} is {shown(value)}, not 1 to {most}")
        else:
            write = f": write {whole:.0f}" if whole.is_integer() and 1 <= whole <= most else ""
            problems.append(f"{name} is {shown(value)}, not a whole number{write}")
    return problems


def is_row(value: Any) -> bool:
    return isinstance(value, list | tuple) or (hasattr(value, "tolist") and getattr(value, "ndim", 0) > 0)


def is_number(value: Any) -> bool:
    """Whether float(value) is a number, as of 64.0 and "64"."""
    try:
        return not isinstance(value, bool) and float(value) == float(value)
    except (TypeError, ValueError, OverflowError):
        return False


def shown(value: Any) -> str:
    """A value in a message, cut if it is long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def check_model_file(file: Path = MODEL, with_table: bool = True) -> None:
    """Check the syntax of model.py, and its STAGES if they are plain numbers and used, without importing it.

    Raises MslabError for the code, ConfigError for the table.
    """
    try:
        module = ast.parse(file.read_bytes(), str(file))
    except (SyntaxError, ValueError) as error:  # ValueError: a null character
        raise broken_code(error, getattr(error, "lineno", 0) or 0, file=file) from None
    for function in ast.walk(module):
        if isinstance(function, ast.FunctionDef) and function.name == "construct":
            check_construct(function, file)
    for statement in module.body if with_table else []:
        targets = getattr(statement, "targets", [getattr(statement, "target", None)])
        if any(isinstance(target, ast.Name) and target.id == "STAGES" for target in targets):
            check_source(statement.value, f"STAGES in {file}")  # type: ignore[attr-defined]  # it is an assignment


def check_construct(construct: ast.FunctionDef, file: Path) -> None:
    """Raise MslabError for what the compiler takes without a word: a `raise` outside of an `if`, and no `return`."""
    for statement in construct.body:
        if isinstance(statement, ast.Raise):
            raise MslabError(
                f"{file}, line {statement.lineno}: {ast.unparse(statement)[:100]} would be ignored without a word.",
                expected="a raise under an if: MindSpore's compiler drops one that always happens",
                fix="write what construct computes in its place, or delete the line",
            )
    if not any(isinstance(node, ast.Return) for node in ast.walk(construct)):
        raise MslabError(
            f"{file}, line {construct.lineno}: this construct returns nothing.",
            expected="a construct that ends with return and what it has computed",
            fix="write return before the last value",
        )


def check_source(table: ast.expr | None, source: str) -> None:
    """Check a table as it is written. Raises ConfigError that names the lines of wrong rows."""
    rows = table.elts if isinstance(table, ast.List | ast.Tuple) else []
    problems = [(f"row {number}, line {row.lineno}", no_comma(row)) for number, row in enumerate(rows, 1)]
    problems = [(place, text) for place, text in problems if text]
    if not problems:
        try:
            _, problems = read_table(ast.literal_eval(table))  # type: ignore[arg-type]  # None is no literal
        except (ValueError, TypeError):  # it is computed: model.py checks it when the network is built
            return
        lines = {f"row {number}": row.lineno for number, row in enumerate(rows, 1)}
        problems = [(f"{row}, line {lines[row]}" if row in lines else row, text) for row, text in problems]
    if problems:
        raise wrong_table(source, problems)


def no_comma(row: ast.expr) -> str:
    """The message for two rows, or two numbers, without a comma between them, which Python takes for a call; or ""."""
    while isinstance(row, ast.Call) and isinstance(row.func, ast.Call):
        row = row.func
    first = row.func if isinstance(row, ast.Call) else row.value if isinstance(row, ast.Subscript) else None
    return f"a comma is missing after {ast.unparse(first)}" if isinstance(first, ast.Tuple | ast.List) else ""
