"""`mslab new`: a lab folder for users of the installed package."""

from typing import Annotated

from typer import Argument

from mslab.cli.options import app, job, log
from mslab.escaping import quoted


@job(app, "new")
def new(folder: Annotated[str, Argument(metavar="FOLDER", help="a new or empty folder")]) -> None:
    """Write a lab folder: a README with the lab's steps, configs, notebooks. Overwrites nothing."""
    from mslab.experiments import lab

    target = lab.write_lab(folder)
    log.info("%s: a lab; its README.md has the steps. Start with:", target)
    if str(target) != ".":
        log.info(f"  cd {quoted(target)}")
    log.info("  mslab data make")
