"""Counts that the benchmarks take from the command line."""

from benchmarking.rounds import Settings
from benchmarking.timing_flags import resolve_settings
from scripts import benchmark


def test_defaults_of_the_devices():
    given = benchmark.parse(["--rounds", "7"])
    assert resolve_settings(given, "cpu") == Settings(steps=3, rounds=7, warmup=1)
    assert resolve_settings(given, "cuda") == Settings(steps=50, rounds=7, warmup=10)
