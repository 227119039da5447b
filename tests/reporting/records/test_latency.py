"""latency.json of a run: read where it is whole, and no reason to leave a run out where it is not."""

import json

import pytest

from reporting.records.latency import LATENCY, Latency, read_latency
from reporting.records.read_run import read_folder
from tests.reporting.fake_runs import write_latency, write_run


def test_what_is_read(tmp_path):
    folder = write_run(tmp_path, "a")
    assert read_folder(folder).costs.latency is None
    write_latency(folder, 2.0, 8.0, processor="Some; CPU", threads=2)
    found = Latency(0.25, 2.0, 8.0, "resnet56", "Some, CPU, 2 threads")
    assert read_latency(folder) == found
    assert read_folder(folder).costs.latency == found


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"student_ms": 0},
        {"student_ms": "fast"},
        {"teacher_ms": None},
        {"processor": 1},
        {"threads": "1"},
        {"threads": True},
        {"teachers": []},
        {"teachers": [{"model": 1}]},
        {"teachers": "resnet56"},
    ],
)
def test_what_is_no_measurement_is_left_out(tmp_path, change):
    folder = write_run(tmp_path, "a")
    write_latency(folder, 2.0, 8.0)
    content = json.loads((folder / LATENCY).read_text())
    (folder / LATENCY).write_text(json.dumps(content | change))
    assert read_latency(folder) is None
    assert read_folder(folder).costs.latency is None


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": NaN}'])
def test_a_broken_file_is_left_out(tmp_path, text):
    folder = write_run(tmp_path, "a")
    (folder / LATENCY).write_text(text)
    assert read_folder(folder).costs.latency is None
