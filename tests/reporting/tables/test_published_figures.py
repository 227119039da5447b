"""The stored published figures, and which of them is set beside a figure of ours."""

import json

import numpy as np
import pandas as pd
import pytest

from distiller_zoo import METHODS
from models import MODELS
from reporting.formats.markdown import to_markdown
from reporting.formats.printers import PRINTERS
from reporting.tables import published_figures as published
from reporting.tables.build_report import build_report
from reporting.tables.published_figures import method_key, published_figures
from tests.reporting.fake_runs import TEACHER, VGG, write_run
from tests.reporting.published_runs import published_rows as rows
from tests.reporting.published_runs import stored
from tests.reporting.published_runs import write_published_run as write

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


def test_a_method_without_published_figures_has_a_row(tmp_path):
    write(tmp_path, "kd", 70.0)
    write(tmp_path, "mine", 72.0, method="logits")
    found = rows(tmp_path)
    assert found.ours["logits"] == 72.0
    assert pd.isna(found.published["logits"])
    assert pd.isna(found.source["logits"])


def test_images_of_another_size_have_a_table_of_their_own(tmp_path):
    write(tmp_path, "a", 70.0)
    write(tmp_path, "b", 60.0, image_size=64, teachers=[{**TEACHER, "top1": 60.0}])
    report = build_report([str(tmp_path)], published=True)
    assert list(report.published.differs) == ["", "", "teacher", "image size, teacher"]
    assert len({table.heading for table, _ in report.tables()}) == 2


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


def test_own_figures_come_before_quoted_ones_and_disagreement_is_shown(tmp_path):
    taught = {"teachers": [{**TEACHER, "model": "resnet32x4", "top1": 79.42}], "model": "resnet8x4"}
    write(tmp_path, "dkd", 76.0, method="dkd", **taught)
    found = rows(tmp_path)
    assert (found.published["dkd"], found.source["dkd"]) == (76.32, "megvii-research/mdistiller README")
    table = published_figures("cifar100")
    same = table[(table.student == "resnet8x4") & (table.teacher == "resnet32x4") & (table.distill == "dkd")]
    assert (found.sources["dkd"], found.lowest["dkd"]) == (len(same), same.top1.min())
    (shown,) = (table for table, _ in build_report([str(tmp_path)], published=True).tables())
    assert "dkd 75.44 to 76.32" in shown.note


def test_pairs_that_nobody_published_are_noted(tmp_path):
    write_run(tmp_path, "kd", 60.0)
    write_run(tmp_path, "digits", 90.0, dataset="digits", teachers=[VGG])
    report = build_report([str(tmp_path)], published=True)
    assert report.published.empty
    for note, words in zip(report.notes, (["resnet56", "cifar100"], ["vgg13", "digits"]), strict=True):
        assert all(word in note for word in words)
    assert to_markdown(report)


def test_every_format_holds_the_comparison(tmp_path):
    write(tmp_path, "kd", 70.0)
    write(tmp_path, "mine", 72.0, method="logits")
    report = build_report([str(tmp_path)], published=True)
    for to_text in PRINTERS.values():
        assert "70.66" in to_text(report)
    assert list(report.data) == published.COLUMNS
    (kd,) = [row for row in json.loads(PRINTERS["json"](report)) if row["method"] == "kd"]
    assert (kd["published"], kd["ours"], kd["differs"]) == (70.66, 70.0, "")


def test_the_table_for_people(tmp_path):
    write(tmp_path, "kd1", 70.56)
    write(tmp_path, "kd2", 70.66, trial=2)
    (shown,) = (table for table, _ in build_report([str(tmp_path)], published=True).tables())
    assert list(shown.cells.set_index("method").loc["kd"]) == [
        "70.66", "70.61 ± 0.07 (2)", "−0.05", "240, last", "", "1",
    ]  # fmt: skip
    assert "HobbitLong/RepDistiller README" in shown.note
