"""Tables of accuracy and cost: the front, the smallest student near its teacher, and costs that are not on record."""

import json

import pandas as pd
import pytest

from common.errors import RequestError
from reporting.records.runs import read_runs
from reporting.tables.accuracy_cost_tables import CostChoice, check_costs, front_of, within_lines
from reporting.tables.build_report import build_report
from reporting.tables.report import text_tables
from tests.reporting.fake_runs import TEACHER, VGG, tabulated, write_latency, write_run

SIZES = {"small": (100_000, 10_000_000, 400_000), "large": (900_000, 5_000_000, 3_600_000)}
# Accuracies of students by method: the large one has fewer multiply-accumulates.
LASTS = {("small", "none"): 60.0, ("small", "kd"): 62.0, ("large", "none"): 61.0, ("large", "kd"): 70.0}
BIG = {**TEACHER, "parameters": 5_000_000, "macs": 80_000_000, "file_bytes": 20_000_000}


def size(model):
    return dict(zip(("parameters", "macs", "file_bytes"), SIZES[model], strict=True))


def write_students(root, teacher=BIG, **config):
    folders = {}
    for (model, method), last in LASTS.items():
        teachers = [] if method == "none" else [teacher]
        name = f"{teacher['model']}_{model}_{method}"
        folders[model, method] = write_run(
            root, name, last, model=model, method=method, teachers=teachers, result=size(model), **config
        )
    return folders


def table_of(root):
    runs, _ = read_runs([root])
    return tabulated(runs)[0]


def shown(root, choice):
    """Cells of the only table of accuracy and cost, and its note."""
    (table,) = (t for t in text_tables(table_of(root), choice=choice) if "accuracy and cost" in t.title)
    return table.cells, table.note


@pytest.mark.parametrize(
    ("cost", "order", "front"),
    [
        ("parameters", ["small kd", "small alone", "large kd", "large alone"], {"small kd", "large kd"}),
        ("macs", ["large kd", "large alone", "small kd", "small alone"], {"large kd"}),
        ("bytes", ["small kd", "small alone", "large kd", "large alone"], {"small kd", "large kd"}),
    ],
)
def test_all_students_of_a_teacher_stand_in_one_table_by_cost(tmp_path, cost, order, front):
    write_students(tmp_path)
    cells, _ = shown(tmp_path, CostChoice(pareto=cost))
    names = [f"{row.model} {row.method.removeprefix('student ')}" for row in cells.itertuples()]
    assert names == ["resnet56 teacher", *order]
    assert {name for name, mark in zip(names, cells.front, strict=True) if mark} == front
    assert cells.parameters.iloc[0] == "5,000,000"
    assert cells["MACs (M)"].iloc[0] == "80.0"
    assert cells["file (MB)"].iloc[0] == "20.0"
    assert "latency ×teacher" not in cells


def test_without_being_asked_for_there_is_no_such_table(tmp_path):
    write_students(tmp_path)
    assert not [table for table in text_tables(table_of(tmp_path)) if "accuracy and cost" in table.title]


def test_the_heads_that_a_student_predicts_with_count(tmp_path):
    write_run(tmp_path, "a", result={**size("small"), "head_parameters": 23_456})
    table = table_of(tmp_path)
    assert list(table[table.role == "method"].parameters) == [123_456]


@pytest.mark.parametrize(
    ("points", "cost", "named"),
    [
        (0.0, "parameters", None),
        (2.0, "parameters", None),
        (2.63, "parameters", "large by kd"),
        (10.63, "parameters", "small by kd"),
        (10.63, "macs", "large by kd"),
        (100.0, "parameters", "small by kd"),  # the more accurate of two of one size
    ],
)
def test_the_smallest_within_some_points_is_named(tmp_path, points, cost, named):
    """The teacher has 72.63."""
    write_students(tmp_path)
    (line,) = within_lines(table_of(tmp_path), CostChoice(within=points, within_cost=cost))
    assert "72.63" in line
    if named is None:
        assert "None" in line
        assert "large by kd" in line  # the closest
        assert "2.63" in line
    else:
        assert named in line
        assert "None" not in line
    _, note = shown(tmp_path, CostChoice(within=points, within_cost=cost))
    assert note in line or line.endswith(note)


def test_each_teacher_has_a_table_and_an_answer_of_its_own(tmp_path):
    """The students alone are in both."""
    write_students(tmp_path)
    weak = {**VGG, "top1": 62.5}
    write_run(tmp_path, "vgg", 61.5, model="small", teachers=[weak], result=size("small"))
    table = table_of(tmp_path)
    tables = [t for t in text_tables(table, choice=CostChoice("macs", 1.0)) if "accuracy and cost" in t.title]
    assert [len(t.cells) for t in tables] == [5, 3]
    first, second = within_lines(table, CostChoice(within=1.0))
    assert "resnet56" in first
    assert "None" in first
    assert "vgg13" in second
    assert "small by kd" in second
    students = table[table.role.isin(["student", "method"])]
    of_vgg = students[students.teacher == "vgg13"]
    assert dict(zip(of_vgg.method, front_of(students, "macs")[students.teacher == "vgg13"], strict=True)) == {
        "kd": True,
        "none": False,
    }


def test_students_without_the_cost_are_named_and_not_compared(tmp_path):
    write_students(tmp_path)
    write_run(tmp_path, "old", 99.0, model="old", method="kd", teachers=[TEACHER])
    cells, note = shown(tmp_path, CostChoice("macs", 100.0))
    assert list(cells.model)[-1] == "old"
    assert list(cells.front)[-1] == ""
    assert "old by kd" in note
    assert "large by kd" in note.split("Smallest")[1]


def test_a_cost_that_no_student_has_is_refused(tmp_path):
    write_run(tmp_path, "old", 60.0)
    table = build_report([str(tmp_path)]).table
    check_costs(table, CostChoice("parameters", 1.0, "parameters"))
    for choice, named in (
        (CostChoice("macs"), "--pareto"),
        (CostChoice(within=1.0), "--within"),
        (CostChoice(within=0.0, within_cost="bytes"), "--within"),
        (CostChoice("latency"), "measure_latency.py"),
    ):
        with pytest.raises(RequestError, match=named):
            check_costs(table, choice)


def test_without_students_there_is_nothing_to_compare(tmp_path):
    check_costs(table_of(tmp_path), CostChoice("macs"))  # no runs yet
    write_run(tmp_path, "network", 60.0, kind="teacher", method="none", teachers=[])
    with pytest.raises(RequestError, match="--pareto"):
        check_costs(table_of(tmp_path), CostChoice("macs"))


def test_within_needs_a_teacher(tmp_path):
    write_run(tmp_path, "alone", 60.0, method="none", result=size("small"))
    table = table_of(tmp_path)
    check_costs(table, CostChoice("macs"))
    with pytest.raises(RequestError, match="--within"):
        check_costs(table, CostChoice(within=1.0))


def test_latencies_of_different_hardware_share_no_column_and_no_front(tmp_path):
    folders = write_students(tmp_path)
    write_latency(folders["small", "kd"], 1.0, 10.0, processor="one")
    write_latency(folders["large", "kd"], 5.0, 10.0, processor="one")
    write_latency(folders["large", "none"], 9.0, 10.0, processor="two")
    cells, note = shown(tmp_path, CostChoice("latency"))
    columns = {name: list(cells[name]) for name in cells if name.startswith("latency")}
    assert [sorted(filter(None, texts)) for texts in columns.values()] == [["0.10", "0.50"], ["0.90"]]
    assert "one, 1 thread" in note
    assert "two, 1 thread" in note
    front = {f"{row.model} {row.method}" for row in cells.itertuples() if row.front}
    assert front == {"small kd", "large kd", "large student alone"}


def test_latencies_compare_as_they_are_printed(tmp_path):
    """Of one network twice the better accuracy is on the front alone, though its measurement was a little slower."""
    folders = write_students(tmp_path)
    write_latency(folders["small", "kd"], 1.003, 10.0)
    write_latency(folders["small", "none"], 1.001, 10.0)
    cells, _ = shown(tmp_path, CostChoice("latency"))
    assert [row.method for row in cells.itertuples() if row.front] == ["kd"]


def test_a_student_alone_has_the_latency_beside_the_teacher_that_it_was_measured_beside(tmp_path):
    folders = write_students(tmp_path)
    write_run(tmp_path, "vgg", 61.5, model="small", teachers=[VGG], result=size("small"))
    write_latency(folders["small", "none"], 1.0, 4.0)
    alone = table_of(tmp_path).query("role == 'student' and student == 'small'").set_index("teacher")
    assert alone.latency_ratio["resnet56"] == 0.25
    assert pd.isna(alone.latency_ratio["vgg13"])


def test_trials_of_several_machines_have_no_latency(tmp_path):
    for trial, processor in ((1, "one"), (2, "two"), (3, "one")):
        folder = write_run(tmp_path, f"kd{trial}", trial=trial, result=size("small"))
        write_latency(folder, float(trial), 10.0, processor=processor)
    (row,) = table_of(tmp_path).query("role == 'method'").itertuples()
    assert pd.isna(row.latency_ratio)
    assert row.latency_hardware == "one, 1 thread; two, 1 thread"
    (tmp_path / "kd2" / "latency.json").unlink()
    (row,) = table_of(tmp_path).query("role == 'method'").itertuples()
    assert row.latency_ratio == pytest.approx(0.2)


def test_under_validation_the_front_is_by_held_out_accuracy(tmp_path):
    """One epoch's test accuracy may tell otherwise."""
    lines = {"small": (50.0, 80.0), "large": (60.0, 70.0)}
    for model, (held_out, test) in lines.items():
        folder = write_run(tmp_path, model, test, model=model, result=size(model), validation=100)
        records = [{"epoch": e, "test": {"top1": test}, "validation": {"top1": held_out}} for e in (1, 2)]
        (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in records))
    report = build_report([str(tmp_path)], select="validation")
    students = report.table[report.table.role == "method"].set_index("student")
    assert dict(zip(students.index, front_of(students.reset_index(), "parameters"), strict=True)) == {
        "large": True,
        "small": True,
    }
    assert dict(zip(students.index, front_of(students.reset_index(), "macs"), strict=True)) == {
        "large": True,
        "small": False,
    }
