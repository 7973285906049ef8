"""Learning rate per step: values computed by hand, and properties of all schedules."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mslab import schedule
from mslab.config import Settings
from mslab.schedule import (
    Phase,
    format_strategy,
    one_cycle,
    parse,
    plateau_factor,
    step_decay,
    strategy_rates,
    warmup_cosine,
)
from mslab.training import learning_rates

COSINE = [1, 0.75, 0.25, 0]  # half a wave over four steps


def config(**settings):
    return Settings(train_data="a", val_data="b", class_num=2, **{"lr_scheduler": "warmup_cosine"} | settings)


def test_values_by_hand():
    assert warmup_cosine(3, 2, 1, 0.0, 1.0) == pytest.approx([0, 0.5, *COSINE])
    assert warmup_cosine(2, 2, 0, 0.0, 1.0, 0.2) == pytest.approx([1, 0.8, 0.4, 0.2])


def test_a_cosine_of_several_waves():
    # progress 0, 1/6 … 1 of one and a half waves: down, up, down
    assert warmup_cosine(7, 1, 0, 0.0, 1.0, cycles=1.5) == pytest.approx([1, 0.5, 0, 0.5, 1, 0.5, 0], abs=1e-6)
    # Azure's 0.45 ends before the bottom
    assert warmup_cosine(2, 1, 0, 0.0, 1.0, cycles=0.45)[-1] == pytest.approx((1 + math.cos(0.9 * math.pi)) / 2)


def test_steps_by_hand():
    assert step_decay(4, 1, 0, 0.0, 1.0, [1, 3], 0.1) == pytest.approx([1, 0.1, 0.1, 0.01])
    assert step_decay(4, 2, 1, 0.2, 1.0, [2], 0.5) == pytest.approx([0.2, 0.6, 1, 1, 0.5, 0.5, 0.5, 0.5])
    assert step_decay(3, 1, 2, 0.0, 1.0, [1], 0.5) == pytest.approx([0, 0.25, 0.5])  # up to the decayed rate
    assert step_decay(2, 2, 0, 0.0, 0.3, [], 1.0) == pytest.approx([0.3] * 4)


def test_one_cycle_by_hand():
    assert one_cycle(3, 2, 1, 0.0, 1.0) == pytest.approx([0, 0.5, *COSINE])
    assert one_cycle(8, 1, 4, 0.0, 1.0)[:5] == pytest.approx([0, (1 - 0.5**0.5) / 2, 0.5, (1 + 0.5**0.5) / 2, 1])


@pytest.mark.parametrize(
    "settings,by_hand",
    [
        ({"lr_scheduler": "constant", "warmup_epochs": 0}, [0.4] * 8),
        ({"lr_scheduler": "plateau", "warmup_epochs": 1}, [0.1, 0.25] + [0.4] * 6),
        ({"lr_scheduler": "step", "step_lr_step_size": 3}, [0.4] * 6 + [0.2] * 2),
        ({"lr_scheduler": "step", "lr_scheduler_step": "1, 3"}, [0.4] * 2 + [0.04] * 4 + [0.004] * 2),
        ({"lr_scheduler": "warmup_cosine", "lr_end": 0.1, "epochs": 2}, [0.4, 0.325, 0.175, 0.1]),
        ({"lr_scheduler": "one_cycle", "warmup_epochs": 2, "epochs": 4}, [0.1, 0.1 + 0.3 * 0.146447]),
        ({"lr_scheduler": "strategy", "learning_rate_strategy": "2:0.3,4:0.1"}, [0.3] * 4 + [0.1] * 4),
        ({"lr_scheduler": "plateau", "learning_rate_strategy": "0.002"}, [0.002] * 8),
    ],
)
def test_from_settings(settings, by_hand):
    resolved = config(**({"epochs": 4, "warmup_epochs": 0, "lr_init": 0.1, "lr_max": 0.4} | settings))
    rates = learning_rates.rates_of(resolved, 2)
    assert len(rates) == resolved.epochs * 2 and rates.dtype == np.float32
    assert rates[: len(by_hand)] == pytest.approx(by_hand, abs=1e-6)
    assert len(rates) == len(by_hand) or settings["lr_scheduler"] == "one_cycle"


def test_several_workers_multiply_lr_max_and_not_lr_init():
    resolved = config(epochs=2, warmup_epochs=1, lr_init=0.1, lr_max=0.4, lr_scheduler="constant")
    assert learning_rates.rates_of(resolved, 2, 2.0) == pytest.approx([0.1, 0.45, 0.8, 0.8])
    resolved = config(epochs=1, lr_scheduler="strategy", learning_rate_strategy="1:0.1->0.2")
    assert learning_rates.rates_of(resolved, 2, 2.0) == pytest.approx([0.2, 0.4])


def test_warmup_rises_at_every_step_and_is_not_zero_for_an_epoch():
    rates = warmup_cosine(10, 7, 3, 0.01, 0.1)
    assert (np.diff(rates[: 3 * 7 + 1]) > 0).all()  # MindSpore's nn.warmup_lr is a staircase that starts at 0
    assert rates[0] == pytest.approx(0.01) and rates[21] == pytest.approx(0.1) == rates.max()
    assert (np.diff(rates[21:]) < 0).all() and rates[-1] == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize(
    "epochs,steps,warmup", [(1, 1, 0), (1, 1, 1), (1, 5, 1), (2, 1, 1), (12, 90, 2), (3, 4, 9), (4, 10, 0.3)]
)
def test_as_long_as_the_run_and_within_bounds(epochs, steps, warmup):
    rates = warmup_cosine(epochs, steps, warmup, 0.01, 0.1, 0.001)
    assert rates.shape == (epochs * steps,) and rates.dtype == np.float32
    assert rates.min() >= 0.001 - 1e-7 and rates.max() <= 0.1 + 1e-7


def test_a_part_of_an_epoch_is_a_warmup_too():
    assert warmup_cosine(2, 4, 0.5, 0.0, 1.0)[:4] == pytest.approx([0, 0.5, 1, (1 + np.cos(np.pi / 5)) / 2])


@given(
    st.sampled_from(["warmup_cosine", "step", "one_cycle", "constant", "plateau"]),
    st.integers(1, 40),
    st.integers(1, 40),
    st.floats(0, 5),
    st.floats(1e-5, 1),
    st.floats(1e-3, 10),
)
def test_every_schedule_is_as_long_as_its_run_and_within_its_rates(kind, epochs, steps, warmup, first, top):
    low, high = min(first, top), max(first, top)
    settings = config(lr_scheduler=kind, epochs=epochs, warmup_epochs=warmup, lr_init=first, lr_max=top)
    rates = learning_rates.rates_of(settings, steps)
    assert rates.shape == (epochs * steps,) and rates.dtype == np.float32 and np.isfinite(rates).all()
    assert rates.min() >= 0 and rates.max() <= high * (1 + 1e-6)
    if kind in ("constant", "plateau"):
        assert rates.min() >= low * (1 - 1e-6)


@given(st.integers(2, 30), st.integers(20, 60), st.floats(0.5, 4), st.sampled_from(["warmup_cosine", "one_cycle"]))
def test_smooth_schedules_have_no_jump(epochs, steps, warmup, kind):
    settings = config(lr_scheduler=kind, epochs=epochs, warmup_epochs=warmup, lr_init=0.0, lr_max=1.0)
    rates, rises = learning_rates.rates_of(settings, steps), round(min(warmup, epochs) * steps)
    longest = math.pi / 2 / min(rises, max(epochs * steps - rises - 1, 1))  # a cosine's steepest step
    assert np.abs(np.diff(rates)).max() <= longest + 1e-6


# --- plateau ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "accuracies,patience,factor",
    [
        ([], 1, 1.0),
        ([0.5, 0.5], 1, 0.1),
        ([0.5, 0.5, 0.4, 0.6], 2, 0.1),
        ([0.5, 0.5, 0.4, 0.5, 0.5], 2, 0.01),
        ([0.1, 0.2, 0.3], 1, 1.0),
        ([0.5, math.nan, 0.5, math.nan], 2, 1.0),
    ],
)
def test_plateau_by_hand(accuracies, patience, factor):
    assert plateau_factor(accuracies, patience, 0.1) == pytest.approx(factor)


# --- ModelArts' strategy language ------------------------------------------------------------------------------------


def test_the_example_of_modelarts_by_hand():
    phases = parse("5:0.1->0.4,10:0.4=>0.8,15:0.8~>0.001,20:0.001")
    assert phases == [
        Phase(5, 0.1, 0.4, "linear"),
        Phase(10, 0.4, 0.8, "exponential"),
        Phase(15, 0.8, 0.001, "cosine"),
        Phase(20, 0.001, 0.001, "constant"),
    ]
    linear = [0.1, 0.16, 0.22, 0.28, 0.34]
    exponential = [0.4, 0.459479, 0.527803, 0.606287, 0.696440]  # 0.4 * 2^(n/5)
    cosine = [0.8, 0.723702, 0.523952, 0.277048, 0.077298]  # 0.001 + 0.799 (1 + cos(pi n/5)) / 2
    assert strategy_rates(phases, 1) == pytest.approx([*linear, *exponential, *cosine, *[0.001] * 5], abs=1e-6)


@pytest.mark.parametrize(
    "text,steps,by_hand",
    [
        ("2:0.1->0.4", 2, [0.1, 0.2, 0.3, 0.4]),
        ("2:0.1=>0.8", 2, [0.1, 0.2, 0.4, 0.8]),
        ("2:1~>0", 2, COSINE),
        ("2:0.3", 2, [0.3] * 4),
        ("1:0.1->0.3,2:0.3->0.1", 2, [0.1, 0.2, 0.3, 0.1]),
        ("1:0.5->1", 1, [1.0]),  # a phase of one step has its last value
        (" 1 : 1e-2 -> .5 , 2 : 2. ", 1, [0.01, 2.0]),
    ],
)
def test_strategies_by_hand(text, steps, by_hand):
    assert strategy_rates(parse(text), steps) == pytest.approx(by_hand)


@pytest.mark.parametrize(
    "text,message",
    [
        ("", "column 1: expected an epoch, as in 5:0.1->0.4, found the end"),
        ("fast", "column 1: expected an epoch, as in 5:0.1->0.4, found 'fast'"),
        ("5", None),
        ("-0.1", "column 1: expected an epoch, as in 5:0.1->0.4, found '-0.1'"),
        ("5:", "column 3: expected a learning rate, found the end"),
        ("5:0.1->", "column 8: expected a learning rate, found the end"),
        ("5:0.1>0.4", "column 6: expected ->, =>, ~>, a comma or the end, found '>0.4'"),
        ("5:0.1->0.4->0.5", "column 11: expected a comma or the end, found '->0.5'"),
        ("5:0.1,", "column 7: expected an epoch, as in 5:0.1->0.4, found the end"),
        ("5:0.1,3:0.2", "column 7: expected an epoch after 5, found '3:0.2'"),
        ("5:0.1,5:0.2", "column 7: expected an epoch after 5, found '5:0.2'"),
        ("0:0.1", "column 1: expected an integer epoch, 1 or later, found '0:0.1'"),
        ("2.5:0.1", "column 1: expected an integer epoch, 1 or later, found '2.5:0.1'"),
        ("5:0=>0.4", "column 3: expected a rate above 0: => multiplies, found '0=>0.4'"),
        ("5:0.4=>0", "column 8: expected a rate above 0: => multiplies, found '0'"),
        ("5:1e9", "column 3: expected a learning rate, at most 100, found '1e9'"),
        ("1e9:0.1", "column 1: expected an epoch, as in 5:0.1->0.4, at most 100000, found '1e9:0.1'"),
        ("5;0.1", "column 2: expected ':', found ';0.1'"),
        ("5:0.1 10:0.2", "column 7: expected ->, =>, ~>, a comma or the end, found '10:0.2'"),
        ("５:0.1", "column 1: expected an epoch, as in 5:0.1->0.4, found '５:0.1'"),
    ],
)
def test_errors_name_the_column(text, message):
    if message is None:
        assert parse(text) == [Phase(0, 5.0, 5.0, "constant")] and schedule.problem(text) == ""
        return
    with pytest.raises(ValueError) as caught:
        parse(text)
    assert str(caught.value) == message
    assert schedule.problem(text) == f"{text}: {message}"


rate = st.floats(1e-6, 100, allow_subnormal=False)
parts = st.tuples(st.integers(1, 50), rate, rate, st.sampled_from(["constant", "linear", "exponential", "cosine"]))


def phases_of(rows):
    ends = np.cumsum([row[0] for row in rows])
    return [
        Phase(int(end), first, first if shape == "constant" else last, shape)
        for end, (_, first, last, shape) in zip(ends, rows, strict=True)
    ]


@given(st.lists(parts, min_size=1, max_size=6))
def test_a_formatted_strategy_parses_to_the_same_phases(rows):
    phases = phases_of(rows)
    assert parse(format_strategy(phases)) == phases


@given(rate)
def test_a_formatted_bare_number_parses_to_the_same_number(number):
    assert parse(format_strategy([Phase(0, number, number, "constant")])) == [Phase(0, number, number, "constant")]


@given(st.lists(parts, min_size=1, max_size=6), st.integers(1, 9))
def test_a_strategy_is_exact_at_its_boundaries(rows, steps):
    phases = phases_of(rows)
    rates = strategy_rates(phases, steps)
    assert len(rates) == phases[-1].end * steps and (rates > 0).all()
    assert rates[-1] == pytest.approx(phases[-1].last)
    for before, phase in itertools.pairwise(phases):
        assert rates[before.end * steps] == pytest.approx(phase.first) or (phase.end - before.end) * steps == 1
    low, high = min(min(p.first, p.last) for p in phases), max(max(p.first, p.last) for p in phases)
    rounding = 1e-12 * high  # of a small rate reached from a large one
    assert rates.min() >= low - rounding and rates.max() <= high + rounding


@given(st.text(alphabet="0123456789.:,->=~e \t\0é", max_size=30))
def test_any_text_is_a_strategy_or_an_error_with_a_column(text):
    message = schedule.problem(text)
    if message:
        column = int(message[len(text) :].split()[2].rstrip(":"))
        assert 1 <= column <= len(text) + 1
    else:
        phases = parse(text)
        assert parse(format_strategy(phases)) == phases
