"""Output in a real notebook kernel: nothing on standard error, one table of epochs, no rewritten lines."""

import os
import sys

import nbformat
from nbclient import NotebookClient

TRAINING = """
import time
from mslab.runtime import console, jupyter
jupyter.PAUSE = 0.1
console.log.info("before <b>")
with console.Meter(20, window=10) as meter:
    for epoch in (1, 2):
        for _ in range(10):
            meter.update([("epoch <i>", "1")])
            time.sleep(0.02)
        row = {"epoch": epoch, "train_loss": 1.5, "train_acc": 0.25, "val_loss": float("nan")}
        row |= {"val_acc": 0.5, "seconds": 7}
        console.log.info(f"epoch   {epoch}/2  loss 1.500", extra={"row": row})
console.log.info("after")
with console.Meter(5) as meter:
    meter.update("too short to be shown")
"""
WITHOUT_EPOCHS = """
with console.Meter(2) as meter:
    for done in (1, 2):
        time.sleep(0.2)
        meter.update(f"evaluating {done}/2 images")
"""
UNFINISHED = """
meter = console.Meter(20).__enter__()
meter.update([("epoch <i>", "1")])
time.sleep(0.2)
meter.update([("epoch <i>", "1")], 9)
"""
CHILD = """
import sys
!{sys.executable} -c "from mslab.runtime import console as c; print(c.sys.stdout.isatty(), c.Meter(5).line)"
"""


def run(folder, *cells):
    """The outputs of each of these cells, run in a kernel."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in cells])
    client = NotebookClient(notebook, timeout=60, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    variables = {"IPYTHONDIR": str(folder), "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    client.execute(env=os.environ | variables)
    return [cell.outputs for cell in notebook.cells]


def test_a_notebook_shows_messages_as_plain_output_and_the_epochs_in_one_growing_table(tmp_path):
    (before, table, after), (measured,), (bar,), (child,) = run(tmp_path, TRAINING, WITHOUT_EPOCHS, UNFINISHED, CHILD)
    assert [output.output_type for output in (before, table, after)] == ["stream", "display_data", "stream"]
    assert before.name == after.name == child.name == "stdout"
    assert before.text == "before <b>\n" and after.text == "after\n"
    assert table.data["text/plain"] == "epoch   1/2  loss 1.500\nepoch   2/2  loss 1.500"
    page = table.data["text/html"]
    assert page.count("<tr>") == 3 and "<td>0.250</td><td></td><td>0.500</td><td>7</td>" in page
    assert "<progress" not in page and "<i>" not in page
    assert set(measured.data.values()) == {"evaluating 2/2 images"}  # no empty output stays
    assert bar.data["text/html"] == '<progress value="0.500"></progress> epoch &lt;i&gt;  0 s left'
    assert child.text.split() == ["True", "None"]  # !COMMAND writes to a terminal, and all of it is kept
