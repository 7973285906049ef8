"""What a user of the installed package needs first: `mslab new`, a lab folder, and `mslab settings`, their page."""

from typing import Annotated

from typer import Argument

from mslab.cli.options import app, job, log, print_text
from mslab.escaping import quoted
from mslab.runtime.tables import fold_around_commands


@job(app, "new")
def new(folder: Annotated[str, Argument(metavar="FOLDER", help="a new or empty folder")]) -> None:
    """Write a lab folder: a README with the lab's steps, configs, notebooks. Overwrites nothing."""
    from mslab.experiments import lab

    target = lab.write_lab(folder)
    log.info("%s: a lab; its README.md has the steps. Start with:", target)
    if str(target) != ".":
        log.info(f"  cd {quoted(target)}")
    log.info("  mslab data make")


@job(app, "settings")
def settings(
    names: Annotated[list[str] | None, Argument(metavar="[NAME]...", help="settings, or other projects' names")] = None,
) -> None:
    """Print default, values and effect of settings, and what other projects call them; without a NAME, all of them."""
    from mslab.config import page

    if not names:
        print_text(page.page())
        return
    lines = page.entries(names).splitlines()
    print_text("\n".join(fold_around_commands(line, indent=11 * line.startswith("  ")) for line in lines))
