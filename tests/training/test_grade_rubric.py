"""Rubrics, and the scores of each kind of item: no submission is opened here."""

from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
from helpers import PROJECT, draw

from mslab.errors import ConfigError, MslabError
from mslab.grade import copies, grading, items, loading, rubric
from mslab.grade.copies import GivenBackbone, Traces
from mslab.grade.items import Hidden
from mslab.grade.records import Measurement

GOOD = """
title: A lab
total: 10
networks: {one: {file: best.ckpt, data: one, class_num: 3}}
items:
  - {id: files, kind: files, points: 4, files: [best.ckpt, report.md]}
  - {id: right, kind: accuracy, points: 6, network: one, linear: {from: 0.5, to: 0.9}}
"""


def write_rubric(folder: Path, text: str) -> Path:
    path = folder / "rubric.yaml"
    path.write_text(text)
    return path


def mistakes(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as error:
        loading.load_rubric(write_rubric(folder, text))
    return str(error.value)


def test_the_example_is_valid_and_describes_its_items():
    example = loading.load_rubric(PROJECT / "configs" / "rubric.yaml")
    assert sum(item.points for item in example.items) == example.total == 100
    texts = {item.id: rubric.described(item) for item in example.items}
    assert "linear from 0 points at 0.5 to 25 at 0.9" in texts["accuracy-nine"]
    assert "epochs at most 30" in texts["settings"] and {item.kind for item in example.items} >= {
        "provenance",
        "manual",
    }


def test_the_rubric_bounds_the_images_that_a_submission_can_ask_for(tmp_path):
    limits = [
        grading.job_of(loading.load_rubric(write_rubric(tmp_path, GOOD + more)), None)["limits"]
        for more in ("", "image_size: 64\nimage_gigabytes: 0.5\n")
    ]
    assert limits == [{"pixels": 512, "image_bytes": 4 << 30}, {"pixels": 64, "image_bytes": 1 << 29}]
    text = mistakes(tmp_path, GOOD + "image_size: 0\nimage_gigabytes: -1\n")
    assert "has 2 problems" in text and "image_size" in text and "image_gigabytes" in text


def test_every_mistake_at_once(tmp_path):
    text = mistakes(
        tmp_path,
        """
title: A lab
totl: 10
total: 11
given: none.ckpt
networks: {one: {file: ../best.ckpt}, given: {file: a.ckpt}}
items:
  - {id: files, kind: files, points: 4, files: []}
  - {id: right, kind: acuracy, points: 6, network: one}
  - {id: band, kind: accuracy, points: -6, network: one, bands: [[0.5]]}
  - just text
late: {due: 2026-12-01, per_day: 5}
""",
    )
    assert "has 9 problems" in text and "nothing was opened or graded" in text
    for message in (
        "totl",
        "did you mean total?",
        "is not a path inside a submission",
        "items[1] files files",
        "items[2] right  kind 'acuracy' is unknown; did you mean accuracy?",
        "items[3] band points",
        "items[4]",
        "is not a time with a zone",
    ):
        assert " ".join(message.split()) in " ".join(text.split()), message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("total: 10", "total: 12"), "is 12, but the items' points add up to 10"),
        (("network: one, l", "network: two, l"), "network two is unknown"),
        (("id: right", "id: files"), "is used 2 times"),
        (("linear: {from: 0.5, to: 0.9}", "linear: {from: 0.9, to: 0.5}"), "from 0.9 is not less than to 0.5"),
        (("linear: {from: 0.5, to: 0.9}", "bands: [[0.5, 3], [0.9, 5]]"), "gives 5 points; the item has 6"),
        (("linear: {from: 0.5, to: 0.9}", "bands: [[0.9, 6], [0.5, 3]]"), "must rise in both"),
        ((", linear: {from: 0.5, to: 0.9}", ""), "needs either bands"),
        (("total: 10", "total: 10\ngiven: none.ckpt"), "there is no file none.ckpt beside the rubric"),
        (("{one:", "{given:"), "is the name of the teacher's own backbone"),
        (("kind: accuracy", "kind: provenance, parent: given"), "linear"),
        (("best.ckpt, report.md", "best.ckpt"), None),
    ],
)
def test_a_mistake_between_parts(tmp_path, change, message):
    text = GOOD.replace(*change)
    assert text != GOOD
    if message:
        assert message in mistakes(tmp_path, text)
    else:
        assert loading.load_rubric(write_rubric(tmp_path, text)).total == 10


@pytest.mark.parametrize(
    ("text", "message"), [("[1", "is not valid YAML"), ("- a", "is not a table of title"), ("", "is not a table")]
)
def test_a_file_that_is_not_a_rubric_is_refused(tmp_path, text, message):
    assert message in mistakes(tmp_path, text)
    with pytest.raises(ConfigError, match=r"There is no rubric file .*none\.yaml\."):
        loading.load_rubric(tmp_path / "none.yaml")


def test_hidden_images_of_other_classes_are_found_before_anything_is_opened(tmp_path):
    path = write_rubric(tmp_path, GOOD)
    draw(tmp_path / "hidden" / "one", ["a", "b"], 2)
    with pytest.raises(ConfigError) as error:
        grading.grade(tmp_path / "no submissions", path, tmp_path / "hidden", tmp_path / "out")
    assert "class_num is 3" in str(error.value) and "has 2: a, b" in str(error.value)
    with pytest.raises(ConfigError, match="There is no folder"):
        grading.grade(tmp_path / "no submissions", path, tmp_path / "elsewhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- items -----------------------------------------------------------------------------------------------------------

HIDDEN = {"one": Hidden(np.array([0, 0, 1, 1, 2]), ["a", "b", "c"], ["1.png", "2.png", "3.png", "4.png", "5.png"])}


def measurement(right: int = 5, **more) -> Measurement:
    """Measurement of a submission whose network classifies `right` of the five hidden images correctly."""
    answers = [(label + (place >= right)) % 3 for place, label in enumerate(HIDDEN["one"].labels)]
    network = {"file": "best.ckpt", "class_names": ["a", "b", "c"], "weights": 1000, "tensors": {}}
    facts = {"files": {"best.ckpt": 5, "empty": 0}, "problems": [], "networks": {"one": network}}
    facts |= {name: {} for name in ("configs", "json", "histories", "predictions", "relations")} | more
    return Measurement(facts, {"one": np.eye(3, dtype=np.float32)[answers]})


def outcome(row: dict, measurement: Measurement):
    kind = rubric.KINDS[row["kind"]]
    return items.KINDS[row["kind"]](kind.model_validate({"id": "x"} | row), measurement, HIDDEN)


def test_accuracy_in_a_line_and_in_bands():
    line = {"kind": "accuracy", "points": 6, "network": "one", "linear": {"from": 0.5, "to": 0.9}}
    assert [outcome(line, measurement(n)).points for n in (5, 4, 3, 2)] == [6, 4.5, 1.5, 0]
    bands = {"kind": "accuracy", "points": 6, "network": "one", "bands": [[0.6, 2], [0.8, 6]]}
    assert [outcome(bands, measurement(n)).points for n in (5, 4, 3, 2)] == [6, 6, 2, 0]
    assert [outcome(line, measurement(n)).status for n in (5, 3, 2)] == ["full", "part", "none"]


def test_figures_of_the_hidden_set_are_shown_only_if_the_item_is_public():
    row = {"kind": "accuracy", "points": 6, "network": "one", "linear": {"from": 0.5, "to": 0.9}}
    assert "0.800" not in outcome(row, measurement(4)).said and outcome(row, measurement(4)).figures["accuracy"] == 0.8
    assert "0.800" in outcome(row | {"public": True}, measurement(4)).said
    row = {"kind": "gain", "points": 6, "network": "one", "baseline": 0.5, "linear": {"from": 0, "to": 0.3}}
    assert (
        "0.3" not in outcome(row, measurement(4)).said
        and "+0.300" in outcome(row | {"public": True}, measurement(4)).said
    )
    assert outcome(row, measurement(4)).points == pytest.approx(6)
    row = {"kind": "reproduced", "points": 6, "network": "one", "file": "m.json", "key": "metrics.val_acc"}
    claim = outcome(row, measurement(4, json={"m.json": {"values": {"metrics": {"val_acc": 0.81}}}}))
    assert claim.points == 6 and "0.800" not in claim.said and "0.810" in claim.said


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"file": "best.ckpt", "error": "its weights are not finite"}, "best.ckpt: its weights are not finite"),
        ({"file": "best.ckpt", "class_names": ["a", "c", "b"]}, "was trained on other classes"),
    ],
)
def test_a_network_that_cannot_be_measured_has_a_reason(network, message):
    row = {"kind": "accuracy", "points": 6, "network": "one", "linear": {"from": 0.5, "to": 0.9}}
    assert message in outcome(row, measurement(5, networks={"one": network})).said
    few = Measurement(measurement().facts, {"one": np.zeros((5, 2), np.float32)})
    assert "has 2 classes; the task has 3" in outcome(row, few).said


def test_files_and_settings():
    row = {"kind": "files", "points": 6, "files": ["best.ckpt", "Best.ckpt", "empty"]}
    result = outcome(row, measurement())
    assert result.points == 2 and result.said == "1 of 3 files are there; missing or empty: Best.ckpt, empty"
    rules = {"class_num": {"equals": 9}, "epochs": {"at_most": 30}, "optimizer": {"one_of": ["adam", "sgd"]}}
    row = {"kind": "config", "points": 6, "file": "config.yaml", "rules": rules}
    result = outcome(
        row, measurement(configs={"config.yaml": {"values": {"class_num": 2, "epochs": 30, "optimizer": "sgd"}}})
    )
    assert result.points == 4 and "class_num is 2; required: equals 9" in result.said
    assert "was not handed in" in outcome(row, measurement()).said
    assert "no YAML" in outcome(row, measurement(configs={"config.yaml": {"error": "no YAML"}})).said
    text = {"values": {"class_num": "9", "epochs": "many", "optimizer": ["sgd"]}}
    assert outcome(row, measurement(configs={"config.yaml": text})).points == 0


@pytest.mark.parametrize(
    ("equal", "batchnorm", "expected", "convolutions", "how", "status"),
    [
        (265, 1.0, 1.0, 1.0, "frozen", "full"),
        (264, 1.0, 1.0, 1.0, "frozen", "none"),
        (0, 0.9, 0.9, 0.95, "finetuned", "full"),
        (265, 1.0, 1.0, 1.0, "finetuned", "none"),
        (0, 0.1, 0.9, 0.8, "either", "none"),
        (0, 0.9, 0.9, 0.95, "either", "full"),
        (265, 0.0, 0.0, 1.0, "either", "full"),  # equal to a parent that was hardly trained
        (0, 1.0, 1.0, 0.01, "either", "none"),  # BatchNorm copied into other convolutions
        (0, 1.0, 1.0, 0.4, "either", "manual"),
        (0, 0.35, 0.4, 0.6, "finetuned", "manual"),  # trained much longer than the parent
        (0, 0.05, 0.01, 0.9, "either", "manual"),  # the parent was hardly trained
        (0, 0.05, 0.01, 0.9, "frozen", "none"),
        (0, 0.05, 0.01, 0.1, "either", "none"),
    ],
)
def test_provenance(equal, batchnorm, expected, convolutions, how, status):
    row = {"kind": "provenance", "points": 6, "network": "two", "parent": "one", "how": how}
    figures = {"equal": equal, "tensors": 265, "batchnorm": batchnorm, "expected": expected}
    figures |= {"convolutions": convolutions}
    result = outcome(row, measurement(relations={"two<one": figures}))
    assert result.status == status and result.points == 6 * (status == "full") and result.figures == figures
    assert f"{equal} of 265 tensors" in result.said
    assert (f"BatchNorm {batchnorm:.2f}" in result.said) == (equal < 265)  # what never changed has no correlation
    assert ("The teacher decides." in result.said) == (status == "manual")
    assert "not both handed in" in outcome(row, measurement()).said


def test_an_empty_backbone_is_nobodys():
    row = {"kind": "provenance", "points": 6, "network": "two", "parent": "one", "how": "frozen"}
    figures = dict.fromkeys(("equal", "tensors", "batchnorm", "expected", "convolutions"), 0)
    assert outcome(row, measurement(relations={"two<one": figures})).status == "none"


def test_predictions_that_are_shuffled_repeated_or_too_many():
    row = {"kind": "predictions", "points": 6, "file": "p.csv", "network": "one", "linear": {"from": 0.2, "to": 1.0}}
    right = {f"photos/{n}.png": c for n, c in zip("12345", "aabbc", strict=True)}

    def score(rows, **more):
        return outcome(row | more, measurement(predictions={"p.csv": {"rows": rows}}))

    assert score(right).points == 6
    shuffled = dict(zip(right, ["b", "a", "c", "a", "b"], strict=True))
    assert score(shuffled).points == 0 and score(shuffled, agreement=0.9).said.startswith("20% of p.csv agrees with")
    assert "1 rows too many and lacks 0" in score(right | {"6.png": "a"}).said
    assert "0 rows too many and lacks 4 of 5" in score({"1.png": "a"}).said
    assert "more than once" in score(right | {"other/1.png": "a"}).said
    assert "classes that the task does not have: dog" in score(right | {"photos/1.png": "dog"}).said
    assert score(right, agreement=0.9).points == 6


def test_size_claims_and_values_that_are_not_numbers():
    row = {"kind": "size", "points": 6, "network": "one", "at_most": 1000}
    assert outcome(row, measurement()).points == 6 and outcome(row | {"at_most": 999}, measurement()).points == 0
    row = {"kind": "reproduced", "points": 6, "network": "one", "file": "m.json", "tolerance": 0.05}
    for values in ({}, {"metrics": 3}, {"metrics": {"val_acc": "0.8"}}, {"metrics": {"val_acc": True}}, []):
        result = outcome(row, measurement(json={"m.json": {"values": values}}))
        assert result.points == 0 and "has no number metrics.val_acc" in result.said
    claim = {"m.json": {"values": {"metrics": {"val_acc": 1.0}}}}
    assert "the difference is above 0.05" in outcome(row, measurement(4, json=claim)).said


def test_a_submission_that_could_not_be_read_gets_no_points():
    example = loading.load_rubric(PROJECT / "configs" / "rubric.yaml")
    outcomes = items.score(example, Measurement({"problems": ["the archive is damaged"]}), {})
    assert all(o.points == 0 and (o.status == "manual" or "damaged" in o.said) for o in outcomes.values())


# --- lateness --------------------------------------------------------------------------------------------------------


def test_lateness_and_attempts(tmp_path):
    late = 'late: {due: "2026-12-01T20:00:00+08:00", per_day: 2, at_most: 5}\nattempts: {at_most: 2, cost: 1.5}\n'
    lab = loading.load_rubric(write_rubric(tmp_path, GOOD + late))
    table = tmp_path / "times.csv"
    table.write_text(
        "id,submitted,attempt\nanna,2026-12-01T12:00:00Z,2\nbob,2026-12-01T12:00:01Z,\ncem,2026-12-09T00:00:00+08:00,4\n"
    )
    times = grading.read_times(table)
    assert times["anna"].submitted == datetime(2026, 12, 1, 12, tzinfo=timezone.utc)
    assert grading.deductions_of(lab, times["anna"]) == []
    assert grading.deductions_of(lab, times["bob"]) == [("1 day late", 2.0)]
    assert grading.deductions_of(lab, times["cem"]) == [("8 days late", 5.0), ("attempt 4; 2 are free", 3.0)]
    table.write_text("id,submitted\nanna,yesterday\nbob,2026-12-01T12:00:00\n")
    with pytest.raises(MslabError) as error:
        grading.read_times(table)
    assert "2 lines" in str(error.value) and "line 2" in str(error.value) and "no zone" in str(error.value)


# --- copies ----------------------------------------------------------------------------------------------------------


def traces(name: str, tensors: dict, sketch, logits=None, last_year=False, **facts) -> Traces:
    network = {"file": "best.ckpt", "class_names": ["a", "b"], "tensors": tensors}
    arrays = {} if logits is None else {"one": np.asarray(logits, np.float32)}
    return Traces(
        name, {"networks": {"one": network}} | facts, arrays, {"one": np.asarray(sketch, np.float32)}, last_year
    )


def test_copies_are_listed_with_evidence_and_the_given_backbone_is_no_copy():
    rng = np.random.default_rng(0)
    given_sketch, mine, other = rng.normal(size=(3, 4096))
    shared = {"conv1.weight": "g1", "layer1.weight": "g2"}
    anna = traces("anna", shared | {"classifier.weight": "x"}, given_sketch + 0.1 * mine, rng.normal(size=(20, 2)))
    bob = traces("bob", shared | {"classifier.weight": "x"}, given_sketch + 0.1 * mine, rng.normal(size=(20, 2)))
    cem = traces("cem", shared | {"classifier.weight": "y"}, given_sketch + 0.1 * other, rng.normal(size=(20, 2)))
    dan = traces(
        "dan", {"conv1.weight": "d", "layer1.weight": "e", "classifier.weight": "f"}, given_sketch + 0.1 * mine * 1.02
    )
    old = traces("old", {"conv1.weight": "d", "layer1.weight": "e", "classifier.weight": "f"}, other, last_year=True)
    received = GivenBackbone(frozenset({"g1", "g2"}), given_sketch.astype(np.float32))
    rows = copies.pairs([anna, bob, cem, dan, old], received, {})
    by_pair = {(row["a"], row["b"], row["kind"]): row for row in rows}
    assert set(by_pair) == {
        ("anna", "bob", "weights"),
        ("dan", "old", "weights"),
        ("anna", "dan", "weights"),
        ("bob", "dan", "weights"),
    }
    assert by_pair["anna", "bob", "weights"]["likeness"] == 1 and by_pair["dan", "old", "weights"]["last_year"]
    assert 0.97 < by_pair["anna", "dan", "weights"]["likeness"] < 1
    assert "of their length" in by_pair["anna", "dan", "weights"]["evidence"]


def test_equal_backbones_answers_histories_and_mistakes():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20, 2))
    history = {"histories": {"history.csv": {"rows": 9, "digest": "h"}}}
    wrong = {f"{n}.png": "b" for n in range(6)} | {f"{n}.png": "a" for n in range(6, 20)}
    truth = {"p.csv": {f"{n}.png": "a" for n in range(20)}}
    tables = [{"p.csv": {"rows": rows}} for rows in (wrong, {f"x/{k}": v for k, v in wrong.items()}, truth["p.csv"])]
    own = [{"conv1.weight": "1", "classifier.weight": "2"}, {"conv1.weight": "1", "classifier.weight": "3"}]
    first, second = (rng.normal(size=4096) for _ in range(2))
    anna = traces("anna", own[0], first, logits, predictions=tables[0], **history)
    bob = traces("bob", own[1], second, 2 * logits + 1, predictions=tables[1], **history)
    own.append({"conv1.weight": "4", "classifier.weight": "5"})
    cem = traces("cem", own[2], rng.normal(size=4096), rng.normal(size=(20, 2)), predictions=tables[2])
    rows = copies.pairs([cem, bob, anna], GivenBackbone(), truth)
    assert [(row["a"], row["b"]) for row in rows] == [("anna", "bob")] * 4
    assert {row["kind"] for row in rows} == {"backbone", "answers", "history", "predictions"}
    assert any("6 mistakes are equal, 0 differ" in row["evidence"] for row in rows)
    assert rows == copies.pairs([anna, bob, cem], GivenBackbone(), truth)  # in any order
