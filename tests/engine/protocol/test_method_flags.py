"""Flags of methods: each option has one, its help text and its owners; wrong ones name the flag."""

import argparse

import pytest

import train_student
from common.errors import RequestError
from distiller_zoo import METHODS, Method, Weights, register_method
from engine.protocol.method_flags import chosen_methods, given_method_options, weights_of


@pytest.mark.parametrize(
    ("given", "more"), [(["all"], []), (["all", "kd"], []), (["crd+kd", "fitnet", "all"], ["crd+kd"])]
)
def test_all_methods_beside_others(given, more):
    assert sorted(chosen_methods(given)) == sorted([*METHODS, *more])


# --- weights ---------------------------------------------------------------------------------------


def weights(method, gamma=None, alpha=None, beta=None):
    return weights_of(method, argparse.Namespace(gamma=gamma, alpha=alpha, beta=beta))


def test_published_weights_and_all_combinations_of_given_ones():
    published = METHODS["hint"].weights
    assert weights("hint") == [published]
    assert weights("hint", beta=[published.beta]) == [published]
    assert weights("hint", gamma=[0.5], beta=[1.0, 2.0]) == [Weights(0.5, published.alpha, b) for b in (1.0, 2.0)]


def test_weights_of_losses_that_a_method_does_not_have_are_left_out():
    assert weights("none", alpha=[0.5], beta=[3.0]) == [METHODS["none"].weights]
    assert weights("kd", beta=[3.0]) == [METHODS["kd"].weights]


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_wrong_weights(value):
    with pytest.raises(RequestError) as refusal:
        weights("hint", beta=[value])
    assert "--beta" in str(refusal.value)


# --- options ---------------------------------------------------------------------------------------


@pytest.fixture
def register():
    """Registers a class as `mine`, gone when the test ends."""
    with METHODS.temporarily():
        yield register_method("mine")


def test_given_options_are_those_of_the_methods():
    arguments = train_student.parse(["--dkd_T", "2", "--epochs", "3"])
    assert given_method_options(arguments, ["kd", "dkd"]) == {"dkd_T": 2.0}
    with pytest.raises(RequestError) as refusal:
        given_method_options(arguments, ["kd"])
    assert all(name in str(refusal.value) for name in ("--dkd_T", "dkd", "kd"))


def test_help_has_the_sentence_the_methods_and_the_default(register, capsys):
    class Mine(Method):
        """Options: mine_share: 50 % of all."""

        def __init__(self, pair, *, mine_share: float = 0.5, mine_other: int = 3):
            super().__init__(pair)

    register(Mine)
    with pytest.raises(SystemExit):
        train_student.parse(["--help", "all"])
    text = " ".join(capsys.readouterr().out.split())
    assert "options of mine: --mine_share FLOAT 50 % of all (default 0.5) --mine_other INT (default 3)" in text


def test_a_flag_of_two_methods_has_the_text_of_each(register, capsys):
    class Mine(Method):
        """Options: dkd_T: something else."""

        def __init__(self, pair, *, dkd_T: float = 2.0):
            super().__init__(pair)

    register(Mine)
    with pytest.raises(SystemExit):
        train_student.parse(["--help", "all"])
    text = " ".join(capsys.readouterr().out.split())
    assert "mine: something else (default 2)" in text
    assert "dkd, sdd_dkd: temperature of both predictions (default 4)" in text


@pytest.mark.parametrize("name", ["epochs", "trial", "list", "crop", "lwr", "num_workers"])
def test_one_that_has_the_name_of_another_flag_is_refused(name, register, capsys):
    space = {}
    exec(f"def __init__(self, pair, *, {name}: bool = True):\n    Method.__init__(self, pair)", globals(), space)
    register(type("Mine", (Method,), space))
    assert train_student.main(["--list"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert all(part in line for part in ("test_method_flags.py", "Mine", name, f"mine_{name}"))
    with pytest.raises(RequestError):
        train_student.parse([])
