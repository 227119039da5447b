"""The steps that STD takes by MINE's bound: their direction, how often, and in whole runs."""

import json
import math

import pytest
import torch

import evaluate
from distiller_zoo import Pair, create_method
from distiller_zoo.method import Trainee
from distiller_zoo.mine import information_bound, marginal_order
from models import FeatureShapes
from models.mixer import MlpMixer
from tests.helpers import (
    STEPS,
    assert_same,
    folder_of,
    outcome_of,
    read_json,
    read_metrics,
    stop_at_step,
    train,
)

MINE = ["--std_mine", "--std_mine_every", "3", "--std_mine_samples", "50"]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# --- the steps ------------------------------------------------------------------------------------


class ImageBatch:
    """What a step reads of a batch."""

    def __init__(self, images, step=0):
        self.images, self.step = images, step

    def generator(self, purpose):
        return generator(7)


def make_std(**options):
    torch.manual_seed(0)
    mixer = MlpMixer(width=8, depth=4, patch=2, num_classes=5, image_size=6)
    shapes = FeatureShapes(5, 8, (3, 4, 4), (), ())
    pair = Pair(mixer.feature_shapes(), (shapes,), 50)
    method = create_method("std", pair, {"std_mine": True, "std_mine_student_lr": 0.5, **options})
    parameters = [p for module in (mixer, method) for p in module.parameters() if p.requires_grad]
    averaged = []
    trainee = Trainee(lambda images: method.attach(mixer.features(images)), parameters, averaged.extend)
    return mixer, method, trainee, averaged


def bound_of(method, mixer, images, samples):
    tokens = method.attach(mixer.features(images)).tokens[-1][:samples]
    order = marginal_order(len(tokens), "random", generator(7))
    return information_bound(method.mine.networks[-1], tokens[:, :8], tokens[:, 8:], order)


@pytest.mark.parametrize("samples", [0, 6])
def test_both_players_move_along_the_gradient(samples):
    mixer, method, trainee, averaged = make_std(std_mine_samples=samples)
    images = torch.randn(10, 3, 6, 6)
    theta, omega = list(method.mine.networks.parameters()), trainee.parameters
    before = [p.detach().clone() for p in (*theta, *omega)]
    method.mine.networks.requires_grad_(True)
    value = bound_of(method, mixer, images, samples or None)
    gradients = torch.autograd.grad(value, [*theta, *omega], allow_unused=True)
    method.mine.networks.requires_grad_(False)
    for parameter in omega:
        parameter.grad = torch.ones_like(parameter)  # what the optimizer's step leaves behind does not matter
    method.extra_step(trainee, ImageBatch(images))
    rates = [0.01] * len(theta) + [-0.5] * len(omega)
    moved = 0
    for parameter, start, gradient, rate in zip((*theta, *omega), before, gradients, rates, strict=True):
        expected = start if gradient is None else start + rate * gradient
        torch.testing.assert_close(parameter.detach(), expected)
        moved += not torch.equal(parameter, start)
        assert parameter.grad is None
    assert moved > len(theta) + len(mixer.blocks)
    assert len(averaged) == len(theta) + len(omega)  # of several processes all gradients are made one
    assert method.extra_metrics() == {"mine": method.mine.bound}
    torch.testing.assert_close(method.mine.bound, value.detach())
    assert not any(p.requires_grad for p in theta)


@torch.no_grad()
def test_the_students_descent_lowers_the_bound():
    mixer, method, trainee, _ = make_std(std_mine_lr=0.0)
    images = torch.randn(32, 3, 6, 6)
    start = bound_of(method, mixer, images, None)
    for _ in range(20):
        with torch.enable_grad():
            method.extra_step(trainee, ImageBatch(images))
    assert bound_of(method, mixer, images, None) < start


@pytest.mark.parametrize(("every", "steps"), [(0, [0]), (1, [0, 1, 2, 3, 4, 5, 6]), (3, [0, 3, 6])])
def test_how_often(every, steps):
    _, method, trainee, averaged = make_std(std_mine_every=every)
    taken = []
    for step in range(7):
        averaged.clear()
        method.extra_step(trainee, ImageBatch(torch.randn(4, 3, 6, 6), step))
        taken += [step] * bool(averaged)
    assert taken == steps


def test_off_by_default():
    _, method, trainee, averaged = make_std(std_mine=False)
    method.extra_step(trainee, ImageBatch(torch.randn(4, 3, 6, 6)))
    assert averaged == []
    assert method.extra_metrics() == {}


# --- in a run -------------------------------------------------------------------------------------


@pytest.mark.runs
def test_recorded_and_resumed_to_the_bit(teacher, tmp_path, monkeypatch):
    options = {"teacher": teacher, "student": "mixer_pico", "extra": [*MINE, "--epochs", "1"]}
    assert train("std", output=tmp_path / "whole", **options) == 0
    with monkeypatch.context() as patch:
        stop_at_step(patch, 1, STEPS // 2)
        assert train("std", output=tmp_path / "cut", **options) == 130
    assert train("std", output=tmp_path / "cut", **options) == 0
    whole, cut = (folder_of(tmp_path / name) for name in ("whole", "cut"))
    assert_same(outcome_of(cut), outcome_of(whole))
    assert all(math.isfinite(record["readings"]["mine"]) for record in read_metrics(whole))
    assert train("std", output=tmp_path / "without", **(options | {"extra": ["--epochs", "1"]})) == 0
    without = read_metrics(folder_of(tmp_path / "without"))
    assert "readings" not in without[0]
    assert without[0]["test"] != read_metrics(whole)[0]["test"]


@pytest.mark.runs
def test_a_part_of_a_combination_takes_its_steps(teacher, tmp_path):
    """std+kd is std with the weights of the KL: the same steps, and the same readings of them."""
    options = {"teacher": teacher, "student": "mixer_pico"}
    extra = [*MINE, "--epochs", "1"]
    assert train("std+kd", output=tmp_path / "both", extra=extra, **options) == 0
    weights = read_json(folder_of(tmp_path / "both") / "config.json")["weights"]
    extra += ["--gamma", str(weights["gamma"]), "--alpha", str(weights["alpha"])]
    assert train("std", output=tmp_path / "one", extra=extra, **options) == 0
    both, one = (read_metrics(folder_of(tmp_path / name))[0] for name in ("both", "one"))
    assert weights["alpha"] > 0
    assert both["readings"].keys() == {"mine"}
    assert both["readings"]["mine"] == pytest.approx(one["readings"]["mine"], rel=1e-3)
    assert both["train"] == pytest.approx(one["train"], rel=1e-3)


@pytest.mark.runs
def test_all_predictions_are_reported(teacher, tmp_path, capsys):
    extra = ["--epochs", "1"]
    assert train("std", "kd", output=tmp_path, teacher=teacher, student="mixer_pico", extra=extra) == 0
    result = read_json(folder_of(tmp_path, "std") / "result.json")
    assert list(result["answers"]) == ["average", "class", "distillation", "confidence"]
    assert result["answers"]["average"] == {key: result["last"][key] for key in ("top1", "top5", "loss", "balanced")}
    assert len({measured["loss"] for measured in result["answers"].values()}) == 4
    assert "answers" not in read_json(folder_of(tmp_path, "kd") / "result.json")
    capsys.readouterr()
    weights = next(folder_of(tmp_path, "std").glob("*_last.pth"))
    argv = ["--path", str(weights), "--dataset", "digits", "--device", "cpu", "--answers"]
    assert evaluate.main(argv) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[1:]] == list(result["answers"])
    assert lines[1] == f"average: {lines[0]}"
    assert evaluate.main([*argv, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["answers"]
    for name, measured in result["answers"].items():
        assert found[name] == pytest.approx(measured | {"images": 500})
