"""Rounding of threads and processes: how far it moves weights, and that it is rounding."""

import re

import pytest
import torch

from scripts import measure_drift


def weights(path, dtype, steps=("1", "3")):
    arguments = measure_drift.parse(["--dtype", dtype, "--out", str(path), "--steps", *steps])
    measure_drift.train(arguments)
    return torch.load(path)


def share(found, expected):
    return measure_drift.difference(found, expected)[1]


def test_differences():
    one, other = {"a": torch.tensor([3.0, 4.0])}, {"a": torch.tensor([3.0, 4.5])}
    assert measure_drift.difference(other, one) == pytest.approx((0.5, 0.1))
    assert measure_drift.difference(one, one) == (0, 0)


@pytest.mark.runs
def test_threads_round_otherwise_and_do_nothing_else(tmp_path):
    """Both precisions take the same steps; in float64 two threads differ by less than float32 could show."""
    single = weights(tmp_path / "32", "float32")
    double = weights(tmp_path / "64", "float64")
    assert single.keys() == double.keys() == {1, 3}
    assert {value.dtype for value in double[3].values()} == {torch.float64}
    assert 0 < share(single[3], double[3]) < 1e-4 < share(double[1], double[3])
    torch.set_num_threads(2)
    try:
        threaded = weights(tmp_path / "threads", "float64")
    finally:
        torch.set_num_threads(1)
    assert share(threaded[3], double[3]) < 1e-12


@pytest.mark.slow
def test_the_table(capsys):
    """Two processes too."""
    assert measure_drift.main(["--steps", "10"]) == 0
    rows = dict(re.findall(r"\| (float\d+ \| .*?) \| 10 \| .* \| (.*) \|", capsys.readouterr().out))
    assert rows.pop("float32 | once more") == rows.pop("float64 | once more") == "0.0e+00"
    for name, value in rows.items():
        assert 0 < float(value) < (1e-2 if name.startswith("float32") else 1e-12), name
