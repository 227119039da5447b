"""Options of methods: defaults are published ones, shares of them in short runs, and given values are kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distiller_zoo import METHODS, options_of
from distiller_zoo.option_types import counts_epochs
from engine.protocol.options import default_options, resolve_options
from engine.protocol.recipes import RECIPES, resolve_recipe
from models import MODELS
from tests.helpers import assert_same, folder_of, outcome_of, read_json, read_metrics, train

# Published numbers of epochs; a new method needs no entry.
PUBLISHED = {
    ("dkd", "dkd_warmup"): 20,
    ("rld", "rld_warmup"): 20,
    ("reviewkd", "reviewkd_warmup"): 20,
    ("ctkd", "ctkd_loops"): 10,
    ("abound", "init_epochs"): 30,
    ("hint", "hint_epochs"): 0,
}
PHASES = {
    (method, name): parameter.default
    for method in METHODS
    for name, parameter in options_of(method).items()
    if counts_epochs(parameter.annotation)
}


def recipe_of(epochs, name="repdistiller"):
    return resolve_recipe(name, MODELS["resnet20"], {"epochs": epochs})


def test_these_count_epochs():
    assert PUBLISHED.items() <= PHASES.items()


@pytest.mark.parametrize("method", METHODS)
def test_a_run_of_full_length_has_the_published_ones(method):
    published = {option: parameter.default for option, parameter in options_of(method).items()}
    for name in RECIPES:
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
    others = {name: p.default for name, p in options_of(method).items() if not counts_epochs(p.annotation)}
    assert default_options(method, recipe_of(epochs)) == others | {option: found}


@given(st.integers(0, 99), st.integers(1, 240))
def test_a_given_one_is_kept(value, epochs):
    assert resolve_options("dkd", recipe_of(epochs), {"dkd_warmup": value})["dkd_warmup"] == value


def test_parts_of_a_combination_too():
    of_dkd = default_options("dkd", recipe_of(60))
    assert of_dkd["dkd_warmup"] == 5
    assert default_options("dkd+reviewkd", recipe_of(60)) == of_dkd | {"reviewkd_warmup": 5}


@pytest.mark.runs
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
