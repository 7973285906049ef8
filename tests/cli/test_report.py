"""The report in a real browser: its content, that it sends no request, that no name breaks it."""

import base64
import io
import json
import re
import shutil
from pathlib import Path

import pytest
import strict
from helpers import cli, draw, manifest, settings
from PIL import Image
from strict import hidden

import mslab
from mslab.errors import RunError
from mslab.report import charts, translation, writing

HOSTILE = ['<img src=x onerror=alert(1)>"', "'; </script><b>\n&amp;", "\u202egnp.\u05d0 {{ 7 * 7 }} [red]"]
HOSTILE = [name.replace("/", "\u2215") for name in HOSTILE]  # a folder's name has no slash


@pytest.fixture(scope="module")
def lab(once):
    """A folder with a run on classes and files with hostile names, poorly trained, so that it makes mistakes.

    The command writes its report; output.json contains the command's exit code and output. Do not change the folder.
    """

    def make(folder):
        for seed, (split, count) in enumerate([("train", 12), ("val", 12)]):
            draw(folder / "data" / split, HOSTILE, count, seed)
            for name in HOSTILE:
                images = folder / "data" / split / name
                (images / "000.png").rename(images / ("<svg onload=alert(2)>" + "\u202e\n" + "x" * 200 + ".png"))
        config = settings(Path("data"), 3, lr_init=1e-4, lr_max=1e-3, early_stopping=True, early_stopping_patience=2)
        run = mslab.train(config | {"epochs": 3}).run
        done = cli("report", run)
        (folder / "output.json").write_text(json.dumps([done.returncode, done.stdout, done.stderr]))

    return once("hostile", make)


@pytest.fixture(scope="module")
def run(lab):
    return next((lab / "runs").iterdir())


@pytest.fixture(scope="module")
def written(run):
    """The run's report."""
    return run / "report.html"


LONG = "y" * 10_000
ENDS = "</script><script>alert(3)</script><!--"  # tries to end the element that contains the JSON


@pytest.fixture(scope="module")
def marked(lab, run, once):
    """The report of a copy with more in it: a name of 10,000 characters, a warning, a rollback, suspects."""

    def make(folder):
        copy = Path(shutil.copytree(run, folder / "run"))
        for name in ("manifest.json", "eval.json"):
            (copy / name).write_text((copy / name).read_text().replace("<img src=x", LONG))
        content = manifest(copy)
        content |= {"ended_by": "early stopping: no better", "rollbacks": [{"epoch": 2, "why": ENDS + strict.HOSTILE}]}
        content |= {"command": f"mslab train x; touch EVIL {strict.HOSTILE}"}
        content["warnings"] = [{"code": "loss-still", "epoch": 2, "text": "the loss does not move"}]
        (copy / "manifest.json").write_text(json.dumps(content))
        config = (copy / "config.yaml").read_text()
        config = config.replace("unfreeze: {}", "unfreeze: {3: layer2}") + "# \u202e\n"
        (copy / "config.yaml").write_text(config)
        name = sorted(HOSTILE)[0]
        line = f'"val/{name.replace(chr(34), 2 * chr(34))}/001.png",val,a,b,0.01,0.9,1\n'
        (copy / "suspects.csv").write_text("file,split,label,suggested,p_label,p_suggested,rank\n" + line)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(lab)
            writing.write_report([copy])

    return (once("marked", make) / "run" / "report.html").read_text()


def embedded(text):
    return json.loads(re.search(r'<script type="application/json" id="mslab">(.*?)</script>', text, re.S)[1])


def test_the_page_needs_no_other_file_and_names_in_it_are_text(written, run, new_page):
    """In one page view, on a phone in dark mode."""
    page = new_page(color_scheme="dark", viewport={"width": 390, "height": 800})
    page.on("dialog", lambda dialog: pytest.fail(f"a name ran: {dialog.message}"))
    page.goto(written.resolve().as_uri())
    assert page.complaints == [] and [url for url in page.requested if not url.startswith("data:")] == [page.url]
    assert page.evaluate("document.documentElement.scrollWidth") <= 390  # nothing sticks out on a phone
    assert page.locator("h2").count() >= 9 and page.locator("svg[role=img]").count() >= 10
    narrow = "[...document.querySelectorAll('svg[role=img]')].filter(c => c.getBoundingClientRect().width < 100).length"
    assert page.evaluate(narrow) == 0  # charts that nobody can read
    broken = "[...document.images].filter(i => !(i.complete && i.naturalWidth)).length"
    assert page.locator("img").count() > 10 and page.evaluate(broken) == 0
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(map(int, re.findall(r"\d+", background))) < 60
    assert page.locator("img[src=x], [onerror], [onload]").count() == 0
    text = page.locator("#data").inner_text()
    assert '<img src=x onerror=alert(1)>"' in text and "{{ 7 * 7 }} [red]" in text
    assert "\u202e" not in page.locator("body").inner_text()  # no name reverses the text after it
    anchors = page.eval_on_selector_all("nav a", "links => links.map(a => a.getAttribute('href').slice(1))")
    assert anchors == page.eval_on_selector_all("section", "parts => parts.map(p => p.id)")
    parts = {"curves", "confusion", "classes", "roc", "calibration", "mistakes", "unsure", "features", "data"}
    assert parts < set(anchors)
    # a cell opens its images, with the keyboard too
    matrix = json.loads((run / "eval.json").read_text())["confusion"]
    expected = {f"cell-{i}-{j}": n for i, row in enumerate(matrix) for j, n in enumerate(row) if n}
    buttons = page.eval_on_selector_all(
        "button.cell", "all => all.map(b => [b.getAttribute('popovertarget'), b.innerText])"
    )
    assert {name: int(number) for name, number in buttons} == expected
    first = page.locator("button.cell").first
    box = page.locator(f"#{first.get_attribute('popovertarget')}")
    assert not box.is_visible()
    first.focus()
    page.keyboard.press("Enter")
    assert box.is_visible() and box.locator("img").count() == min(12, int(first.inner_text()))
    assert f"{first.inner_text()} images" in first.get_attribute("aria-label")
    page.keyboard.press("Escape")
    assert not box.is_visible()


def test_nothing_in_the_page_is_hidden_or_reversed(written, marked):
    """Not in its texts, charts and settings, and not in its JSON."""
    assert hidden(written.read_text()) == hidden(marked) == set()
    assert "\\u202egnp.\u05d0 {{ 7 * 7 }}" in marked and "# \\u202e\n" in marked
    assert "<pre>mslab train &#39;x;&#39; touch EVIL $&#39;" in marked  # pasted, it does not run the second command


def test_it_is_one_small_file_that_may_fetch_nothing(written):
    text = written.read_text()
    assert "default-src 'none'" in text and text.count("<script") == 1 and written.stat().st_size < 3e6


def test_names_in_the_json_are_unchanged(written, marked):
    content = embedded(written.read_text())
    assert content["runs"][0]["manifest"]["class_names"] == sorted(HOSTILE)
    assert any("\u202e" in row["file"] for row in content["runs"][0]["predictions"])
    assert embedded(marked)["runs"][0]["manifest"]["rollbacks"][0]["why"] == ENDS + strict.HOSTILE
    assert marked.count("<script") == 1


def test_a_name_of_ten_thousand_characters_is_shortened(marked):
    page = marked[: marked.index('<section id="repeat">')]  # the complete manifest comes after it
    assert "yyyyyyyy" in page and LONG not in page and LONG in marked


def test_the_json_contains_the_run_and_its_predictions(written, run):
    content = embedded(written.read_text())
    assert (content["mslab"], content["schema"]) == ("report", 1)
    (entry,) = content["runs"]
    assert entry["eval"] == json.loads((run / "eval.json").read_text()) and entry["config"]["class_num"] == 3
    assert [row["epoch"] for row in entry["history"]] == list(range(1, len(entry["history"]) + 1))
    right = sum(row["label"] == row["predicted"] for row in entry["predictions"])
    assert right / len(entry["predictions"]) == pytest.approx(entry["eval"]["accuracy"])


def test_thumbnails_show_the_images(written, run):
    text = written.read_text()
    (section,) = re.findall(r'<section id="unsure">(.*?)</section>', text, re.S)
    first = re.search(r'src="data:image/jpeg;base64,([^"]+)"', section)[1]
    with Image.open(io.BytesIO(base64.b64decode(first))) as image:
        assert image.size == (40, 40)
    assert len(re.findall("<li>", section)) <= 12 and 'alt="heat map for ' in section


def test_both_languages(lab, run, written, tmp_path):
    assert json.loads((lab / "output.json").read_text())[:2] == [0, ""]
    assert f"{written.relative_to(lab)}" in json.loads((lab / "output.json").read_text())[2]
    out = tmp_path / "new" / "zh.html"
    done = cli("report", run, "--out", out, "--lang", "zh", cwd=tmp_path)  # without its images: that is quicker
    assert done.returncode == 0 and str(out) in done.stderr and done.stdout == ""
    for file, lang, heading in ((written, "en", "Confusion matrix"), (out, "zh-Hans", "混淆矩阵")):
        text = file.read_text()
        assert re.search(r"<html[^>]* lang=\"?([\w-]+)", text)[1] == lang
        assert re.search(r'<section id="confusion"><h2>(.*?)</h2>', text)[1] == heading


def test_every_text_has_a_translation_with_the_same_placeholders():
    folder = Path(writing.__file__).parent
    used = set()
    for file in [*folder.glob("*.html"), *folder.glob("*.py")]:
        if file.name != "suspects.html":
            used |= {a or b for a, b in re.findall(r"""\bt\((?:"([^"]+)"|'([^']+)')\)""", file.read_text())}
    assert len(used) > 60 and used <= set(translation.CHINESE)
    for english, chinese in translation.CHINESE.items():
        assert sorted(re.findall(r"{\w+}", english)) == sorted(re.findall(r"{\w+}", chinese)), english
        assert english == "F1" or re.search(r"[\u4e00-\u9fff]", chinese), english


def test_events_are_marked_on_the_curves(marked):
    for text in (">best<", ">rollback<", ">layer2 unfrozen<", ">ended early<"):
        assert text in marked, text
    assert "the loss does not move" in marked and "early stopping: no" in marked


def test_a_transfer_shows_features_before_and_after(parent, two, trained, inside):
    done = trained(two | {"epochs": 1}, parent)
    text = writing.write_report([done.run]).read_text()
    assert "before transfer;" in text and "after training;" in text and "Started from" in text


def test_a_frozen_backbone_has_one_map_of_features(parent, two, trained, inside):
    frozen = trained(two | {"epochs": 1, "freeze": "all"}, parent)
    text = writing.write_report([frozen.run]).read_text()
    assert "before transfer;" not in text and "after training;" in text
    assert "The backbone was frozen" in text and "tensors (stem, layer1, layer2)" in text


def test_missing_and_changed_images_are_noted_and_the_rest_is_shown(lab, run, tmp_path, monkeypatch):
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    monkeypatch.chdir(tmp_path)  # the data's path is relative to the lab
    page = copy / "report.html"
    complete = page.read_text()
    with pytest.raises(
        RunError, match=r"stays as it is: a page written now would lack what the images show\."
    ) as error:
        writing.write_report([copy])
    note = "Sections that need the images or the network are left out. There is no folder data"
    assert note in str(error.value) and page.read_text() == complete
    done = cli("report", copy, "--out", "FILE.html", cwd=tmp_path)  # as it says
    assert done.returncode == 0 and note in done.stderr
    text = (tmp_path / "FILE.html").read_text()
    assert "There is no folder data" in text and 'id="confusion"' in text and 'id="mistakes"' not in text
    page.unlink()
    shutil.copytree(lab / "data", tmp_path / "data")
    file = next((tmp_path / "data" / "val").glob("*/001.png"))
    Image.new("RGB", (40, 40)).save(file)
    monkeypatch.chdir(tmp_path)
    text = writing.write_report([copy]).read_text()
    assert "are not those that the run was trained on" in text and 'id="mistakes"' not in text
    monkeypatch.chdir(lab)
    (copy / "checkpoints" / "best.ckpt").write_bytes(b"broken")
    assert "best.ckpt" in re.search(r'<p class="warning">(.*?)</p>', writing.write_report([copy]).read_text())[1]


def test_a_run_that_has_lost_its_figures_is_measured_again(lab, run, tmp_path, monkeypatch):
    monkeypatch.chdir(lab)
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    figures = json.loads((copy / "eval.json").read_text())
    (copy / "eval.json").write_text("{")
    with pytest.raises(RunError, match=rf"rm {copy}/eval.json\n.*mslab report {copy}"):
        writing.write_report([copy])
    complete = (copy / "report.html").read_text()
    (copy / "eval.json").unlink()
    best = (copy / "checkpoints" / "best.ckpt").read_bytes()
    (copy / "checkpoints" / "best.ckpt").write_bytes(best + b" ")
    with pytest.raises(RunError, match="would lack the figures of the validation images and what the images show"):
        writing.write_report([copy])
    assert (copy / "report.html").read_text() == complete and not (copy / "eval.json").exists()
    (copy / "checkpoints" / "best.ckpt").write_bytes(best)
    text = writing.write_report([copy]).read_text()
    again = json.loads((copy / "eval.json").read_text())
    assert again.pop("loss") == pytest.approx(figures.pop("loss"), rel=1e-5) and again == figures
    assert "best.ckpt is measured again" in text and 'id="mistakes"' in text and 'id="confusion"' in text


def test_a_run_that_was_stopped_before_its_first_epoch(lab, run, tmp_path):
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    for name in ("history.csv", "eval.json", "report.html"):
        (copy / name).unlink(missing_ok=True)
    shutil.rmtree(copy / "checkpoints")
    text = writing.write_report([copy]).read_text()
    assert "No epoch has been measured yet." in text and "No epoch has been completed yet." in text


def test_a_folder_that_is_not_a_run(tmp_path, run):
    done = cli("report", tmp_path, cwd=tmp_path)
    assert (
        done.returncode == 1 and "has no config.yaml." in done.stderr and "a run folder, as mslab train" in done.stderr
    )
    assert cli("report", tmp_path, "--lang", "fr").returncode == 2
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    (copy / "history.csv").write_text("epoch,step\n1,x\n")
    with pytest.raises(RunError, match="a number in each"):
        writing.write_report([copy])
    for name in ("history.csv", "report.html"):
        (copy / name).unlink(missing_ok=True)
    (copy / "eval.json").write_text("{")
    done = cli("report", copy)
    assert done.returncode == 1 and "eval.json cannot be read." in done.stderr and not (copy / "report.html").exists()


def test_a_folder_that_cannot_be_created(run, tmp_path):
    (tmp_path / "file").write_text("")
    done = cli("report", run, "--out", tmp_path / "file" / "new" / "x.html")
    assert done.returncode == 1 and f"x.html cannot be written: {tmp_path}/file is a file." in done.stderr, done.stderr


def test_runs_that_cannot_be_read_are_left_out_of_a_comparison_and_named(run, parent, inside):
    for name in ("gone", "cut", "wrong"):
        shutil.copytree(run, inside / name, ignore=shutil.ignore_patterns("checkpoints"))
    (inside / "gone" / "config.yaml").unlink()
    (inside / "cut" / "history.csv").write_text((run / "history.csv").read_text()[:-9])
    (inside / "wrong" / "eval.json").write_text("")
    done = cli("report", run, "gone", "cut", "wrong", parent, "nothing", "wronk", cwd=inside)
    assert done.returncode == 1 and "report.html lacks 5 of 7 runs; it is written" in done.stderr, done.stderr
    for path, reason in (
        ("gone", "gone has no config.yaml."),
        ("cut", "cut/history.csv cannot be read: its last line has no end, so it was cut."),
        ("wrong", "wrong/eval.json cannot be read: it is not valid JSON: it is empty"),
        ("nothing", f"There is no folder nothing (looked in: {inside})"),
        ("wronk", f"There is no folder wronk (looked in: {inside}); wrong is there"),
    ):
        assert re.search(rf"^  {path} +{re.escape(reason)}$", done.stderr, re.M), done.stderr
    assert len(embedded((inside / "report.html").read_text())["runs"]) == 2
    done = cli("report", "gone", "cut", "--out", "none.html", cwd=inside)
    assert done.returncode == 1 and "None of 2 folders is a run that can be read." in done.stderr
    assert not (inside / "none.html").exists()


def test_what_was_changed_after_the_run_is_said_on_its_page(run, tmp_path, monkeypatch):
    copy = Path(shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints")))
    rows = (copy / "history.csv").read_text().splitlines(keepends=True)
    (copy / "history.csv").write_text("".join(rows[:-1]))
    (copy / "report.html").unlink()
    content = manifest(copy)
    content["metrics"]["val_loss"] = float("nan")  # as a network without finite logits has it
    (copy / "manifest.json").write_text(json.dumps(content))
    text = writing.write_report([copy]).read_text()
    assert "history.csv was changed after the run" in text and embedded(text)["runs"][0]["manifest"]
    done = cli("verify", copy)  # as the note says
    assert done.returncode == 1 and "changed   history.csv" in done.stdout


def test_thirty_runs_on_one_page(run, parent, inside, new_page):
    copies = [
        Path(shutil.copytree(run, inside / f"run-{n}", ignore=shutil.ignore_patterns("checkpoints"))) for n in range(29)
    ]
    for number, copy in enumerate(copies):
        config = (copy / "config.yaml").read_text()
        (copy / "config.yaml").write_text(config.replace("weight_decay: 0.0001", f"weight_decay: 0.0{number + 1:02}"))
    done = cli("report", parent, *copies, cwd=inside)
    assert done.returncode == 0 and "report.html" in done.stderr, done.stderr
    page = new_page()
    page.goto((inside / "report.html").as_uri())
    assert page.complaints == [] and (inside / "report.html").stat().st_size < 3e6
    shown = page.locator("#figures tbody td:nth-child(2)").all_inner_texts()
    figures = [float(text.split()[0]) for text in shown]
    assert len(figures) == 30 and figures == sorted(figures, reverse=True)
    heads = page.locator("#settings thead th").all_inner_texts()
    assert "weight_decay" in heads and "train_data" in heads and "seed" not in heads
    assert "not measured on the same images" in page.locator("header").inner_text()
    styles = {(charts.SHAPES[n % 7], charts.DASHES[n // 8 % 4] or charts.DASHES[n % 4], n % 8) for n in range(30)}
    assert len(styles) == 30  # no two lines look alike
    assert len(embedded((inside / "report.html").read_text())["runs"]) == 30


def test_with_many_classes_the_commonest_mistakes_are_listed():
    import numpy as np

    from mslab.report.single import table_of

    matrix = np.diag(np.full(50, 9))
    matrix[3, 7], matrix[8, 2] = 5, 6
    assert table_of(matrix, [f"c{n}" for n in range(50)])["pairs"] == [("c8", "c2", 6), ("c3", "c7", 5)]


def test_suspects_are_shown_if_the_run_folder_has_any(written, marked):
    assert "Labels that may be wrong" not in written.read_text()
    section = re.search(r'<section id="suspects">(.*?)</section>', marked, re.S)[1]
    assert section.count("data:image/jpeg") == 1 and "0.010" in section and 'href="#suspects"' in marked
