"""The page of a sweep, whose charts are those of the report."""

import re

from optuna.trial import TrialState
from studies import SPACE, begin, filled, study_in, sweep_of

from mslab.experiments.sweep import page, trials


def test_the_page_has_no_script_and_escapes_names(tmp_path):
    folder = tmp_path / "<script>alert(1)<b>"
    folder.mkdir()
    study = filled(tmp_path, 14)
    trial, _ = begin(study)
    trial.set_user_attr("failure", "<img src=x> it diverged")
    study.tell(trial, state=TrialState.FAIL)
    sweep = sweep_of(study, folder)
    file = page.write(sweep, study, SPACE, folder)
    text = file.read_text()
    assert "<script" not in text and "default-src 'none'" in text and "<img" not in text
    assert "&lt;script&gt;alert" in text and "&lt;img src=x&gt; it diverged" in text
    assert "http" not in re.sub(r"http-equiv|http://www.w3.org", "", text)
    assert text.count("<svg") == 3 and "PED-ANOVA" in text and "On the test images: 0.900 beside 0.800" in text
    assert "so the figure is optimistic" in text and "12 complete, 2 pruned, 1 failed" in text
    best = trials.best(trials.rows(study))
    assert (
        page.command(sweep) == f"mslab train x.yaml epochs=3 lr_max={best['values']['lr_max']}"
        and page.command(sweep) in text
    )
    (tmp_path / "config.yaml").write_text("data_workers: 1\n")  # the trial's own, whose worker had one core
    sweep["best"]["run"], sweep["settings"]["data_workers"] = str(tmp_path), 4
    assert page.command(sweep).endswith(" data_workers=1")
    for ruined in ("", "- a\n", "a: [\n", "\0"):
        (tmp_path / "config.yaml").write_text(ruined)
        assert page.write(sweep, study, SPACE, folder) and "data_workers" not in page.command(sweep)
    (tmp_path / "config.yaml").unlink()
    assert "data_workers" not in page.command(sweep)
    assert all(row["val_acc"] <= best["val_acc"] for row in sweep["trials"] if row["state"] == "complete")


def test_few_trials_have_no_importance_and_the_page_says_why(tmp_path):
    study = filled(tmp_path, 3)
    text = page.write(sweep_of(study, tmp_path), study, SPACE, tmp_path).read_text()
    assert "it takes 10 completed trials to measure which setting mattered; there are 3" in text
    empty = study_in(tmp_path, name="none")
    text = page.write(sweep_of(empty, tmp_path, status="budget"), empty, SPACE, tmp_path).read_text()
    assert "No trial was completed" in text and "mslab sweep --resume" in text


def test_the_page_shows_in_a_browser(tmp_path, page):
    from mslab.experiments.sweep import page as pages

    study = filled(tmp_path, 12)
    file = pages.write(sweep_of(study, tmp_path), study, SPACE, tmp_path)
    page.goto(file.as_uri())
    assert page.complaints == [] and page.requested == [file.as_uri()]
    assert page.locator("#trials tbody tr").count() == 12 and page.locator("svg").count() == 3
