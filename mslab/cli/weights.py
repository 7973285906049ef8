"""`mslab weights`: published weights that have a name, and `mslab weights get`, which fetches some."""

from typing import Annotated

from typer import Argument, Typer

from mslab.cli.options import PLAIN, Json, app, emit, job, log
from mslab.cli.runs import ListedGroup

weights_app = Typer(cls=ListedGroup, help="List published weights, or fetch some.", **PLAIN)
app.add_typer(weights_app, name="weights")


@job(weights_app, "list")
def list_weights(
    part: Annotated[
        str | None, Argument(metavar="[PART]", help="of a name, such as resnet50, timm: or mindcv:mobilenet")
    ] = None,
    json_file: Json = None,
) -> None:
    """List published weights: name, top-1 on ImageNet with its crop, licence, size, and whether they are here."""
    from mslab.weights import listing

    rows = listing.rows(part or "")
    emit(listing.to_json(rows), json_file, lambda: listing.table(rows))


@job(weights_app, "get")
def get(
    names: Annotated[
        list[str], Argument(metavar="NAME...", help="such as torchvision:resnet50; mslab weights lists them")
    ],
) -> None:
    """Fetch published weights into the folder, whole and with the published hash; what is here is only looked at."""
    from mslab import weights

    wanted = [weights.published(name) for name in names]  # all of them, before the first is fetched
    for entry in wanted:
        path = weights.obtain(entry.name)
        log.info(f"{entry.summary}: {path}")
