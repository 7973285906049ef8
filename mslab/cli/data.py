"""Commands for data sets: draw, build, split, import, pack and check them."""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, BadParameter, Option, Typer

from mslab.cli.options import (
    PAGE,
    PLAIN,
    DataSets,
    FollowLinks,
    Ignore,
    Json,
    Overrides,
    Root,
    RootOrConfig,
    app,
    checked,
    checked_labels,
    emit,
    job,
    log,
    print_text,
)
from mslab.cli.outputs import OutputOption
from mslab.escaping import command
from mslab.files import kind_of
from mslab.runtime import signals, tables
from mslab.runtime.console import PROSE, Meter

FORMATS = ("voc", "yolo", "labelme")
GROUP = "keep images together whose names have an equal part in brackets, '(.+)_frame', or an equal cell in a column"
data_app = Typer(help="Draw, build, split, import or pack a data set.", **PLAIN)


@job(data_app, "make")
def make(
    out: DataSets = "datasets",
    seed: Annotated[int, Option(help="each seed draws different images")] = 1,
    size: Annotated[
        int | None,
        Option(help="width and height of an image in pixels (default: 96; scenes 128)", min=32, max=1024),
    ] = None,
    scenes: Annotated[
        bool, Option("--scenes", help="instead, draw forest floors with boxes, masks, key points and tags")
    ] = False,
) -> None:
    """Draw mushrooms9 and mushrooms2 without a download. The same seed gives the same images on one kind of CPU."""
    from mslab.experiments import demo

    (demo.draw_scenes if scenes else demo.draw)(Path(out), seed=seed, **({"size": size} if size else {}))


@job(data_app, "animals")
def animals(
    out: DataSets = "datasets",
    wheel: Annotated[
        str | None, Option(metavar="FILE", help="a downloaded animal-mnist 0.4 wheel, instead of pip's download")
    ] = None,
) -> None:
    """Build animals9 and animals2, the silhouettes of the published results, from a package that pip downloads."""
    from mslab.data.animals import build_animals

    build_animals(Path(out), Path(wheel) if wheel else None)


@job(data_app, "split")
def split(
    root: Annotated[str, Argument(metavar="ROOT", help="a folder of class folders, or a table of images and labels")],
    val: Annotated[
        float | None, Option(metavar="FRACTION", help="fraction of each class for validation (default: 0.2)")
    ] = None,
    test: Annotated[float | None, Option(metavar="FRACTION", help="fraction of each class for testing")] = None,
    folds: Annotated[
        int | None,
        Option(metavar="N", help="instead, N folds for cross-validation: tables, no copies", min=2),
    ] = None,
    seed: Annotated[int, Option(help="each seed gives a different split")] = 1,
    out: Annotated[
        str | None,
        Option(metavar="FOLDER", help="target folder (default: ROOT-split, or ROOT-folds)"),
        OutputOption(new=True),
    ] = None,
    group: Annotated[
        str | None,
        Option("--group", "--group-by", metavar="REGEX|COLUMN", help=f"{GROUP}; recorded in groups.csv"),
    ] = None,
    labels: Annotated[
        str | None, Option(metavar="TABLE", help="the table that has the COLUMN of --group, if ROOT is a folder")
    ] = None,
    follow_links: FollowLinks = False,
    ignore: Ignore = None,
) -> None:
    """Copy a folder of classes into train, val and test. Images that look alike go into the same split."""
    if folds is not None and (val is not None or test is not None):
        raise BadParameter("--folds takes no --val and no --test: each image is in one fold's validation set")
    if labels is not None and group is None:
        raise BadParameter("--labels names the table of a column: --group COLUMN")
    from mslab.check import groups
    from mslab.data import folds as folding
    from mslab.data.splitting import refuse_split, split_dataset

    report = checked(root, follow_links=follow_links, ignore=ignore or [])
    refuse_split(report)  # before its groups: each split has a folder of its own, and the table names images in one
    grouping = None
    if group is not None:
        refuse_pattern(group)
        grouping = groups.grouping(group, report, Path(labels) if labels else None)
    path = Path(os.path.abspath(root)) if Path(root).name in ("", "..") else Path(root)  # noqa: PTH100
    if not path.is_dir():  # a table: not among its images
        path = Path(os.path.abspath(path)).parent if path.parent.name in ("", "..") else path.parent  # noqa: PTH100
    target = Path(out or f"{path}-{'folds' if folds else 'split'}")
    if folds is not None:
        for number, classes in enumerate(folding.fold_dataset(report, target, folds, seed, grouping), 1):
            images = tables.plural(sum(classes.values()), "validation image")
            log.info(f"{target / f'fold{number}'}: {images}, {each(classes)}")
        log.info(f"{command('repeat', 'CONFIG', '--folds', target)}    trains them", extra=PROSE)
        return
    with Meter(1) as meter:
        fractions = 0.2 if val is None else val, test or 0.0
        counts = split_dataset(report, target, *fractions, seed, meter.callback("copying"), grouping)
    for part, classes in counts.items():
        log.info(f"{target / part}: {tables.plural(sum(classes.values()), 'image')}, {each(classes)}")


def each(counts: Mapping[str, int]) -> str:
    """Each class and the number of its images."""
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def refuse_pattern(group: str) -> None:
    """Raise BadParameter for what is neither a column's name nor a regular expression."""
    try:
        re.compile(group)
    except re.error as error:
        raise BadParameter(f"--group {group}: it is not a regular expression: {error}") from None


@job(data_app, "import")
def import_data(
    archive: Annotated[
        str,
        Argument(metavar="ARCHIVE|FOLDER", help="a zip or tar file of images; with --labels, also a folder of them"),
    ],
    labels: Annotated[
        str | None,
        Option(metavar="TABLE", help="a CSV or TXT of images and their classes, beside the images or in the archive"),
    ] = None,
    image_column: Annotated[
        str | None, Option(metavar="NAME|N", help="the table's column of images (default: the one that names some)")
    ] = None,
    label_column: Annotated[
        str | None, Option(metavar="NAME|N", help="the table's column of classes (default: the one called so)")
    ] = None,
    form: Annotated[
        str | None, Option("--format", metavar="NAME", help="boxes or outlines of a folder: voc, yolo or labelme")
    ] = None,
    out: Annotated[
        str | None, Option(metavar="FOLDER", help="target folder (default: datasets/NAME)"), OutputOption(new=True)
    ] = None,
) -> int:
    """Unpack an archive safely, starting at the folder that contains the classes, and check the result.

    With --labels, the images may be in any folders: they are sorted into a folder per class, as the table says. With
    --format, images and their boxes are copied, and the boxes written as COCO's JSON.
    """
    from mslab.data import labelling, unpacking

    if form is not None and (labels is not None or form not in FORMATS):
        raise BadParameter(f"--format {form}: expected one of {', '.join(FORMATS)}, without --labels")

    if labels is None and (image_column or label_column):
        raise BadParameter("--image-column and --label-column are of a table: --labels TABLE")
    name = Path(os.path.abspath(archive)).name.split(".")[0]  # noqa: PTH100
    target = (
        Path(out) if out else Path("datasets") / f"{name}{('-coco' if form else '-sorted') * Path(archive).is_dir()}"
    )
    with Meter(1) as meter:
        if form is not None:
            from mslab.data.annotated import import_annotations

            done: object = import_annotations(Path(archive), target, form, meter.callback("copying images"))
        elif labels is None:
            done = unpacking.import_archive(Path(archive), target, meter.callback("unpacking"))
        else:
            options = labelling.LabelOptions(labels, image_column or "", label_column or "")
            done = labelling.import_labelled(Path(archive), target, options, meter.callback("sorting images"))
        log.info(str(done))
    try:
        report = checked_labels(str(target), None) if form else checked(str(target))
    except KeyboardInterrupt:
        raise signals.Interrupted(f"{target} is complete; {command('check', target)}    checks it") from None
    print_text(report)
    return 0 if report.ok else 1


@job(data_app, "pack")
def pack(
    root: Root,
    out: Annotated[str, Option(metavar="FOLDER", help="target folder for the packed data set"), OutputOption(new=True)],
    shards: Annotated[
        int | None, Option(metavar="N", help="number of files per split (default: one per GiB)", min=1)
    ] = None,
    follow_links: FollowLinks = False,
    ignore: Ignore = None,
) -> None:
    """Check a data set and write it as a few large files (MindRecord), for storage on which small files are slow."""
    report = checked(root, follow_links=follow_links, ignore=ignore or [])
    report.raise_errors()
    log.info(report.brief(), extra=PROSE)
    from mslab.data.packing import pack_dataset

    with Meter(report.images) as meter:
        packs = pack_dataset(report, Path(out), shards, meter.callback("packing"))
    for name, pack in packs.items():
        size = sum(part.size for part in pack.parts) / 2**20
        files = f"{len(pack.shards)} shard{'s' * (len(pack.shards) > 1)}"
        log.info(f"{Path(out) / name}: {sum(pack.counts)} images, {len(pack.counts)} classes, {files}, {size:.0f} MiB")


def folded(line: str) -> str:
    """A line of the report, which fits into the terminal; what is to be copied stays in one."""
    indent = len("    fix  ")
    is_fix = line.startswith(("    fix  ", " " * indent))
    return tables.fold_around_commands(line, indent) if is_fix else tables.fold(line)


def fixed(report: Any, root: str, moves: Iterable[str], run_check: Callable[[], Any]) -> Any:
    """Make the moves, and say how they are undone. Returns the report on what there is now."""
    moved, back = False, f"{command('check', Path(root), '--undo')}    moves everything back"
    try:
        for line in moves:
            log.info(line)
            moved = True
        if moved:
            log.info(back)
            return run_check()
    except KeyboardInterrupt:
        raise signals.Interrupted(f"the same command makes the moves that are left; {back}") from None
    return report


def moved(report: Any, root: str, how: tuple[bool, bool, bool], run_check: Callable[[], Any]) -> Any:
    """Make the moves of --fix or --convert, or only print them. Returns the report on what there is then.

    `how`: --dry-run, --convert and --yes.
    """
    from mslab.check import quarantine

    dry_run, convert, yes = how
    if not dry_run:
        return fixed(report, root, quarantine.fix(report, convert, yes), run_check)
    moves = quarantine.plan_moves(report, convert)
    for source, target, finding, rewritten in moves:
        log.info("would move %s -> %s (%s)%s", source, target, finding.code, "; a converted copy stays" * rewritten)
    log.info("%d to move; nothing was touched", len(moves))
    return report


def write_page(report: Any, html: str | None) -> None:
    if html:
        from mslab.check import page
        from mslab.files import write_text

        write_text(Path(html), page.page(report))
        log.info("%s: findings with thumbnails", html)


def is_config(root: str, overrides: list[str] | None, options: list[Any]) -> bool:
    """Whether ROOT is a file of settings. Raises BadParameter for what belongs to the other of both."""
    config = Path(root).suffix in (".yaml", ".yml") and kind_of(Path(root), links=True) == "a file"
    if overrides and not config:
        raise BadParameter(f"{' '.join(overrides)}: settings are for a CONFIG, and {root} is none")
    if config and any(option not in (None, False) for option in options):
        raise BadParameter(
            "a CONFIG says itself what is read; --fix, --convert and --undo change a ROOT: name it instead"
        )
    return config


def configured(config: str, overrides: list[str] | None, no_cache: bool, group: str | None) -> Any:
    """The report on the images that a config names, as its training would read them, and on their groups."""
    from mslab.check import training_data
    from mslab.config import load_settings
    from mslab.config.tasks import CLASSIFY

    settings = load_settings(config, overrides or [])
    if group is not None and settings.task != CLASSIFY:
        raise BadParameter(f"--group is about images of classes; {config} has task: {settings.task}")
    training_data.refuse_missing(settings, config)
    with Meter(1) as meter:
        progress = meter.callback("loading images")
        return training_data.report_of(settings, progress=progress, cache=not no_cache, group=group)


def has_labels(root: str, task: str | None, options: list[Any]) -> bool:
    """Whether ROOT has labels of boxes, masks, key points or tags. Raises BadParameter for options of classes."""
    from mslab.config.tasks import meant
    from mslab.tasks.folders import find_labels
    from mslab.tasks.labels import TASKS

    if task is not None and task not in TASKS:
        theirs = f"; write {ours}" if (ours := meant(task)) in TASKS else ours and f"; {ours}"
        raise BadParameter(f"--task {task}: expected one of {', '.join(TASKS)}{theirs}")
    found = find_labels(Path(root)) if kind_of(Path(root), links=True) == "a folder" else {}
    labelled = task is not None or any(place.certain for place in found.values())
    if labelled and any(option not in (None, False) for option in options):
        raise BadParameter(
            f"{root} has labels of boxes, masks, key points or tags: of the options, --fix, --yes, --dry-run, --undo, "
            "--task, --no-cache, --json and --html are for them"
        )
    return labelled


CheckedGroup = Annotated[
    str | None,
    Option(metavar="REGEX|COLUMN", help="report groups in two splits: equal parts of names, '(.+)_frame', or cells"),
]


@job(app, "check")
def check(
    root: RootOrConfig,
    overrides: Overrides = None,
    classes: Annotated[int | None, Option(metavar="N", help="required number of classes")] = None,
    size: Annotated[
        int | None, Option(metavar="PIXELS", help="image_size of training; smaller images are reported")
    ] = None,
    json_file: Json = None,
    html: Annotated[
        str | None, Option(metavar="FILE.html", help="also write an HTML page with thumbnails"), PAGE
    ] = None,
    fix: Annotated[bool, Option("--fix", help="move faulty files to ROOT.quarantine/; nothing is deleted")] = False,
    convert: Annotated[
        bool, Option("--convert", help="like --fix, and replace each readable file by an upright RGB copy")
    ] = False,
    task: Annotated[
        str | None,
        Option(
            metavar="NAME", help="check labels for detect, segment, keypoints or multilabel (default: all there are)"
        ),
    ] = None,
    yes: Annotated[
        bool, Option("--yes", help="let --fix move more than a tenth of a split's or class's images")
    ] = False,
    dry_run: Annotated[bool, Option("--dry-run", help="only print what --fix or --convert would do")] = False,
    undo: Annotated[bool, Option("--undo", help="move everything back from ROOT.quarantine/")] = False,
    group: CheckedGroup = None,
    no_cache: Annotated[bool, Option("--no-cache", help="decode unchanged files again too")] = False,
    follow_links: FollowLinks = False,
    ignore: Ignore = None,
) -> int:
    """Find problems that would spoil training: stray folders, broken images, mismatched classes, leaks."""
    if undo and (fix or convert or dry_run):
        raise BadParameter("--undo cannot be combined with --fix, --convert or --dry-run: it reverses an earlier call")
    config = is_config(root, overrides, [fix, convert, undo, classes, size, follow_links, ignore, task])
    labelled = not config and has_labels(root, task, [convert, classes, size, group, follow_links, ignore])
    if group is not None:
        refuse_pattern(group)
    from mslab.check import quarantine

    def run_check() -> Any:
        if config:
            return configured(root, overrides, no_cache, group)
        if labelled:
            return checked_labels(root, task, not no_cache)
        links: dict[str, Any] = {"follow_links": follow_links, "ignore": ignore or [], "group": group}
        return checked(root, class_num=classes, image_size=size, cache=not no_cache, verify_packs=True, **links)

    for line in quarantine.undo(Path(root)) if undo else []:
        log.info(line)
    try:
        report = run_check()
    except KeyboardInterrupt as stop:
        print_text(getattr(stop, "report", ""))
        raise
    if dry_run or fix or convert:
        report = moved(report, root, (dry_run, convert, yes), run_check)
    emit(report.to_dict(), json_file, lambda: "\n".join(map(folded, str(report).splitlines())))
    write_page(report, html)
    return 0 if report.ok else 1
