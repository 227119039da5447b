"""scripts/benchmark_methods.py: what it prints and writes, and what it refuses."""

import pytest

from scripts import benchmark_methods
from tests.helpers import read_json


@pytest.mark.runs
def test_what_a_user_gets(tmp_path, capsys):
    argv = ["--pair", "resnet20:resnet8", "--distill", "kd", "crd", "std", "--batch_size", "4", "--device", "cpu"]
    argv += ["--steps", "1", "--rounds", "2", "--json", str(tmp_path / "costs.json")]
    assert benchmark_methods.main(argv) == 0
    out = capsys.readouterr().out
    assert "# Methods on resnet20 → resnet8, CIFAR-100, batch 4" in out
    assert "left out: std: " in out
    found = read_json(tmp_path / "costs.json")
    by_name = {record["method"]: record for record in found["methods"]}
    assert by_name.keys() == {"kd", "crd"}
    assert by_name["kd"] | {"ms": 0, "peak_mib": 0} == {
        "method": "kd", "ms": 0, "peak_mib": 0, "state_mib": 0, "parameters": 0,
    }  # fmt: skip
    assert by_name["crd"]["parameters"] == 2 * (64 * 128 + 128)
    memories, labels_by_image_and_by_class = 2 * (50_000 * 128 * 4 + 4), 2 * 50_000 * 8 + 100 * 8
    assert by_name["crd"]["state_mib"] == pytest.approx((memories + labels_by_image_and_by_class) / 2**20)
    assert by_name["crd"]["peak_mib"] > 4 * 50_000 * 4 / 2**20  # the products with a memory


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["--pair", "resnet20"], "--pair resnet20"),
        (["--pair", "resnet20:resnet9"], "resnet9"),
        (["--batch_size", "1"], "--batch_size is 1"),
        (["--distill", "kp"], "kp"),
        (["--rounds", "0"], "--rounds is 0"),
        (["--json", "nowhere/costs.json"], "--json nowhere/costs.json"),
    ],
)
def test_wrong_requests_end_before_anything_is_measured(argv, named, capsys, monkeypatch):
    monkeypatch.setattr("scripts.benchmark_methods.PreparedPair", None)
    assert benchmark_methods.main(argv) == 2
    out, errors = capsys.readouterr()
    assert out == ""
    assert errors.startswith("error: ")
    assert named in errors
    assert len(errors.splitlines()) <= 2
