"""compare.py --published: the stored figures themselves, and what stands beside them."""

import dataclasses
import io
import json

import numpy as np
import pandas as pd
import pytest
from reporting.formats.render import FORMATS, markdown

import compare
from distiller_zoo import METHODS
from engine.protocol.recipes import resolve_recipe
from models import MODELS
from reporting.tables import published_figures as published
from reporting.tables.published_figures import method_key, published_figures, recipe_of
from tests.reporting.tables.test_literature import stored
from tests.reporting.test_compare import TEACHER, run_script, write_run

# Recipe and protocol of the published tables, as the engine records them.
RECIPE = {
    "name": "repdistiller",
    "epochs": 240,
    "batch_size": 64,
    "optimizer": "sgd",
    "learning_rate": 0.05,
    "weight_decay": 5e-4,
    "momentum": 0.9,
    "schedule": "step",
    "lr_decay_epochs": [150, 180, 210],
    "lr_decay_rate": 0.1,
    "label_smoothing": 0.0,
    "summary": "",
    "reference_batch": None,
    "warmup_epochs": 0,
    "warmup_lr": 1e-6,
    "min_lr": 0.0,
    "decay_everything": True,
    "drop_last": False,
    "augmentation": {
        "crop": True,
        "flip": True,
        "rand_augment": "",
        "erasing": 0.0,
        "mixup": 0.0,
        "cutmix": 0.0,
        "mix_probability": 1.0,
        "switch_probability": 0.5,
    },
}
RESNET56 = {**TEACHER, "top1": 72.34}


def write(root, name, top1, epochs=240, recipe=(), selected=None, **config):
    """A run by the published recipe, resnet56 → resnet20 unless told otherwise."""
    at = {"epoch": epochs, "top1": top1, "top5": 90.0}
    config = {"model": "resnet20", "protocol": "repdistiller", "protocol_id": f"{epochs}", **config}
    if config.get("method") != "none":
        config.setdefault("teachers", [RESNET56])
    whole = {**RECIPE, "epochs": epochs, **dict(recipe)}
    return write_run(root, name, top1, result={"last": at, "best": at}, recipe=whole, **config)


def rows(root, **options):
    table = compare.build_report([str(root)], published=True, **options).published
    return table.set_index("method")


# --- the figures ---


def test_every_stored_figure_means_what_the_columns_say():
    table = published_figures("cifar100")
    assert len(table) > 1400
    assert table.top1.between(40, 100).all()
    assert table["std"].dropna().between(0, 1).all()
    assert set(table.epochs.dropna()) == {240, 300, 480}
    assert set(table.selection) == {"last", "best", ""}
    assert set(table.selection_from) == {"stated", "code", ""}
    assert ((table.selection == "") == (table.selection_from == "")).all()
    assert set(table.recipe) == {"repdistiller", "deit", "other", ""}
    assert set(table.origin) == {"own", "quoted"}
    assert set(table.evidence) == {"read", "second hand"}
    assert (table.source != "").all()
    assert not table.duplicated().any()
    about = (published.FOLDER / "README.md").read_text()
    assert [source for source in set(table.source) if f"| {source} |" not in about] == []
    assert f"has {len(table):,} rows from {table.source.nunique()} sources" in about


@pytest.mark.parametrize(
    ("method", "origin", "count", "terms"),
    [
        # method, origin → epochs, selection, selection_from, recipe: what the code behind the figures says of them
        ("MLKD", "quoted", 14, ("", "", "", "other")),  # the authors' code has 240 epochs, the quoting one 480
        ("MLKD+LSKD", "own", 14, ("480", "best", "code", "other")),
        ("TTM", "own", 13, ("240", "", "", "repdistiller")),
        ("WTTM", "own", 13, ("240", "", "", "repdistiller")),
        ("WTTM+CRD", "own", 13, ("240", "", "", "repdistiller")),
        ("WTTM+ITRD", "own", 13, ("240", "", "", "repdistiller")),
        ("ITRD", "own", 13, ("240", "last", "code", "repdistiller")),
        ("ReviewKD", "quoted", 28, ("240", "", "", "other")),
        ("KD++", "own", 6, ("240", "", "", "other")),
        ("DIST++", "own", 6, ("240", "", "", "other")),
        ("DKD++", "own", 6, ("240", "", "", "other")),
        ("ReviewKD++", "own", 6, ("240", "", "", "other")),
        ("InherNet-Small", "quoted", 5, ("", "", "", "")),
    ],
)
def test_terms_are_those_of_the_code_behind_the_figures(method, origin, count, terms):
    found = [row for row in stored() if (row["method"], row["origin"]) == (method, origin)]
    columns = ("epochs", "selection", "selection_from", "recipe")
    assert [tuple(row[name] for name in columns) for row in found] == [terms] * count


def test_a_quoted_figure_has_the_selection_of_the_own_figure_that_it_equals():
    owns = [row for row in stored() if row["origin"] == "own" and row["setting"] == ""]
    checked = 0
    for row in stored():
        if row["origin"] == "own" or not row["distill"] or row["setting"]:
            continue
        for own in owns:
            if all(own[name] == row[name] for name in ("teacher", "student", "distill", "top1")):
                assert (row["selection"], row["selection_from"]) == (own["selection"], own["selection_from"]), row
                checked += 1
                break
    assert checked > 500


def test_names_of_methods_and_networks_are_those_of_the_suite():
    table = published_figures("cifar100")
    named = {method_key(name).removesuffix(" standardised") for name in set(table.distill) - {""}}
    for name in named - {"teacher", "student alone"}:
        assert all(part in METHODS for part in name.split("+")), name
    standard = table[(table.setting == "") & (table.source == "HobbitLong/RepDistiller README")]
    assert all(name in MODELS for name in {*standard.teacher, *standard.student})


@pytest.mark.parametrize(
    ("pair", "distill", "top1"),
    [
        (("resnet32x4", "resnet8x4"), "kd", 73.33),
        (("resnet32x4", "resnet8x4"), "crd", 75.51),
        (("resnet56", "resnet20"), "student alone", 69.06),
        (("resnet32x4", "resnet8x4"), "dkd", 76.32),
        (("resnet32x4", "resnet8x4"), "mlkd standardised", 78.28),
    ],
)
def test_well_known_figures(pair, distill, top1):
    table = published_figures("cifar100")
    table = table[(table.teacher == pair[0]) & (table.student == pair[1]) & (table.distill == distill)]
    assert top1 in set(table[table.origin == "own"].top1)


# --- beside ours ---


def test_on_equal_terms_nothing_is_marked(tmp_path):
    write(tmp_path, "none", 69.26, method="none")
    write(tmp_path, "kd1", 70.56)
    write(tmp_path, "kd2", 70.66, trial=2)
    found = rows(tmp_path)
    assert list(found.index) == ["teacher", "student alone", "kd"]
    assert list(found.published) == [72.34, 69.06, 70.66]
    assert list(found.difference) == pytest.approx([0.0, 0.2, np.mean([70.56, 70.66]) - 70.66])
    assert set(found.differs) == {""}
    assert set(found.source) == {"HobbitLong/RepDistiller README"}
    assert (found.published_epochs["kd"], found.published_selection["kd"], found.our_epochs["kd"]) == (240, "last", 240)
    page = markdown(compare.build_report([str(tmp_path)], published=True))
    assert "### resnet56 → resnet20: ours 240 epochs, last" in page
    (row,) = [line for line in page.splitlines() if line.startswith("| kd ")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == ["kd", "70.66", "70.61 ± 0.07 (2)", "-0.05", "240, last", "", "1"]


@pytest.mark.parametrize(
    ("change", "options", "marks"),
    [
        ({"epochs": 4, "recipe": {"lr_decay_epochs": [2, 3, 4]}}, {}, "epochs"),
        ({}, {"select": "best"}, "selection"),
        ({"recipe": {"name": "light"}}, {}, "recipe"),
        ({"recipe": {"learning_rate": 0.1}}, {}, "recipe"),
        ({"recipe": {"batch_size": 128}}, {}, "recipe"),
        ({"recipe": {"augmentation": {**RECIPE["augmentation"], "mixup": 0.8}}}, {}, "recipe"),
        ({"recipe": {"augmentation": {**RECIPE["augmentation"], "crop": False}}}, {}, "recipe"),
        ({"recipe": {"decay_everything": False}}, {}, "recipe"),
        ({"recipe": {"name": "of another program"}}, {}, "recipe"),
        ({"precision": "bf16"}, {}, "precision"),
        ({"validation": 5000}, {}, "held-out"),
        ({"validation": 0}, {}, ""),
        ({"image_size": 64}, {}, "image size"),
        ({"teachers": [{**RESNET56, "top1": 72.63}]}, {}, "teacher"),
        ({"epochs": 4, "teachers": [TEACHER]}, {"select": "best"}, "epochs, selection, recipe, teacher"),
    ],
)
def test_what_is_not_equal_is_marked(tmp_path, change, options, marks):
    write(tmp_path, "kd", 70.0, **change)
    assert rows(tmp_path, **options).differs["kd"] == marks


def test_what_the_source_does_not_say_has_a_question_mark(tmp_path):
    write(tmp_path, "itrd", 71.0, method="itrd")
    write(tmp_path, "wttm", 71.0, method="wttm")
    write(tmp_path, "dkd", 71.0, method="dkd", options={"dkd_beta": 2.0}, label="dkd dkd_beta=2.0")
    write(tmp_path, "mlkd", 72.0, method="mlkd", label="mlkd standardised")
    write(tmp_path, "mine", 72.0, method="logits")
    found = rows(tmp_path)
    assert found.differs["itrd"] == "settings?"
    assert found.differs["wttm"] == "selection?, settings?"
    assert found.differs["dkd dkd_beta=2.0"] == "selection"
    assert pd.isna(found.published["logits"])
    assert pd.isna(found.source["logits"])


def test_a_recipe_known_to_be_another_is_told_from_one_that_is_not_known(tmp_path, monkeypatch):
    write(tmp_path, "review", 71.0, method="reviewkd", weights={"gamma": 1, "alpha": 0, "beta": 0.6})
    write(tmp_path, "mlkd", 72.0, method="mlkd")
    write(tmp_path, "standardised", 72.0, method="mlkd", label="mlkd standardised")
    found = rows(tmp_path)
    assert found.differs["reviewkd"] == "selection?, recipe, precision?"
    assert found.differs["mlkd"] == "epochs?, selection?, recipe, precision?"
    standardised = found.loc["mlkd standardised"]
    assert (standardised.published, standardised.published_recipe) == (72.33, "other")
    assert standardised.differs == "epochs, selection, recipe, precision?, settings?"
    page = " ".join(markdown(compare.build_report([str(tmp_path)], published=True)).split())
    assert "recipe says that theirs is known to be another than ours, recipe? that it is not known" in page
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


def test_options_of_a_pair_that_the_source_leaves_out_are_not_known(tmp_path):
    taught = {"teachers": [{**TEACHER, "model": "resnet110", "top1": 74.31}]}
    write(tmp_path, "dkd", 71.0, method="dkd", options={"dkd_beta": 8.0}, **taught)
    write(tmp_path, "kd", 71.0, **taught)
    assert rows(tmp_path).differs["dkd"] == "selection?, settings?"
    assert rows(tmp_path).differs["kd"] == ""


def test_a_figure_for_the_named_option_has_no_mark_for_it(tmp_path):
    assert "simkd simkd_factor=4" in set(published_figures("cifar100").distill)
    write(tmp_path, "four", 70.0, method="simkd", label="simkd simkd_factor=4")
    (run,) = compare.build_report([str(tmp_path)]).runs
    assert published._unequal_settings(run, "simkd simkd_factor=4") == []
    assert published._unequal_settings(run, "simkd") == ["settings"]


def test_settings_of_the_sources_own_are_marked_and_named(tmp_path):
    taught = {"teachers": [{**TEACHER, "model": "resnet32x4", "top1": 79.42}], "model": "resnet8x4"}
    write(tmp_path, "simkd", 76.0, method="simkd", **taught)
    found = rows(tmp_path).loc["simkd"]
    assert found.setting
    assert found.differs.split(", ")[-1] == "settings"
    assert f"simkd: {found.setting}" in " ".join(
        markdown(compare.build_report([str(tmp_path)], published=True)).split()
    )


def test_a_teacher_that_is_not_the_published_one_is_marked_in_its_own_row_too(tmp_path):
    write(tmp_path, "kd", 70.0, teachers=[{**RESNET56, "top1": 72.63}])
    found = rows(tmp_path)
    assert (found.published["teacher"], found.ours["teacher"], found.differs["teacher"]) == (72.34, 72.63, "teacher")


def test_short_runs_on_record_differ_in_what_their_account_says():
    found = rows(published.FOLDER.parent / "cifar100_short").differs
    assert found["teacher"] == "teacher"  # 72.63 %, not RepDistiller's 72.34 %
    assert found["student alone"] == "epochs"
    assert found["kd"] == "epochs, teacher"


def test_every_value_of_the_recipe_for_mlps_is_compared_too(tmp_path):
    recipe = resolve_recipe("deit", MODELS["mixer_s4"], {})
    values = json.loads(json.dumps(recipe.as_dict()))
    alone = {"method": "none", "model": "mixer_s4", "epochs": 300}
    write(tmp_path / "a", "none", 70.0, recipe=values, **alone)
    write(tmp_path / "b", "none", 70.0, recipe={**values, "learning_rate": 1e-3}, **alone)
    # The source does not say in which precision it computed.
    assert rows(tmp_path / "a", select="best").differs["student alone"] == "precision?"
    assert rows(tmp_path / "b", select="best").differs["student alone"] == "recipe, precision?"


def test_images_of_another_size_have_a_table_of_their_own(tmp_path):
    write(tmp_path, "a", 70.0)
    write(tmp_path, "b", 60.0, image_size=64, teachers=[{**RESNET56, "top1": 60.0}])
    assert list(rows(tmp_path).differs) == ["", "", "teacher", "image size, teacher"]
    page = markdown(compare.build_report([str(tmp_path)], published=True))
    headings = [line.split(":")[0] for line in page.splitlines() if line.startswith("## ")]
    assert headings == ["## cifar100, 100 classes, 32×32", "## cifar100, 100 classes, 64×64"]
    assert page.count("### resnet56 → resnet20") == 2


def test_of_two_own_figures_that_on_equal_terms_counts(tmp_path, monkeypatch):
    known = published_figures("cifar100")
    (equal,) = known[
        (known.teacher == "resnet56")
        & (known.student == "resnet20")
        & (known.distill == "kd")
        & (known.source == "HobbitLong/RepDistiller README")
    ].to_dict("records")
    silent = {**equal, "selection": "", "top1": 70.0, "source": "another"}
    table = pd.DataFrame([*known[known.distill == "teacher"].to_dict("records"), silent, equal])
    monkeypatch.setattr(published, "published_figures", lambda dataset: table)
    write(tmp_path, "kd", 70.0)
    found = rows(tmp_path).loc["kd"]
    assert (found.published, found.differs) == (70.66, "")


def test_the_learning_rate_of_small_networks_is_their_own(tmp_path):
    taught = {"teachers": [{**TEACHER, "model": "resnet32x4", "top1": 79.42}], "model": "ShuffleV2"}
    write(tmp_path, "kd", 74.0, recipe={"learning_rate": 0.01}, **taught)
    assert rows(tmp_path).differs["kd"] == ""
    (run,) = compare.build_report([str(tmp_path)]).runs
    assert recipe_of(run) == "repdistiller"
    assert recipe_of(dataclasses.replace(run, model="resnet20")) == "changed repdistiller"
    assert recipe_of(dataclasses.replace(run, model="a network of old")) == "changed repdistiller"


def test_own_figures_come_before_quoted_ones_and_disagreement_is_said(tmp_path):
    taught = {"teachers": [{**TEACHER, "model": "resnet32x4", "top1": 79.42}], "model": "resnet8x4"}
    write(tmp_path, "dkd", 76.0, method="dkd", **taught)
    found = rows(tmp_path)
    assert (found.published["dkd"], found.source["dkd"]) == (76.32, "megvii-research/mdistiller README")
    table = published_figures("cifar100")
    same = table[(table.student == "resnet8x4") & (table.teacher == "resnet32x4") & (table.distill == "dkd")]
    assert (found.sources["dkd"], found.lowest["dkd"]) == (len(same), same.top1.min())
    assert "disagree on dkd 75.44 to 76.32" in " ".join(
        markdown(compare.build_report([str(tmp_path)], published=True)).split()
    )


def test_pairs_that_nobody_published_are_noted(tmp_path):
    write_run(tmp_path, "kd", 60.0)
    write_run(tmp_path, "digits", 90.0, dataset="digits")
    report = compare.build_report([str(tmp_path)], published=True)
    assert report.published.empty
    assert [note.split("known here for ")[1] for note in report.notes] == [
        "resnet56 → mixer_nano on cifar100",
        "resnet56 → mixer_nano on digits",
    ]
    assert "Nothing published" in markdown(report)


def test_every_format_holds_the_comparison(tmp_path):
    write(tmp_path / "runs", "kd", 70.0)
    write(tmp_path / "runs", "mine", 72.0, method="logits")
    report = compare.build_report([str(tmp_path / "runs")], published=True)
    for render in FORMATS.values():
        assert "70.66" in render(report)
    done = run_script("runs", "--published", "--format", "csv", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert list(pd.read_csv(io.StringIO(done.stdout)).columns) == published.COLUMNS
    (kd,) = [row for row in json.loads(FORMATS["json"](report)) if row["method"] == "kd"]
    assert (kd["published"], kd["ours"], kd["differs"]) == (70.66, 70.0, "")
