"""Images: draw, build, split, import or pack a data set, and check one."""

from pathlib import Path
from typing import Annotated, Any

from typer import Argument, BadParameter, Option, Typer

from mslab.cli.options import PLAIN, DataSets, Json, Root, app, checked, emit, job, log, print_text
from mslab.runtime.console import Meter

data_app = Typer(help="Data sets: draw, build, split, import or pack one.", **PLAIN)


@job(data_app, "make")
def make(
    out: DataSets = "datasets",
    seed: Annotated[int, Option(help="another seed draws other images")] = 1,
    size: Annotated[int, Option(help="pixels, side of an image", min=32, max=1024)] = 96,
) -> None:
    """Draw mushrooms9 and mushrooms2: no download; one seed draws the same images on one kind of processor."""
    from mslab.experiments.demo import draw

    draw(Path(out), seed=seed, size=size)


@job(data_app, "animals")
def animals(
    out: DataSets = "datasets",
    wheel: Annotated[
        str | None, Option(metavar="FILE", help="animal-mnist 0.4 as fetched elsewhere, instead of by pip")
    ] = None,
) -> None:
    """Build animals9 and animals2, the silhouettes of README's results, from a package that pip fetches."""
    from mslab.data.animals import build_animals

    build_animals(Path(out), Path(wheel) if wheel else None)


@job(data_app, "split")
def split(
    root: Annotated[str, Argument(metavar="ROOT", help="a folder of class folders")],
    val: Annotated[float, Option(metavar="SHARE", help="of each class, for validation")] = 0.2,
    test: Annotated[float, Option(metavar="SHARE", help="of each class, for the test")] = 0.0,
    seed: Annotated[int, Option(help="another seed splits otherwise")] = 1,
    out: Annotated[str | None, Option(metavar="FOLDER", help="ROOT-split where not given")] = None,
) -> None:
    """Copy a folder of classes to train, val and test; images that look alike stay together."""
    from mslab.data.splitting import split_dataset

    report = checked(root)
    target = Path(out) if out else Path(root).with_name(f"{Path(root).name}-split")
    with Meter(1) as meter:
        counts = split_dataset(report, target, val, test, seed, meter.callback("copying"))
    for part, classes in counts.items():
        each = ", ".join(f"{name} {count}" for name, count in classes.items())
        log.info(f"{target / part}: {sum(classes.values())} images, {each}")


@job(data_app, "import")
def import_data(
    archive: Annotated[str, Argument(metavar="ARCHIVE", help="a zip or tar of folders of images")],
    out: Annotated[str | None, Option(metavar="FOLDER", help="datasets/NAME where not given")] = None,
) -> int:
    """Unpack an archive safely, from the level on where the classes are, and check what came out."""
    from mslab.data.unpacking import import_archive

    target = Path(out) if out else Path("datasets") / Path(archive).name.split(".")[0]
    with Meter(1) as meter:
        log.info(str(import_archive(Path(archive), target, meter.callback("unpacking"))))
    report = checked(str(target))
    print_text(report)
    return 0 if report.ok else 1


@job(data_app, "pack")
def pack(
    root: Root,
    out: Annotated[str, Option(metavar="FOLDER", help="where the packed data set goes")],
    shards: Annotated[
        int | None, Option(metavar="N", help="files a split; one for each GiB where not given", min=1)
    ] = None,
) -> None:
    """Check a data set and write it as a few large files (MindRecord), to train on where small files are slow."""
    report = checked(root)
    report.raise_errors()
    log.info(report.brief())
    from mslab.data.packing import pack_dataset

    with Meter(report.images) as meter:
        packs = pack_dataset(report, Path(out), shards, meter.callback("packing"))
    for name, pack in packs.items():
        size = sum(part.size for part in pack.parts) / 2**20
        files = f"{len(pack.shards)} shard{'s' * (len(pack.shards) > 1)}"
        log.info(f"{Path(out) / name}: {sum(pack.counts)} images, {len(pack.counts)} classes, {files}, {size:.0f} MiB")


@job(app, "check")
def check(
    root: Root,
    classes: Annotated[int | None, Option(metavar="N", help="how many classes there must be")] = None,
    size: Annotated[
        int | None, Option(metavar="PIXELS", help="image_size of training; smaller images are named")
    ] = None,
    json_file: Json = None,
    html: Annotated[str | None, Option(metavar="FILE", help="write a page with thumbnails, for people")] = None,
    fix: Annotated[bool, Option("--fix", help="move what is wrong to ROOT.quarantine/; nothing is deleted")] = False,
    convert: Annotated[
        bool, Option("--convert", help="like --fix, and put an upright RGB copy in place of what can be read")
    ] = False,
    dry_run: Annotated[bool, Option("--dry-run", help="only say what --fix or --convert would do")] = False,
    undo: Annotated[bool, Option("--undo", help="move everything back from ROOT.quarantine/")] = False,
    no_cache: Annotated[bool, Option("--no-cache", help="load unchanged files again, too")] = False,
) -> int:
    """Look for what would go wrong in training: stray folders, broken images, classes that differ, leaks."""
    if undo and (fix or convert or dry_run):
        raise BadParameter("--undo stands alone: it takes back what an earlier --fix or --convert did")
    from mslab.check import page, quarantine
    from mslab.checkpoint import write_text

    def look() -> Any:
        return checked(root, class_num=classes, image_size=size, cache=not no_cache, whole_packs=True)

    for line in quarantine.undo(Path(root)) if undo else []:
        log.info(line)
    try:
        report = look()
    except KeyboardInterrupt as stop:
        print_text(getattr(stop, "report", ""))
        raise
    if dry_run:
        moves = quarantine.planned(report, convert)
        for source, target, finding, rewritten in moves:
            log.info("would move %s -> %s (%s)%s", source, target, finding.code, "; a converted copy stays" * rewritten)
        log.info("%d to move; nothing was touched", len(moves))
    elif fix or convert:
        moved = False
        for line in quarantine.fix(report, convert):
            log.info(line)
            moved = True
        if moved:
            log.info("mslab check %s --undo moves everything back", root)
            report = look()
    emit(report.to_dict(), json_file, lambda: report)
    if html:
        write_text(Path(html), page.page(report))
        log.info("%s: the findings with thumbnails", html)
    return 0 if report.ok else 1
