"""Where the splits and the classes of a data set are: find_splits() reads every ROOT, whoever names it.

A ROOT is one split (class folders of images) or has splits in it, under any usual name ("Training", "valid", "测试集").
Folders around them, such as an archive's own or `images/`, are passed through. No file is opened.
"""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from mslab.check import packed
from mslab.check.scan import has_images, is_leftover

SPLITS = ("train", "val", "test")
DEPTH = 6  # folders around the classes, at most: ILSVRC/Data/CLS-LOC/train has three
LONGEST = 80  # characters of a split's name
LOOKED_AT = 5_000  # entries, at most, in the search for the only folder that holds images

PROGRAMS = {"venv", "env", "virtualenv", "node_modules", "site-packages", "dist-packages", "build", "dist"}
ENVIRONMENT = ("pyvenv.cfg", "conda-meta")  # an environment of Python or conda, whatever its name

# how a split is called; accents, capitals, digits, spaces and punctuation do not count
WORDS = {
    "train": "train training trained trn trainval learn learning 训练 訓練 训练用 训 学習 학습 훈련 trainings "
    "entrainement apprentissage entrenamiento treino treinamento addestramento обучение обучающая тренировка",
    "val": "val vals valid validate validation validations validating vld dev devel develop development eval evals "
    "evaluation evaluate evaluating 验证 驗證 校验 开发 検証 검증 validierung validierungs validacion validacao "
    "validazione валидация проверка",
    "test": "test tests testing tst heldout holdout 测试 測試 测 テスト 評価 테스트 시험 prueba pruebas teste тест",
}
# what is added to such a word without saying more
FILLERS = (
    "set sets data image images img imgs pic pics picture pictures photo photos split splits folder "
    "folders dir subset sample samples file files the my cls class classes jpg jpgs jpeg jpegs png pngs daten bilder "
    "datos imagenes dados imagens donnees выборка данные 集 数据 數據 图片 圖片 图像 图 样本 用 データ 画像 "
    "데이터 세트 이미지"
)


def plain(text: str) -> str:
    """Letters only, without capitals and accents."""
    letters = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
    return "".join(c for c in letters if c.isalpha())


def _pattern() -> re.Pattern[str]:
    filler = "|".join(sorted(map(plain, FILLERS.split()), key=len, reverse=True))
    words = "|".join(
        f"(?P<{split}>{'|'.join(sorted(map(plain, words.split()), key=len, reverse=True))})"
        for split, words in WORDS.items()
    )
    return re.compile(f"(?:{filler})*(?:{words})(?:{filler})*")


PATTERN = _pattern()
NOTHING = re.compile(f"(?:{'|'.join(sorted(map(plain, FILLERS.split()), key=len, reverse=True))})+")
EDGE = re.compile(r"[\W_]+|(?<=[a-z0-9])(?=[A-Z])")  # between the words of a name: seg_train, segTrain


def split_name(name: str) -> tuple[str, str]:
    """(train, val or test, or "" if the name is none of a split; what else the name says)."""
    # split_name("Training Set") -> ("train", ""); split_name("seg_test") -> ("test", "seg")
    if len(name) > LONGEST or name.isdigit():
        return "", ""
    parts = [part for part in EDGE.split(name) if plain(part)]
    candidates = [("".join(parts), "")]
    if len(parts) > 1:
        candidates += [(parts[-1], " ".join(parts[:-1])), (parts[0], " ".join(parts[1:]))]
    for word, rest in candidates:
        if (match := PATTERN.fullmatch(plain(word))) and match.lastgroup:
            return match.lastgroup, plain(rest)
    return "", ""


def says_nothing(name: str) -> bool:
    """Whether a folder's name is none of a class: "images", "my_data"."""
    return len(name) <= LONGEST and NOTHING.fullmatch(plain(name)) is not None


def split_names(names: Iterable[str]) -> dict[str, str]:
    """{name: train, val or test} of the folders, beside each other, that are named like splits.

    Names that say something else, too, count only if two splits say the same: seg_train and seg_test.
    """
    groups: dict[str, dict[str, str]] = defaultdict(dict)
    for name in names:
        split, rest = split_name(name)
        if split:
            groups[rest][name] = split
    if groups[""]:
        return groups[""]
    return max((group for group in groups.values() if len(set(group.values())) > 1), key=len, default={})


@dataclass(frozen=True)
class Layout:
    """What find_splits found. `folder` is ROOT, or the folder in it that has the splits or classes."""

    folder: Path
    splits: dict[str, Path]  # train, val, test in this order, or "" for a single split: the folder of its classes
    spelled: dict[str, str] = field(default_factory=dict)  # split -> the name of its folder
    again: dict[str, str] = field(default_factory=dict)  # another folder that is called like it -> split
    beside: list[str] = field(default_factory=list)  # other folders beside the splits


def find_splits(root: Path, ignored: Collection[str] = ()) -> Layout:
    """Find the splits in ROOT, or the classes if it is one split. `ignored`: names of folders to leave out."""
    folder = root
    for _ in range(DEPTH):
        names = [name for name in subfolders(folder) if name not in ignored]
        if spelled := splits_in(folder, names):
            return _layout(folder, names, spelled, ignored)
        if not (inner := inner_folder(folder, names)):
            break
        folder /= inner
    return Layout(folder, {"": folder})


def classes_folder(folder: Path, ignored: Collection[str] = ()) -> Path:
    """The folder in this split that has the class folders: itself, or the one that its only folder leads to."""
    for _ in range(DEPTH):
        names = [name for name in subfolders(folder) if name not in ignored]
        inner = "" if splits_in(folder, names) and len(names) > 1 else inner_folder(folder, names)
        if not inner:
            break
        folder /= inner
    return folder


def _layout(folder: Path, names: list[str], splits: dict[str, str], ignored: Collection[str]) -> Layout:
    found = Layout(folder, {}, beside=[name for name in names if name not in splits])
    for split in SPLITS:
        own = sorted((name for name in splits if splits[name] == split), key=lambda name: (name != split, name))
        if own:
            found.splits[split], found.spelled[split] = classes_folder(folder / own[0], ignored), own[0]
            found.again.update(dict.fromkeys(own[1:], split))
    return found


def splits_in(folder: Path, names: list[str]) -> dict[str, str]:
    """{folder: split} if some of these folders are splits: they are named so and have folders in them, or a pack.

    Classes may have such names, too: a `test` of images beside other classes is one of them.
    """
    spelled = split_names(names)
    real = {name for name in spelled if packed.is_pack(folder / name) or subfolders(folder / name)}
    if not real or ("train" not in {spelled[name] for name in real} and _has_class(folder, names, spelled)):
        return {}
    return spelled


def _has_class(folder: Path, names: list[str], spelled: dict[str, str]) -> bool:
    return any(has_images(folder / name) for name in names if name not in spelled)


def inner_folder(folder: Path, names: list[str]) -> str:
    """The only one of these folders that holds images, all of them in folders of its own; else ""."""
    if packed.is_pack(folder) or has_images(folder) or any(has_images(folder / name) for name in names):
        return ""
    budget = [LOOKED_AT]
    holding = [name for name in names if _holds_images(folder / name, budget, DEPTH)]
    return holding[0] if len(holding) == 1 else ""


def _holds_images(folder: Path, budget: list[int], depth: int) -> bool:
    if has_images(folder):
        return True
    inside = subfolders(folder) if depth else []
    budget[0] -= len(inside)
    return budget[0] > 0 and any(_holds_images(folder / name, budget, depth - 1) for name in inside)


def has_programs(folder: Path) -> bool:
    """Whether a folder is one of installed or built programs, whose pictures are no data. One of images is a class."""
    known = folder.name.lower() in PROGRAMS or any((folder / mark).exists() for mark in ENVIRONMENT)
    return known and not has_images(folder)


def subfolders(folder: Path) -> list[str]:
    """The visible folders in it, sorted, without those that tools leave behind or keep programs in."""
    try:
        with os.scandir(folder) as entries:
            paths = [Path(entry.path) for entry in entries if entry.is_dir()]
            names = [path.name for path in paths if not (is_leftover(path) or has_programs(path))]
    except OSError:
        return []
    return sorted(name for name in names if not name.endswith(".quarantine"))
