"""Which epoch is the figure: the last, the best on the test set, or the best on held-out images."""

from reporting.formats.markdown import to_markdown
from reporting.tables.build_report import build_report
from tests.reporting.fake_runs import row_of, write_metrics, write_run


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
