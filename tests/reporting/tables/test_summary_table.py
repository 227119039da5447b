"""The table of all pairs: a column per pair, averages, and the best methods only."""

from reporting.tables.text_table import BEST
from tests.reporting.fake_runs import build, tables_of, taught_by, write_pairs, write_run


def summary_of(root, top=None):
    return tables_of(build(root), top)["all pairs"]


def test_a_column_per_pair_and_averages(tmp_path):
    write_pairs(tmp_path)
    summary = summary_of(tmp_path)
    cells = summary.cells.set_index("method")
    assert list(cells.columns) == [*(f"{t} → mixer_nano" for t in "abc"), "rank", "ARI over kd %"]
    assert list(cells.index) == ["teacher", "student alone", "std", "crd", "kd"]
    assert list(cells.loc["std"]) == ["63.00", "63.00", "70.00", "1.50", "+125.00"]
    assert list(cells.loc["kd"]) == ["62.00", "61.00", "", "2.50", ""]
    best = {(cells.index[row], column) for (row, column), mark in summary.marks.items() if mark == BEST}
    assert best == {("crd", 1), ("std", 2), ("std", 3), ("std", 4), ("std", 5)}


def test_the_note_names_the_pairs_that_count(tmp_path):
    write_pairs(tmp_path)
    note = summary_of(tmp_path).note
    assert "a → mixer_nano" in note
    assert "b → mixer_nano" in note
    assert "c → mixer_nano" not in note
    for method in ("kd", "crd"):
        write_run(tmp_path, f"c-{method}", 61.0, method=method, teachers=taught_by("c"))
    assert "3 of 3 pairs" in summary_of(tmp_path).note


def test_top_goes_by_the_average_rank(tmp_path):
    write_pairs(tmp_path)
    whole, short = summary_of(tmp_path), summary_of(tmp_path, top=1)
    assert short.cells.method.tolist() == ["teacher", "student alone", "std", "kd"]
    assert whole.cells.method.tolist() == ["teacher", "student alone", "std", "crd", "kd"]
    assert {(short.cells.method[row], column): mark for (row, column), mark in short.marks.items()} == {
        (whole.cells.method[row], column): mark
        for (row, column), mark in whole.marks.items()
        if whole.cells.method[row] != "crd"
    }


def test_top_keeps_those_who_share_a_rank(tmp_path):
    for model in ("mixer_nano", "resnet20"):
        for method, last in {"kd": 53.0, "a": 55.0, "b": 55.0, "c": 54.0}.items():
            write_run(tmp_path, f"{method}_{model}", last, method=method, model=model)
    assert list(summary_of(tmp_path, top=1).cells.method) == ["teacher", "a", "b", "kd"]


def test_top_without_ranks_goes_by_the_order_of_the_rows(tmp_path):
    for teacher, method, last in (("a", "crd", 60.0), ("a", "kd", 61.0), ("b", "std", 62.0)):
        write_run(tmp_path, method, last, method=method, teachers=taught_by(teacher))
    names = list(summary_of(tmp_path).cells.method)
    assert list(summary_of(tmp_path, top=1).cells.method) == [name for name in names if name != "crd"]
