"""Methods with a stage of their own before the main one: what it trains, logs, keeps and continues."""

import json

import pytest
import torch
from torch import nn

from distiller_zoo import METHODS, Method, Pair, Weights, create_method, register_method
from models import create_model
from tests.engine.training.few import STEPS, train_few
from tests.helpers import (
    assert_same,
    folder_of,
    load,
    outcome_of,
    read_json,
    read_metrics,
    stop_at_step,
)

pytestmark = pytest.mark.runs


class Staged(Method):
    """First a decoder of the teacher alone, then, with the decoder frozen, the student's embedding through it."""

    weights, needs = Weights(1, 0, 1), ("embedding",)

    def __init__(self, pair, *, staged_epochs: int = 2):
        super().__init__(pair)
        self.initial_epochs = staged_epochs
        self.decoder = nn.Linear(pair.teacher.embedding, pair.teacher.embedding)
        self.translator = nn.Linear(pair.student.embedding, pair.teacher.embedding)

    def initial_losses(self, student, teachers, batch):
        assert student.logits is None  # nor any field
        return {"decoding": (self.decoder(teachers[0].embedding) - teachers[0].embedding).square().mean()}

    def end_initial_stage(self):
        self.decoder.requires_grad_(False)

    def loss(self, student, teacher, batch):
        return (self.decoder(self.translator(student.embedding)) - teacher.embedding).square().mean()


class StagedStudent(Staged):
    """The initial stage trains the student's features."""

    initial_trains_student = True

    def initial_losses(self, student, teachers, batch):
        return {"matching": (self.translator(student.embedding) - teachers[0].embedding).square().mean()}


@pytest.fixture(autouse=True)
def staged():
    with METHODS.temporarily():
        register_method("staged")(Staged)
        register_method("staged_student")(StagedStudent)
        yield


def initial_metrics(folder):
    return [json.loads(line) for line in (folder / "initial_metrics.jsonl").read_text().splitlines()]


def comparable(folder):
    initial = [{key: record[key] for key in ("epoch", "epochs", "train")} for record in initial_metrics(folder)]
    return outcome_of(folder) | {"initial": initial}


@pytest.mark.parametrize("method", ["staged", "staged_student"])
def test_cut_anywhere(method, teacher, tmp_path, monkeypatch):
    """Within the initial stage, at its end, and in the main one: the same bits."""
    assert train_few(method, output=tmp_path / "whole", teacher=teacher) == 0
    expected = comparable(folder_of(tmp_path / "whole"))
    assert len(expected["metrics"]) == len(expected["initial"]) == 2
    for epoch, step in ((-1, 2), (0, STEPS - 1), (1, 1), (2, 2)):
        with monkeypatch.context() as patch:
            stop_at_step(patch, epoch, step)
            assert train_few(method, output=tmp_path / f"cut{epoch}", teacher=teacher) == 130
        assert load(folder_of(tmp_path / f"cut{epoch}") / "checkpoint.pth")["position"] == [epoch, step + 1]
        assert train_few(method, output=tmp_path / f"cut{epoch}", teacher=teacher) == 0
        assert_same(comparable(folder_of(tmp_path / f"cut{epoch}")), expected)


def test_what_each_stage_trains(teacher, tmp_path, monkeypatch, capsys):
    def state_after(method, epoch):
        output = tmp_path / f"{method}{epoch}"
        with monkeypatch.context() as patch:
            stop_at_step(patch, epoch, STEPS - 1)
            assert train_few(method, output=output, teacher=teacher) == 130
        return load(folder_of(output) / "checkpoint.pth")

    first, second, main = (state_after("staged", epoch) for epoch in (-1, 0, 1))
    for key in first["student"]:  # not even its running statistics
        assert torch.equal(first["student"][key], second["student"][key]), key
    assert not torch.equal(first["method"]["decoder.weight"], second["method"]["decoder.weight"])
    assert torch.equal(main["method"]["decoder.weight"], second["method"]["decoder.weight"])
    assert not torch.equal(main["method"]["translator.weight"], second["method"]["translator.weight"])
    assert first["meters"]["names"] == ["loss", "decoding"]
    first, second = (state_after("staged_student", epoch) for epoch in (-1, 0))
    changed = {key for key in first["student"] if not torch.equal(first["student"][key], second["student"][key])}
    assert "conv1.weight" in changed
    assert not changed & {"fc.weight", "fc.bias"}  # nothing tells the classifier anything yet
    assert "initial epoch 1/2  resnet8 staged_student" in capsys.readouterr().out


def test_in_company_of_methods_without(teacher, tmp_path):
    methods = ("staged", "kd", "none")
    assert train_few(*methods, output=tmp_path / "together", teacher=teacher) == 0
    for method in methods:
        assert train_few(method, output=tmp_path / method, teacher=teacher) == 0
        together, alone = folder_of(tmp_path / "together", method), folder_of(tmp_path / method)
        assert_same(outcome_of(together), outcome_of(alone))
    folder = folder_of(tmp_path / "together", "staged")
    assert [record["epoch"] for record in initial_metrics(folder)] == [1, 2]
    result, seconds = read_json(folder / "result.json"), 0.0
    for record in [*initial_metrics(folder), *read_metrics(folder)]:
        seconds += record["seconds"]
    assert result["epochs"] == 2
    assert result["wall_seconds"] == pytest.approx(seconds, abs=1e-2)
    assert not (folder_of(tmp_path / "together", "kd") / "initial_metrics.jsonl").exists()


def test_the_learning_rate_does_not_wait_for_a_warm_up(teacher, tmp_path, monkeypatch):
    """Recipes for MLPs begin near zero; a stage of few epochs would learn nothing."""
    extra = ["--recipe", "light", "--batch_size", "32", "--epochs", "20", "--learning_rate", "0.002"]
    stop_at_step(monkeypatch, 0, 2)
    assert train_few("staged", output=tmp_path, teacher=teacher, extra=extra) == 130
    groups = load(folder_of(tmp_path) / "checkpoint.pth")["optimizer"]["param_groups"]
    assert {group["lr"] for group in groups} == {0.002}


def test_as_part_of_a_combination(teacher, tmp_path):
    assert train_few("staged+kd", output=tmp_path, teacher=teacher) == 0
    folder = folder_of(tmp_path)
    assert initial_metrics(folder)[0]["train"].keys() == {"loss", "decoding"}
    assert read_metrics(folder)[0]["train"].keys() == {"loss", "ce", "kl", "staged", "top1"}


def test_hints_first_as_in_the_paper(teacher, tmp_path, monkeypatch):
    """A stage of hints alone up to the guided layer, then predictions; cut and continued."""
    options = {"teacher": teacher, "extra": ["--hint_epochs", "1", "-a", "1"]}
    assert train_few("hint", output=tmp_path / "whole", **options) == 0
    whole = folder_of(tmp_path / "whole")
    assert initial_metrics(whole)[0]["train"].keys() == {"loss", "hint"}
    assert read_metrics(whole)[0]["train"].keys() == {"loss", "ce", "kl", "top1"}
    with monkeypatch.context() as patch:
        stop_at_step(patch, 0, STEPS - 1)
        assert train_few("hint", output=tmp_path / "cut", **options) == 130
    state = load(folder_of(tmp_path / "cut") / "checkpoint.pth")
    assert train_few("hint", output=tmp_path / "cut", **options) == 0
    assert_same(comparable(folder_of(tmp_path / "cut")), comparable(whole))
    assert train_few("none", output=tmp_path / "fresh", extra=["--epochs", "1", "--learning_rate", "1e-12"]) == 0
    (weights,) = folder_of(tmp_path / "fresh").glob("*_last.pth")
    start = load(weights)["model"]
    moved = {key for key in start if start[key].is_floating_point() and "running" not in key
             and not torch.allclose(start[key], state["student"][key], atol=1e-6)}  # fmt: skip
    assert any(key.startswith("layer2") for key in moved)
    assert not any(key.startswith(("layer3", "fc")) for key in moved)  # behind the guided layer


# --- AB: the batch norm behind the last stage of a wide ResNet ------------------------------------


def boundary_losses_of(form, student, seen, teacher):
    """The initial loss of AB on the student's features of a pass in training mode."""
    pair = Pair(student.feature_shapes(), (teacher.feature_shapes(),), 100)
    torch.manual_seed(3)  # connectors alike
    method = create_method("abound", pair, {"ab_bn": form})
    method.inspect_networks(student, (teacher,))
    with torch.no_grad():
        taught = teacher.features(images())
    return method.initial_losses(seen.only(method.reads_of_student()), (taught,), None)["abound"]


def images():
    return torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(2))


def networks(student, teacher="wrn_16_1"):
    torch.manual_seed(1)
    return create_model(student, 10, 8).train(), create_model(teacher, 10, 8).eval()


@pytest.mark.parametrize("teacher_model", ["wrn_16_1", "wrn_16_2"])
def test_abound_freezes_the_last_batch_norm_of_a_wide_resnet(teacher_model):
    """As if it alone were in evaluation mode, at whatever step; and it learns nothing. Else as all others."""
    student, teacher = networks("wrn_16_1", teacher_model)
    student.bn1.eval()
    expected = boundary_losses_of("trained", student, student.features(images()), teacher)
    student.train()
    for _ in range(3):  # its running statistics move
        seen = student.features(images())
    frozen = boundary_losses_of("frozen", student, seen, teacher)
    trained = boundary_losses_of("trained", student, seen, teacher)
    assert frozen.item() == pytest.approx(expected.item(), rel=1e-5)
    assert trained.item() != pytest.approx(expected.item(), rel=1e-4)
    frozen.backward(retain_graph=True)
    assert student.bn1.weight.grad is None
    assert all(p.grad is not None for p in student.block3.parameters())
    trained.backward()
    assert student.bn1.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("model", ["resnet8", "vgg8", "ShuffleV2", "mixer_pico"])
def test_abound_is_the_same_in_both_forms_for_other_students(model):
    student, teacher = networks(model, "resnet8")
    seen = student.features(images())
    frozen, trained = (boundary_losses_of(form, student, seen, teacher) for form in ("frozen", "trained"))
    assert torch.equal(frozen, trained)


@pytest.mark.parametrize(("form", "learns"), [("frozen", False), ("trained", True)])
def test_abound_trains_all_of_a_wide_resnet_in_the_main_stage(form, learns, teacher, tmp_path, monkeypatch):
    options = {"output": tmp_path, "student": "wrn_16_1", "teacher": teacher}
    extra = ["--ab_bn", form, "--epochs", "1"]
    with monkeypatch.context() as patch:
        stop_at_step(patch, 0, STEPS - 1)
        assert train_few("abound", **options, extra=extra) == 130
    weight = load(folder_of(tmp_path) / "checkpoint.pth")["student"]["bn1.weight"]
    assert torch.equal(weight, torch.ones(64)) is not learns
    assert train_few("abound", **options, extra=extra) == 0
    assert not torch.equal(load(folder_of(tmp_path) / "wrn_16_1_last.pth")["model"]["bn1.weight"], weight)


def test_without_an_initial_stage(teacher, tmp_path):
    assert train_few("staged", output=tmp_path, teacher=teacher, extra=["--staged_epochs", "0"]) == 0
    assert len(read_metrics(folder_of(tmp_path))) == 2
