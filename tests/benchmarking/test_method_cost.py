"""scripts/benchmark_methods.py: what each method costs beside the networks."""

import contextlib
import sys
from functools import cache

import pytest
import torch

from benchmarking.method_cost import MethodCost, PreparedPair
from benchmarking.peak import peak_bytes
from common.errors import RequestError
from distiller_zoo import METHODS, Method, register_method
from tests.helpers import ROOT, read_json, run_script

sys.path.insert(0, str(ROOT / "scripts"))

import benchmark_methods

PAIR = ("resnet20", "resnet8")
CPU = torch.device("cpu")


def test_as_a_user_runs_it(tmp_path):
    argv = ["--pair", "resnet20:resnet8", "--distill", "kd", "crd", "std", "--batch_size", "4", "--device", "cpu"]
    argv += ["--steps", "1", "--rounds", "2", "--json", tmp_path / "costs.json"]
    done = run_script("scripts/benchmark_methods.py", *argv)
    assert done.returncode == 0, done.stderr
    assert "# Methods on resnet20 → resnet8, CIFAR-100, batch 4" in done.stdout
    assert "left out: std: std distils into MLPs" in done.stdout
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
    ("argv", "message"),
    [
        (["--pair", "resnet20"], "TEACHER:STUDENT"),
        (["--pair", "resnet20:resnet9"], "unknown model"),
        (["--batch_size", "1"], "2 or more"),
        (["--distill", "kp"], "unknown method"),
        (["--rounds", "0"], "--rounds is 0"),
    ],
)
def test_wrong_requests_end_before_anything_is_measured(argv, message, capsys, monkeypatch):
    monkeypatch.setattr("benchmark_methods.PreparedPair", None)
    assert benchmark_methods.main(argv) == 2
    out, errors = capsys.readouterr()
    assert out == ""
    assert errors.startswith("error: ")
    assert message in errors
    assert len(errors.splitlines()) <= 2


def test_peak_is_that_of_the_tensors_that_live_at_once():
    class Hungry(Method):
        def loss(self, student, teacher, batch):
            for _ in range(3):  # one after the other: only one of them lives at a time
                torch.zeros(2**20)
            return student.logits.sum()

    register_method("hungry")(Hungry)
    try:
        cost = MethodCost("hungry", PreparedPair(*PAIR, 2, CPU))
        assert cost.peak_mib(cost.step) == pytest.approx(4, abs=0.1)
    finally:
        del METHODS._entries["hungry"]


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


PAIRS = [("resnet32x4", "resnet8x4"), ("resnet56", "mixer_nano"), ("resnet56", "deit_nano_distilled")]


@cache
def prepared(pair):
    return PreparedPair(*pair, 64, CPU)


def cost_of(name):
    """On the first pair that the method does not refuse."""
    for pair in PAIRS:
        with contextlib.suppress(RequestError):
            return MethodCost(name, prepared(pair))
    pytest.fail(f"{name} refuses {PAIRS}")


@pytest.mark.parametrize("name", METHODS)
def test_no_method_needs_a_gibibyte(name):
    """With its defaults, at batch 64 and CIFAR-100's sizes; in each of its stages."""
    cost = cost_of(name)
    for step in cost.steps().values():
        assert cost.peak_mib(step) < 1024
