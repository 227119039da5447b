"""Which student is chosen of all that one folder has, by accuracy, cost and trial."""

import pytest

from scripts import choose_student
from tests.reporting.fake_runs import TEACHER, write_run

# Accuracy (%) and millions of multiply-accumulates of four students; the teacher has 72.63 %.
STUDENTS = {"small": (70.0, 10), "near": (71.7, 20), "nearer": (72.0, 20), "large": (73.0, 80)}


@pytest.fixture
def root(tmp_path):
    for model, (top1, macs) in STUDENTS.items():
        size = {"macs": macs * 10**6, "parameters": 10**6, "file_bytes": 4 * 10**6}
        write_run(tmp_path, f"runs/{model}", top1, model=model, result=size)
    return tmp_path


def chosen(capsys, *argv):
    """The name of the folder that is printed, and the exit code."""
    code = choose_student.main([*map(str, argv)])
    return capsys.readouterr().out.strip().rpartition("/")[2], code


@pytest.mark.parametrize(
    ("points", "expected"), [("1", "nearer"), ("5", "small"), ("0", "large"), ("0.63", "nearer"), ("0.62", "large")]
)
def test_the_smallest_within_so_many_points(root, capsys, points, expected):
    assert chosen(capsys, root, "--within", points) == (expected, 0)


def test_it_is_what_brute_force_finds(root, capsys):
    for points in (0, 0.5, 1, 2, 3):
        near = [(macs, -top1, model) for model, (top1, macs) in STUDENTS.items() if TEACHER["top1"] - top1 <= points]
        assert chosen(capsys, root, "--within", points) == (min(near)[2], 0)


def test_without_any_so_near_it_is_the_closest(root, capsys):
    write_run(root, "far/kd", 40.0, model="far", result={"macs": 1}, teachers=[{**TEACHER, "top1": 99.0}])
    assert chosen(capsys, root / "far", "--within", "1") == ("kd", 0)


def test_of_several_trials_the_most_accurate_is_taken(tmp_path, capsys):
    for trial, top1 in enumerate((71.0, 73.5, 72.0), 1):
        write_run(tmp_path, f"runs/trial{trial}", top1, trial=trial, result={"macs": 5})
    assert chosen(capsys, tmp_path) == ("trial2", 0)


@pytest.mark.parametrize(
    ("argv", "named"),
    [(("--within", "-1"), "--within"), (("--within", "101"), "--within"), (("--cost", "latency"), "latency")],
)
def test_refused(root, capsys, argv, named):
    assert choose_student.main([str(root), *argv]) == 2
    assert named in capsys.readouterr().err


def test_runs_without_costs_are_refused(tmp_path, capsys):
    write_run(tmp_path, "runs/old", 70.0)
    assert choose_student.main([str(tmp_path)]) == 2
    assert "macs" in capsys.readouterr().err
