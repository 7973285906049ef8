"""Every command, option, setting and file that a message names exists; every command that can be copied is run once.

A new message that shows a command is answered by test_every_command_that_is_shown_is_run: add the test that runs it to
RUN, or the reason why none can to NOT_RUN.
"""

import re
from functools import cache

import fixes
import pytest
from helpers import PROJECT

from mslab.config import FIELDS

# test that copies the command and runs it -> "module: command" of each
RUN = {
    "training/test_task_report.py test_what_the_fix_lines_say_works": """
        report/several.py: mslab report
        runs/weights.py: mslab report
    """,
    "cli/test_fixes.py test_what_a_fix_line_says_works": """
        experiments/lab.py: mslab new
        cli/results.py: mslab reproduce --from
    """,
    "cli/test_fixes.py test_a_folder_that_cannot_be_read_is_read_after_the_chmod_that_is_shown": """
        check/layout.py: chmod
    """,
    "unit/test_runs.py test_what_the_fix_lines_say_works": """
        cli/runs.py: mslab runs rm --yes
        runs/listing.py: mslab runs
        runs/removing.py: mslab runs rm
    """,
    "unit/test_weights.py test_what_the_fix_lines_say_works": """
        weights/listing.py: mslab weights
        weights/obtaining.py: mslab weights get
        weights/registry.py: mslab weights
    """,
    "unit/test_runs.py test_a_folder_without_permission_is_named_with_the_command_that_gives_it": """
        runs/listing.py: chmod
    """,
    "unit/test_runs.py test_what_cannot_be_deleted_is_no_run_and_goes_with_the_commands_that_are_shown": """
        runs/removing.py: chmod
    """,
    "cli/test_fixes.py test_after_ctrl_c_the_command_that_is_named_continues_the_run": """
        runs/folder.py: mslab train --resume
        cli/train.py: mslab train --resume
        training/start.py: mslab train --resume
    """,
    "cli/test_calibrate.py test_the_temperature_is_in_the_checkpoints_and_its_effect_in_eval_json_and_report": """
        report/single.py: mslab eval --data --threshold
    """,
    "slow/test_fixes.py test_what_a_fix_line_says_works_after_longer_commands": """
        inference/graphs.py: mslab export
        reproduce/recipes.py: mslab reproduce-all --fastest
        cli/train.py: mslab train
        inference/predicting.py: mslab predict
        config/paths.py: mslab train --resume
        config/paths.py: mslab train
        config/paths.py: mslab train --from
        config/paths.py: mslab transfer --backbone
        runs/finding.py: mslab train
    """,
    "cli/test_shown_commands.py test_a_run_that_was_stopped_is_resumed": """
        runs/lock.py: mslab train --resume
    """,
    "cli/test_shown_commands.py test_a_data_set_is_fixed_and_put_back": """
        check/report.py: mslab check
        check/quarantine.py: mslab check --fix
        cli/data.py: mslab check --undo
    """,
    "unit/test_quarantine.py test_fix_of_two_equal_splits_says_that_they_are": """
        check/quarantine.py: mslab data split
    """,
    "unit/test_levels.py test_a_folder_above_data_sets_is_answered_with_them_and_nothing_is_moved": """
        check/layout.py: mslab check
    """,
    "unit/test_levels.py test_every_command_names_what_to_give_in_its_place": """
        data/unpacking.py: mslab check
    """,
    "cli/test_interrupts.py test_ctrl_c_after_the_last_step_and_in_the_report_names_what_is_left": """
        runs/folder.py: mslab report
        training/start.py: mslab report
    """,
    "cli/test_report.py test_what_was_changed_after_the_run_is_said_on_its_page": """
        report/writing.py: mslab verify
    """,
    "cli/test_report.py test_a_run_that_has_lost_its_figures_is_measured_again": """
        runs/results.py: mslab report
        report/notebook.py: mslab report
    """,
    "cli/test_shown_commands.py test_an_archive_in_place_of_a_data_set_is_imported": """
        check/dataset.py: mslab data import
        check/levels.py: mslab data import
    """,
    "cli/test_repeat.py test_the_fix_of_missing_folds_makes_them_and_they_are_trained": """
        cli/experiments.py: mslab data split --folds
        experiments/cross_validation.py: mslab data split --folds
    """,
    "unit/test_labels.py test_a_flat_archive_says_that_its_table_has_the_labels_and_the_fix_works": """
        data/unpacking.py: mslab data import --labels
    """,
    "unit/test_labels.py test_a_table_beside_flat_images_is_what_every_command_proposes": """
        check/levels.py: mslab data import --labels
    """,
    "cli/test_labelled.py test_no_image_of_a_table_is_moved_or_changed_and_the_fix_works": """
        check/quarantine.py: mslab data import --labels
        check/report.py: mslab data import --labels
    """,
    "unit/test_splits.py test_the_commands_in_a_fix_give_a_data_set": """
        check/levels.py: mkdir
    """,
    "training/test_lost_files.py test_a_run_without_last_ckpt_does_not_begin_again_and_what_is_said_instead_works": """
        runs/manifest.py: mslab train --from
    """,
    "unit/test_scenes.py test_scenes_are_drawn_by_the_command": """
        tasks/reading.py: mslab data make --scenes
    """,
    "unit/test_label_import.py test_the_check_of_classes_says_how_boxes_are_kept_and_the_commands_work": """
        check/levels.py: mslab data import --format
        check/levels.py: mslab check --task
    """,
    "unit/test_sweep.py test_a_resume_opens_no_storage_that_only_sweep_json_names": """
        experiments/sweep/study.py: mslab sweep --resume --storage
    """,
    "training/test_resuming.py test_a_run_and_its_images_may_move": """
        training/resuming.py: mslab train --resume
    """,
    "training/test_resuming.py test_a_chosen_epoch_is_no_run_to_resume": """
        training/resuming.py: mslab train --from
        training/start.py: mslab train --from
    """,
    "cli/test_grade_outputs.py test_results_with_the_reason_are_there_however_the_autograder_ends": """
        grade/gradescope.py: mkdir
    """,
    "cli/test_shown_commands.py test_one_part_of_a_split_data_set_is_split": """
        data/splitting.py: mslab data split
        modelarts.py: mslab data split
    """,
    "slow/test_sweep.py test_ctrl_c_ends_cleanly_and_a_transfer_continues": """
        experiments/sweep/study.py: mslab sweep --resume
        experiments/sweep/page.py: mslab sweep --resume
        runs/finding.py: mslab sweep --resume
    """,
    "slow/test_fixes.py test_a_finished_run_without_its_networks_is_trained_again_by_the_command_that_is_shown": """
        runs/weights.py: mslab reproduce
    """,
    "slow/test_fixes.py test_an_onnx_file_of_another_program_is_converted_and_predicts": """
        inference/graphs.py: mslab convert --to
    """,
    "unit/test_settings_messages.py test_the_page_of_settings_is_printed_by_a_command": """
        config/loading.py: mslab settings
        config/page.py: mslab settings
        experiments/sweep/space.py: mslab settings
    """,
    "cli/test_incremental.py test_on_the_command_line": """
        checkpoint/loading.py: mslab train --from
    """,
}
NOT_RUN = {
    "it would install packages": """
        check/images.py: pip
        data/animals.py: pip
        runtime/importing.py: pip
        errors.py: pip
        escaping.py: pip
        escaping.py: uv
        experiments/demo.py: pip
        experiments/sweep/trials.py: pip
        grade/gradescope.py: pip
        reproduce/installing.py: pip
        runtime/cuda.py: pip
        runtime/cuda.py: apt
        runtime/compiling.py: apt
        grade/sandbox.py: apt
    """,
    "root, as whom the tests may run, can read every file": """
        checkpoint/formats.py: chmod
        config/paths.py: chmod
        data/reading.py: chmod
        files.py: chmod
        inference/graphs.py: chmod
        runs/finding.py: chmod
        runs/manifest.py: chmod
        runtime/targets.py: chmod
        training/resuming.py: chmod
        weights/obtaining.py: chmod
    """,
    "it is a form to fill in, or the title of what the command itself shows": """
        inference/serve/uploads.py: curl
        data/mushrooms/drawing.py: mslab data make
        data/mushrooms/scenes.py: mslab data make
        doctor/diagnosis.py: mslab doctor
        errors.py: mslab doctor
        reproduce/recipes.py: mslab reproduce-all --record
        cli/hints.py: mslab train
    """,
    "the tests load the settings that it gives, and compare them": """
        experiments/comparison.py: mslab train --name
        report/comparable.py: mslab train --name
    """,
    "the README's commands do the same after each other": """
        cli/data.py: mslab check
    """,
    "the tests type the same, without a repetition that was stopped before": """
        reproduce/reproducing.py: mslab reproduce --with
    """,
    "it says where something comes from": """
        checkpoint/sharing.py: mslab pack --half
        runs/manifest.py: mslab pack --half
    """,
    "it shows a page in a program that is not among mslab's packages": """
        training/eventlog.py: tensorboard
    """,
    "a config begins a new run in most tests": """
        runs/manifest.py: mslab train
    """,
    "a report of a finished run is what most tests write": """
        cli/options.py: mslab report
    """,
    "it repeats a training for hours, with the words of the command that made the run": """
        reproduce/differing.py: mslab train
        reproduce/reproducing.py: mslab train --workers
    """,
}
# in a sentence, and no command to copy
PROSE = (
    r"mslab {name}(?: \S+)? (?:again|makes|printed|would|puts|wrote|preserves|does)|(?:by|of|than|and) `?mslab {name}"
)


def listed(table: dict[str, str]) -> set[str]:
    return {line.strip() for lines in table.values() for line in lines.splitlines() if line.strip()}


@cache
def lines_of(module: str) -> list[str]:
    return (fixes.PACKAGE / module).read_text(encoding="utf-8").splitlines()


@cache
def fix_texts() -> list[tuple[str, int, str]]:
    """Texts that tell what to do: of fix=, and of the warnings while it trains."""
    found = []
    for module, line, text in fixes.texts():
        source = lines_of(module)
        if module == "training/monitor.py" or "fix=" in source[line - 1] or "fix = " in source[line - 1]:
            found.append((module, line, text))
    return found


def test_every_option_of_a_command_that_is_shown_exists():
    count = 0
    for module, line, text in fixes.texts():
        for name, words in fixes.commands_in(text):
            count += 1
            for word in words:
                option = word.partition("=")[0]
                assert not option.startswith("--") or option in fixes.options_of(name), (module, line, text)
    assert count > 100


def test_every_command_that_a_fix_shows_is_complete():
    for module, line, text in fix_texts():
        for name, words in fixes.commands_in(text):
            prose = re.search(PROSE.format(name=name), text) or "…" in words
            assert prose or not fixes.incomplete(name, words) or text == "mslab new lab", (module, line, text)


def test_every_option_that_a_fix_names_is_one_of_a_command_and_every_setting_exists():
    options = set().union(*map(fixes.options_of, fixes.COMMANDS))
    # of pip, uv, docker, tensorboard, ModelArts
    others = "--no-deps --force-reinstall --no-cache-dir --python --gpus --logdir --data_url"
    options |= set(others.split())
    for module, line, text in fix_texts():
        for option in re.findall(r"(?<![\w-])--[a-z][\w-]*", text):
            assert option in options, (module, line, text)
        for name in fixes.SETTING.findall(text):
            assert name in FIELDS or name == "weights_only", (module, line, text)  # the second is PyTorch's


def test_every_file_of_the_project_that_a_text_names_exists():
    elsewhere = {"configs/measured", "mslab/decoded"}  # written by the recipes, and a folder of the cache
    for module, line, text in fixes.texts():
        for path in re.findall(r"(?<![\w/$.-])(?:docs|configs|mslab)/[\w./-]*\w", text):
            assert path in elsewhere or (PROJECT / path).exists(), (module, line, text)


def test_every_command_that_is_shown_is_run():
    shown = fixes.keys()
    missing = {key: text for key, text in shown.items() if key not in listed(RUN) | listed(NOT_RUN)}
    assert not missing, f"add the test that runs it to RUN in {__file__}, or to NOT_RUN why none can"
    stale = (listed(RUN) | listed(NOT_RUN)) - shown.keys()
    assert not stale, "no message shows these any more"


@pytest.mark.parametrize("place", RUN)
def test_the_tests_that_are_named_exist(place):
    file, name = place.split()
    assert f"def {name}" in (PROJECT / "tests" / file).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("command", "lacks"),
    [
        ("mslab check", ["ROOT|CONFIG"]),
        ("mslab check ROOT", []),
        ("mslab transfer CONFIG", ["--backbone"]),
        ("mslab transfer CONFIG --backbone FILE", []),
        ("mslab eval RUN --data ROOT", []),
        ("mslab show --augment CONFIG", []),
    ],
)
def test_a_command_without_its_arguments_is_noticed(command, lacks):
    ((name, words),) = fixes.commands_in(command)
    assert fixes.incomplete(name, words) == lacks
