"""Reports, tables, pictures and notebooks of runs of the other tasks, each trained once on a handful of images."""

import json
import shutil
from pathlib import Path

import labelled_sets
import numpy as np
import pytest
from eventfiles import series
from helpers import cli
from PIL import Image
from strict import Strict

import mslab
from mslab.config.tasks import measure
from mslab.errors import ConfigError, RunError
from mslab.experiments import batch_tuner, lr_find
from mslab.report import watching
from mslab.report.show import figures_table, show_network
from mslab.report.task_sheet import augment_sheet
from mslab.report.writing import write_report
from mslab.runs import listing, ranking
from mslab.runs.folder import RunFolder
from mslab.runs.results import read_evaluation
from mslab.runtime.jupyter import LiveView
from mslab.tasks import fonts

TASKS = ("detect", "segment", "keypoints", "multilabel")
CAT = "<b>猫"  # no font that is always there has it, and a page must escape it
NUMBERED = fonts.drawn_names([CAT])[0] != [CAT]  # no installed font has it
MEASURES = {"detect": "voc_map", "segment": "miou", "keypoints": "pck", "multilabel": "map"}


@pytest.fixture(scope="session")
def labelled(once):
    """train and val of six images with labels for every task."""

    def make(folder):
        documents = labelled_sets.data_set(folder, 6)
        for split, document in documents.items():
            document["categories"][0]["name"] = CAT
            labelled_sets.write(folder / split, document)

    return once("labelled", make)


def config_of(task, folder):
    names = {"task": task, "train_data": str(folder / "train"), "val_data": str(folder / "val"), "class_num": 2}
    small = {"image_size": 32, "batch_size": 2, "epochs": 2, "stages": [[1, 8, 1], [1, 8, 2]], "warmup_epochs": 0}
    return names | small | {"device": "cpu", "mode": "pynative", "optimizer": "adam", "lr_max": 0.01}


@pytest.fixture(params=TASKS)
def task(request):
    return request.param


@pytest.fixture
def run(task, labelled, trained, inside):
    """A copy of a run of the task, which may be changed."""
    return Path(trained(config_of(task, labelled)).run)


def page_of(run, **options):
    text = write_report([run], **options).read_text()
    content = text.split('<script type="application/json" id="mslab">')
    return content[0], json.loads(content[1].split("</script>")[0])["runs"][0]


class Page(Strict):
    """A page as text, with its pictures and the titles of its sections."""

    def __init__(self, text):
        self.pictures, self.sections = 0, []
        super().__init__(text[text.index("<body>") :] + "</body>")

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.pictures += tag == "img"
        self.sections += [values["id"]] if tag == "section" else []
        if tag == "br":
            return
        if tag == "a":  # within the page
            assert values["href"].startswith("#")
            attributes = []
        super().handle_starttag(tag, attributes)


def test_a_page_has_figures_names_and_the_worst_answers(run, task):
    text, embedded = page_of(run)
    page = Page(text)
    figures = json.loads((run / "eval.json").read_text())
    name = MEASURES[task]
    assert f"{name} is {figures[name]:.3f} on 6 validation images." in page.text
    constant = json.loads((run / "manifest.json").read_text())["metrics"]["constant"][name]
    assert f"The same answer for every image has {constant:.3f}." in page.text
    assert {"curves", "figures", "names", "worst", "data", "network", "repeat"} <= set(page.sections)
    assert "confusion" not in page.sections and f"val_{name}" in page.text
    assert page.pictures == 2 * 6  # all of them are among the worst
    assert "<b>猫" not in text and (task in ("keypoints", "multilabel") or CAT in page.text)
    names = {"keypoints": labelled_sets.POINTS, "multilabel": ["dry", "wet"]}.get(task, [CAT, "dog"])
    assert sorted(figures["by_name"]) == sorted(names) and all(name in page.text for name in names)
    assert len(embedded["predictions"]) == 6 and embedded["eval"] == figures
    wrong = sum(len(row["missed"]) + len(row["invented"]) for row in embedded["predictions"])
    assert ("missed:" in page.text or "invented:" in page.text) == bool(wrong)
    if task in ("detect", "segment"):
        assert ("class 0 = " + CAT in page.text) == NUMBERED


def test_the_worst_is_first_and_the_page_is_read_in_chinese(run, task):
    text, embedded = page_of(run, lang="zh")
    page = Page(text)
    assert "最差的答案" in page.text and "The worst" not in page.text and "对每张图像都给出同一答案时为" in page.text
    scores = {row["file"]: row["score"] for row in embedded["predictions"]}
    shown = [part.split("</bdi>")[0] for part in text.split('<span class="soft"><bdi>')[1:]]
    assert [scores[name] for name in shown] == sorted(scores[name] for name in shown) and len(shown) == 6


def test_lost_figures_are_measured_again(run):
    before = json.loads((run / "eval.json").read_text())
    (run / "eval.json").unlink()
    text, _ = page_of(run)
    assert "eval.json was missing" in text
    again = json.loads((run / "eval.json").read_text())
    assert list(again) == list(before) and again["by_name"].keys() == before["by_name"].keys()
    for name, figures in again["by_name"].items():  # the run trained in PYNATIVE, which rounds otherwise
        assert figures == pytest.approx(before["by_name"][name], rel=1e-5), name
    assert again["loss"] == pytest.approx(before["loss"], rel=1e-5)


def test_figures_that_cannot_be_those_of_the_task_are_refused(run, task):
    before, name = json.loads((run / "eval.json").read_text()), MEASURES[task]
    for changes, problem in (
        ({name: 1.5}, f"{name} is 1.5, which is no number from 0 to 1"),
        ({"measure": "speed"}, "it has no figure speed, which its measure names"),
        ({"class_names": ["x"]}, "its classes are not those of manifest.json"),
        ({"task": "classify"}, f"it is of task classify, and the run of task {task}"),
        ({"by_name": {"x": {"ap": 1}}}, "its classes are not those of manifest.json"),
        ({"by_name": {key: {"speed": 1} for key in before["by_name"]}}, "has figures of another task: speed"),
        ({"by_name": before["by_name"] | {before["class_names"][1]: {}}}, "has figures of another task: "),
        ({name: "high"}, f"{name} is high, which is no number from 0 to 1"),
        ({"images": 0}, "Input should be greater than or equal to 1"),
        ({"loss": float("nan")}, "Input should be a finite number"),
    ):
        (run / "eval.json").write_text(json.dumps(before | changes))
        with pytest.raises(RunError) as caught:
            read_evaluation(run, before["class_names"], task)
        assert problem in str(caught.value) and "eval.json cannot be read" in str(caught.value), changes


def test_a_measure_that_is_undefined_is_said_to_be(labelled, trained, inside):
    run = Path(trained(config_of("detect", labelled)).run)
    before = json.loads((run / "eval.json").read_text())
    (run / "eval.json").write_text(json.dumps(before | {"voc_map": None}))
    assert read_evaluation(run, before["class_names"], "detect")["voc_map"] is None
    text, _ = page_of(run)
    assert "voc_map was not measured, or is undefined: nothing was to be found." in text


def test_runs_of_one_task_are_compared_and_of_two_refused(labelled, trained, inside):
    first = Path(trained(config_of("segment", labelled)).run)
    second = shutil.copytree(first, "runs/second")
    page = write_report([first, second], out="both.html").read_text()
    assert "Runs with the highest val_miou first." in page and "overlap (IoU)" in page and "val_miou" in page
    assert (
        "Figures per class" in page and "validation accuracy" not in page and "the same answer for every image" in page
    )
    other = Path(trained(config_of("multilabel", labelled)).run)
    with pytest.raises(RunError) as caught:
        write_report([first, second, other], out="mixed.html")
    text = str(caught.value)
    assert "These runs measure different things, which no table can compare." in text
    assert "task: segment, val_miou" in text and "task: multilabel, val_map" in text
    assert f"mslab report {first} runs/second    and the others" in text and not Path("mixed.html").exists()
    with pytest.raises(ConfigError) as caught:
        write_report([first], engine="onnxruntime")
    assert f"engine: onnxruntime runs networks of classes; {first} is of task: segment." in str(caught.value)
    assert "leave out --engine" in str(caught.value)


def test_curves_and_lists_have_the_measure_by_its_name(run, task, capsys):
    name = MEASURES[task]
    assert measure(RunFolder.read(run).settings) == name
    assert watching.watch(run, once=True) == 0
    shown = capsys.readouterr().out
    assert (
        f"best val_{name} " in shown
        and f"\nval_{name}, train_acc " in shown
        and "accuracy" not in shown
        and "val_acc" not in shown
    )
    _, (row,) = listing.rows_in("runs")
    assert row.best["measure"] == f"val_{name}" and f"val_{name}" in listing.table(Path("runs"), [row])


def test_a_notebook_s_table_has_the_measure_while_a_run_trains(run, task):
    found = RunFolder.read(run)
    view = LiveView()
    view.rows = [(ranking.named(row, found.settings), "") for row in found.history]
    text = Strict(view._html()).text
    assert f"val_loss{'val_' + MEASURES[task]}seconds" in text and "val_acc" not in text


def test_a_network_is_shown_with_neck_and_head(task, labelled):
    text = show_network(config_of(task, labelled))
    outputs = {"detect": 6, "segment": 3, "keypoints": 2}.get(task)
    if task == "multilabel":
        assert "(1, 2)" in text and "neck" not in text
        return
    assert "pyramid of layer1, layer2" in text and "a cell of the output is 4x4 pixels" in text
    assert f"(1, {outputs}, 8, 8)" in text and "(1, 64, 8, 8)" in text and "backbone, neck and head" in text


def test_training_images_are_drawn_with_their_labels(task, labelled, inside):
    from mslab.check.training_data import report_of
    from mslab.config import load_settings

    settings = load_settings(config_of(task, labelled) | {"color_jitter": 0})
    report = report_of(settings)
    text = augment_sheet(settings, Path("sheet.png"), report)
    assert "of epoch 1 as the network sees them, 32x32 pixels" in text and "mirrored half of the time" in text
    assert ("class 0 = " + CAT in text) == (NUMBERED and task in ("detect", "segment"))
    pixels = np.asarray(Image.open("sheet.png").convert("RGB"))
    assert pixels.shape[1] == 6 * 196
    if task in ("detect", "segment"):  # the colours of classes are pure, those of images noise
        assert (pixels == (255, 38, 38)).all(-1).any() or task == "segment"


def test_a_notebook_shows_what_a_task_has(run, task):
    found, name = mslab.Run(run), MEASURES[task]
    assert f"best val_{name} " in repr(found) and f"2 {measure_noun(task)}s" in repr(found).replace("classes", "classs")
    assert f"val_{name}" in repr(found.history) and "val_acc" not in Strict(found.history._repr_html_()).text
    assert set(found.metrics["by_name"]) and found.metrics["best_epoch"] in (1, 2)
    for use in (lambda: found.confusion, found.mistakes, found.suspects):
        with pytest.raises(RunError) as caught:
            use()
        assert f"is of task: {task}." in str(caught.value) and "run.report()" in str(caught.value)
    shown = found.show_answers(2)
    assert len(shown) == 2 and shown[0]["name"] in repr(shown)
    assert "left: the labels" in Strict(shown._repr_html_()).text


def measure_noun(task):
    return {"keypoints": "key point", "multilabel": "tag"}.get(task, "class")


def test_classes_are_not_drawn(finished, three):
    config = three | {"epochs": 1, "mode": "pynative"}
    with pytest.raises(RunError, match="answers with classes, which are not drawn"):
        mslab.Run(finished(config).run).show_answers()


def test_a_rate_is_found(task, labelled):
    result = lr_find.find_rate(config_of(task, labelled), None, steps=12, highest=0.3)
    assert len(result["losses"]) >= 3 and 1e-6 <= result["valley"] <= 0.3


def test_steps_of_a_batch_are_timed(task, labelled):
    from mslab.config import load_settings

    seconds = batch_tuner.work(load_settings(config_of(task, labelled)))
    assert len(seconds) == batch_tuner.STEPS and min(seconds) > 0


def test_event_files_have_the_measure_and_no_curves_of_classes(task, labelled, inside):
    result = mslab.train(config_of(task, labelled) | {"log_to": "tensorboard", "epochs": 1})
    tags = set(series(result.run))
    name = MEASURES[task]
    assert f"{name}/val" in tags and "accuracy/val" not in tags and f"final/val_{name}" in tags
    assert not any(tag.startswith("precision_recall") for tag in tags)


def test_the_table_of_an_evaluation_has_the_names(run):
    figures = json.loads((run / "eval.json").read_text())
    text = figures_table(figures)
    assert all(key in text for row in figures["by_name"].values() for key in row) and "6 images" in text


def test_suspects_are_of_classes(run, task):
    done = cli("suspects", run, "--data", "nowhere")
    assert done.returncode == 1 and f"{run} is of task: {task}; suspects compares" in done.stderr
    assert "a network of task: classify" in done.stderr and f"mslab report {run}" in done.stderr
    file = run / "checkpoints/best.ckpt"
    done = cli("suspects", file, "--data", "nowhere")
    assert f"mslab eval {file} --data ROOT" in done.stderr


def test_calibration_does_nothing_and_says_so(labelled, inside, caplog):
    mslab.train(config_of("multilabel", labelled) | {"calibrate": True, "epochs": 1})
    assert "with task: multilabel it is unused (it belongs to classify)" in caplog.text


def test_what_the_fix_lines_say_works(labelled, trained, inside):
    run, other = (Path(trained(config_of(task, labelled)).run) for task in ("segment", "multilabel"))
    second = shutil.copytree(run, "runs/second")
    for words in (["report", run, second, other], ["suspects", run, "--data", "nowhere"]):
        done = cli(*words)
        assert done.returncode == 1
        fix = done.stderr.split("  fix ")[1].split("    ")
        shown = next(text for text in fix if text.strip().startswith("mslab report"))
        assert cli(*shown.split()[1:]).returncode == 0, shown
