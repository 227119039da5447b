"""Options of methods: every number has a range that absurd values leave, and some act only beside another option."""

import math
from dataclasses import dataclass
from inspect import Parameter
from typing import Annotated, Literal

import pytest

from common.errors import RequestError
from distiller_zoo import METHODS, Epochs, Method, Pair, create_method, options_of, register_method
from distiller_zoo.option_types import (
    LossWeight,
    OnlyWith,
    PartWeight,
    Range,
    check_option,
    check_options,
    counts_epochs,
    idle_options,
    kind_of,
    marks_of,
)
from tests.distiller_zoo.cases import CNN, WIDE
from tests.helpers import ROOT

NUMBERS = [
    (method, option)
    for method in METHODS
    for option, parameter in options_of(method).items()
    if kind_of(parameter.annotation) in (int, float)
]


# Those of this repository; a method that somebody adds may take any finite number.
OWN = [(method, option) for method, option in NUMBERS if f"`--{option}`" in (ROOT / "docs" / "methods.md").read_text()]


def refusal_of(option, value, annotation):
    """The message that refuses a value; None if the option may have it."""
    try:
        check_option(option, value, annotation)
    except RequestError as refusal:
        return str(refusal)
    return None


@pytest.mark.parametrize(("method", "option"), NUMBERS)
def test_every_number_has_a_range_with_its_default_and_without_absurd_values(method, option):
    parameter = options_of(method)[option]
    assert refusal_of(option, parameter.default, parameter.annotation) is None
    absurd = [-math.inf, math.inf, math.nan, "3", True]
    if (method, option) in OWN:
        assert marks_of(parameter.annotation, Range)
        absurd += [-1, 1e30, 10**400]
    if kind_of(parameter.annotation) is int:
        absurd.append(1.5)
    for value in absurd:
        message = refusal_of(option, value, parameter.annotation)
        assert message is not None, value
        assert f"--{option}" in message
        assert len(message) < 200


# Options for which 0 is no value, by what their names say.
NOT_ZERO = ("_T", "_t", "_t_s", "_t_t", "_k", "dim", "_start", "_range", "temperature", "layers", "projectors", "_l")


@pytest.mark.parametrize(("method", "option"), [pair for pair in OWN if pair[1].endswith(NOT_ZERO)])
def test_temperatures_and_counts_are_not_zero(method, option):
    assert refusal_of(option, 0, options_of(method)[option].annotation)


@pytest.mark.parametrize(
    ("allowed", "inside", "outside"),
    [
        (Range(0, 1), (0, 0.5, 1), (-1e-9, 1 + 1e-9)),
        (Range(0, 1, open_above=True), (0, 0.999), (1,)),
        (Range(0, open_below=True), (1e-300, 10**300), (0,)),
        (Range(), (-5, 0.0), (math.nan, math.inf, -math.inf)),
    ],
    ids=str,
)
def test_ranges(allowed, inside, outside):
    assert all(value in allowed for value in inside)
    assert not any(value in allowed for value in outside)


def test_names_of_choices_are_checked_too():
    assert refusal_of("mode", "b", Literal["a", "c"])
    assert refusal_of("mode", "a", Literal["a", "c"]) is None


def test_epochs_are_known_with_further_marks():
    assert counts_epochs(Epochs)
    assert counts_epochs(Annotated[Epochs, Range(1)])
    assert not counts_epochs(int)


def test_a_value_out_of_range_is_refused_before_the_method_is_built():
    with pytest.raises(RequestError, match="--dkd_T"):
        create_method("dkd", Pair(CNN, (WIDE,), 50), {"dkd_T": -1.0})
    with pytest.raises(RequestError, match="--dkd_beta"):
        create_method("dkd+rkd", Pair(CNN, (WIDE,), 50), {"dkd_beta": math.nan})


PARTS = [
    name
    for name in METHODS
    if any(marks_of(parameter.annotation, LossWeight) for parameter in options_of(name).values())
]


@pytest.mark.parametrize("method", PARTS)
def test_an_own_loss_whose_parts_all_weigh_nothing_is_refused(method):
    known = options_of(method)
    weights = [name for name, parameter in known.items() if marks_of(parameter.annotation, LossWeight)]
    with pytest.raises(RequestError) as refusal:
        check_options(dict.fromkeys(weights, 0.0), known)
    assert all(f"--{name}" in str(refusal.value) for name in weights)
    check_options(dict.fromkeys(weights[1:], 0.0), known)


# --- options that act beside another ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "values", "idle"),
    [
        ("std", {}, {"std_T", "std_mine_every", "std_mine_lr", "std_mine_pairs", "std_mine_samples"}),
        ("std", {"std_mine": True}, {"std_T"}),
        ("std", {"std_labels": "soft", "std_mine": True}, set()),
        ("rrd", {}, {"nce_m"}),
        ("rrd", {"memory_type": "momentum"}, {"nce_k"}),
        ("crd", {}, set()),
        ("deit", {}, {"deit_T"}),
        ("correlation", {"cc_form": "paper"}, {"feat_dim"}),
        ("sdd", {"sdd_scales": "1"}, {"sdd_complementary"}),
        ("deit+rrd", {}, {"deit_T", "nce_m"}),
        ("crd+rrd", {}, set()),  # nce_m acts in crd
        ("crd+rrd", {"memory_type": "momentum"}, set()),
    ],
)
def test_options_that_cannot_act(method, values, idle):
    known = options_of(method)
    found = idle_options({name: parameter.default for name, parameter in known.items()} | values, known)
    assert found.keys() - {"std_mine_student_lr"} == idle


@pytest.mark.parametrize(("teachers", "idle"), [(None, set()), (1, {"std_teachers", "std_reweighting"}), (2, set())])
def test_options_for_several_teachers(teachers, idle):
    known = options_of("std")
    values = {name: parameter.default for name, parameter in known.items()} | {"std_mine": True, "std_labels": "soft"}
    assert idle_options(values, known, teachers).keys() == idle


def test_it_says_what_would_make_them_act():
    known = options_of("std")
    found = idle_options({name: parameter.default for name, parameter in known.items()}, known)
    assert found["std_mine_lr"] == "--std_mine"
    assert found["std_T"] == "--std_labels soft"


def test_an_option_acts_beside_one_of_the_same_method():
    class Mine(Method):
        def __init__(self, pair, *, mine_T: Annotated[float, OnlyWith("elsewhere", (True,))] = 1.0):
            super().__init__(pair)

    with METHODS.temporarily(), pytest.raises(TypeError, match="elsewhere"):
        register_method("mine")(Mine)


def test_a_plain_number_takes_any_finite_value():
    @dataclass(frozen=True)
    class Group:
        mine_part: PartWeight = 1.0

    class Mine(Method):
        def __init__(self, pair, *, mine_shift: float = 0.0, group: Group):
            super().__init__(pair)

    with METHODS.temporarily():
        register_method("mine")(Mine)
        annotations = {name: parameter.annotation for name, parameter in options_of("mine").items()}
    assert refusal_of("mine_shift", -1e30, annotations["mine_shift"]) is None
    assert refusal_of("mine_shift", math.nan, annotations["mine_shift"])
    assert refusal_of("mine_part", -1, annotations["mine_part"])
    assert Parameter.empty not in annotations.values()
