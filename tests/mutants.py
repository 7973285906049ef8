"""One small breakage of mslab's source for each promise, to see whether the quick tests notice it.

    ./run.sh test --mutants               all of them; a quarter of an hour on one core, less on several
    ./run.sh test --mutants 3 41          by number
    ./run.sh test --mutants seed unpack   by text in the promise, the file or the tests

Every mutant is applied to a copy of the project, and only the tests that should notice it run there. "killed": the
named test failed. "lived": none failed, so no test covers the promise. "broken": the entry itself is out of date,
since no test ran, or the copy could not be imported.
"""

import argparse
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
SECONDS = 300  # limit for the tests of one mutant; a test that hangs has noticed it, too


@dataclass(frozen=True)
class Mutant:
    """`code` occurs exactly once in `file`; `broken` replaces it: a mistake that a developer might make."""

    promise: str
    file: str  # below the project's folder
    code: str
    broken: str
    tests: str  # names of test modules, without folder and .py
    only: str = ""  # pytest's -k


MUTANTS = [
    # --- what the checker looks at ---
    Mutant(
        "a stray folder is an error",
        "mslab/check/layout.py",
        "RULES = [stray_folders, ",
        "RULES = [",
        "test_check",
        "labs_own_case",
    ),
    Mutant(
        "a worker that is killed while it starts is started again",
        "mslab/check/pool.py",
        "if self.process.returncode >= 0:",
        "if self.process.returncode:",
        "test_check",
        "killed_while_it_starts",
    ),
    Mutant(
        "an empty class folder is an error",
        "mslab/check/layout.py",
        'yield Finding("empty-class", "error"',
        'yield Finding("empty-class", "warning"',
        "test_check",
        "one_thing and empty",
    ),
    Mutant(
        "more class folders than class_num are an error, fewer too",
        "mslab/check/layout.py",
        "count != expected",
        "count < expected",
        "test_check",
        "class_num",
    ),
    Mutant(
        "a report that was made without class_num is still held against the config",
        "mslab/check/training_data.py",
        "    if count != settings.class_num:  # a report made without class_num",
        "    if count < settings.class_num:",
        "test_report_and_config",
    ),
    Mutant(
        "classes are in the order of their names, as Python sorts them",
        "mslab/check/report.py",
        "return sorted({name for split in self.splits.values() for name in split.classes})",
        "return sorted({name for split in self.splits.values() for name in split.classes}, key=str.casefold)",
        "test_check",
        "python_sorts",
    ),
    Mutant(
        "files are in the order of their names, not in that of the disk",
        "mslab/check/scan.py",
        "return sorted(listing, key=lambda entry: entry.name)",
        "return list(listing)",
        "test_check test_data",
        "clean_folder or order or class",
    ),
    Mutant(
        "a class that another split lacks is an error",
        "mslab/check/layout.py",
        "extra = sorted(split.classes.keys() - first.classes.keys() - refused_links(first))",
        "extra = []",
        "test_check",
        "disagree",
    ),
    Mutant(
        "a photo that EXIF rotates is reported",
        "mslab/check/images.py",
        '    per_image("exif-orientation", "warning", _turned, DatasetReport.convert),\n',
        "",
        "test_check",
        "one_thing and turned",
    ),
    Mutant(
        "equal pixels in another format are a duplicate",
        "mslab/check/records.py",
        "return self.pixels or self.sha256",
        "return self.sha256",
        "test_check",
        "one_thing and twice",
    ),
    Mutant(
        "an image in two splits is a leak, also where its label differs",
        "mslab/check/content.py",
        "            if other_split:",
        "            if other_split and not other_label:",
        "test_check",
        "equal_pixels",
    ),
    Mutant(
        "an image under two labels is an error",
        "mslab/check/content.py",
        'yield Finding("label-conflict", "error"',
        'yield Finding("label-conflict", "info"',
        "test_check",
        "one_thing and two_labels",
    ),
    Mutant(
        "a small change of an image leaves it a near-duplicate",
        "mslab/check/content.py",
        "(bits <= NEAR) & (i != j)",
        "(bits < 1) & (i != j)",
        "test_contents",
        "hashes or pairs or saved_again",
    ),
    Mutant(
        "an image of more pixels than are safe is not loaded",
        "mslab/check/worker.py",
        "if pixels > LARGE and (pixels > most or size * HONEST < raw):",
        "if pixels > most:",
        "test_check",
        "one_thing and bomb",
    ),
    Mutant(
        "Pillow identifies a file only in the formats that are named: it would start a program for EPS",
        "mslab/check/worker.py",
        "        return Image.open(file, formats=formats)",
        "        return Image.open(file)",
        "test_check",
        "eps",
    ),
    Mutant(
        "an image too long to be resized is an error",
        "mslab/check/worker.py",
        "if max(image.size) > LONGEST * min(image.size):",
        "if image.width > LONGEST * image.height:",
        "test_check",
        "one_thing and tape",
    ),
    Mutant(
        "the scans of a JPEG are counted as libjpeg does, up to its end",
        "mslab/check/decoder.py",
        "if kind == 0xD9:",
        "if kind == 0xD8:",
        "test_check",
        "preview_or_a_video",
    ),
    Mutant(
        "every image is loaded in full by Pillow, not only its header",
        "mslab/check/worker.py",
        "        image.load()\n",
        "",
        "test_check",
        "one_thing and cut",
    ),
    Mutant(
        "a PNG with a wrong checksum, which MindSpore refuses, is an error",
        "mslab/check/decoder.py",
        "if zlib.crc32(content[start + 4 : end - 4]) != int.from_bytes",
        "if not int.from_bytes",
        "test_check",
        "checksum",
    ),
    Mutant(
        "a link out of the data set is an error",
        "mslab/check/scan.py",
        'Path(target).is_relative_to(self.inside) else "leaves"',
        'Path(target).is_relative_to(self.inside) else ""',
        "test_check",
        "one_thing and link_out",
    ),
    Mutant(
        "a changed file of the same size is looked at again",
        "mslab/check/cache.py",
        "(values[0], values[1]) == (picture.size, picture.stamp)",
        "values[0] == picture.size",
        "test_check",
        "unchanged_files",
    ),
    Mutant(
        "the fingerprint follows the images' contents",
        "mslab/check/report.py",
        "\\0{picture.size}\\0{picture.sha256.hex()}\\n",
        "\\0{picture.size}\\n",
        "test_contents",
        "fingerprint",
    ),
    Mutant(
        "names on the checker's page are text, never HTML",
        "mslab/check/page.py",
        "Environment(autoescape=True)",
        "Environment()",
        "test_quarantine",
        "escapes_names",
    ),
    Mutant(
        "--fix moves, and deletes nothing",
        "mslab/check/quarantine.py",
        "            shutil.move(source, target)",
        "            shutil.rmtree(source) if source.is_dir() else source.unlink()",
        "test_quarantine",
        "fix_moves",
    ),
    Mutant(
        "--undo takes moves back in the opposite order",
        "mslab/check/quarantine.py",
        "    for entry in reversed(entries):",
        "    for entry in entries:",
        "test_quarantine",
        "undo or undone",
    ),
    Mutant(
        "--undo throws no copy away that somebody has changed",
        "mslab/check/quarantine.py",
        'files.sha256(copy) != entry["sha256"]:',
        'files.sha256(copy) == "":',
        "test_quarantine",
        "converted_copy",
    ),
    Mutant(
        "--fix leaves no class empty",
        "mslab/check/quarantine.py",
        "if 0 < images == moved:",
        "if 0 < images < moved:",
        "test_last_images",
    ),
    Mutant(
        "--fix asks before it moves many images",
        "mslab/check/quarantine.py",
        "    if not yes:",
        "    if yes is None:",
        "test_splits",
        "asks_first",
    ),
    Mutant(
        "a mirrored copy in another split is a leak, and an animal of the same outline is none",
        "mslab/check/content.py",
        "if differences[best] <= ALIKE",
        "if differences[best] <= 9",
        "test_turned",
        "silhouettes",
    ),
    Mutant(
        "a class called test is no split",
        "mslab/check/splits.py",
        "packed.is_pack(folder / name) or subfolders(folder / name)}",
        "True}",
        "test_splits",
        "splits_and_classes",
    ),
    Mutant(
        "look-alikes stay in one part of a split",
        "mslab/data/splitting.py",
        "for i, j, _ in near_pairs(report) if",
        "for i, j, _ in [] if",
        "test_splitting",
        "look_alikes",
    ),
    Mutant(
        "the seed decides how images are split",
        "mslab/data/splitting.py",
        'seeding.stream("split", seed)',
        'seeding.stream("split", 1)',
        "test_splitting",
        "seed",
    ),
    # --- tables of labels, groups, folds ---
    Mutant(
        "a table in an archive names no image outside of it",
        "mslab/data/labelling.py",
        "image_column, label_column, inside=True)",
        "image_column, label_column)",
        "test_labels",
        "leads_out",
    ),
    Mutant(
        "train.csv is about the images in train/",
        "mslab/check/named_images.py",
        "image.endswith(exact), self.in_split)",
        "image.endswith(exact))",
        "test_labels",
        "not_about_test",
    ),
    Mutant(
        "an image with two labels is an error",
        "mslab/check/labels.py",
        "        elif rows[found[0]][1] != label:\n",
        "        elif False:\n",
        "test_labels",
        "one_message",
    ),
    Mutant(
        "images of one name and class in two folders stay two images",
        "mslab/check/labels.py",
        "        if same[plain(name)] > 1:",
        "        if same[plain(name)] > 9:",
        "test_labels",
        "stay_two_images",
    ),
    Mutant(
        "labels of a folder that lacks a class are those of the checkpoint",
        "mslab/evaluation/measuring.py",
        "labels=index[images.labels], class_names",
        "labels=images.labels, class_names",
        "test_class_order",
        "keep_theirs",
    ),
    Mutant(
        "a group in two splits is reported",
        "mslab/check/groups.py",
        "        if len(own) < 2:\n",
        "        if len(own) < 3:\n",
        "test_splitting",
        "recorded_group",
    ),
    Mutant(
        "a prediction out of fold is that of the network that has not seen the image",
        "mslab/experiments/cross_validation.py",
        'images = images_of(report, "val")',
        'images = images_of(report, "train")',
        "test_repeat",
        "makes_them",
    ),
    # --- archives and packs ---
    Mutant(
        "an archive's name with .. in it ends the unpacking",
        "mslab/data/archives.py",
        'or ".." in path.parts or',
        "or",
        "test_unpacking",
        "lead_out",
    ),
    Mutant(
        "an archive's name with Windows' backslashes is read as one",
        "mslab/data/archives.py",
        'plain = name.replace("\\\\", "/")',
        "plain = name",
        "test_unpacking",
        "lead_out",
    ),
    Mutant(
        "a link in a tar is left out",
        "mslab/data/tars.py",
        'b"1": "link", b"2": "link"',
        'b"1": "file", b"2": "file"',
        "test_unpacking",
        "links",
    ),
    Mutant(
        "what is unpacked is counted, whatever the archive says",
        "mslab/data/archives.py",
        "            budget.spend(len(chunk))\n",
        "",
        "test_unpacking",
        "bombs",
    ),
    Mutant(
        "two names that are one file on a Mac or Windows end the unpacking",
        "mslab/data/unpacking.py",
        "            key = plain_name(name)\n",
        "            key = name\n",
        "test_colliding_names",
    ),
    Mutant(
        "a size below zero ends the reading of a tar",
        "mslab/data/tars.py",
        "    if not 0 <= size <= most:\n",
        "    if size > most:\n",
        "test_archives",
        "harmful",
    ),
    Mutant(
        "headers of a tar count like its files",
        "mslab/data/tars.py",
        "        self.spend(BLOCK)\n",
        "",
        "test_archives",
        "headers",
    ),
    Mutant(
        "the process that unpacks has limited memory",
        "mslab/runtime/limited.py",
        "    limit_memory(MEMORY)\n",
        "",
        "test_limited",
        "memory",
    ),
    Mutant(
        "a shard of a pack whose bytes have changed is named",
        "mslab/check/packed.py",
        "elif deep and files.sha256(path) != part.sha256:",
        "elif deep and not part.sha256:",
        "test_packing",
        "every_damage",
    ),
    Mutant(
        "a downloaded package is opened only if its bytes are the published ones",
        "mslab/data/animals.py",
        "    if digest != SHA256:",
        "    if not digest:",
        "test_animals",
        "not_opened",
    ),
    # --- settings and messages ---
    Mutant(
        "an unknown setting is an error",
        "mslab/config/loading.py",
        "{str(name): unknown_setting(str(name), value) for name, value in values.items() if name not in FIELDS}",
        "{}",
        "test_config",
    ),
    Mutant(
        "every problem of a config is reported at once",
        "mslab/config/loading.py",
        "details=rows,",
        "details=rows[:1],",
        "test_config",
    ),
    Mutant(
        "a setting that does nothing is refused on the command line",
        "mslab/config/loading.py",
        "        if name in overridden and name in values:",
        "        if name in overridden and name not in values:",
        "test_config",
    ),
    Mutant(
        "an error of MindSpore is explained only if all of its marks are present",
        "mslab/errors.py",
        "if all(re.search(pattern",
        "if any(re.search(pattern",
        "test_explain",
    ),
    Mutant(
        "a lookup far outside of a table is not called a learning-rate list that ended",
        "mslab/errors.py",
        "), but got \\1\\b",
        "), but got \\d+\\b",
        "test_explain",
    ),
    Mutant(
        "a message says how to fix it",
        "mslab/errors.py",
        ' + [("fix", fix)] * bool(fix)',
        "",
        "test_errors",
    ),
    Mutant(
        "--json - prints one document and nothing else",
        "mslab/cli/options.py",
        '    if json_file != "-":\n        print_text(text)',
        "    print_text(text)",
        "test_check test_cli",
        "json",
    ),
    Mutant(
        "a check that finds an error ends with exit code 1",
        "mslab/cli/data.py",
        "write_page(report, html)\n    return 0 if report.ok else 1",
        "write_page(report, html)\n    return 0",
        "test_check test_cli",
        "exit_code or check_prints",
    ),
    Mutant(
        "doctor ends with exit code 1 where training would fail",
        "mslab/cli/train.py",
        "return 0 if diagnosis.ok else 1",
        "return 0",
        "test_doctor",
        "exit_code",
    ),
    Mutant(
        "Ctrl-C ends a command with exit code 130",
        "mslab/cli/options.py",
        "                    code = 130",
        "                    code = 1",
        "test_check",
        "ctrl_c",
    ),
    Mutant(
        "a direction character in a name reaches neither the terminal nor a page",
        "mslab/escaping.py",
        '("Cc", "Cf", "Cs", "Zl", "Zp")',
        '("Cc", "Cs", "Zl", "Zp")',
        "test_escaping",
        "invisible",
    ),
    Mutant(
        "a name with $() in a command that a message shows runs nothing",
        "mslab/escaping.py",
        "return shlex.quote(text)",
        "return text",
        "test_escaping",
        "copied",
    ),
    Mutant(
        "a name in a command that a message shows is not taken for an option",
        "mslab/escaping.py",
        'text[0] in "-="',
        'text[0] in "="',
        "test_escaping",
        "copied",
    ),
    Mutant(
        "an escape character in a name does not reach the terminal in a log message",
        "mslab/runtime/console.py",
        "return escape_control(super().format(record))",
        "return super().format(record)",
        "test_messages",
    ),
    Mutant(
        "the compile cache of MindSpore stays off, also where it was switched on",
        "mslab/runtime/versions.py",
        'environ["MS_COMPILER_CACHE_ENABLE"] = "0"',
        'environ.setdefault("MS_COMPILER_CACHE_ENABLE", "0")',
        "test_runtime",
        "compile_cache",
    ),
    # --- images to batches ---
    Mutant(
        "a label without an output of the network stops before the loss sees it",
        "mslab/data/batching.py",
        "labels.max() >= class_num",
        "labels.max() > class_num",
        "test_data",
        "label",
    ),
    Mutant(
        "the last batch of an evaluation is measured, too",
        "mslab/data/batching.py",
        "steps, batch_size, data_workers, drop_last=False)",
        "steps, batch_size, data_workers, drop_last=True)",
        "test_data",
        "evaluation",
    ),
    Mutant(
        "images that fill up the last batch do not count",
        "mslab/evaluation/measuring.py",
        ".asnumpy()[: len(x)], y",
        ".asnumpy(), y",
        "test_training",
        "last_batch",
    ),
    Mutant(
        "the seed decides the order of the images",
        "mslab/data/batching.py",
        'seeding.stream("order", config.seed, epoch)',
        'seeding.stream("order", 0, epoch)',
        "test_data test_determinism",
        "epoch or settings_act or streams or purpose",
    ),
    Mutant(
        "every epoch has an order of its own",
        "mslab/data/batching.py",
        'seeding.stream("order", config.seed, epoch)',
        'seeding.stream("order", config.seed)',
        "test_data",
        "epoch",
    ),
    Mutant(
        "the seed decides the augmentation",
        "mslab/data/batching.py",
        "seeding.augmentation_seed(config.seed, epoch, rank)",
        "seeding.augmentation_seed(0, epoch, rank)",
        "test_augmentation_seed",
    ),
    Mutant(
        "the seed decides the first weights",
        "mslab/runtime/devices.py",
        '("set_seed", {"seed": seed})',
        '("set_seed", {"seed": 1})',
        "test_determinism test_workers",
        "weights_begin or planned",
    ),
    Mutant(
        "mixup mixes the labels as it mixes the images",
        "mslab/data/augment.py",
        "images[partner], w * soft_labels + (1 - w) * soft_labels[partner]",
        "images[partner], soft_labels",
        "test_augment",
        "mixup",
    ),
    Mutant(
        "cutmix mixes labels in proportion to the area that is left inside the image",
        "mslab/data/augment.py",
        "np.float32(1 - (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width))",
        "np.float32(1 - side**2)",
        "test_augment",
        "cutmix",
    ),
    Mutant(
        "erasing leaves the given images as they are",
        "mslab/data/augment.py",
        "erased, (height, width) = images.copy(),",
        "erased, (height, width) = images,",
        "test_augment",
        "erasing",
    ),
    Mutant(
        "decoded images of another data set are not used",
        "mslab/data/decoded.py",
        "f\"{report.fingerprint} {versions.version('mindspore')}\"",
        "versions.version('mindspore')",
        "test_cache",
        "on_disk",
    ),
    # --- rates, loss, updates ---
    Mutant(
        "a schedule is as long as its run",
        "mslab/schedule.py",
        "    progress = np.arange(total - warmup) /",
        "    progress = np.arange(total - warmup - 1) /",
        "test_schedule",
        "hand",
    ),
    Mutant(
        "a schedule of another length than the run is refused",
        "mslab/training/learning_rates.py",
        "if len(rates) != steps or",
        "if len(rates) > steps or",
        "test_training",
        "schedule",
    ),
    Mutant(
        "the cosine ends at lr_end in the last step",
        "mslab/schedule.py",
        "np.arange(total - warmup) / max(total - warmup - 1, 1)\n    fall = lr_end",
        "np.arange(total - warmup) / max(total - warmup, 1)\n    fall = lr_end",
        "test_schedule",
        "hand",
    ),
    Mutant(
        "warmup begins at lr_init",
        "mslab/schedule.py",
        "    rise = lr_init + (lr_max - lr_init) * np.arange(warmup)",
        "    rise = lr_max * np.arange(warmup)",
        "test_schedule",
        "warmup or hand",
    ),
    Mutant(
        "the first step after warmup has lr_max",
        "mslab/schedule.py",
        "    rise = lr_init + (lr_max - lr_init) * np.arange(warmup) / max(warmup, 1)",
        "    rise = lr_init + (lr_max - lr_init) * np.arange(warmup) / max(warmup - 1, 1)",
        "test_schedule",
        "warmup or hand",
    ),
    Mutant(
        "a step schedule lowers the rate right after its epoch",
        "mslab/schedule.py",
        'epoch, side="right")',
        'epoch, side="left")',
        "test_schedule",
        "hand",
    ),
    Mutant(
        "plateau lowers the rate after just so many evaluations",
        "mslab/schedule.py",
        "        if waited == patience:",
        "        if waited > patience:",
        "test_schedule",
        "plateau",
    ),
    Mutant(
        "weights decay, BatchNorm and biases do not",
        "mslab/training/optimizers.py",
        "(parameter.name, config), parameter.ndim > 1)",
        "(parameter.name, config), parameter.ndim > 0)",
        "test_training",
        "decay",
    ),
    Mutant(
        "batches collected for one update count by their mean",
        "mslab/training/optimizers.py",
        "self.update(self.map(ops.partial(times, 1 / self.count), self.totals))",
        "self.update(self.totals)",
        "test_optimizers",
        "collected",
    ),
    Mutant(
        "gradients that are too long are shortened",
        "mslab/training/optimizers.py",
        "        self.update(self.map(ops.partial(times, scale), gradients))",
        "        self.update(gradients)",
        "test_optimizers",
        "clipped",
    ),
    Mutant(
        "the running mean of the weights moves once an update, not once a batch",
        "mslab/training/optimizers.py",
        "EMA(update, averaged, config.ema_decay, batches)",
        "EMA(update, averaged, config.ema_decay)",
        "test_optimizers",
        "averages",
    ),
    Mutant(
        "after measuring with the running mean, training goes on with the weights themselves",
        "mslab/training/trainer.py",
        "            for name, value in raw.items():\n                cpu_layout.overwrite(own[name], value)\n",
        "            pass\n",
        "test_running_mean",
    ),
    Mutant(
        "hard example mining keeps the hard ones",
        "mslab/training/losses.py",
        "ops.topk(losses, max(",
        "ops.topk(-losses, max(",
        "test_loss",
    ),
    Mutant(
        "label smoothing spreads over all classes, the own one too",
        "mslab/training/losses.py",
        "self.smoothing / classes * self.weights",
        "self.smoothing / (classes - 1) * self.weights",
        "test_loss",
    ),
    Mutant(
        "a weighed loss is the mean over the weights",
        "mslab/training/losses.py",
        "return losses.sum() / weights.sum()",
        "return losses.mean()",
        "test_loss",
    ),
    Mutant(
        "the rate finder puts the weights back, also where it is stopped",
        "mslab/experiments/lr_find.py",
        "    try:\n        yield\n    finally:\n"
        "        for name, parameter in network.parameters_dict().items():\n"
        "            cpu_layout.overwrite(parameter, before[name])\n",
        "    yield\n    for name, parameter in network.parameters_dict().items():\n"
        "        cpu_layout.overwrite(parameter, before[name])\n",
        "test_ratefinder",
        "put_back",
    ),
    Mutant(
        "the running variance is the unbiased one",
        "mslab/runtime/operators.c",
        "a->part * (unbiased - a->running_variance[c])",
        "a->part * ((float)variance - a->running_variance[c])",
        "test_compiled_layers",
        "values",
    ),
    Mutant(
        "the compiled BatchNorm takes its own statistics in evaluation",
        "mslab/runtime/operators.c",
        "    if (a->fixed)\n",
        "    if (0)\n",
        "test_compiled_layers",
        "values",
    ),
    Mutant(
        "averaged weights take BatchNorm's statistics of this step, not of the one before",
        "mslab/runtime/compiled_layers.py",
        '        self.add_prim_attr("side_effect_mem", True)\n',
        "",
        "test_compiled_layers",
        "moment",
    ),
    Mutant(
        "the compiled BatchNorm has the same bits for any number of threads",
        "mslab/runtime/operators.c",
        "    while (atomic_load(&busy)) sched_yield();\n",
        "",
        "test_compiled_layers",
        "threads",
    ),
    Mutant(
        "the compiled pool's gradient goes to the first of equal pixels, as MindSpore's does",
        "mslab/runtime/operators.c",
        "best = x[best] >= x[at] ||",
        "best = x[best] > x[at] ||",
        "test_compiled_layers",
        "pools_bits",
    ),
    Mutant(
        "a block whose construct somebody changed is not replaced by what model.py computes",
        "mslab/runtime/compiled_layers.py",
        "    return computed_by(cell) == f",
        "    return True or computed_by(cell) == f",
        "test_compiled_layers",
        "somebody_changed",
    ),
    Mutant(
        "a compiled block's shortcut has its gradient after ReLU",
        "mslab/runtime/operators.c",
        "passed[i] = y[i] > 0 ? dy[i] : 0;",
        "passed[i] = dy[i];",
        "test_compiled_layers",
        "bits_of_its_parts",
    ),
    Mutant(
        "a compiled 1x1 convolution transposes all of its weights",
        "mslab/runtime/operators.c",
        "j < columns && j < (strip + 1) * SIDE",
        "j < columns && j < (strip + 1) * SIDE - 1",
        "test_compiled_layers",
        "convolutions_values",
    ),
    Mutant(
        "momentum and Adam in one pass have the bits of MindSpore's operators",
        "mslab/runtime/operators.c",
        "        m[i] = m[i] * momentum + (g[i] + w[i] * decay);\n",
        "        m[i] = fmaf(m[i], momentum, g[i] + w[i] * decay);\n",
        "test_optimizers",
        "one_pass_over",
    ),
    Mutant(
        "a step's learning rates are no sums of tuples, which take long to compile",
        "mslab/training/optimizers.py",
        "optimizer.map_(ops.partial(first, optimizer.get_lr()), optimizer.parameters)",
        "(optimizer.get_lr(),) * len(optimizer.parameters)",
        "test_optimizers",
        "sums_of_tuples",
    ),
    Mutant(
        "a library that was cut off does not kill the process that would load it",
        "mslab/runtime/compiling.py",
        "if intact(file) and loads(file):",
        "if file.exists() and loads(file):",
        "test_compiled_layers",
        "damaged",
    ),
    Mutant(
        "a value put into a parameter reaches the optimizer that has run, in PYNATIVE too",
        "mslab/cpu_layout.py",
        "ops.assign(parameter, ms.Tensor(value, parameter.dtype))",
        "parameter.set_data(ms.Tensor(value, parameter.dtype))",
        "test_cells",
    ),
    Mutant(
        "no stacked image reaches into its neighbour's windows",
        "mslab/cpu_layout.py",
        "ops.fill(ms.float32, (groups, c, self.zeros * w, images), 0.0)",
        "x[:, :, : self.zeros * w]",
        "test_stacking",
    ),
    Mutant(
        "a stacked pixel's neighbours are those of its own image",
        "mslab/cpu_layout.py",
        "(1, 1, apart, apart), (1, 1, 1, apart)",
        "(1, 1, 1, 1), (1, 1, 1, 1)",
        "test_stacking",
    ),
    Mutant(
        "a logit's loss does not depend on the thread that computes it",
        "mslab/tasks/sigmoid.py",
        "ops.log1p(ops.exp(-ops.abs(x)))",
        "ops.log(1 + ops.exp(-ops.abs(x)))",
        "test_task_heads",
    ),
    Mutant(
        "another pool than ResNet's stays as it is",
        "mslab/cpu_layout.py",
        "return (cell.max_pool.attrs, cell.return_indices) == (pool.max_pool.attrs, pool.return_indices)",
        "return True",
        "test_stacking",
    ),
    Mutant(
        "cache: auto leaves three quarters of the memory",
        "mslab/config/resolve.py",
        "machine.memory // (4 * machine.workers)",
        "machine.memory",
        "test_resolve",
    ),
    # --- what is frozen, when a run ends ---
    Mutant(
        "frozen BatchNorm does not move",
        "mslab/training/freezing.py",
        "cell.moving_mean.name in frozen_names:\n            cell.set_train(False)",
        "cell.moving_mean.name in frozen_names:\n            cell.set_train(True)",
        "test_freezing test_finetuning",
        "frozen",
    ),
    Mutant(
        "frozen weights get no gradient",
        "mslab/training/freezing.py",
        "parameter.requires_grad = parameter.name not in frozen_names",
        "parameter.requires_grad = True",
        "test_freezing test_finetuning",
        "frozen",
    ),
    Mutant(
        "a part is trained from the epoch on that unfreeze names",
        "mslab/training/freezing.py",
        "if epoch + 1 >= int(start)]",
        "if epoch >= int(start)]",
        "test_freezing",
        "unfreezing",
    ),
    Mutant(
        "early stopping ends after patience, not one evaluation later",
        "mslab/training/stopping.py",
        "if waited < config.early_stopping_patience",
        "if waited <= config.early_stopping_patience",
        "test_stopping",
    ),
    Mutant(
        "early stopping does not count an equal accuracy as better",
        "mslab/training/stopping.py",
        "if score > highest * (1 + tolerance):",
        "if score >= highest * (1 + tolerance):",
        "test_stopping",
    ),
    Mutant(
        "early stopping's tolerance brings a loss nearer to 0",
        "mslab/training/stopping.py",
        "math.copysign(config.early_stopping_tolerance, highest)",
        "config.early_stopping_tolerance",
        "test_ranking",
    ),
    Mutant(
        "the last epoch is always measured",
        "mslab/training/stopping.py",
        "return due or epoch + 1 == config.epochs",
        "return due",
        "test_stopping",
    ),
    Mutant(
        "a training loss that is not finite ends the run at its step",
        "mslab/training/loop.py",
        "        if updated and not np.isfinite(loss):\n",
        "        if loss < 0:\n",
        "test_training test_controls",
        "explodes or rollback",
    ),
    Mutant(
        "a validation loss that is not finite ends the run",
        "mslab/training/loop.py",
        '            if figures and not np.isfinite(figures["loss"]):\n',
        '            if figures and figures["loss"] < 0:\n',
        "test_training test_controls",
        "explodes or rollback",
    ),
    Mutant(
        "a rollback lowers the rate to a tenth",
        "mslab/training/trainer.py",
        "stopping.rate_factor(history, self.settings) * TENTH ** len(self.rollbacks))",
        "stopping.rate_factor(history, self.settings))",
        "test_controls",
        "rollback",
    ),
    Mutant(
        "a rollback takes back the optimizer's moments with the weights",
        "mslab/training/trainer.py",
        "        for name, parameter in self.state().items():\n            cpu_layout.overwrite",
        "        for name, parameter in self.network.parameters_dict().items():\n            cpu_layout.overwrite",
        "test_controls",
        "rollback",
    ),
    Mutant(
        "a warning is logged once",
        "mslab/training/monitor.py",
        "if code not in self.warned:",
        "if code:",
        "test_guards",
        "once",
    ),
    # --- the run folder ---
    Mutant(
        "best.ckpt is of the earliest epoch on ties",
        "mslab/runs/ranking.py",
        'for loss in ties), row["epoch"])',
        'for loss in ties), -row["epoch"])',
        "test_training test_ranking",
        "tie",
    ),
    Mutant(
        "with best_by, ties go to the lower loss",
        "mslab/runs/ranking.py",
        'ties = [row["val_loss"]] if best_by else []',
        "ties: list[float] = []",
        "test_ranking",
    ),
    Mutant(
        "a measure that is undefined never wins",
        "mslab/runs/ranking.py",
        "(row for row in rows if not math.isnan(score(row, best_by)))",
        "(row for row in rows)",
        "test_ranking",
    ),
    Mutant(
        "a class without validation images is no measure",
        "mslab/check/training_data.py",
        "    refuse_unmeasured(settings, report)\n    return report",
        "    return report",
        "test_best_by",
    ),
    Mutant(
        "the values of pictures of classes follow the names",
        "mslab/data/labelled_feed.py",
        "return mask if self.values is None else self.values[mask]",
        "return mask",
        "test_task_data",
    ),
    Mutant(
        "a checkpoint's skeleton joins points that it has",
        "mslab/checkpoint/reading.py",
        "any(point >= count for pair in self.skeleton or () for point in pair)",
        "False",
        "test_task_settings",
    ),
    Mutant(
        "an ignored object has no crop of key points",
        "mslab/tasks/keypoints.py",
        "~labels.ignored & (labels.points[..., 2] > 0).any(1)",
        "(labels.points[..., 2] > 0).any(1)",
        "test_task_data",
    ),
    Mutant(
        "the temperature is in best.ckpt",
        "mslab/runs/folder.py",
        '({"temperature": fitted["temperature"]} if (fitted := figures.get("calibration")) else {})',
        "{}",
        "test_calibrate",
    ),
    Mutant(
        "predict divides logits by the temperature",
        "mslab/inference/predicting.py",
        "yield answer(logits, model.class_names, model.temperature)",
        "yield answer(logits, model.class_names)",
        "test_calibrate",
    ),
    Mutant(
        "a class with a threshold is not answered below it",
        "mslab/evaluation/thresholds.py",
        "free = np.isnan(limits) if np.isnan(limits).any() else np.ones(len(limits), bool)",
        "free = np.ones(len(limits), bool)",
        "test_thresholds",
    ),
    Mutant(
        "history.csv is written before last.ckpt, which makes the epoch count",
        "mslab/runs/folder.py",
        "        self.write_tables(losses)\n        if state:\n"
        "            tensors = {name: parameter.asnumpy() for name, parameter in state.items()}\n"
        '            checkpoint.save_arrays(tensors, self.checkpoints / "last.ckpt", '
        'self.info | {"epoch": self.epochs_done})\n',
        "        if state:\n"
        "            tensors = {name: parameter.asnumpy() for name, parameter in state.items()}\n"
        '            checkpoint.save_arrays(tensors, self.checkpoints / "last.ckpt", '
        'self.info | {"epoch": self.epochs_done})\n'
        "            self.write_tables(losses)\n",
        "test_kill_between_writes",
    ),
    Mutant(
        "a resume trims the history to the last completed epoch",
        "mslab/training/resuming.py",
        "    run.history = run.history[:completed]\n",
        "",
        "test_training",
        "uninterrupted",
    ),
    Mutant(
        "a resume writes the steps of a killed epoch once",
        "mslab/runs/history.py",
        "zip(before, step_numbers(before), strict=True) if number <= first]",
        "zip(before, step_numbers(before), strict=True)]",
        "test_manifest",
        "resumed",
    ),
    Mutant(
        "a resume refuses other images",
        "mslab/training/resuming.py",
        'if report.fingerprint != original["fingerprint"]:',
        "if not report.fingerprint:",
        "test_training",
        "other_images",
    ),
    Mutant(
        "a resume before the first epoch refuses another parent",
        "mslab/training/finetuning.py",
        'is_file() or files.sha256(file) != parent["sha256"]:',
        "is_file():",
        "test_parents",
        "another_file",
    ),
    Mutant(
        "a file is replaced atomically, once it is complete",
        "mslab/files.py",
        "        handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL |",
        "        temporary = path.name\n        handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC |",
        "test_files test_checkpoint",
        "kill or failed or disk or completely",
    ),
    Mutant(
        "text files are replaced atomically, too",
        "mslab/files.py",
        '    replace_atomically(path, lambda file: file.write(text.encode("utf-8")))',
        '    path.write_text(text, encoding="utf-8")',
        "test_files",
    ),
    Mutant(
        "files can be read by others than their owner",
        "mslab/files.py",
        "NO_LINK | NO_WAIT, 0o666, dir_fd=folder)",
        "NO_LINK | NO_WAIT, 0o400, dir_fd=folder)",
        "test_files test_checkpoint",
    ),
    Mutant(
        "a file's sha256 is of all its bytes",
        "mslab/files.py",
        "        while block := file.read(1 << 20):\n",
        "        if block := file.read(1 << 20):\n",
        "test_manifest test_packing test_checkpoint test_archive",
    ),
    Mutant(
        "the manifest has a hash of every checkpoint that is left",
        "mslab/runs/folder.py",
        'self.checkpoints.glob("*.ckpt")',
        'self.checkpoints.glob("best*.ckpt")',
        "test_training test_manifest",
        "run_folder or verify or schema",
    ),
    Mutant(
        "verify compares hashes",
        "mslab/runs/verifying.py",
        "    if now == digest:",
        "    if now:",
        "test_manifest",
        "verify",
    ),
    # --- files of weights ---
    Mutant(
        "a tensor that the file lacks is named, and nothing is loaded",
        "mslab/checkpoint/loading.py",
        'rows = [("missing", f"{name} {shapes[name]}") for name in shapes.keys() - tensors.keys()]',
        "rows: list[tuple[str, str]] = []",
        "test_checkpoint",
        "mismatch",
    ),
    Mutant(
        "a tensor that the network has not is named, and nothing is loaded",
        "mslab/checkpoint/loading.py",
        "for name, value in tensors.items() if name not in shapes]",
        "for name, value in tensors.items() if not name]",
        "test_checkpoint",
        "mismatch",
    ),
    Mutant(
        "a tensor of another shape is named, and nothing is loaded",
        "mslab/checkpoint/loading.py",
        "        if shapes[name] != tensors[name].shape:\n",
        "        if len(shapes[name]) != len(tensors[name].shape):\n",
        "test_checkpoint",
        "mismatch or head",
    ),
    Mutant(
        "weights that are not finite are not loaded",
        "mslab/checkpoint/loading.py",
        "        elif not np.isfinite(tensors[name]).all():\n",
        "        elif tensors[name].size == 0:\n",
        "test_broken_checkpoints",
        "finite",
    ),
    Mutant(
        "a tensor of a .pth reads nothing behind the end of its storage",
        "mslab/checkpoint/pth.py",
        "if count > len(values) or (count and last >= len(values)):",
        "if count > len(values):",
        "test_broken_checkpoints",
    ),
    Mutant(
        "tensors in a .safetensors follow each other without overlap",
        "mslab/checkpoint/readers.py",
        "        if start != at:\n",
        "        if start > at:\n",
        "test_broken_checkpoints test_checkpoint",
    ),
    Mutant(
        "a pickle can name nothing but tensors",
        "mslab/checkpoint/pth.py",
        'return AllowedName(name) if (module, name) in NAMES else Foreign(f"{module}.{name}")',
        "return AllowedName(name) if (module, name) in NAMES else super().find_class(module, name)",
        "test_broken_checkpoints test_foreign_checkpoints",
        "pickle or objects or beside",
    ),
    Mutant(
        "what a pickle sets in an object is dropped",
        "mslab/checkpoint/pth.py",
        "dispatch |= {pickle.BUILD[0]: load_state, ",
        "dispatch |= {",
        "test_broken_checkpoints test_foreign_checkpoints",
        "hides or beside",
    ),
    Mutant(
        "an unknown object's arguments are not copied",
        "mslab/checkpoint/pth.py",
        "        return Foreign(function.name)\n",
        "        return Foreign(function.name) if len([*arguments]) < 2**40 else None\n",
        "test_broken_checkpoints",
        "quadratic",
    ),
    Mutant(
        "a pickle makes no bytes, of which it may claim any number",
        "mslab/checkpoint/pth.py",
        ", pickle.BYTEARRAY8[0]: load_byte_array}",
        "}",
        "test_broken_checkpoints",
        "pth",
    ),
    Mutant(
        "a tensor that ends like a weight but is inside a block shows another network",
        "mslab/checkpoint/selecting.py",
        "unknown |= {before} if LIKE_A_PART.match(word) or not same",
        "unknown |= {before} if not same",
        "test_foreign_checkpoints",
        "another_network",
    ),
    Mutant(
        "an optimizer's tensor has the shape of its weight",
        "mslab/checkpoint/selecting.py",
        "return before, value.shape in shapes and (",
        "return before, (",
        "test_foreign_checkpoints",
        "another_network",
    ),
    Mutant(
        "statistics of a second branch are no optimizer's",
        "mslab/checkpoint/selecting.py",
        "(not name.endswith(STATISTICS) or is_average(before))",
        "True",
        "test_foreign_checkpoints",
        "second_branch",
    ),
    Mutant(
        "averages are not taken for the trained weights",
        "mslab/checkpoint/selecting.py",
        '(prefix != "", is_average(prefix), first[prefix])',
        '(prefix != "", first[prefix])',
        "test_foreign_checkpoints",
        "two_networks",
    ),
    Mutant(
        "the training state in last.ckpt has a prefix of its own",
        "mslab/training/trainer.py",
        "state[TRAINING + name] = parameter",
        "state[name] = parameter",
        "test_foreign_checkpoints",
        "float16",
    ),
    Mutant(
        "the dialect that a user names builds the network",
        "mslab/checkpoint/reading.py",
        '        return selected, ""\n',
        '        return own, ""\n',
        "test_foreign_checkpoints",
        "decided or built_by",
    ),
    Mutant(
        "a bug of a reader is not reported as a damaged file",
        "mslab/checkpoint/pth.py",
        "        if frame.f_globals is not vars(pickle):\n",
        "        if not frame:\n",
        "test_broken_checkpoints",
        "bug",
    ),
    Mutant(
        "names in a pickle are not nested",
        "mslab/checkpoint/pth.py",
        "return type(key) is str or (type(key) is int and abs(key) < 2**32)",
        "return key != ()",
        "test_broken_checkpoints",
    ),
    Mutant(
        "convert keeps padding, pooling and epsilon of the network",
        "mslab/checkpoint/networks.py",
        'return {"stages": self.stages, "profile": self.profile}',
        'return {"stages": self.stages}',
        "test_dialects",
        "profile",
    ),
    Mutant(
        "the epsilon of MindSpore's official ResNet is known",
        "mslab/checkpoint/dialects.py",
        '(("padding", "same"), ("pool", "same"), ("eps", 1e-4), ("outer_eps", 1e-4)),',
        '(("padding", "same"), ("pool", "same")),',
        "test_dialects",
        "same_logits",
    ),
    Mutant(
        "a transfer uses the backbone's own normalisation",
        "mslab/config/resolve.py",
        "            changes[key] = own\n",
        "",
        "test_finetuning",
        "normalisation",
    ),
    Mutant(
        "a network sees images as its file says, not as is usual",
        "mslab/checkpoint/reading.py",
        "info = STANDARD | weights.info",
        "info = weights.info | STANDARD",
        "test_training test_predict",
        "load_network or agrees_with_evaluation",
    ),
    Mutant(
        "classes that lie in another order than the network's are refused",
        "mslab/evaluation/measuring.py",
        "(trained and names != loaded.class_names)",
        "(trained and set(names) != set(loaded.class_names))",
        "test_class_order",
    ),
    Mutant(
        "incremental training keeps the rows of classes by name",
        "mslab/training/finetuning.py",
        "[parent_names.index(name)]",
        "[min(index, len(parent_names) - 1)]",
        "test_parents",
        "row",
    ),
    Mutant(
        "features of another backbone are not used",
        "mslab/training/features.py",
        "    for parameter in network.backbone.get_parameters():\n"
        "        digest.update(parameter.name.encode() + parameter.asnumpy().tobytes())\n",
        "",
        "test_features",
        "other_",
    ),
    Mutant(
        "features of another normalisation are not used",
        "mslab/training/features.py",
        ', "scale": augment.scale(source.config)}',
        "}",
        "test_features",
        "other_",
    ),
    # --- figures ---
    Mutant(
        "rows of the confusion matrix are the true classes",
        "mslab/evaluation/metrics.py",
        "(np.asarray(labels), np.asarray(predicted))",
        "(np.asarray(predicted), np.asarray(labels))",
        "test_metrics",
        "confusion",
    ),
    Mutant(
        "there are no more data_workers than cores, and config.yaml records the number",
        "mslab/config/resolve.py",
        "threads = min(settings.data_workers, machine.cores)",
        "threads = settings.data_workers",
        "test_resolve",
    ),
    Mutant(
        "the workers of a resume divide as many images a step as at the start of the run",
        "mslab/config/resolve.py",
        "    return together // machine.workers\n",
        "    return batch\n",
        "test_resolve",
        "divide",
    ),
    Mutant(
        "a transfer takes the backbone's own stages",
        "mslab/config/resolve.py",
        "    return changes | own_network\n",
        "    return changes\n",
        "test_resolve test_finetuning",
        "backbone or stage",
    ),
    Mutant(
        "a float16 step that overflows leaves BatchNorm's statistics as they were",
        "mslab/training/train_step.py",
        "            self.map(ops.assign, self.statistics, before)\n",
        "            self.map(ops.assign, self.statistics, self.statistics)\n",
        "test_overflows",
        "leaves_all",
    ),
    Mutant(
        "an image is trained on as the check has loaded it",
        "mslab/data/reading.py",
        "    if hashlib.sha256(content).digest() != record.sha256:\n",
        "    if not content:\n",
        "test_lost_images",
        "replaced",
    ),
    Mutant(
        "a resume takes another number of epochs only where the completed ones stay the same",
        "mslab/training/resuming.py",
        "    if np.array_equal(before, after):\n",
        "    if len(before) == len(after):\n",
        "test_resuming",
        "refused_by_name",
    ),
    Mutant(
        "the linear model is fitted on training images",
        "mslab/training/start.py",
        'measuring.samples(report, "train", most=5000), measuring',
        'measuring.samples(report, "val", most=5000), measuring',
        "test_linear_model",
    ),
    Mutant(
        "a spread over seeds is that of a sample",
        "mslab/experiments/repeating.py",
        "np.std(values, ddof=1)",
        "np.std(values)",
        "test_repeat",
        "interval or figures",
    ),
    Mutant(
        "a smaller fraction of the training images is a subset of a larger one",
        "mslab/experiments/comparison.py",
        "np.random.default_rng([seed, number])",
        "np.random.default_rng([seed, number, round(100 * share)])",
        "test_comparison",
        "nested",
    ),
    Mutant(
        "an image is judged by heads that never saw it",
        "mslab/report/suspects.py",
        'cross_val_predict(head, features.astype(np.float64), labels, cv=cut, method="predict_proba")',
        "head.fit(features.astype(np.float64), labels).predict_proba(features.astype(np.float64))",
        "test_unseen_heads",
    ),
    Mutant(
        "a report shows no other images than those of its run",
        "mslab/report/validation.py",
        '    if report.fingerprint != data["fingerprint"]:',
        "    if not report.fingerprint:",
        "test_report",
        "images",
    ),
    Mutant(
        "names in a report are text, never HTML",
        "mslab/report/writing.py",
        "autoescape=True",
        "autoescape=False",
        "test_report",
        "names",
    ),
    Mutant(
        "a report's JSON cannot end the element that it stands in",
        "mslab/report/markup.py",
        'if c in "<>&" or',
        'if c in "&" or',
        "test_embedded_json",
    ),
    # --- graphs, predictions, the server ---
    Mutant(
        "a graph that answers otherwise gets no name",
        "mslab/inference/export.py",
        'if not difference["relative"] <= TOLERANCE:',
        'if difference["relative"] == 0:',
        "test_export",
        "other_logits",
    ),
    Mutant(
        "a graph that answers with numbers that are none gets no name",
        "mslab/inference/export.py",
        'if not difference["relative"] <= TOLERANCE:',
        'if difference["relative"] > TOLERANCE:',
        "test_export_of_nan",
    ),
    Mutant(
        "padding goes where the network has it in an exported graph",
        "mslab/evaluation/onnx_graph.py",
        "[padding // 2] * 2 + [padding - padding // 2] * 2",
        "[padding - padding // 2] * 2 + [padding // 2] * 2",
        "test_export",
        "onnx_file_reproduces",
    ),
    Mutant(
        "a graph whose bytes have changed is not run",
        "mslab/inference/graphs.py",
        'if content[-len(_digest(b"")) :] != _digest(memoryview(content)[: -len(_digest(b""))]):',
        'if not content[-len(_digest(b"")) :]:',
        "test_export",
        "never_run",
    ),
    Mutant(
        "one image that cannot be read does not spoil the others",
        "mslab/inference/predicting.py",
        "readable = [index for index in range(len(chunk)) if not errors[index]]",
        "readable = list(range(len(chunk)))",
        "test_predict",
        "cannot_be_read",
    ),
    Mutant(
        "no picture of an image replaces that of another",
        "mslab/inference/drawn.py",
        "while name.casefold() in taken:",
        "while False:",
        "test_task_predict",
        "picture",
    ),
    Mutant(
        "a network of a task that overflows is an error, not an image without objects",
        "mslab/inference/task_predicting.py",
        "if not np.isfinite(outputs).all():",
        "if False:",
        "test_task_predict test_task_serve",
        "finite or overflows",
    ),
    Mutant(
        "COCO's boxes have width and height",
        "mslab/inference/coco_results.py",
        '{"bbox": [left, top, round(right - left, 2), round(bottom - top, 2)]}',
        '{"bbox": [left, top, right, bottom]}',
        "test_task_predict",
        "pycocotools",
    ),
    Mutant(
        "no cell of a table is a formula to a spreadsheet",
        "mslab/inference/predicting.py",
        'in ("=", "+", "-", "@", "\\t", "\\r") else',
        'in ("=", "+", "-") else',
        "test_predict test_suspects",
        "formulas or spreadsheet",
    ),
    Mutant(
        "a body that grows beyond the limit while it arrives is refused",
        "mslab/inference/serve/uploads.py",
        "            if upload.size > BODY:\n                raise too_large\n",
        "",
        "test_serve",
        "refusal",
    ),
    Mutant(
        "a body that says it is beyond the limit is refused",
        "mslab/inference/serve/uploads.py",
        "        if declared > BODY:\n            raise too_large\n",
        "",
        "test_serve",
        "refusal",
    ),
    Mutant(
        "an image of too many pixels is refused by the server",
        "mslab/inference/serve/predictor.py",
        " or width * height > PIXELS:",
        ":",
        "test_serve",
        "refusal",
    ),
    Mutant(
        "the server answers to no name but its own",
        "mslab/inference/serve/server.py",
        "            self.addresses.check_host(request)\n",
        "            pass\n",
        "test_serve",
        "refusal",
    ),
    Mutant(
        "the server answers no page of another site",
        "mslab/inference/serve/server.py",
        "            self.addresses.check_origin(request)\n",
        "",
        "test_serve",
        "refusal",
    ),
    Mutant(
        "the path of a proxy that passes it on is taken off",
        "mslab/inference/serve/addresses.py",
        "            requested = requested[len(self.root) :]\n",
        "            pass\n",
        "test_serve_addresses",
        "root_path",
    ),
    Mutant(
        "only pages of --allow-origin may read the server's answers",
        "mslab/inference/serve/addresses.py",
        "        if origin not in self.origins:\n",
        "        if not origin:\n",
        "test_serve_addresses",
        "may_ask",
    ),
    Mutant(
        "of a call for several images each gets its own rows",
        "mslab/inference/serve/together.py",
        "rows[start : start + len(x)]",
        "rows[: len(x)]",
        "test_serve_together",
        "each_gets_its_own",
    ),
    Mutant(
        "a server that is full closes a connection, but none whose request is being answered",
        "mslab/inference/serve/connections.py",
        "        if len(self.connections) > self.most:\n            self.make_room()\n",
        "",
        "test_serve test_serve_limits",
        "oldest or any_number",
    ),
    Mutant(
        "uploads together stay within the memory",
        "mslab/inference/serve/uploads.py",
        "            self.make_room()\n",
        "",
        "test_serve_limits",
        "beyond_the_memory",
    ),
    Mutant(
        "a request takes a place only when it has arrived",
        "mslab/inference/serve/server.py",
        "            images = await self.uploads.receive(upload, request)\n            self.require_place(address)\n"
        "            self.waiting.append(address)\n",
        "            self.waiting.append(address)\n            images = await self.uploads.receive(upload, request)\n",
        "test_serve",
        "slow_uploads",
    ),
    Mutant(
        "the server opens only formats of images that it knows",
        "mslab/inference/serve/predictor.py",
        "        if (kind := name_of(images[position])) not in ACCEPTED:",
        "        if not (kind := images[position]):",
        "test_serve",
        "other_formats or refusal or unusable",
    ),
    # --- several workers ---
    Mutant(
        "every worker has its own part of a batch",
        "mslab/runtime/workers.py",
        "[:, self.rank].ravel()",
        "[:, 0].ravel()",
        "test_workers",
        "every_sample",
    ),
    Mutant(
        "no image is measured by two workers",
        "mslab/runtime/workers.py",
        "np.arange(self.rank, count, self.size)",
        "np.arange(0, count, self.size)",
        "test_workers",
        "measured_once",
    ),
    Mutant(
        "workers' gradients become their mean, not their sum",
        "mslab/runtime/workers.py",
        "nn.DistributedGradReducer(list(parameters), True, self.size)",
        "nn.DistributedGradReducer(list(parameters), False, self.size)",
        "test_workers",
        "what_one_does",
    ),
    Mutant(
        "workers' gradients are averaged at all",
        "mslab/training/train_step.py",
        "        if self.mean is not None:\n            gradients = self.mean(gradients)\n        self.update",
        "        self.update",
        "test_workers",
        "what_one_does",
    ),
    Mutant(
        "all workers begin with the weights of the first",
        "mslab/training/build.py",
        "    group.broadcast_parameters(network.get_parameters())\n",
        "",
        "test_workers",
        "what_one_does",
    ),
    # --- again, elsewhere ---
    Mutant(
        "reproduce uses the tolerance of the command line",
        "mslab/reproduce/comparing.py",
        "    allowed = tolerance * (",
        "    allowed = 0.02 * (",
        "test_reproduce",
        "tolerance",
    ),
    Mutant(
        "equal figures with different weights are not identical",
        "mslab/reproduce/comparing.py",
        " and self.weights[0] == self.weights[1]",
        "",
        "test_reproduce",
        "different_weights",
    ),
    Mutant(
        "an archive member whose sha256 is not the listed one is refused",
        "mslab/reproduce/opening.py",
        "        if hashed.hexdigest() != digest:",
        "        if not hashed.hexdigest():",
        "test_archive",
        "tampered",
    ),
    Mutant(
        "a file that changed after the run is not archived",
        "mslab/reproduce/archiving.py",
        '        if check["status"] != "same":',
        '        if check["status"] == "missing":',
        "test_archive",
        "changed_run",
    ),
    # --- grading: what a submission may do ---
    # with a guard taken away, only tests whose attempts do no harm where they succeed: others would write, and kill
    Mutant(
        "a grader's worker has no network",
        "mslab/grade/sandbox.py",
        "    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC) != 0:",
        "    if libc.unshare(CLONE_NEWUSER | CLONE_NEWIPC) != 0:",
        "test_grade_isolation",
        "each_guard",
    ),
    Mutant(
        "a grader's worker leaves the network before it opens anything",
        "mslab/grade/sandbox.py",
        "        active.append(leave_namespaces(libc))\n",
        "",
        "test_isolation_order",
    ),
    Mutant(
        "a grader's worker reads and writes its own files only (Landlock)",
        "mslab/grade/sandbox.py",
        'return "own files only" if libc.syscall(RESTRICT_SELF, rules, 0) == 0 else ""',
        'return "own files only"',
        "test_grade_isolation",
        "each_guard",
    ),
    Mutant(
        "a grader's worker opens no socket (seccomp)",
        "mslab/grade/seccomp.py",
        '    "socket": (41, 198),\n',
        "",
        "test_grade_isolation",
        "each_guard",
    ),
    Mutant(
        "a grader's worker starts no program (seccomp)",
        "mslab/grade/seccomp.py",
        '    "execve": (59, 221),\n',
        "",
        "test_grade_isolation",
        "each_guard",
    ),
    Mutant(
        "a grader's worker touches no other process (seccomp)",
        "mslab/grade/seccomp.py",
        '"kill": (62, 129), ',
        "",
        "test_grade_isolation",
        "each_guard",
    ),
    Mutant(
        "a grader's worker lets the kernel signal no other process (seccomp)",
        "mslab/grade/seccomp.py",
        '"F_SETOWN": 8, ',
        "",
        "test_grade_isolation",
        "kernel_signal",
    ),
    Mutant(
        "a submission that changes is measured as it was hashed",
        "mslab/grade/grading.py",
        '{**job, "source": str(source), ',
        '{**job, "source": str(submission.path), ',
        "test_grade_endings",
        "changes_while",
    ),
    Mutant(
        "a link that replaces a file of a submission is not followed",
        "mslab/grade/private.py",
        "READ = os.O_RDONLY | NO_LINK | NO_WAIT",
        "READ = os.O_RDONLY | NO_WAIT",
        "test_private_copies",
        "replaced",
    ),
    Mutant(
        "an unfinished grading names the submissions that are missing",
        "mslab/grade/outputs.py",
        "grades_table(graded, rubric, missing))",
        "grades_table(graded, rubric))",
        "test_grade_endings",
        "interrupted",
    ),
    Mutant(
        "a grader's worker has limits of memory from within (rlimit)",
        "mslab/grade/sandbox.py",
        '        "RLIMIT_DATA": (limits.memory, limits.memory),\n',
        "",
        "test_grade_isolation",
        "from_within",
    ),
    Mutant(
        "a grader's worker gains no rights by a program",
        "mslab/grade/sandbox.py",
        "        active.append(no_new_rights(libc))\n",
        "",
        "test_isolation_order",
    ),
    Mutant(
        "a grader's worker gives up the rights of root",
        "mslab/grade/sandbox.py",
        "        drop_capabilities(libc)\n",
        "",
        "test_grade_isolation",
        "confined",
    ),
    Mutant(
        "a grader's worker ends with a grader that is killed",
        "mslab/grade/sandbox.py",
        '"ends with its parent" if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) == 0 else ""',
        '"ends with its parent"',
        "test_grade_isolation",
        "parent",
    ),
    Mutant(
        "a grader's worker sees nothing of the teacher's environment",
        "mslab/grade/sandbox.py",
        "return {name: os.environ[name] for name in inherited if name in os.environ} | changed",
        "return dict(os.environ) | changed",
        "test_grade_isolation test_grade_code",
        "environment or confined or others or inside",
    ),
    Mutant(
        "a link in a submission's archive is refused",
        "mslab/grade/members.py",
        '        if kind != "file":',
        '        if kind == "device":',
        "test_grade_isolation",
        "archives",
    ),
    Mutant(
        "hidden images come in an order that tells nothing of their classes",
        "mslab/grade/measuring.py",
        "np.random.default_rng(list(bytes.fromhex(self.fingerprint))).permutation(len(self.images))",
        "np.arange(len(self.images))",
        "test_grade_isolation",
        "hidden_images",
    ),
    Mutant(
        "a student's code does not run unasked",
        "mslab/grade/loading.py",
        "    if rows and not run_code:",
        "    if rows and run_code is None:",
        "test_grade_code",
        "unless_asked",
    ),
    # --- grading: points ---
    Mutant(
        "a rubric whose items do not add up is refused",
        "mslab/grade/loading.py",
        "    if abs(total - rubric.total) > 1e-9:",
        "    if total - rubric.total > 1e-9:",
        "test_grade_rubric",
        "mistake",
    ),
    Mutant(
        "a rubric whose highest band is not worth the item's points is refused",
        "mslab/grade/loading.py",
        "        if most != item.points:",
        "        if most > item.points:",
        "test_grade_rubric",
        "mistake",
    ),
    Mutant(
        "a day that has begun is a day late",
        "mslab/grade/times.py",
        "days = int(-(-late // 86_400))",
        "days = int(late // 86_400)",
        "test_grade_rubric",
        "lateness",
    ),
    Mutant(
        "deductions never take a total below 0",
        "mslab/grade/records.py",
        "return max(0.0, sum(o.points for o in self.outcomes.values()) - sum(cost for _, cost in self.deductions))",
        "return sum(o.points for o in self.outcomes.values()) - sum(cost for _, cost in self.deductions)",
        "test_deductions",
    ),
    Mutant(
        "networks with the same answers are a pair to look at",
        "mslab/grade/copies.py",
        "weights(traces, given_backbone), answers(traces), histories",
        "weights(traces, given_backbone), histories",
        "test_grade_rubric",
        "copies or equal",
    ),
    Mutant(
        "a file that all students received is not a copy",
        "mslab/grade/copies.py",
        ".items() if value not in given_backbone.tensors}",
        ".items()}",
        "test_grade_rubric",
        "copies",
    ),
    Mutant(
        "a network of the task's classes in another order gets no points",
        "mslab/grade/items.py",
        "if names and names != truth.class_names and not all",
        "if names and set(names) != set(truth.class_names) and not all",
        "test_grade_rubric",
        "measured",
    ),
    Mutant(
        "a prediction of one image twice is refused",
        "mslab/grade/items.py",
        "        if name in rows:\n",
        "        if name in truth.class_names:\n",
        "test_grade_rubric",
        "predictions",
    ),
    Mutant(
        "a backbone that is the parent's, unchanged, was not fine-tuned",
        "mslab/grade/items.py",
        '"finetuned": verdict == "near" and not frozen',
        '"finetuned": verdict == "near"',
        "test_grade_rubric",
        "provenance",
    ),
    Mutant(
        "one channel with large values decides nothing about a backbone's origin",
        "mslab/grade/parentage.py",
        "found = correlation(ranks(a), ranks(b)) *",
        "found = correlation(a, b) *",
        "test_parentage",
        "few_values",
    ),
    Mutant(
        "which weights of a backbone are compared cannot be known before both networks are made",
        "mslab/grade/looking.py",
        "self.digests.get(name) for name in (child, parent)",
        "self.digests.get(name) for name in (child,)",
        "test_grade_measuring",
        "which_weights",
    ),
    Mutant(
        "many small weights in the parent's order decide nothing about a backbone's origin",
        "mslab/grade/parentage.py",
        "min(correlation(ranks(a), ranks(b)), correlation(a, b))",
        "correlation(ranks(a), ranks(b))",
        "test_parentage",
        "few_values",
    ),
    Mutant(
        "points that tell of hidden images are shown when grades are published, not before",
        "mslab/grade/outputs.py",
        "return item.kind in MEASURED and not item.public",
        "return item.public",
        "test_grade_outputs",
        "gradescope",
    ),
    Mutant(
        "names in a student's feedback are text, never HTML",
        "mslab/grade/outputs.py",
        "autoescape=True",
        "autoescape=False",
        "test_grade_outputs",
        "text or feedback",
    ),
    # --- sweeps ---
    Mutant(
        "a sweep that is joined draws other values than it did before",
        "mslab/experiments/sweep/trials.py",
        "fresh, seed = False, zlib",
        "fresh, _ = False, zlib",
        "test_sweep",
        "same_seed",
    ),
    Mutant(
        "a trial that is stopped on purpose does not use up its retries",
        "mslab/experiments/sweep/trials.py",
        'trial.user_attrs.get("stops", 0) + stopped',
        'trial.user_attrs.get("stops", 0)',
        "test_sweep",
        "stop_on_purpose",
    ),
    Mutant(
        "a trial whose worker dies again and again is given up",
        "mslab/experiments/sweep/trials.py",
        "max_retry=RETRIES + stops",
        "max_retry=None",
        "test_sweep",
        "process_is_gone",
    ),
    Mutant(
        "a living process keeps its trial",
        "mslab/experiments/sweep/trials.py",
        "return host == HOST and start_time(pid) != start",
        "return host == HOST",
        "test_sweep",
        "process_is_gone",
    ),
    Mutant(
        "the config's own values are never pruned",
        "mslab/experiments/sweep/worker.py",
        'if not trial.user_attrs.get("default") and trial.should_prune():',
        "if trial.should_prune():",
        "test_sweep",
        "below_the_median",
    ),
    # --- published weights ---
    Mutant(
        "what a server sends gets its name only with the published hash",
        "mslab/weights/fetching.py",
        "return self.size > 0 and self.hash.hexdigest().startswith(self.digits)",
        "return self.size > 0",
        "test_weights",
        "another_file or web_page or cut_connection",
    ),
    Mutant(
        "a file in the folder is taken only with the published hash",
        "mslab/weights/obtaining.py",
        "    if found.startswith(entry.digits):",
        "    if found:",
        "test_weights",
        "another_hash",
    ),
    Mutant(
        "a download goes on where it was cut",
        "mslab/weights/fetching.py",
        'headers["Range"] = f"bytes={self.size}-"',
        'headers["Range"] = "bytes=0-"',
        "test_weights",
        "cut_connection or killed",
    ),
    Mutant(
        "a server that sends all of the file again does not append it",
        "mslab/weights/fetching.py",
        "self.begin_anew()  # the server sends the whole file, as those do that know no ranges",
        "pass",
        "test_weights",
        "without_ranges",
    ),
    Mutant(
        "two processes do not write one file",
        "mslab/weights/fetching.py",
        "        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "        pass",
        "test_weights",
        "two_processes",
    ),
    Mutant(
        "a redirect leads to nothing but HTTP",
        "mslab/weights/fetching.py",
        'if scheme != "https" and (scheme != "http" or req.type == "https"):',
        "if False:",
        "test_weights",
        "redirect",
    ),
    Mutant(
        "the manifest names published weights",
        "mslab/training/finetuning.py",
        'chosen |= {"published": self.checkpoint.published.name} if self.checkpoint.published else {}',
        "pass",
        "test_published_weights",
        "records_its_source",
    ),
    Mutant(
        "a published file of mindcv is taken as mindcv's",
        "mslab/checkpoint/reading.py",
        'd.name == (publisher or "mslab")',
        'd.name == "mslab"',
        "test_published_weights",
        "mindcvs",
    ),
    Mutant(
        "a config is read before weights are fetched",
        "mslab/cli/options.py",
        "    if config:\n        load_settings(config",
        "    if False:\n        load_settings(config",
        "test_published_weights",
        "mistake_in_the_config",
    ),
    Mutant(
        "a storage of an old .pth lies within the file",
        "mslab/checkpoint/legacy.py",
        "    if end > len(content):",
        "    if False:",
        "test_legacy_pth",
        "claims_more",
    ),
    Mutant(
        "a name in labels that leads out of the folder of the images is not read",
        "mslab/tasks/names.py",
        'if DRIVE.match(path) or ".." in parts:',
        "if DRIVE.match(path):",
        "test_label_check",
        "leads_out",
    ),
    Mutant(
        "run lengths that do not fill their mask are refused",
        "mslab/tasks/rle.py",
        "if total != height * width:",
        "if total > height * width:",
        "test_label_check",
        "bomb_or_nonsense",
    ),
    Mutant(
        "an XML file with entities is refused",
        "mslab/data/voc.py",
        "parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse",
        "parser.CommentHandler = refuse",
        "test_label_import",
        "cannot_be_read",
    ),
    Mutant(
        "classes are matched by name between the splits",
        "mslab/tasks/reading.py",
        "if names == first.class_names:",
        "if len(names) == len(first.class_names):",
        "test_label_check",
        "matched_by_name",
    ),
    Mutant(
        "what is hidden by more than four fifths is to be ignored",
        "mslab/data/mushrooms/scenes.py",
        "return mushroom.hidden > HIDDEN or",
        "return mushroom.hidden > 1 or",
        "test_scenes",
        "four_fifths",
    ),
]


CORES = sorted(os.sched_getaffinity(0))[:4]
RUNNING: set[subprocess.Popen] = set()


def main() -> int:
    """Break, test and restore, for every selected mutant. Returns 1 if one lived or is broken itself."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="NUMBER|WORD", help="which mutants; all by default")
    counts = range(1, len(CORES) + 1)
    parser.add_argument("--jobs", type=int, choices=counts, default=len(CORES), help="mutants at a time, a core each")
    parser.add_argument("--unbroken", action="store_true", help="break nothing: do the tests pass in a copy at all?")
    options = parser.parse_args()
    chosen = [n for n, mutant in enumerate(MUTANTS, 1) if is_selected(n, mutant, options.words)]
    counts_by_verdict: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="mslab-mutants-") as folder, ThreadPoolExecutor(options.jobs) as pool:
        copies: queue.SimpleQueue[tuple[Path, int]] = queue.SimpleQueue()
        for core in CORES[: options.jobs]:
            copies.put((copy_of_project(Path(folder) / str(core), core), core))
        waiting = {pool.submit(run_tests_on, MUTANTS[n - 1], copies, options.unbroken): n for n in chosen}
        try:
            for future in as_completed(waiting):
                number, (verdict, seconds, reason) = waiting[future], future.result()
                counts_by_verdict[verdict] += 1
                line = f"{verdict:<6} {number:>4} {seconds:>4.0f} s  {MUTANTS[number - 1].promise}  [{reason}]"
                print(line, flush=True)
        except BaseException:  # Ctrl-C: waiting mutants do not start, running ones are killed
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(RUNNING):
                end(process)
            raise
    total = counts_by_verdict
    print(f"{total['killed']} killed, {total['lived']} lived, {total['broken']} broken")
    return 0 if total["lived" if options.unbroken else "killed"] == len(chosen) else 1


def is_selected(number: int, mutant: Mutant, words: list[str]) -> bool:
    text = f"{mutant.promise} {mutant.file} {mutant.tests}".lower()
    return not words or any(int(w) == number if w.isdigit() else w.lower() in text for w in words)


def copy_of_project(folder: Path, core: int) -> Path:
    """Copy the files that git tracks and new files, in their present state."""
    listed = ["git", "-C", str(PROJECT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, check=True, capture_output=True, text=True).stdout.split("\0"):
        if name and (PROJECT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, folder / name)
    _, output = run(["-c", "import mslab; print(mslab.__file__)"], folder, core)
    if Path(output.strip()).parent != folder / "mslab":
        raise SystemExit(f"The tests would import {output.strip()}, not the copy in {folder}.")
    return folder


def run_tests_on(
    mutant: Mutant, copies: "queue.SimpleQueue[tuple[Path, int]]", unbroken: bool
) -> tuple[str, float, str]:
    """Test a mutant in a free copy. Returns (killed, lived or broken; seconds; reason)."""
    folder, core = copies.get()
    start, file = time.monotonic(), folder / mutant.file
    text = file.read_text(encoding="utf-8")
    try:
        file.write_text(text if unbroken else broken(mutant, text), encoding="utf-8")
        command = ["-m", "pytest", "-m", "not slow", "-x", "-p", "no:cacheprovider", *map(str, modules(mutant, folder))]
        verdict, reason = judge(*run([*command, *(["-k", mutant.only] if mutant.only else [])], folder, core))
    except ValueError as error:
        verdict, reason = "broken", str(error)
    finally:
        file.write_text(text, encoding="utf-8")
        copies.put((folder, core))
    line = text[: text.find(mutant.code)].count("\n") + 1
    location = f"{mutant.file}:{line} {reason}".rstrip()
    return verdict, time.monotonic() - start, location if verdict == "lived" else reason


def broken(mutant: Mutant, text: str) -> str:
    """Return the file's text with the mistake. Raises ValueError unless the code occurs exactly once."""
    if (count := text.count(mutant.code)) != 1:
        raise ValueError(f"its code occurs {count} times in {mutant.file}")
    return text.replace(mutant.code, mutant.broken)


def modules(mutant: Mutant, folder: Path) -> list[Path]:
    """Return the paths of the mutant's test modules, anywhere below tests/. Raises ValueError if one is missing."""
    quick = [path for path in sorted((folder / "tests").rglob("*.py")) if path.parent.name != "slow"]
    chosen = [path for path in quick if path.stem in mutant.tests.split()]
    if missing := set(mutant.tests.split()) - {path.stem for path in chosen}:
        raise ValueError(f"there is no {', '.join(sorted(missing))} below tests/")
    return chosen


def run(arguments: list[str], folder: Path, core: int) -> tuple[int | None, str]:
    """Run Python on one core with the copy as `mslab`. Returns (exit code, None after a timeout; output)."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    # Python distinguishes versions of a file by second and size only, so no bytecode is saved
    environment |= {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "200"}
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        options = {"cwd": folder, "env": environment, "stdout": output, "stderr": subprocess.STDOUT}

        def prepare() -> None:
            os.sched_setaffinity(0, {core})
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore it; tests press Ctrl-C

        process = subprocess.Popen([sys.executable, *arguments], start_new_session=True, preexec_fn=prepare, **options)
        RUNNING.add(process)
        code = None
        with suppress(subprocess.TimeoutExpired):
            code = process.wait(SECONDS)
        end(process)
        RUNNING.discard(process)
        output.seek(0)
        return code, output.read()


def end(process: subprocess.Popen) -> None:
    """Kill the process and all of its session: everything that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def judge(code: int | None, output: str) -> tuple[str, str]:
    """Return (verdict, reason) from pytest's exit code and output. A module that cannot be imported notices nothing."""
    failed = re.findall(r"(?m)^(?:FAILED|ERROR) (\S+)", output)
    if code is None:
        return "killed", f"its tests had not ended after {SECONDS} s"
    if code < 0:
        return "killed", f"signal {-code} ended its tests"
    if code == 0:  # a skipped test might have noticed it
        return "lived", " ".join(re.findall(r"\d+ skipped", output))
    if code == 1 and failed and all("::" in name for name in failed):
        return "killed", failed[0]
    lines = [line for line in output.splitlines() if line.startswith("E ")] or output.strip().splitlines() or [""]
    return "broken", f"pytest ended with {code}: {lines[-1][:160]}"


if __name__ == "__main__":
    sys.exit(main())
