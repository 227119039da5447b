"""Learning curves from the records of runs."""

import os

import numpy as np

from analysis.learning_curves import curve_of, curve_pictures
from reporting.records.runs import read_runs
from tests.reporting.fake_runs import write_run


def test_a_curve_is_mean_and_band_over_the_trials_that_reached_the_epoch():
    trials = [{1: 10.0, 2: 20.0, 3: 30.0}, {1: 14.0, 2: 26.0}, {1: 18.0, 2: 23.0}]
    curve = curve_of("kd", trials, "range")
    assert (list(curve.epochs), list(curve.n)) == ([1, 2, 3], [3, 3, 1])
    np.testing.assert_allclose(curve.mean, [14, 23, 30])
    np.testing.assert_allclose([curve.low, curve.high], [[10, 20, 30], [18, 26, 30]])
    curve = curve_of("kd", trials, "std")
    np.testing.assert_allclose(curve.high - curve.mean, [4, 3, 0])  # of 10, 14, 18 and of 20, 23, 26
    np.testing.assert_allclose(curve.mean - curve.low, [4, 3, 0])


def test_unfinished_runs_have_no_curve(tmp_path):
    write_run(tmp_path, "cut", result=None)
    found, skipped = read_runs([tmp_path])
    assert [one.state for one in skipped] == ["unfinished"]
    assert curve_pictures(found, "range")[0] == []


def test_runs_in_folders_of_any_name_have_curves(tmp_path):
    write_run(tmp_path, "a\nb", 60.0)
    write_run(tmp_path, os.fsdecode(b"not-utf8-\xff"), 61.0, method="std")
    (picture,) = curve_pictures(read_runs([tmp_path])[0], "range")[0]
    assert {curve.label: curve.mean[-1] for curve in picture.curves} == {"kd": 60.0, "std": 61.0}
