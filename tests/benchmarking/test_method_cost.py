"""scripts/benchmark_methods.py: what each method costs beside the networks."""

import contextlib
import sys

import pytest
import torch

from benchmarking.method_cost import MethodCost, PreparedPair
from benchmarking.peak import peak_bytes
from common.errors import RequestError
from distiller_zoo import METHODS, Method, register_method
from tests.helpers import ROOT, read_json

sys.path.insert(0, str(ROOT / "scripts"))

import benchmark_methods

PAIR = ("resnet20", "resnet8")
CPU = torch.device("cpu")


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
    monkeypatch.setattr("benchmark_methods.PreparedPair", None)
    assert benchmark_methods.main(argv) == 2
    out, errors = capsys.readouterr()
    assert out == ""
    assert errors.startswith("error: ")
    assert named in errors
    assert len(errors.splitlines()) <= 2


def test_peak_is_that_of_the_tensors_that_live_at_once():
    class Hungry(Method):
        def loss(self, student, teacher, batch):
            for _ in range(3):  # one after the other: only one of them lives at a time
                torch.zeros(2**20)
            return student.logits.sum()

    with METHODS.temporarily():
        register_method("hungry")(Hungry)
        cost = MethodCost("hungry", PreparedPair(*PAIR, 2, CPU))
        assert cost.peak_mib(cost.step) == pytest.approx(4, abs=0.1)


def test_peak_counts_what_autograd_keeps_and_not_what_was_there():
    there = torch.ones(2**18, requires_grad=True)  # 1 MiB
    kept = []

    def step():
        view = there.view(2, -1)  # nothing new
        a = view.exp()  # kept for the backward pass
        b = (a * 2).sin()  # its input is kept, it is not
        kept.append(b.sum())

    assert peak_bytes(step, CPU) == pytest.approx(3 * 2**20, rel=1e-3)  # a, 2a, b
    assert peak_bytes(lambda: kept[0].backward(), CPU) >= 2**20
    assert peak_bytes(lambda: there.view(-1), CPU) == 0


PAIRS = [("resnet32x4", "resnet8x4"), ("resnet20", "mixer_nano"), ("resnet20", "deit_nano_distilled")]


@pytest.mark.runs
def test_no_method_needs_a_gibibyte():
    """With its defaults, at batch 64 and CIFAR-100's sizes, in each stage, on the first pair that it accepts."""
    peaks, left = {}, set(METHODS)
    for pair in PAIRS:
        prepared = PreparedPair(*pair, 64, CPU)
        for name in sorted(left):
            with contextlib.suppress(RequestError):
                cost = MethodCost(name, prepared)
                peaks[name] = max(cost.peak_mib(step) for step in cost.steps().values())
        left -= peaks.keys()
    assert left == set()
    assert {name: peak for name, peak in peaks.items() if peak >= 1024} == {}
