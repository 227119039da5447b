"""Options of methods: defaults are published ones, shares of them in short runs, and given values stay."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import train_student
from common.errors import RequestError
from distiller_zoo import METHODS, Epochs, Method, option_texts, options_of, register_method
from engine.protocol.options import default_options, resolve_options
from engine.protocol.recipes import RECIPES, resolve_recipe
from models import MODELS
from tests.helpers import assert_same, folder_of, outcome_of, read_json, read_metrics, train

PHASES = {
    ("dkd", "dkd_warmup"): 20,
    ("sdd_dkd", "dkd_warmup"): 20,
    ("rld", "rld_warmup"): 20,
    ("reviewkd", "reviewkd_warmup"): 20,
    ("ctkd", "ctkd_loops"): 10,
    ("abound", "init_epochs"): 30,
    ("factor", "init_epochs"): 30,
    ("fsp", "init_epochs"): 30,
    ("hint", "hint_epochs"): 0,
}


def recipe_of(epochs, name="repdistiller"):
    return resolve_recipe(name, MODELS["resnet20"], {"epochs": epochs})


def test_these_count_epochs():
    found = {
        (method, name): p.default
        for method in METHODS
        for name, p in options_of(method).items()
        if p.annotation is Epochs
    }
    assert found == PHASES


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("method", METHODS)
def test_a_run_of_full_length_has_the_published_ones(method, name):
    published = {option: parameter.default for option, parameter in options_of(method).items()}
    assert default_options(method, RECIPES[name]) == published
    assert default_options(method, recipe_of(1000, name)) == published


@given(st.sampled_from(sorted(PHASES)), st.integers(1, 240))
def test_a_shorter_run_takes_the_same_share(phase, epochs):
    method, option = phase
    published = PHASES[phase]
    found = default_options(method, recipe_of(epochs))[option]
    assert type(found) is int
    assert abs(found - published * epochs / 240) <= (0.5 if found > 1 else 1)
    assert bool(found) == bool(published)
    others = {name: p.default for name, p in options_of(method).items() if p.annotation is not Epochs}
    assert default_options(method, recipe_of(epochs)) == others | {option: found}


@given(st.integers(0, 99), st.integers(1, 240))
def test_a_given_one_stays(value, epochs):
    assert resolve_options("dkd", recipe_of(epochs), {"dkd_warmup": value})["dkd_warmup"] == value


def test_parts_of_a_combination_too():
    of_dkd = default_options("dkd", recipe_of(60))
    assert of_dkd["dkd_warmup"] == 5
    assert default_options("dkd+reviewkd", recipe_of(60)) == of_dkd | {"reviewkd_warmup": 5}


def test_a_short_run_records_what_it_took_and_is_called_by_its_method(teacher, tmp_path):
    """DKD in one of 240 epochs has its whole weight from the first step on, as with no warm-up."""
    runs = {}
    for warmup in (None, 0, 20):
        extra = ["--epochs", "1"] if warmup is None else ["--epochs", "1", "--dkd_warmup", str(warmup)]
        assert train("dkd", teacher=teacher, output=tmp_path / str(warmup), extra=extra) == 0
        runs[warmup] = folder_of(tmp_path / str(warmup))
    assert read_json(runs[None] / "config.json")["options"]["dkd_warmup"] == 1
    labels = [read_json(folder / "config.json")["label"] for folder in runs.values()]
    assert labels == ["dkd", "dkd dkd_warmup=0", "dkd dkd_warmup=20"]
    assert_same(outcome_of(runs[None]), outcome_of(runs[0]))
    assert read_metrics(runs[None])[0]["train"]["loss"] > read_metrics(runs[20])[0]["train"]["loss"]


# --- as flags -------------------------------------------------------------------------------------


@pytest.fixture
def register(monkeypatch):
    """Registers a class as `mine`, gone when the test ends."""
    monkeypatch.setattr(METHODS, "_entries", dict(METHODS._entries))
    return register_method("mine")


@pytest.mark.parametrize("method", METHODS)
def test_each_has_a_sentence_in_the_docstring_and_no_other_has(method):
    assert option_texts(METHODS[method]).keys() == options_of(method).keys()


def test_sentences_in_all_forms():
    class Block(Method):
        """A method.

        Options:
            one, two: the first: and the
                second.
            three: 50 % of all.

        Note: none of them.
        """

    class Line(Method):
        """Options: power: exponent."""

    class Silent(Method):
        """No word of them."""

    assert option_texts(Block) == {"one": "the first: and the second", "two": "the first: and the second"} | {
        "three": "50 % of all"
    }
    assert option_texts(Line) == {"power": "exponent"}
    assert option_texts(Silent) == {}


def test_help_has_the_sentence_the_methods_and_the_default(register, capsys):
    class Mine(Method):
        """Options: mine_share: 50 % of all."""

        def __init__(self, pair, *, mine_share: float = 0.5, mine_other: int = 3):
            super().__init__(pair)

    register(Mine)
    with pytest.raises(SystemExit):
        train_student.parse(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "--mine_share FLOAT mine: 50 % of all (default 0.5)" in text
    assert "--mine_other INT mine (default 3)" in text
    assert "--dkd_T FLOAT dkd, sdd_dkd: temperature (default 4.0)" in text


@pytest.mark.parametrize("name", ["epochs", "trial", "list", "crop", "lwr", "num_workers"])
def test_one_that_is_called_like_a_flag_of_the_suite_is_refused(name, register, capsys):
    space = {}
    exec(f"def __init__(self, pair, *, {name}: bool = True):\n    Method.__init__(self, pair)", globals(), space)
    register(type("Mine", (Method,), space))
    assert train_student.main(["--list"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: test_options.py: Mine has an option {name}, which is a flag of the suite")
    assert line.endswith(f"rename it, mine_{name} say")
    with pytest.raises(RequestError):
        train_student.parse([])
