"""Which epoch is the figure: the last, the best on the test set, or the best on held-out images."""

import pytest

from reporting.formats.html.verdict import verdicts
from reporting.formats.markdown import to_markdown
from reporting.tables.build_report import build_report
from reporting.tables.report import text_tables
from reporting.tables.text_table import BEST, SECOND
from tests.reporting.fake_runs import TEACHER, row_of, write_metrics, write_run


def with_validation(folder, accuracies, tests=(40.0, 41.0)):
    """Metrics with these accuracies on held-out images, an epoch each; None leaves an epoch without."""
    lines = []
    for epoch, (accuracy, test) in enumerate(zip(accuracies, tests, strict=True), 1):
        line = {"epoch": epoch, "test": {"top1": test, "top5": test + 10}, "seconds": 1.0}
        lines.append(line | ({} if accuracy is None else {"validation": {"top1": accuracy}}))
    write_metrics(folder, lines)


def test_the_best_epoch_is_said_to_be_chosen_on_the_test_set(tmp_path):
    write_run(tmp_path, "none", 50.0, 51.0, method="none")
    write_run(tmp_path, "kd", 60.0, 63.0)
    report = build_report([str(tmp_path)], select="best")
    row = row_of(report.table, "kd")
    assert (row.selection, row.top1_mean, row.last_mean, row.gain) == ("best", 63.0, 60.0, 12.0)
    page = to_markdown(report)
    assert "test set" in next(line for line in page.splitlines() if line.startswith("## "))
    assert "best top-1 (n)" in page


def test_validation_takes_the_epoch_that_is_best_on_held_out_images(tmp_path):
    with_validation(write_run(tmp_path, "kd", 41.0), [70.0, 69.0])
    with_validation(write_run(tmp_path, "tie", 41.0, trial=2), [70.0, 70.0], (40.5, 41.0))
    report = build_report([str(tmp_path)], select="validation")
    row = row_of(report.table, "kd")
    assert (row.n, row["values"], row.top5_mean) == (2, [40.0, 40.5], 50.25)
    assert "held-out" in to_markdown(report)


def test_runs_without_held_out_images_are_left_out_and_listed(tmp_path):
    write_run(tmp_path, "plain", 60.0)
    with_validation(write_run(tmp_path, "partly", 41.0, trial=2), [70.0, None])
    with_validation(write_run(tmp_path, "odd", 41.0, trial=3), ["high", 200.0])
    report = build_report([str(tmp_path)], select="validation")
    assert report.table.empty
    reasons = {entry.path.rsplit("/", 1)[-1]: (entry.state, entry.reason) for entry in report.skipped}
    assert set(reasons) == {"plain", "partly", "odd"}
    assert {state for state, _ in reasons.values()} == {"left out"}
    assert "--validation" in reasons["plain"][1]
    assert "--validation" not in reasons["partly"][1]
    assert to_markdown(report)


def test_by_validation_rows_are_ordered_and_marked_by_held_out_accuracy(tmp_path):
    """Also where the test set would have chosen another setting; gains are of the test set, which chose nothing."""
    figures = {"none": (60.0, 40.0), "kd": (70.0, 41.0), "std": (65.0, 45.0)}
    for method, (held_out, test) in figures.items():
        folder = write_run(tmp_path, method, test, method=method, validation=200, test_images=500)
        with_validation(folder, [held_out - 1, held_out], (30.0, test))
    report = build_report([str(tmp_path)], select="validation")
    pair, *_ = (table for table, _ in report.tables())
    cells = pair.cells.set_index("method")
    assert list(cells.index) == ["teacher (as it taught)", "student alone", "kd", "std"]
    assert cells.loc["kd", ["held-out top-1 (n)", "test top-1", "gain"]].tolist() == ["70.00 (1)", "41.00", "+1.00"]
    assert pair.marks == {(2, 0): BEST, (2, 1): BEST, (3, 1): SECOND}
    assert "3.24" in pair.note  # 100 · sqrt(0.7 · 0.3 / 200)
    assert "2.22" in pair.note  # 100 · sqrt(0.45 · 0.55 / 500)
    row = row_of(report.table, "kd")
    assert (row.validation_mean, row.top1_mean, row.validation_images, row.test_images) == (70.0, 41.0, 200, 500)
    (verdict,) = verdicts(report.table)
    assert verdict.winner.startswith("kd 70.00")
    assert next(iter(text_tables(report.table, 1))).cells.method.tolist()[-2:] == ["kd", "std"]


def test_held_out_accuracy_stands_beside_other_figures(tmp_path):
    folder = write_run(tmp_path, "kd", 41.0, 42.0, validation=200)
    with_validation(folder, [70.0, 69.0], (42.0, 41.0))
    for select, held_out in (("last", 69.0), ("best", 70.0)):
        report = build_report([str(tmp_path)], select=select)
        assert row_of(report.table, "kd").validation_mean == held_out
        assert f"{held_out:.2f}" in to_markdown(report)


@pytest.mark.parametrize(
    ("path", "epoch"),
    [
        ("save/models/x/resnet8_last.pth", "last epoch"),
        ("C:\\x\\resnet8_best.pth", "best epoch"),
        ("x/ckpt_epoch_240.pth", "epoch 240"),
        ("x/resnet56-f2eff4c8.pt", "as it taught"),
        (None, "as it taught"),
    ],
)
def test_a_teacher_says_which_epoch_it_is_of_beside_another_epoch_of_the_students(tmp_path, path, epoch):
    write_run(tmp_path, "kd", 60.0, teachers=[{**TEACHER, "path": path}])
    report = build_report([str(tmp_path)], select="best")
    assert f"teacher ({epoch})" in to_markdown(report)
    assert "teacher (" not in to_markdown(build_report([str(tmp_path)]))


@pytest.mark.parametrize(("classes", "shown"), [(3, False), (5, False), (6, True)])
def test_top5_of_few_classes_says_nothing(tmp_path, classes, shown):
    write_run(tmp_path, "kd", 60.0, num_classes=classes)
    assert ("top-5" in to_markdown(build_report([str(tmp_path)]))) == shown
