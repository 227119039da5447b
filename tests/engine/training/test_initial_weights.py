"""Runs that start from weights: the start itself, what is trained when, the images that they see, and resuming."""

import dataclasses
import json

import pytest
import torch

import evaluate
import train_student
import train_teacher
import transfer_student
from engine.checkpoints.find_weights import WeightsChoice
from engine.checkpoints.initial_weights import initial_weights, read_initial_weights
from engine.checkpoints.weights import WeightsHeader, save_weights
from engine.protocol.plan import SharedSettings, make_plan
from engine.protocol.recipes import resolve_recipe
from engine.training import student_run
from engine.training.student_run import StudentRun
from models import MODELS, create_model
from tests.helpers import (
    DIGITS,
    arguments,
    assert_same,
    folder_of,
    load,
    outcome_of,
    read_json,
    read_metrics,
    save_network,
    stop_after_epoch,
    stop_at_step,
    train_alone,
)

HALVES = ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
CHOICE = WeightsChoice()


def run_from(path, tmp_path, arch="resnet8", entry=DIGITS, **recipe):
    """A run before its first step, that starts from a file."""
    start = read_initial_weights(str(path), arch, entry, "--init", CHOICE)
    resolved = resolve_recipe("finetune", MODELS[arch], {"epochs": 3, **recipe})
    shared = SharedSettings("teacher", entry.name, "fp32", init=initial_weights(start, entry))
    return StudentRun(make_plan("none", arch, resolved, shared), entry, (), tmp_path / "out", start)


@pytest.mark.parametrize("arch", ["resnet8", "mixer_pico", "deit_pico_distilled", "timm:resnet18"])
def test_a_network_starts_with_the_bits_of_the_file(tmp_path, arch):
    network = save_network(tmp_path / "w.pth", arch)
    run = run_from(tmp_path / "w.pth", tmp_path, arch)
    assert_same(dict(run.student.state_dict()), dict(network.state_dict()))
    assert run.keeps_classifier


@pytest.mark.parametrize("arch", ["resnet8", "deit_pico_distilled"])
@pytest.mark.parametrize("change", [{"num_classes": 7, "classes": tuple("abcdefg")}, {"classes": tuple("9876543210")}])
def test_of_other_classes_all_but_the_classifier_is_taken(tmp_path, arch, change):
    network = save_network(tmp_path / "w.pth", arch, dataclasses.replace(DIGITS, **change))
    student = run_from(tmp_path / "w.pth", tmp_path, arch).student
    for key, value in network.state_dict().items():
        assert student.of_classifiers(key) or torch.equal(student.state_dict()[key], value)
    assert student.last_linear.out_features == 10
    assert not torch.equal(student.last_linear.weight[:7], network.last_linear.weight[:7])
    assert not run_from(tmp_path / "w.pth", tmp_path, arch).keeps_classifier


@pytest.mark.parametrize(
    ("arch", "save", "named"),
    [
        ("resnet14", "resnet8", "layer"),  # a part is missing
        ("resnet8", "resnet14", "layer"),  # a part is left over
        ("mixer_pico", "mixer_nano", "blocks"),
        ("resnet8", "mixer_pico", "bn1"),
    ],
)
@pytest.mark.runs
def test_other_networks_are_refused_by_a_key(tmp_path, capsys, arch, save, named):
    save_network(tmp_path / "w.pth", save)
    argv = ["--model", arch, "--init", str(tmp_path / "w.pth"), "--dataset", "digits", "--output", str(tmp_path / "o")]
    assert train_teacher.main(argv) == 2
    errors = capsys.readouterr().err
    assert named in errors
    assert "w.pth" in errors
    assert not (tmp_path / "o").exists()


def test_only_the_classifier_is_trained_while_the_rest_is_frozen(tmp_path):
    save_network(tmp_path / "w.pth")
    run = run_from(tmp_path / "w.pth", tmp_path, freeze_epochs=2)
    for epoch, frozen in ((1, True), (2, True), (3, False)):
        run.position = epoch, 0
        run.set_mode()
        trained = {name for name, parameter in run.student.named_parameters() if parameter.requires_grad}
        everything = {name for name, _ in run.student.named_parameters()}
        assert trained == ({"fc.weight", "fc.bias"} if frozen else everything)
        assert run.student.bn1.training is not frozen


def test_what_a_network_never_trains_stays_untrained_after_the_frozen_epochs(tmp_path, monkeypatch):
    build = student_run.create_model

    def with_fixed_norm(*words):
        network = build(*words)
        network.bn1.weight.requires_grad_(False)
        return network

    monkeypatch.setattr(student_run, "create_model", with_fixed_norm)
    save_network(tmp_path / "w.pth")
    run = run_from(tmp_path / "w.pth", tmp_path, freeze_epochs=1)
    for position in ((1, 0), (2, 0)):
        run.position = position
        run.set_mode()
        assert not run.student.bn1.weight.requires_grad
    assert run.student.bn1.bias.requires_grad


@pytest.mark.runs
def test_a_fine_tuned_teacher_is_not_taken_for_one_from_scratch(tmp_path, capsys):
    """Both have one recipe, and so one protocol."""
    save_network(tmp_path / "w.pth")
    short = ("--epochs", "1", "--save_freq", "0")
    assert train_alone(tmp_path / "out", *short) == 0
    assert train_alone(tmp_path / "out", *short, "--init", str(tmp_path / "w.pth")) == 0
    assert train_student.main(arguments("kd", output=tmp_path / "out", extra=short)) == 2
    assert "--path_t" in capsys.readouterr().err


@pytest.mark.runs
def test_frozen_epochs_leave_the_rest_to_the_last_bit(tmp_path):
    network = save_network(tmp_path / "w.pth")
    more = ("--init", str(tmp_path / "w.pth"), "--freeze_epochs", "1", "--save_freq", "1")
    assert train_alone(tmp_path / "out", *more) == 0
    first, last = (load(folder_of(tmp_path / "out") / f"ckpt_epoch_{epoch}.pth")["model"] for epoch in (1, 2))
    for key, value in network.state_dict().items():
        assert torch.equal(first[key], value) == (not key.startswith("fc.")), key
        assert not torch.equal(last[key], value) or key.endswith("num_batches_tracked"), key


def test_layers_have_the_rate_of_the_one_above_times_the_decay(tmp_path):
    save_network(tmp_path / "w.pth", "mixer_pico")
    run = run_from(tmp_path / "w.pth", tmp_path, "mixer_pico", layer_decay=0.5, learning_rate=0.1, warmup_epochs=0)
    run._steps_per_epoch = 10
    run.position = 1, 0
    run._set_learning_rate()
    rates = {id(p): group["lr"] for group in run.optimizer.param_groups for p in group["params"]}
    of = {name: rates[id(p)] for name, p in run.student.named_parameters()}
    depth = len(run.student.blocks)
    assert of["head.weight"] == of["head.bias"] == 0.1
    for number in range(depth):
        expected = 0.1 * 0.5 ** (depth - number)
        assert {rate for name, rate in of.items() if name.startswith(f"blocks.{number}.")} == {expected}
    assert of["stem.proj.weight"] == 0.1 * 0.5 ** (depth + 1)
    assert of["norm.weight"] == of[f"blocks.{depth - 1}.norm1.weight"]  # a norm belongs to what is below it
    assert run.optimizer.param_groups[0]["lr"] == 0.1


def save_with_normalisation(path):
    network = create_model("resnet8", 10, 8)
    network.last_linear.weight.data.normal_(std=0.5)
    measured = {"top1": 0.0, "top5": 0.0, "loss": 0.0}
    save_weights(path, network, WeightsHeader("resnet8", DIGITS, 1, measured, normalisation=HALVES))


@pytest.mark.runs
def test_a_network_sees_images_normalised_as_those_of_its_file(tmp_path, capsys):
    """Before training and after it, in the run's own measurement and in that of its file."""
    torch.manual_seed(0)
    save_with_normalisation(tmp_path / "w.pth")
    of_file = measured(tmp_path / "w.pth", capsys)
    still = ("--learning_rate", "1e-30", "--weight_decay", "0", "--freeze_epochs", "1", "--no-crop", "--no-flip")
    assert train_alone(tmp_path / "still", "--init", str(tmp_path / "w.pth"), *still) == 0
    # Frozen, with its batch statistics, it is the network of the file.
    assert read_metrics(folder_of(tmp_path / "still"))[0]["test"]["loss"] == pytest.approx(of_file["loss"], rel=1e-5)
    assert train_alone(tmp_path / "out", "--init", str(tmp_path / "w.pth")) == 0
    (folder,) = (tmp_path / "out" / "models").iterdir()
    weights, result = load(folder / "resnet8_last.pth"), read_json(folder / "result.json")
    assert (weights["mean"], weights["std"]) == HALVES
    capsys.readouterr()
    again = measured(folder, capsys)
    assert (again["top1"], again["loss"]) == (result["last"]["top1"], result["last"]["loss"])
    config = read_json(folder / "config.json")
    assert config["init"]["normalisation"] == [list(each) for each in HALVES]


def measured(path, capsys):
    capsys.readouterr()
    assert evaluate.main(["--path", str(path), "--dataset", "digits", "--device", "cpu", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


CUTS = {
    "within a frozen epoch": (stop_at_step, 1, 3),
    "after the frozen epoch": (stop_after_epoch, 1),
    "within a later epoch": (stop_at_step, 2, 3),
}


@pytest.fixture(scope="module")
def finetuned(tmp_path_factory):
    """The words of a command that fine-tunes a student, and what it leaves behind undisturbed."""
    folder = tmp_path_factory.mktemp("finetuned")
    save_network(folder / "t.pth", "resnet14")
    save_network(folder / "w.pth", "resnet8", dataclasses.replace(DIGITS, num_classes=4, classes=()))
    more = ("--init_s", str(folder / "w.pth"), "--freeze_epochs", "1", "--layer_decay", "0.5", "--optimizer", "adamw")
    more += ("--learning_rate", "0.001", "--device", "cpu", "--precision", "fp32")

    def words(output):
        return arguments("hint", teacher=folder / "t.pth", output=output, extra=more)

    assert train_student.main(words(folder / "whole")) == 0
    return words, outcome_of(folder_of(folder / "whole"))


@pytest.mark.runs
@pytest.mark.parametrize("cut", CUTS)
def test_a_cut_run_ends_with_the_same_bits(finetuned, tmp_path, monkeypatch, cut):
    words, expected = finetuned
    stop, *where = CUTS[cut]
    with monkeypatch.context() as patch:
        stop(patch, *where)
        assert train_student.main(words(tmp_path)) == 130
    assert train_student.main(words(tmp_path)) == 0
    assert_same(outcome_of(folder_of(tmp_path)), expected)


@pytest.mark.runs
def test_requests_without_weights_to_keep_are_refused(tmp_path, capsys):
    base = ["--dataset", "digits", "--output", str(tmp_path / "o"), "--device", "cpu"]
    network = save_network(tmp_path / "w.pth")
    two = str(tmp_path / "two.pth")
    torch.save({"a": network.state_dict(), "b": create_model("resnet8", 10, 8).state_dict()}, two)
    for script, argv, named in (
        (train_teacher, ["--model", "resnet8", "--recipe", "finetune"], "--init"),
        (train_teacher, ["--model", "resnet8", "--freeze_epochs", "2"], "--init"),
        (
            train_teacher,
            ["--init", str(tmp_path / "w.pth"), "--epochs", "3", "--freeze_epochs", "3"],
            "--freeze_epochs",
        ),
        (train_teacher, ["--model", "resnet8", "--init", "pretrained"], "timm"),
        (train_teacher, ["--model", "resnet8", "--init", str(tmp_path / "missing.pth")], "missing.pth"),
        (train_student, ["--distill", "none", "--model_s", "resnet8", "resnet14", "--init_s", "w.pth"], "--init_s"),
        (train_student, ["--distill", "none", "--init_key", "model"], "--init_s"),
        (train_student, ["--distill", "none", "--init_s", two, "--model_s", "resnet8"], "--init_key"),
        (transfer_student, ["--path_s", str(tmp_path / "w.pth"), "--layer_decay", "0.5"], "--layer_decay"),
        (transfer_student, ["--path_s", str(tmp_path / "w.pth"), "--freeze_epochs", "1"], "--freeze_epochs"),
    ):
        assert script.main([*argv, *base]) == 2
        assert named in capsys.readouterr().err
    assert not (tmp_path / "o").exists()
