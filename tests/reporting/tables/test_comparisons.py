"""Methods against the student alone, the teacher and kd: gains, their tests and the gap."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from reporting.formats.html.verdict import verdicts
from reporting.tables.build_report import build_report
from reporting.tables.statistics import NO_SPREAD, SHARED_SEEDS, TESTED, TOO_FEW, holm
from tests.reporting.fake_runs import build, row_of, tables_of, taught_by, write_run, write_suite


def test_gains_gap_and_tests_against_kd(tmp_path):
    lasts = write_suite(tmp_path)
    table = build(tmp_path).table
    std, crd, kd = (row_of(table, method) for method in ("std", "crd alpha=1", "kd"))
    assert std.gain_over_kd == pytest.approx(np.mean(lasts["std"]) - np.mean(lasts["kd"]))
    gap = (np.mean(lasts["std"]) - np.mean(lasts["none"])) / (72.63 - np.mean(lasts["none"]))
    assert std.gap_recovered == pytest.approx(100 * gap)
    p = stats.ttest_ind(lasts["std"], lasts["kd"], equal_var=False).pvalue
    assert (std.kd_test, crd.kd_test) == (TESTED, TOO_FEW)
    assert std.kd_p == pytest.approx(p)
    assert std.kd_p_holm == pytest.approx(2 * p)  # crd, too, might have been tested
    assert std.kd_low < std.gain_over_kd < std.kd_high
    assert pd.isna(kd.kd_test)
    assert kd[["gain_over_kd", "kd_p"]].isna().all()
    assert row_of(table, "none")[["gain_over_kd", "gap_recovered"]].isna().all()


def test_gains_are_tested_against_the_student_alone(tmp_path):
    lasts = write_suite(tmp_path)
    report = build(tmp_path)
    std, crd, kd, none = (row_of(report.table, method) for method in ("std", "crd alpha=1", "kd", "none"))
    assert (std.gain_test, kd.gain_test, crd.gain_test) == (TESTED, TESTED, TOO_FEW)
    p = {name: stats.ttest_ind(lasts[name], lasts["none"], equal_var=False).pvalue for name in ("std", "kd")}
    assert (std.gain_p, kd.gain_p) == (pytest.approx(p["std"]), pytest.approx(p["kd"]))
    smaller, larger = sorted(p, key=p.get)
    holm_of = {smaller: 3 * p[smaller], larger: max(3 * p[smaller], 2 * p[larger])}  # crd might have been tested, too
    assert (std.gain_p_holm, kd.gain_p_holm) == (pytest.approx(holm_of["std"]), pytest.approx(holm_of["kd"]))
    assert std.gain_low < std.gain < std.gain_high
    assert pd.isna(none.gain_test)
    cells = tables_of(report)["resnet56 → mixer_nano"].cells.set_index("method")
    marked = {name: "†" in cells.gain[name] for name in ("std", "kd", "crd alpha=1")}
    assert marked == {"std": holm_of["std"] < 0.05, "kd": holm_of["kd"] < 0.05, "crd alpha=1": False}
    assert any(marked.values())
    assert "†" in report.legend()


def test_holm_is_over_the_methods_of_one_pair(tmp_path):
    rng = np.random.default_rng(1)
    for teacher in ("a", "b"):
        for method, mean in {"kd": 60.0, "crd": 60.5, "std": 61.0, "pkt": 60.1}.items():
            for trial in (1, 2, 3):
                top1, name = round(mean + rng.normal(0, 0.3), 2), f"{teacher}{method}{trial}"
                write_run(tmp_path, name, top1, method=method, trial=trial, teachers=taught_by(teacher))
    table = build(tmp_path).table
    for teacher in ("a", "b"):
        tested = table[(table.teacher == teacher) & (table.kd_test == TESTED)]
        assert len(tested) == 3
        np.testing.assert_allclose(tested.kd_p_holm.astype(float), holm(tested.kd_p.astype(float)))


def test_a_choice_of_rows_makes_nothing_more_significant(tmp_path):
    write_suite(tmp_path)
    write_run(tmp_path, "strict", 50.0, method="none", label="none gamma=0.5")  # a row of every pair of this student
    whole = build_report([str(tmp_path)]).table
    part = build_report([str(tmp_path)], where=["label=std,kd,none"]).table
    std = row_of(part, "std")
    assert std.kd_p_holm == row_of(whole, "std").kd_p_holm == pytest.approx(3 * std.kd_p)
    # The winner was picked from four methods in both.
    assert next(verdicts(part)).text.split(";")[0] == next(verdicts(whole)).text.split(";")[0]


def test_a_choice_of_rows_brings_no_runs_on_other_data_together(tmp_path):
    of_data = {"none": {}, "kd": {}, "std": {"data_sha256": "a" * 64}, "crd": {"data_sha256": "b" * 64}}
    for trial in (1, 2, 3):
        for method, data in of_data.items():
            write_run(tmp_path, f"{method}{trial}", 60 + trial, method=method, trial=trial, **data)
    write_run(tmp_path, "std4", method="std", trial=4, data_sha256="a" * 64)  # so that most are of these
    for where, by in (([], None), (["method=crd,kd,none"], None), (["trial=1,2"], None), ([], "data_sha256")):
        table = build_report([str(tmp_path)], where, by).table
        assert pd.isna(row_of(table, "crd").kd_test)
        kd = row_of(table, "kd")
        assert "data aaaaaaaa" in kd.group
        assert set(table[table.group == kd.group].method) >= {"std", "kd"} or where == ["method=crd,kd,none"]


def test_trials_of_one_seed_are_no_sample_to_test_by(tmp_path):
    for trial, last in enumerate((60.0, 60.2), 1):
        write_run(tmp_path, f"kd{trial}", last, trial=trial)
        write_run(tmp_path, f"std{trial}", last + 9, method="std", trial=trial, seed=1)
    report = build(tmp_path)
    std = row_of(report.table, "std")
    assert (std.n, std.kd_test) == (2, SHARED_SEEDS)
    assert np.isnan(std.kd_p_holm)
    cells = tables_of(report)["resnet56 → mixer_nano: difference to kd"].cells
    assert SHARED_SEEDS in set(cells.loc[0])


def test_trials_without_any_spread_have_no_p_value(tmp_path):
    for method in ("kd", "std"):
        for trial in (1, 2):
            write_run(tmp_path, f"{method}{trial}", 60.0 + (method == "std"), method=method, trial=trial)
    std = row_of(build(tmp_path).table, "std")
    assert std.kd_test == NO_SPREAD
    assert np.isnan(std.kd_p)


def test_only_plain_kd_is_what_others_are_tested_against(tmp_path):
    write_run(tmp_path, "a", 60.0, label="kd kd_T=2")
    write_run(tmp_path, "b", 61.0, method="std")
    report = build(tmp_path)
    assert report.table.gain_over_kd.isna().all()
    assert "vs kd" not in tables_of(report)["resnet56 → mixer_nano"].cells
