"""What compare.py's tables say beyond means: against kd, over several pairs, costs, marks, and which epoch counts."""

import json

import numpy as np
import pandas as pd
import pytest
from reporting.formats.render import markdown
from reporting.tables.layout import BEST, SECOND, arrange, ranked
from scipy import stats

import compare
from reporting.formats.html.verdict import verdicts
from reporting.records.runs import read_runs
from reporting.tables.statistics import NO_SPREAD, SHARED_SEEDS, TESTED, TOO_FEW, holm
from tests.reporting.test_compare import TEACHER, build, row_of, write_run, write_suite


def write_pairs(root):
    """kd, crd and std on two pairs, std on a third as well; returns the figures by (teacher, method)."""
    figures = {
        ("a", "none"): 60.0,
        ("a", "kd"): 62.0,
        ("a", "crd"): 64.0,
        ("a", "std"): 63.0,
        ("b", "none"): 60.0,
        ("b", "kd"): 61.0,
        ("b", "crd"): 60.5,
        ("b", "std"): 63.0,
        ("c", "none"): 60.0,
        ("c", "std"): 70.0,
    }
    for (teacher, method), top1 in figures.items():
        taught = [{**TEACHER, "model": teacher, "sha256": teacher}]
        if method == "none":
            write_run(root, f"{teacher}-{method}", top1, method=method, run_id="alone", trial=1)
        else:
            write_run(root, f"{teacher}-{method}", top1, method=method, teachers=taught)
    return figures


def tables(report):
    return {shown.title: shown for shown in arrange(report.table)}


def test_one_protocol_has_its_fullest_words(tmp_path):
    """Records of older versions leave out what was changed of the recipe; and count the same."""
    worded = ("deit, 1 epochs, fp32", "deit schedule=step, 1 epoch", "deit schedule=step, 1 epochs", "deit, 1 epoch")
    for trial, words in enumerate(worded, start=1):
        write_run(tmp_path, f"kd-{trial}", 60.0 + trial, method="kd", trial=trial, protocol=words)
    report = build(tmp_path)
    (heading,) = {shown.heading for shown in arrange(report.table)}
    assert ": deit schedule=step, 1 epoch [" in heading
    assert row_of(report.table, "kd").n == 4
    assert {run.protocol for run in read_runs([tmp_path])[0]} == {"deit schedule=step, 1 epoch"}


# --- against the student alone, the teacher and kd ---


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
    cells = tables(report)["resnet56 → mixer_nano"].cells.set_index("method")
    marked = {name: "†" in cells.gain[name] for name in ("std", "kd", "crd alpha=1")}
    assert marked == {"std": holm_of["std"] < 0.05, "kd": holm_of["kd"] < 0.05, "crd alpha=1": False}
    assert any(marked.values())
    assert "† marks a difference to the student alone or to kd" in report.legend()


def test_holm_is_over_the_methods_of_one_table(tmp_path):
    rng = np.random.default_rng(1)
    for teacher in ("a", "b"):
        for method, mean in {"kd": 60.0, "crd": 60.5, "std": 61.0, "pkt": 60.1}.items():
            for trial in (1, 2, 3):
                taught = [{**TEACHER, "model": teacher, "sha256": teacher}]
                top1 = round(mean + rng.normal(0, 0.3), 2)
                write_run(tmp_path, f"{teacher}{method}{trial}", top1, method=method, trial=trial, teachers=taught)
    table = build(tmp_path).table
    for teacher in ("a", "b"):
        tested = table[(table.teacher == teacher) & (table.kd_test == TESTED)]
        assert len(tested) == 3
        np.testing.assert_allclose(tested.kd_p_holm.astype(float), holm(tested.kd_p.astype(float)))


def test_a_choice_of_rows_makes_nothing_more_significant(tmp_path):
    write_suite(tmp_path)
    write_run(tmp_path, "strict", 50.0, method="none", label="none gamma=0.5")  # a row of every pair of this student
    whole = compare.build_report([str(tmp_path)]).table
    part = compare.build_report([str(tmp_path)], where=["label=std,kd,none"]).table
    std = row_of(part, "std")
    assert std.kd_p_holm == row_of(whole, "std").kd_p_holm == pytest.approx(3 * std.kd_p)
    # The winner was picked from four methods in both.
    assert next(verdicts(part)).text.split(";")[0] == next(verdicts(whole)).text.split(";")[0]


def test_a_choice_of_rows_brings_no_runs_on_other_data_together(tmp_path):
    for trial in (1, 2, 3):
        for method, data in (
            ("none", {}),
            ("kd", {}),
            ("std", {"data_sha256": "a" * 64}),
            ("crd", {"data_sha256": "b" * 64}),
        ):
            write_run(tmp_path, f"{method}{trial}", 60 + trial, method=method, trial=trial, **data)
    write_run(tmp_path, "std4", method="std", trial=4, data_sha256="a" * 64)  # so that most are of these
    for where, by in (([], None), (["method=crd,kd,none"], None), (["trial=1,2"], None), ([], "data_sha256")):
        table = compare.build_report([str(tmp_path)], where, by).table
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
    page = markdown(report)
    assert "†" not in page
    assert next(line for line in page.splitlines() if line.startswith("| std") and "shared seeds" in line)


def test_an_initial_stage_is_said_and_has_its_own_time(tmp_path):
    write_run(tmp_path, "kd")
    for name in ("fsp", "abound"):
        folder = write_run(tmp_path, name, 61.0, method=name)
        lines = [{"epoch": epoch, "epochs": 2, "train": {"loss": 1.0}, "seconds": 40.5} for epoch in (1, 2)]
        (folder / "initial_metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    report = build(tmp_path)
    assert row_of(report.table, "fsp").initial_seconds == 81.0
    assert (row_of(report.table, "fsp").initial_epochs, row_of(report.table, "kd").initial_epochs) == (2, 0)
    page = markdown(report).replace("\n", " ")
    assert "abound, fsp train 2 epochs more than the heading says, an initial stage." in page
    (row,) = [line for line in markdown(report).splitlines() if line.startswith("| fsp") and "81" in line]
    assert row.split("|")[3].strip() == "81"


@pytest.mark.parametrize(
    ("there", "words"),
    [
        (("std",), ("--distill none", "--distill kd")),
        (("std", "kd"), ("--distill none",)),
        (("std", "none"), ("--distill kd",)),
        (("std", "kd", "none"), ()),
    ],
)
def test_what_the_methods_could_not_be_compared_with_is_said(tmp_path, there, words):
    for method in there:
        write_run(tmp_path, method, method=method)
    page = markdown(build(tmp_path))
    assert all(word in page for word in words)
    assert page.count("--distill") == len(words)


def test_no_gap_to_a_weak_teacher_is_said(tmp_path):
    for method in ("none", "kd"):
        write_run(tmp_path, method, 72.63, method=method)
    assert "the teacher is not above the student alone" in markdown(build(tmp_path))


def test_only_plain_kd_is_what_others_are_tested_against(tmp_path):
    write_run(tmp_path, "a", 60.0, label="kd kd_T=2")
    write_run(tmp_path, "b", 61.0, method="std")
    report = build(tmp_path)
    assert report.table.gain_over_kd.isna().all()
    assert "vs kd" not in markdown(report)


def test_trials_without_any_spread_have_no_p_value(tmp_path):
    for method in ("kd", "std"):
        for trial in (1, 2):
            write_run(tmp_path, f"{method}{trial}", 60.0 + (method == "std"), method=method, trial=trial)
    report = build(tmp_path)
    assert row_of(report.table, "std").kd_test == NO_SPREAD
    page = markdown(report)
    assert "no spread" in page
    assert "†" not in page


def test_the_page_says_when_there_are_too_few_trials_and_marks_what_is_significant(tmp_path):
    write_run(tmp_path / "few", "kd1", 60.0)
    write_run(tmp_path / "few", "std1", 63.0, method="std")
    page = markdown(build(tmp_path / "few"))
    assert "n too small" in page.replace("\n", " ")
    assert "difference to kd |" not in page
    write_suite(tmp_path / "many")
    page = markdown(build(tmp_path / "many"))
    assert "### resnet56 → mixer_nano: difference to kd" in page
    assert "\ncrd alpha=1: n too small for a test (it takes 2 trials of both).\n" in page
    assert not any(line.startswith("| crd") and "…" in line for line in page.splitlines())
    assert "+2.03 †" in page
    assert "Welch" in page


# --- several pairs ---


def test_ranks_and_ari_are_over_the_pairs_that_all_methods_have(tmp_path):
    figures = write_pairs(tmp_path)
    table = build(tmp_path).table
    methods = table[table.role == "method"]
    assert set(methods.common_pairs) == {2}
    means = {name: methods[methods.method == name].average_rank.unique().tolist() for name in ("kd", "crd", "std")}
    assert means == {"kd": [2.5], "crd": [2.0], "std": [1.5]}
    for name in ("crd", "std"):
        shares = [(figures[t, name] - figures[t, "kd"]) / (figures[t, "kd"] - figures[t, "none"]) for t in ("a", "b")]
        found = methods[methods.method == name].ari.unique()
        assert found == pytest.approx([100 * np.mean(shares)])
    assert methods[methods.method == "kd"].ari.isna().all()


def test_the_summary_has_a_column_per_pair(tmp_path):
    write_pairs(tmp_path)
    shown = tables(build(tmp_path))["all pairs"]
    cells = shown.cells.set_index("method")
    assert list(cells.columns) == [*(f"{t} → mixer_nano" for t in "abc"), "rank", "ARI over kd %"]
    assert list(cells.index) == ["teacher", "student alone", "std", "crd", "kd"]
    assert list(cells.loc["std"]) == ["63.00", "63.00", "70.00", "1.50", "+125.00"]
    assert list(cells.loc["kd"]) == ["62.00", "61.00", "", "2.50", ""]
    best = {(cells.index[row], column) for (row, column), mark in shown.marks.items() if mark == BEST}
    assert best == {("crd", 1), ("std", 2), ("std", 3), ("std", 4), ("std", 5)}
    assert "over 2 of 3 pairs, which all methods have" in shown.note


def test_one_odd_row_costs_the_others_no_rank_and_gets_none(tmp_path):
    figures = write_pairs(tmp_path)
    taught = [{**TEACHER, "model": "c", "sha256": "c"}]
    write_run(tmp_path, "c-dkd", 90.0, method="dkd", teachers=taught)
    write_run(tmp_path, "c-kd", 61.0, method="kd", teachers=taught)
    write_run(tmp_path, "c-crd", 62.0, method="crd", teachers=taught)
    table = build(tmp_path).table
    assert row_of(table, "dkd")[["average_rank", "ari", "common_pairs"]].isna().all()
    ranks = table[table.role == "method"].groupby("method").average_rank.first()
    assert ranks[["std", "crd", "kd"]].tolist() == pytest.approx([4 / 3, 2.0, 8 / 3])
    assert figures["c", "std"] == 70.0
    shown, short = (next(shown for shown in arrange(table, top) if shown.title == "all pairs") for top in (None, 1))
    assert shown.cells.method.tolist()[2:] == ["std", "crd", "kd", "dkd"]
    assert "over 3 of 3 pairs among the 3 methods that have all of these; the others have none" in shown.note
    assert short.cells.method.tolist()[2:] == ["std", "kd"]


def test_ari_says_what_it_takes(tmp_path):
    for teacher, figures in {"a": {"none": 60.0, "kd": 59.0, "std": 61.0}, "b": {"kd": 61.0, "std": 62.0}}.items():
        taught = [{**TEACHER, "model": teacher, "sha256": teacher}]
        for method, top1 in figures.items():
            own = {} if method == "none" else {"teachers": taught}
            write_run(tmp_path, f"{teacher}-{method}", top1, method=method, **own)
    shown = tables(build(tmp_path))["all pairs"]
    assert "ARI over kd %" not in shown.cells
    assert "ARI takes a gain of kd over the student alone on each of these pairs." in shown.note


def test_without_a_common_pair_there_are_no_averages(tmp_path):
    for teacher, method in (("a", "crd"), ("b", "std")):
        taught = [{**TEACHER, "model": teacher, "sha256": teacher}]
        write_run(tmp_path, method, 60.0, method=method, teachers=taught)
    report = build(tmp_path)
    assert report.table.average_rank.isna().all()
    shown = tables(report)["all pairs"]
    assert "rank" not in shown.cells
    assert "No 2 methods share 2 pairs" in shown.note


def test_one_pair_has_no_summary(tmp_path):
    write_suite(tmp_path)
    report = build(tmp_path)
    assert "all pairs" not in tables(report)
    assert report.table.common_pairs.isna().all()


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        ([70.0], {}),
        ([70.0, 71.0], {1: BEST}),
        ([70.0, 71.0, 69.0], {1: BEST, 0: SECOND}),
        ([70.001, 69.999, 69.0, np.nan], {0: BEST, 1: BEST, 2: SECOND}),
        ([70.0, 70.0, 70.0], {0: BEST, 1: BEST, 2: BEST}),
        ([np.nan, np.nan], {}),
    ],
)
def test_best_and_second_best(figures, expected):
    assert ranked(pd.Series(figures, dtype=float)) == expected


# --- the best methods only ---


def test_top_keeps_the_best_methods_and_kd_with_the_marks_and_tests_of_the_whole_table(tmp_path):
    rng = np.random.default_rng(2)
    means = {"none": 60.0, "kd": 58.0, "crd": 61.0, "std": 62.0, "pkt": 61.5}
    for method, mean in means.items():
        for trial in (1, 2):
            write_run(tmp_path, f"{method}{trial}", mean + rng.normal(0, 0.1), method=method, trial=trial)
    table = build(tmp_path).table
    whole = {shown.title: shown for shown in arrange(table)}
    short = {shown.title: shown for shown in arrange(table, top=2)}
    assert list(short) == list(whole)
    (pair, test) = list(whole)[:2]
    assert short[pair].cells.method.tolist() == ["teacher", "student alone", "std", "pkt", "kd"]
    assert short[test].cells.method.tolist() == ["std", "pkt"]
    for title, shown in short.items():
        rows = whole[title].cells.set_index("method").loc[shown.cells.method].reset_index()
        pd.testing.assert_frame_equal(shown.cells, rows)
    assert short[pair].marks == {(2, 0): BEST, (2, 1): BEST, (3, 1): SECOND}
    assert short[pair].note == "1 more without --top 2."
    one = next(iter(arrange(table, top=1)))
    assert SECOND not in one.marks.values()  # the second best of the whole table is not shown
    assert next(iter(arrange(table, top=4))).note == ""


def test_top_of_all_pairs_goes_by_the_average_rank(tmp_path):
    write_pairs(tmp_path)
    whole, short = (
        next(shown for shown in arrange(build(tmp_path).table, top) if shown.title == "all pairs") for top in (None, 1)
    )
    assert short.cells.method.tolist() == ["teacher", "student alone", "std", "kd"]
    assert whole.cells.method.tolist() == ["teacher", "student alone", "std", "crd", "kd"]
    assert {(short.cells.method[row], column): mark for (row, column), mark in short.marks.items()} == {
        (whole.cells.method[row], column): mark
        for (row, column), mark in whole.marks.items()
        if whole.cells.method[row] != "crd"
    }


@pytest.mark.parametrize(
    "words",
    [
        ["--top", "0"],
        ["--top", "2", "--published"],
        ["--top", "2", "--format", "csv"],
        ["--top", "2", "--format", "html"],
    ],
)
def test_top_is_a_number_and_for_tables_that_people_read(tmp_path, capsys, words):
    write_pairs(tmp_path)
    assert compare.main([str(tmp_path), *words]) == 2
    assert "--top takes a number from 1 on" in capsys.readouterr().err
    assert compare.main([str(tmp_path), "--top", "1"]) == 0
    assert "1 more without --top 1." in capsys.readouterr().out


def test_top_cuts_no_tie_and_takes_any_number(tmp_path):
    for method, top1 in {"kd": 58.0, "crd": 61.004, "std": 61.001, "pkt": 60.999, "nst": 60.0}.items():
        write_run(tmp_path, method, top1, method=method)
    table = build(tmp_path).table
    for top, count in ((1, 4), (3, 4), (4, 5), (10**400, 5)):
        assert (next(iter(arrange(table, top))).cells.method != "teacher").sum() == count


# --- protocols that look alike ---


def test_protocols_of_one_name_are_told_apart(tmp_path):
    for name, rate in (("p1", 0.05), ("p2", 0.1)):
        recipe = {"name": "deit", "epochs": 2, "learning_rate": rate, "augmentation": {"mixup": 0.8}}
        write_run(tmp_path, name, 60.0, method="kd", protocol_id=name, recipe=recipe)
    (note,) = build(tmp_path).notes
    assert note == "cifar100 (deit, 2 epochs, batch 128, fp32): p1, p2 differ in learning_rate 0.05, 0.1"


def test_other_checkpoints_in_the_same_shares_are_equal_terms_and_in_others_not(tmp_path):
    def write(method, *hashes):
        for trial, sha256 in enumerate(hashes, 1):
            taught = [{**TEACHER, "sha256": sha256}]
            write_run(tmp_path, f"{method}{trial}", 60.0 + trial, method=method, trial=trial, teachers=taught)

    write("kd", "A", "B")
    write("crd", "B", "A")
    assert build(tmp_path).notes == []
    write("std", "A", "A", "B")
    assert any("did not all use the same teacher checkpoints" in note for note in build(tmp_path).notes)


# --- costs ---


def test_costs_are_means_over_runs_and_the_highest_memory(tmp_path):
    environment = {"device": "cpu", "processor": "Some CPU", "threads": 2}
    for trial, memory in ((1, 100.0), (2, 300.0)):
        result = {"peak_memory_mib": memory, "images_per_second": 1000.0 * trial}
        write_run(tmp_path, str(trial), trial=trial, result=result, environment=environment)
    report = build(tmp_path)
    row = row_of(report.table, "kd")
    assert (row.seconds_per_epoch, row.images_per_second, row.peak_memory_mib) == (2.0, 1500.0, 300.0)
    assert row.hardware == "Some CPU, 2 threads"
    shown = tables(report)["resnet56 → mixer_nano: cost"]
    assert list(shown.cells.iloc[0]) == ["kd", "2.00", "1,500", "300", "12,345"]
    assert shown.note == "Measured on Some CPU, 2 threads."
    assert report.notes == []


def test_costs_of_different_machines_are_remarked_on(tmp_path):
    write_run(tmp_path, "a", environment={"device": "cpu", "processor": "CPU", "threads": 2})
    write_run(tmp_path, "b", trial=2, environment={"device": "GPU of a kind"})
    write_run(tmp_path, "c", trial=3, environment=["rubbish"])
    (note,) = build(tmp_path).notes
    assert note.endswith("costs were measured on different hardware: CPU, 2 threads; GPU of a kind")


# --- which epoch counts ---


def with_validation(folder, accuracies, tests=(40.0, 41.0)):
    """metrics.jsonl with these accuracies on held-out images, an epoch each; None leaves an epoch without."""
    lines = []
    for epoch, (accuracy, test) in enumerate(zip(accuracies, tests, strict=True), 1):
        line = {"epoch": epoch, "test": {"top1": test, "top5": test + 10}, "seconds": 1.0}
        lines.append(line | ({} if accuracy is None else {"validation": {"top1": accuracy}}))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_the_best_epoch_says_that_it_was_chosen_on_the_test_set(tmp_path):
    write_run(tmp_path, "none", 50.0, 51.0, method="none")
    write_run(tmp_path, "kd", 60.0, 63.0)
    report = compare.build_report([str(tmp_path)], select="best")
    row = row_of(report.table, "kd")
    assert (row.selection, row.top1_mean, row.last_mean, row.gain) == ("best", 63.0, 60.0, 12.0)
    page = markdown(report)
    heading = next(line for line in page.splitlines() if line.startswith("## "))
    assert heading.endswith("; the best epoch, chosen on the test set")
    assert "best top-1 (n)" in page
    assert "last epoch's" not in page


def test_validation_takes_the_epoch_that_is_best_on_held_out_images(tmp_path):
    with_validation(write_run(tmp_path, "kd", 41.0), [70.0, 69.0])
    with_validation(write_run(tmp_path, "tie", 41.0, trial=2), [70.0, 70.0], (40.5, 41.0))
    report = compare.build_report([str(tmp_path)], select="validation")
    row = row_of(report.table, "kd")
    assert (row.n, row["values"], row.top5_mean) == (2, [40.0, 40.5], 50.25)
    assert "held-out training images" in markdown(report)


def test_runs_without_held_out_images_are_left_out_and_listed(tmp_path):
    write_run(tmp_path, "plain", 60.0)
    with_validation(write_run(tmp_path, "partly", 41.0, trial=2), [70.0, None])
    with_validation(write_run(tmp_path, "odd", 41.0, trial=3), ["high", 200.0])
    report = compare.build_report([str(tmp_path)], select="validation")
    assert report.table.empty
    reasons = {entry.path.rsplit("/", 1)[-1]: (entry.state, entry.reason) for entry in report.skipped}
    assert set(reasons) == {"plain", "partly", "odd"}
    assert {state for state, _ in reasons.values()} == {"left out"}
    assert "--validation" in reasons["plain"][1]
    assert reasons["partly"][1].startswith("some epochs")
    assert "No finished run has such a figure" in markdown(report)


# --- what a page of another kind can ask a report ---


def test_a_report_knows_its_runs_their_folders_and_their_epochs(tmp_path):
    folder = write_run(tmp_path, "kd", 60.0)
    report = compare.build_report([str(tmp_path)])
    (run,) = report.runs
    assert run.folder == folder
    assert json.loads(run.config_path.read_text()) == run.config
    assert [line["epoch"] for line in run.metrics()] == [1, 2]
    assert row_of(report.table, "kd").paths == [run.path]
    (folder / "metrics.jsonl").unlink()
    assert run.metrics() == []  # read when asked for, not before
