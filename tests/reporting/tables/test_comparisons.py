"""What rows are compared with stands beside them whatever is chosen, and figures that print alike count as equal."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from reporting.tables.layout import arrange, p_value

import compare
from common.errors import RequestError
from reporting.formats.html.verdict import verdicts
from reporting.formats.latex import tex
from reporting.formats.terminal import terminal
from reporting.tables.averages import without_holes
from reporting.tables.statistics import average_relative_improvement, gap_recovered
from tests.reporting.test_compare import TEACHER, build, row_of, run_script, write_run

ALIKE = [93.04, 86.48, 87.56], [92.2, 87.32, 87.56]  # means of 89.026…, 3e-14 apart


def report_of(folder, *where, **options):
    return compare.build_report([str(folder)], where, **options)


def groups_of(report):
    return {group: set(rows.method) - {"teacher"} for group, rows in report.table.groupby("group")}


def test_a_sweep_over_a_weight_has_the_one_kd_in_each_table(tmp_path):
    write_run(tmp_path, "none", 50.0, method="none")
    write_run(tmp_path, "kd", 53.0)
    for beta in (0.4, 0.8):
        write_run(tmp_path, f"crd{beta}", 54.0, method="crd", label=f"crd beta={beta}", weights={"beta": beta})
    found = groups_of(report_of(tmp_path, by="weights.beta"))
    assert found == {f"weights.beta = {beta}": {"none", "kd", f"crd beta={beta}"} for beta in (0.4, 0.8)}


def test_methods_without_the_field_keep_their_references(tmp_path):
    write_run(tmp_path, "none", 50.0, method="none")
    write_run(tmp_path, "kd", 53.0)
    write_run(tmp_path, "std", 54.0, method="std", options={"std_modules": "last"})
    write_run(tmp_path, "crd", 55.0, method="crd")
    found = groups_of(report_of(tmp_path, by="options.std_modules"))
    assert found == {
        "options.std_modules = last": {"none", "kd", "std"},
        "no options.std_modules": {"none", "kd", "crd"},
    }


def test_a_group_is_made_only_where_a_method_has_the_value(tmp_path):
    for name, protocol in (("short", "aa"), ("long", "bb")):
        write_run(tmp_path, f"kd_{name}", 53.0, protocol_id=protocol, protocol=name)
    write_run(tmp_path, "std", 54.0, method="std", options={"std_modules": "last"}, protocol_id="aa", protocol="short")
    table = report_of(tmp_path, by="options.std_modules").table
    assert set(table[table.protocol == "short"].group) == {"options.std_modules = last"}
    assert set(table[table.protocol == "long"].group) == {"no options.std_modules"}


def test_a_field_that_says_what_was_trained_keeps_each_reference_in_its_own_table(tmp_path):
    for model in ("mixer_nano", "resnet20"):
        write_run(tmp_path, f"none_{model}", 50.0, method="none", model=model)
        write_run(tmp_path, f"std_{model}", 54.0, method="std", model=model)
    found = report_of(tmp_path, by="model_s").table
    assert {(row.group, row.student) for row in found.itertuples()} == {
        ("model_s = mixer_nano", "mixer_nano"),
        ("model_s = resnet20", "resnet20"),
    }


def test_a_condition_on_the_teacher_keeps_its_students_alone(tmp_path):
    vgg = {**TEACHER, "model": "vgg13", "sha256": "cc"}
    for model in ("mixer_nano", "resnet20"):
        write_run(tmp_path, f"none_{model}", 50.0, method="none", model=model)
    write_run(tmp_path, "kd", 53.0, teachers=[vgg])
    report = report_of(tmp_path, "teacher=vgg13")
    assert row_of(report.table, "kd").gain == pytest.approx(3.0)
    assert set(report.table.student) == {"mixer_nano"}
    assert report.notes == ["--where leaves out 1 of 3 finished runs"]


def test_one_misspelt_value_of_several_is_said(tmp_path):
    write_run(tmp_path, "kd", 53.0)
    write_run(tmp_path, "std", 54.0, method="std", options={"std_modules": "4,7"})
    notes = report_of(tmp_path, "method=std,kdd").notes
    assert "--where method=std,kdd: no run has the value kdd" in notes
    assert not any("no run has" in note for note in report_of(tmp_path, "options.std_modules=4,7").notes)


@pytest.mark.parametrize("options", [{"where": ["method=kd"]}, {"by": "method"}, {"select": "best"}])
def test_published_figures_alone_take_no_choice_among_runs(options):
    with pytest.raises(RequestError, match="leave them out"):
        compare.build_report([str(compare.FIGURES)], **options)


def test_published_figures_alone_take_no_top(tmp_path):
    done = run_script(compare.FIGURES, "--top", "2", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--top" in done.stderr


def test_failed_runs_are_listed_beside_published_figures(tmp_path):
    write_run(tmp_path / "save", "kd", result=None)
    done = run_script("--published", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "unfinished, no result yet" in done.stdout


def test_top_is_of_methods_beside_kd(tmp_path):
    """kd leads: the best other one is shown, and the table of differences has a row."""
    for method, last in {"none": 50.0, "kd": 60.0, "std": 55.0, "crd": 54.0}.items():
        for trial in (1, 2):
            write_run(tmp_path, f"{method}{trial}", last + trial, method=method, trial=trial)
    pair, difference, *_ = arrange(build(tmp_path).table, top=1)
    assert list(pair.cells.method) == ["teacher", "student alone", "kd", "std"]
    assert list(difference.cells.method) == ["std"]
    assert "std" in run_script(tmp_path, "--top", "1", "--format", "terminal", cwd=tmp_path).stdout


def test_top_keeps_those_who_share_a_rank(tmp_path):
    for model in ("mixer_nano", "resnet20"):
        for method, last in {"kd": 53.0, "a": 55.0, "b": 55.0, "c": 54.0}.items():
            write_run(tmp_path, f"{method}_{model}", last, method=method, model=model)
    *_, summary = (shown for shown in arrange(build(tmp_path).table, top=1) if shown.title == "all pairs")
    assert list(summary.cells.method) == ["teacher", "a", "b", "kd"]


def test_figures_that_print_alike_leave_no_gap_to_recover(tmp_path):
    alone, kd = ALIKE
    assert np.mean(alone) != np.mean(kd)
    assert f"{np.mean(alone):.2f}" == f"{np.mean(kd):.2f}"
    assert math.isnan(gap_recovered(90.0, min(map(np.mean, ALIKE)), max(map(np.mean, ALIKE))))
    low, high = sorted(map(np.mean, ALIKE))
    assert math.isnan(average_relative_improvement([90.0], [high], [low]))
    for trial, (one, other) in enumerate(zip(alone, kd, strict=True), 1):
        write_run(tmp_path, f"none{trial}", one, method="none", trial=trial)
        write_run(tmp_path, f"kd{trial}", other, trial=trial)
    (verdict,) = verdicts(build(tmp_path).table)
    assert "below" not in verdict.text
    assert "No method" not in verdict.winner


def test_winners_who_share_a_mean_below_the_student_are_said_to_be(tmp_path):
    write_run(tmp_path, "none", 60.0, method="none")
    for method in ("std", "crd"):
        write_run(tmp_path, method, 55.0, method=method)
    (verdict,) = verdicts(build(tmp_path).table)
    assert "-5.00, below the student alone" in verdict.text


def test_teachers_that_taught_together_are_no_sample(tmp_path):
    both = [TEACHER, {**TEACHER, "model": "vgg13", "sha256": "cc", "top1": 70.0}]
    write_run(tmp_path, "kd", 53.0, teachers=both)
    assert math.isnan(row_of(build(tmp_path).table, "teacher").top1_std)


def test_top5_is_of_all_trials_or_not_shown(tmp_path):
    write_run(tmp_path, "kd1", 53.0)
    write_run(tmp_path, "kd2", 54.0, trial=2, result={"last": {"epoch": 2, "top1": 54.0, "loss": 1.0}})
    assert math.isnan(row_of(build(tmp_path).table, "kd").top5_mean)


@given(arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 5))))
def test_the_common_part_is_the_largest(has):
    figures = pd.DataFrame(np.where(has, 1.0, np.nan))
    part = without_holes(figures)
    assert part.notna().all(axis=None)
    sizes = [0]
    for count in range(2, has.shape[1] + 1):
        for pairs in itertools.combinations(range(has.shape[1]), count):
            methods = int(has[:, pairs].all(axis=1).sum())
            sizes.append(count * methods if methods >= 2 else 0)
    assert part.size == max(sizes)


@pytest.mark.parametrize(
    ("p", "shown"), [(0.0004, "< 0.001"), (0.0123, "0.012"), (0.0499, "< 0.050"), (0.05, "0.050"), (0.0504, "0.050")]
)
def test_a_significant_p_is_never_printed_as_the_limit(p, shown):
    assert p_value(p) == shown


def test_flags_keep_their_hyphens_in_latex():
    assert tex("--distill none") == "-{}-distill none"
    assert tex("59.00 ± –") == r"59.00 $\pm$ --"


def test_a_table_for_a_file_has_no_escape_codes(tmp_path):
    write_run(tmp_path, "kd", 53.0)
    report = build(tmp_path)
    assert "\x1b" in terminal(report, width=100, colour=True)
    assert "\x1b" not in terminal(report, width=100, colour=False)


def test_an_unknown_flag_is_answered_with_the_nearest(tmp_path):
    done = run_script("--formt", "csv", cwd=tmp_path)
    assert done.returncode == 2
    assert "did you mean --format?" in done.stderr
