"""Charts of accuracy against the costs of students: points, the Pareto front, and the teacher."""

import math

import pytest

from reporting.formats.html.chart import LogScale, level_name_box, place_names
from reporting.formats.html.student_cost_charts import student_cost_charts
from reporting.tables.build_report import build_report
from tests.reporting.fake_runs import write_latency, write_suite
from tests.reporting.formats.html.pages import page_of
from tests.reporting.tables.test_accuracy_cost_tables import BIG, write_students

NEAR = {**BIG, "top1": 71.0}


def charts_of(root, **options):
    return list(student_cost_charts(build_report([str(root)], **options).table))


def corners(chart):
    (line,) = chart.lines
    return [tuple(map(float, point.split(","))) for point in line.points.split()]


def at(chart, name):
    (dot,) = (dot for dot in chart.dots if dot.label == name)
    return dot.x, dot.y


def test_each_cost_on_record_has_a_chart(tmp_path):
    folders = write_students(tmp_path, NEAR)
    assert [chart.x_name.split(" (")[0] for chart in charts_of(tmp_path)] == [
        "parameters",
        "multiply-accumulates",
        "weights file",
    ]
    write_latency(folders["small", "kd"], 1.0, 10.0, processor="one")
    write_latency(folders["large", "kd"], 2.0, 10.0, processor="one")
    write_latency(folders["large", "none"], 2.0, 10.0, processor="two")
    write_latency(folders["small", "none"], 3.0, 10.0, processor="two")
    *_, one, two = charts_of(tmp_path)
    assert "one, 1 thread" in one.place
    assert "two, 1 thread" in two.place
    assert [len(chart.dots) for chart in (one, two)] == [3, 2]  # the first has room for the teacher, whose share is 1


def test_costs_that_no_record_has_or_all_share_have_no_chart(tmp_path):
    write_suite(tmp_path)
    assert charts_of(tmp_path) == []


def test_the_front_is_a_line_through_its_students(tmp_path):
    """Right and then up, from one to the next."""
    write_students(tmp_path, NEAR)
    parameters, macs, _ = charts_of(tmp_path)
    small, large = at(parameters, "small kd"), at(parameters, "large kd")
    assert small[0] < large[0]
    assert small[1] > large[1]  # upwards is less
    assert corners(parameters) == [small, (large[0], small[1]), large]
    assert corners(macs) == [at(macs, "large kd")]
    assert "small kd" in parameters.lines[0].tooltip


def test_the_teacher_is_a_point_on_a_line_across(tmp_path):
    write_students(tmp_path, NEAR)
    for chart in charts_of(tmp_path):
        assert at(chart, "resnet56")[1] == chart.level
        assert "71.00" in chart.level_name
        assert at(chart, "resnet56")[0] == max(dot.x for dot in chart.dots)


def test_a_teacher_far_above_its_students_is_named_below_the_chart(tmp_path):
    write_students(tmp_path, {**BIG, "top1": 99.0})
    for chart in charts_of(tmp_path):
        assert chart.level is None
        assert "99.00" in chart.note
        assert len(chart.dots) == 4


def test_a_teacher_of_unknown_size_is_a_line_without_a_point(tmp_path):
    write_students(tmp_path, {key: NEAR[key] for key in ("model", "path", "sha256", "top1", "top5", "loss")})
    for chart in charts_of(tmp_path):
        assert chart.level is not None
        assert len(chart.dots) == 4


def test_the_page_has_them(tmp_path):
    write_students(tmp_path, NEAR)
    told = [text for _, text in page_of(tmp_path).of("desc") if "multiply-accumulates" in text]
    assert len(told) == 1
    assert "large kd: 70.00 % at 5.00 M" in told[0]
    assert "Pareto front: large kd" in told[0]


@pytest.mark.parametrize(("values", "labels"), [
    ([0.08, 1.2], ["0.1", "0.2", "0.5", "1"]),
    ([1, 1e6], ["1", "10", "100", "1,000", "10,000", "100,000", "1,000,000"]),
])  # fmt: skip
def test_ticks_of_a_logarithmic_scale(values, labels):
    scale = LogScale(values, 0.0, 100.0, margin=0.0)
    assert [tick.label for tick in scale.ticks()] == labels
    assert scale(values[0]) == 0.0
    assert scale(values[1]) == 100.0
    assert scale(math.sqrt(values[0] * values[1])) == pytest.approx(50.0)


def test_names_do_not_cover_the_name_of_the_level():
    left, top, right, bottom = level_name_box(150.0, "teacher 71.00")
    point = right + 30, (top + bottom) / 2, "kd"
    wide = [(*point[:2], "a name"), (point[0] + 60, point[1], "another")]  # the second leaves the first no room
    free, reserved = place_names(wide)[0], place_names(wide, [(left, top, right, bottom)])[0]
    assert free[2] == "end"
    assert reserved[2] == "middle"
