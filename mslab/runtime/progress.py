"""The line of a progress bar: what it says, most important first, in the width that there is.

Only ASCII is drawn: some terminals in China and Japan show a drawn line two columns wide, and the line would wrap.
"""

import re
from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

Words = Sequence[Sequence[str]]  # each from its longest text to its shortest; the most important word first
NARROW, WIDE, LONGEST = 5, 8, 32  # columns of the bar between its brackets


def fitted_line(words: Words, fraction: float | None, width: int, more: Sequence[str] = ()) -> str:
    """The words and a bar in at most `width` columns; of `more` what there is space for; no bar for fraction None.

    Where all does not fit, the words become short, then the bar goes, then the least important words go.
    """
    # fitted_line([("epoch 1/2", "1/2"), ("loss 0.51", "loss 0.5")], 0.5, 40)
    # -> "epoch 1/2  loss 0.51  [========>       ]"
    for size in range(3):
        gap, least = ("  ", WIDE) if size == 0 else (" ", NARROW)
        texts = [word[min(size, len(word) - 1)] for word in words]
        needed = sum(map(cell_len, texts)) + len(gap) * (len(texts) - 1)
        bar = 0 if fraction is None else len(gap) + 2 + least
        if needed + bar <= width:
            for text in more if size == 0 else ():
                if needed + len(gap) + cell_len(text) + bar > width:
                    break
                texts.append(text)
                needed += len(gap) + cell_len(text)
            if fraction is not None:
                texts.append(drawn_bar(fraction, min(LONGEST, width - needed - len(gap) - 2)))
            return gap.join(texts)
    while len(texts) > 1 and needed > width:
        needed -= cell_len(texts.pop()) + 1
    line = " ".join(texts)
    return line if cell_len(line) <= width else set_cell_size(line, max(0, width))


def shortened(line: str, width: int) -> str:
    """An epoch's line without its least important figures, so that it fits; train.log has all of them."""
    # shortened("epoch 1/2  loss 0.5  lr 0.0026  99 images/s  16 s", 40) -> "epoch 1/2  loss 0.5  lr 0.0026  16 s"
    for figure in (r"  \d+ images/s", r"  lr \S+", r"  val_loss \S+", r"  \d+ s$"):
        if cell_len(line) > width:
            line = re.sub(figure, "", line)
    return line


def drawn_bar(fraction: float, size: int) -> str:
    # drawn_bar(0.5, 8) -> "[====>   ]"
    done = int(size * min(max(fraction, 0.0), 1.0))
    return f"[{'=' * done}{'>' * (done < size)}{' ' * (size - done - 1)}]"


def duration(seconds: float) -> str:
    # duration(125) -> "2 min"
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
