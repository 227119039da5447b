"""Averages of methods over pairs: only pairs that all methods have count."""

import numpy as np
import pytest

from tests.reporting.fake_runs import build, tables_of, taught_by, write_pairs, write_run

AVERAGES = ["average_rank", "ari", "common_pairs"]


def test_ranks_and_ari_are_over_the_pairs_that_all_methods_have(tmp_path):
    figures = write_pairs(tmp_path)
    table = build(tmp_path).table
    methods = table[table.role == "method"]
    assert set(methods.common_pairs) == {2}
    means = {name: methods[methods.method == name].average_rank.unique().tolist() for name in ("kd", "crd", "std")}
    assert means == {"kd": [2.5], "crd": [2.0], "std": [1.5]}
    for name in ("crd", "std"):
        shares = [(figures[t, name] - figures[t, "kd"]) / (figures[t, "kd"] - figures[t, "none"]) for t in ("a", "b")]
        assert methods[methods.method == name].ari.unique() == pytest.approx([100 * np.mean(shares)])
    assert methods[methods.method == "kd"].ari.isna().all()


def test_a_method_that_shares_one_pair_leaves_no_averages(tmp_path):
    write_pairs(tmp_path)
    for teacher in "bc":
        write_run(tmp_path, f"{teacher}-dkd", 61.0, method="dkd", teachers=taught_by(teacher))
    report = build(tmp_path)
    assert report.table[AVERAGES].isna().all(axis=None)
    summary = tables_of(report)["all pairs"]
    cells = summary.cells.set_index("method")
    for column in ("rank", "ARI over kd %"):
        assert list(cells[column].drop("kd")) == ["", "", *["–"] * (len(cells) - 3)]
    assert "--where" in summary.note  # which can leave that method out


def test_one_pair_has_no_averages(tmp_path):
    write_run(tmp_path, "kd", 60.0)
    write_run(tmp_path, "std", 61.0, method="std")
    report = build(tmp_path)
    assert "all pairs" not in tables_of(report)
    assert report.table[AVERAGES].isna().all(axis=None)


def test_one_method_has_no_averages(tmp_path):
    for teacher in "ab":
        write_run(tmp_path, teacher, 60.0, teachers=taught_by(teacher))
    assert build(tmp_path).table[AVERAGES].isna().all(axis=None)


def test_no_ari_where_kd_gains_nothing(tmp_path):
    for teacher, figures in {"a": {"none": 60.0, "kd": 59.0, "std": 61.0}, "b": {"kd": 61.0, "std": 62.0}}.items():
        for method, top1 in figures.items():
            own = {} if method == "none" else {"teachers": taught_by(teacher)}
            write_run(tmp_path, f"{teacher}-{method}", top1, method=method, **own)
    report = build(tmp_path)
    assert report.table.ari.isna().all()
    assert set(report.table.average_rank.dropna()) == {1.0, 2.0}
    summary = tables_of(report)["all pairs"]
    assert list(summary.cells.set_index("method")["ARI over kd %"][["std", "kd"]]) == ["–", ""]
    assert "kd over the student alone" in summary.note
