"""The labs' notebooks run unchanged from top to bottom in an empty folder."""

import os
import re

import nbformat
from helpers import PROJECT
from nbclient import NotebookClient

LABS = PROJECT / "docs" / "labs"


def run(name, folder):
    """{first line of a code cell: (its text, its HTML)}, after all cells have run. A failing cell is an error."""
    notebook = nbformat.read(LABS / f"{name}.ipynb", as_version=4)
    client = NotebookClient(notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    client.execute(env=os.environ | {"IPYTHONDIR": str(folder / ".ipython")})
    outputs = {}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not [o for o in cell.outputs if o.get("name") == "stderr"]  # it is red
            text = "".join(o.get("text", "") for o in cell.outputs)
            outputs[cell.source.splitlines()[0]] = (
                text,
                "".join(o.get("data", {}).get("text/html", "") for o in cell.outputs),
            )
    return outputs


def test_nine_to_two(tmp_path):
    cells = run("nine-to-two", tmp_path)
    *_, (output, _) = cells.values()
    assert output == "the lab worked\n"
    accuracy = {row.split()[0]: float(row.split()[1]) for row in cells["accuracy = {"][0].splitlines()}
    assert accuracy["transfer"] > accuracy["scratch"] and accuracy["transfer"] > 0.7
    assert "(1, 512, 3, 3)" in cells["from mslab.report.show import show_network"][0]
    assert "<th>Suillus</th>" in cells["run.confusion"][1]
    assert "<th>val_acc</th>" in cells['outcome = mslab.train(nine, name="nine")'][1]
    for first in ("run.mistakes(6)", 'pair.mistakes(6, data=DATA / "mushrooms2")'):
        assert re.search(r"of \d+ mistakes on \d+ images", cells[first][1]) and "data:image/jpeg" in cells[first][1]
    assert len(list(tmp_path.glob("runs/*/report.html"))) == 1


def test_find_what_is_wrong(tmp_path):
    cells = run("find-what-is-wrong", tmp_path)
    *_, (output, _) = cells.values()
    assert output == "the lab worked\n"
    errors, _ = cells["settings = {"]
    assert all(code in errors for code in ("stray-folder", "truncated", "split-leak"))
    assert "the loss does not move" in cells['for warning in bad.manifest["warnings"]:'][0]
    assert "suspects are for a person to review" in cells["suspects = good.suspects()"][1]
    found, all_swapped = map(
        int, re.match(r"(\d+) of (\d+)", cells['named = {row["file"] for row in suspects}'][0]).groups()
    )
    assert all_swapped == 40 and found >= 24
    assert (tmp_path / "shapes.quarantine" / "train" / ".ipynb_checkpoints").is_dir()


def test_five_heads(tmp_path):
    cells = run("five-heads", tmp_path)
    *_, (output, _) = cells.values()
    assert output.endswith("the lab worked\n")
    rows = [line.split() for line in cells["figures = {}"][0].splitlines()[1:]]
    assert [row[:2] for row in rows] == [
        ["detect", "voc_map"],
        ["segment", "miou"],
        ["keypoints", "pck"],
        ["multilabel", "map"],
    ]
    assert len(list(tmp_path.glob("runs/*/history.csv"))) == 13
