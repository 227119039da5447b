"""Published figures without runs, against a recount of the file line by line."""

from collections import Counter

import pytest

from reporting.tables.literature import literature, literature_table
from reporting.tables.numbers import MINUS
from reporting.tables.text_table import BEST
from tests.reporting.published_runs import stored


def recount():
    """{(method, teacher, student): the first own figure under the shared protocol}, of the usual pairs."""
    rows = stored()
    usual = {pair for pair, n in Counter((row["teacher"], row["student"]) for row in rows).items() if n >= 60}
    found = {}
    for row in rows:
        shared = (row["recipe"], row["epochs"], row["setting"], row["origin"]) == ("repdistiller", "240", "", "own")
        if shared and row["distill"] and (row["teacher"], row["student"]) in usual:
            found.setdefault((row["distill"], row["teacher"], row["student"]), float(row["top1"]))
    return found


def mean_difference(expected, method, reference):
    """As the table prints it: of the mean over the method's pairs less that of the reference over the same ones."""
    pairs = [(teacher, student) for name, teacher, student in expected if name == method]
    ours, theirs = (sum(expected[name, *pair] for pair in pairs) / len(pairs) for name in (method, reference))
    return ours - theirs, len(pairs)


def test_every_figure_stands_in_its_place():
    expected = recount()
    shown = literature_table(literature())
    cells = shown.cells.set_index("method")
    pairs = {(teacher, student) for _, teacher, student in expected}
    assert len(pairs) == 13
    assert set(cells.columns) == {"epoch", "mean gain (n)", "mean vs kd (n)", *(f"{t} → {s}" for t, s in pairs)}
    for method in cells.index:
        for teacher, student in pairs:
            figure = expected.get((method, teacher, student))
            assert cells.loc[method, f"{teacher} → {student}"] == ("" if figure is None else f"{figure:.2f}")
    for teacher, student in pairs:
        column = 1 + list(cells.columns).index(f"{teacher} → {student}")
        best = {cells.index[row] for (row, c), mark in shown.marks.items() if c == column and mark == BEST}
        figures = {m: top1 for (m, t, s), top1 in expected.items() if (t, s) == (teacher, student)}
        del figures["teacher"], figures["student alone"]
        assert best == {m for m, top1 in figures.items() if top1 == max(figures.values())}


def test_means_are_over_a_methods_own_pairs_and_name_how_many():
    expected = recount()
    cells = literature_table(literature()).cells.set_index("method")
    columns = {"mean gain (n)": "student alone", "mean vs kd (n)": "kd"}
    for method in cells.index[2:]:
        for column, reference in columns.items():
            if method == reference:
                continue
            mean, count = mean_difference(expected, method, reference)
            shown, _, n = cells.loc[method, column].partition(" ")
            assert float(shown.replace(MINUS, "-")) == pytest.approx(mean, abs=0.006), (method, column)
            assert n == f"({count})"
    empty = [cells.loc[row, column] for row in ("teacher", "student alone") for column in columns]
    assert {*empty, cells.loc["kd", "mean vs kd (n)"]} == {""}
    # A paper's own mean over few pairs is no difference to kd's mean over all of them.
    of_few = mean_difference(expected, "dist", "kd")
    assert of_few[1] == 6
    of_all = mean_difference(expected, "kd", "student alone")[0]
    assert abs(mean_difference(expected, "dist", "student alone")[0] - of_all - of_few[0]) > 0.1


def test_the_highest_mean_over_kd_comes_first():
    """An order that the gain over the student alone does not have."""
    expected = recount()
    names = list(literature_table(literature()).cells.method)
    assert names[:2] == ["teacher", "student alone"]
    over_kd = {name: mean_difference(expected, name, "kd")[0] for name, _, _ in expected}
    assert names[2:] == sorted(names[2:], key=over_kd.get, reverse=True)
    gains = [mean_difference(expected, name, "student alone")[0] for name in names[2:]]
    assert gains != sorted(gains, reverse=True)


def test_rows_for_programs_hold_both_differences():
    expected = recount()
    rows = literature()
    assert len(rows) == len(expected)
    for row in rows.to_dict("records"):
        pair = row["teacher"], row["student"]
        assert row["top1"] == expected[row["distill"], *pair]
        assert row["gain"] == pytest.approx(row["top1"] - expected["student alone", *pair])
        assert row["gain_over_kd"] == pytest.approx(row["top1"] - expected["kd", *pair])


def test_other_names_and_recipes_are_left_out():
    listed = set(literature().distill)
    assert listed.isdisjoint({"mlkd", "mlkd standardised", "reviewkd", "nd", "nd+reviewkd", ""})
    named = {row["distill"] for row in stored() if row["recipe"] == "other"}
    assert named > {"mlkd", "mlkd standardised", "reviewkd", "nd"}
