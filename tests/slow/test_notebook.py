"""A run in a notebook, with classes and files whose names are HTML."""

import shutil

from helpers import draw, settings
from strict import Strict

import mslab


def test_names_are_escaped_everywhere(squares, tmp_path, monkeypatch):
    names = ["<b>x", "a&b", "c"]
    root = tmp_path / "set"
    for split, seed in (("train", 1), ("val", 2)):
        draw(root / split, names, 8, seed)
    monkeypatch.chdir(tmp_path)
    run = mslab.Run(mslab.train(settings(root, 3, epochs=1, lr_max=1e-6, lr_init=1e-7)).run)
    shutil.move(root / "val" / "c" / "000.png", root / "<i>&.png")
    views = [run.confusion, run.mistakes(data=root / "train"), run.predict(root / "<i>&.png"), run.history, run]
    for view in views:
        text = view._repr_html_()
        assert "<b>" not in text and "<i>" not in text and "&b<" not in text
        Strict(text)
    assert "&lt;b&gt;x" in run.confusion._repr_html_()
