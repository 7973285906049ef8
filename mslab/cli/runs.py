"""`mslab runs`: the runs that are here, and `mslab runs rm`, which removes some."""

import sys
from typing import Annotated, Any

from typer import Argument, BadParameter, Option, Typer

from mslab.cli.hints import HintedGroup
from mslab.cli.options import PLAIN, Json, app, emit, job, log
from mslab.errors import MslabError
from mslab.escaping import command, escape_control
from mslab.runtime import console


class ListedGroup(HintedGroup):
    """A group whose command `list` need not be typed: mslab runs FOLDER."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        word = args[0] if args else ""
        typed = word in self.commands or word in ("--help", "help")
        return super().parse_args(ctx, args if typed else ["list", *args])


runs_app = Typer(cls=ListedGroup, help="List the runs of a folder, or remove some.", **PLAIN)
app.add_typer(runs_app, name="runs")


@job(runs_app, "list")
def list_runs(
    folder: Annotated[str | None, Argument(metavar="FOLDER", help="a folder of runs (default: runs)")] = None,
    sort: Annotated[
        str, Option(metavar="COLUMN", help="start, name, data, kind, parent, best, seconds or status")
    ] = "start",
    json_file: Json = None,
) -> None:
    """List runs: data, kind, parent, best figure, seconds, status. A sweep is one row; name its folder for its runs."""
    from mslab.runs import listing

    if sort not in listing.SORTS:
        raise BadParameter(f"--sort {sort}: expected one of {', '.join(listing.SORTS)}")
    place, rows = listing.rows_in(folder)
    rows = listing.ordered(rows, sort)
    emit(listing.to_json(place, rows), json_file, lambda: listing.table(place, rows))


@job(runs_app, "rm")
def remove(
    runs: Annotated[list[str], Argument(metavar="RUN...", help="run folders, names of runs, or patterns")],
    yes: Annotated[bool, Option("--yes", help="do not ask, for scripts")] = False,
) -> int:
    """Remove runs, after a question. Refuses one that a process writes, and one that another run began from."""
    from mslab.runs import removing
    from mslab.runtime.disks import size_text
    from mslab.runtime.tables import plural

    chosen = removing.chosen(runs)
    sizes = [f"{run} ({size_text(removing.size_of(run))})" for run in chosen]
    screen = console.terminal.stream  # standard error itself is captured
    if not yes and not (sys.stdin.isatty() and screen.isatty()):
        raise MslabError(
            f"Nothing was removed: there is no terminal to ask whether {plural(len(chosen), 'run')} should go.",
            details=[("run", text) for text in sizes],
            expected="a terminal, or --yes",
            fix=command("runs", "rm", *chosen, "--yes"),
        )
    if not yes:
        print(escape_control("\n".join([*sizes, "Remove? [y/N] "])), end="", file=screen, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            log.info("nothing was removed")
            return 1
    removing.remove(chosen)
    for text in sizes:
        log.info("removed %s", text)
    return 0
