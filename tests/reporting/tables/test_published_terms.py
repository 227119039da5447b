"""What is not equal between a run and a published figure, and what is not known."""

import pytest

from reporting.formats.markdown import to_markdown
from reporting.records.runs import read_runs
from reporting.tables import published_figures as published
from reporting.tables.build_report import build_report
from reporting.tables.published_figures import published_figures
from reporting.tables.published_terms import recipe_of, settings_of_pair, unequal_settings
from tests.helpers import ROOT
from tests.reporting.fake_runs import TEACHER
from tests.reporting.published_runs import RESNET56
from tests.reporting.published_runs import published_rows as rows
from tests.reporting.published_runs import write_published_run as write


@pytest.mark.parametrize(
    ("change", "options", "marks"),
    [
        ({"epochs": 4}, {}, "epochs"),
        ({}, {"select": "best"}, "selection"),
        ({"recipe": {"name": "light"}}, {}, "recipe"),
        ({"recipe_changes": {"learning_rate": 0.1}}, {}, "recipe"),
        ({"recipe": {"batch_size": 128}}, {}, "recipe"),
        ({"recipe_changes": {}}, {}, ""),
        ({"protocol": "repdistiller mixup=0.8, 240 epochs"}, {}, "recipe"),
        ({"precision": "bf16"}, {}, "precision"),
        ({"validation": 5000}, {}, "held-out"),
        ({"validation": 0}, {}, ""),
        ({"image_size": 64}, {}, "image size"),
        ({"teachers": [{**RESNET56, "top1": 72.63}]}, {}, "teacher"),
        ({"epochs": 4, "teachers": [TEACHER]}, {"select": "best"}, "epochs, selection, teacher"),
    ],
)
def test_what_is_not_equal_is_marked(tmp_path, change, options, marks):
    write(tmp_path, "kd", 70.0, **change)
    assert rows(tmp_path, **options).differs["kd"] == marks


def test_what_the_source_does_not_say_has_a_question_mark(tmp_path):
    write(tmp_path, "itrd", 71.0, method="itrd")
    write(tmp_path, "wttm", 71.0, method="wttm")
    write(tmp_path, "dkd", 71.0, method="dkd", options={"dkd_beta": 2.0}, label="dkd dkd_beta=2.0")
    found = rows(tmp_path)
    assert found.differs["itrd"] == "settings?"
    assert found.differs["wttm"] == "selection?, settings?"
    assert found.differs["dkd dkd_beta=2.0"] == "selection"


def test_a_recipe_known_to_be_another_is_not_one_that_is_not_known(tmp_path, monkeypatch):
    write(tmp_path, "review", 71.0, method="reviewkd", weights={"gamma": 1, "alpha": 0, "beta": 0.6})
    write(tmp_path, "mlkd", 72.0, method="mlkd")
    write(tmp_path, "standardised", 72.0, method="mlkd", label="mlkd standardised")
    found = rows(tmp_path)
    assert found.differs["reviewkd"] == "selection?, recipe, precision?"
    assert found.differs["mlkd"] == "epochs?, selection?, recipe, precision?"
    standardised = found.loc["mlkd standardised"]
    assert (standardised.published, standardised.published_recipe) == (72.33, "other")
    assert standardised.differs == "epochs, selection, recipe, precision?, settings?"
    assert "recipe?" in to_markdown(build_report([str(tmp_path)], published=True))
    known = published_figures("cifar100")
    unknown = known.assign(recipe=known.recipe.replace("other", ""))
    monkeypatch.setattr(published, "published_figures", lambda dataset: unknown)
    assert rows(tmp_path).differs["mlkd"] == "epochs?, selection?, recipe?, precision?"


@pytest.mark.parametrize(
    ("label", "config", "marks"),
    [
        ("kd", {}, ""),
        ("kd kd_T=20", {}, "settings"),
        ("kd gamma=0.9 alpha=0.1", {}, "settings"),
        ("crd beta=1", {}, "settings"),
        # The authors have β = 2 for this pair, the default is 8.
        ("dkd", {"options": {"dkd_beta": 8.0}}, "settings"),
        ("dkd dkd_beta=2", {"options": {"dkd_beta": 2}}, ""),
        ("dkd dkd_beta=2 dkd_T=1.0", {"options": {"dkd_beta": 2}}, "settings"),
        ("dkd standardised", {"options": {"dkd_beta": 8.0}}, "settings?"),
        ("reviewkd", {"weights": {"gamma": 1, "alpha": 0, "beta": 1}}, "settings"),
        ("reviewkd beta=0.6", {"weights": {"gamma": 1, "alpha": 0, "beta": 0.6}}, ""),
        ("ttm", {}, "settings?"),
        ("ttm beta=10", {}, "settings?"),
        ("crd+wttm", {}, "settings?"),
    ],
)
def test_other_weights_and_options_than_the_source_has_are_marked(tmp_path, label, config, marks):
    write(tmp_path, "run", 70.0, method=label.split()[0], label=label, **config)
    found = [mark for mark in rows(tmp_path).differs[label].split(", ") if mark.startswith("settings")]
    assert ", ".join(found) == marks


def test_settings_of_a_pair_are_those_of_the_methods_own_file():
    """Which is read as data here: no method is loaded."""
    from distiller_zoo.published_settings import published_pairs

    for pair in published_pairs():
        assert settings_of_pair(pair.method, pair.teacher, pair.student) == pair.weights | pair.options
    assert settings_of_pair("kd", "resnet56", "resnet20") is None


def test_options_of_a_pair_that_the_source_leaves_out_are_not_known(tmp_path):
    taught = {"teachers": [{**TEACHER, "model": "resnet110", "top1": 74.31}]}
    write(tmp_path, "dkd", 71.0, method="dkd", options={"dkd_beta": 8.0}, **taught)
    write(tmp_path, "kd", 71.0, **taught)
    assert rows(tmp_path).differs["dkd"] == "selection?, settings?"
    assert rows(tmp_path).differs["kd"] == ""


def test_a_figure_for_the_named_option_has_no_mark_for_it(tmp_path):
    assert "simkd simkd_factor=4" in set(published_figures("cifar100").distill)
    write(tmp_path, "four", 70.0, method="simkd", label="simkd simkd_factor=4")
    (run,), _ = read_runs([tmp_path])
    assert unequal_settings(run, {"distill": "simkd simkd_factor=4", "setting": ""}) == []
    assert unequal_settings(run, {"distill": "simkd", "setting": ""}) == ["settings"]


def test_settings_of_the_sources_own_are_marked_and_named(tmp_path):
    taught = {"teachers": [{**TEACHER, "model": "resnet32x4", "top1": 79.42}], "model": "resnet8x4"}
    write(tmp_path, "simkd", 76.0, method="simkd", **taught)
    found = rows(tmp_path).loc["simkd"]
    assert found.setting
    assert found.differs.split(", ")[-1] == "settings"
    (shown,) = (table for table, _ in build_report([str(tmp_path)], published=True).tables())
    assert found.setting in shown.note


def test_a_teacher_that_is_not_the_published_one_is_marked_in_its_own_row_too(tmp_path):
    write(tmp_path, "kd", 70.0, teachers=[{**RESNET56, "top1": 72.63}])
    found = rows(tmp_path)
    assert (found.published["teacher"], found.ours["teacher"], found.differs["teacher"]) == (72.34, 72.63, "teacher")


def test_short_runs_on_record_differ_in_what_their_account_says():
    found = rows(ROOT / "results/cifar100_short").differs
    assert found["teacher"] == "teacher"  # 72.63 %, not RepDistiller's 72.34 %
    assert found["student alone"] == "epochs"
    assert found["kd"] == "epochs, teacher"


def test_the_recipe_for_mlps_is_compared_too(tmp_path):
    deit = {"method": "none", "model": "mixer_s4", "epochs": 300, "recipe": {"name": "deit", "batch_size": 128}}
    write(tmp_path / "a", "none", 70.0, **deit)
    write(tmp_path / "b", "none", 70.0, **deit, recipe_changes={"learning_rate": 1e-3})
    # The source does not say in which precision it computed.
    assert rows(tmp_path / "a", select="best").differs["student alone"] == "precision?"
    assert rows(tmp_path / "b", select="best").differs["student alone"] == "recipe, precision?"


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({}, "repdistiller"),
        ({"recipe": {"batch_size": 32}}, "changed repdistiller"),
        ({"recipe_changes": {"schedule": "cosine"}}, "changed repdistiller"),
        ({"recipe": {"name": "of another program"}}, "of another program"),
    ],
)
def test_the_name_of_a_recipe(tmp_path, config, name):
    write(tmp_path, "kd", 70.0, **config)
    (run,), _ = read_runs([tmp_path])
    assert recipe_of(run) == name
