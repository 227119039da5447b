"""Probes: only the classifier learns, everything else stays the same bit for bit, and tables show the results."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import compare
import evaluate
import transfer_student
from common.seeds import derive_seed, isolated_seed
from dataset import DATASETS, Augmentation, Batching, BatchStream, evaluation_batches, load_arrays
from engine.checkpoints.frozen_backbone import load_backbone
from engine.checkpoints.start_weights import read_start_weights
from engine.protocol.recipes import RECIPES, resolve_recipe
from models import MODELS, create_model
from reporting.records.runs import read_runs
from tests.helpers import (
    DIGITS,
    assert_same,
    folder_of,
    load,
    outcome_of,
    read_json,
    read_metrics,
    save_network,
    stop_after_epoch,
    stop_at_step,
    train,
    train_alone,
)
from tests.reporting.fake_runs import tabulated

pytestmark = pytest.mark.runs
PLAIN = ("--no-crop", "--no-flip")
CIFAR100 = DATASETS["cifar100"]


def arguments(path, output, *extra, dataset="digits"):
    small = ("--epochs", "4", "--batch_size", "120", "--device", "cpu", "--precision", "fp32")
    return [str(part) for part in ("--path_s", path, "--dataset", dataset, *small, "--output", output, *extra)]


def probe(path, output, *extra):
    """transfer_student.py in this process; the folder of the run."""
    assert transfer_student.main(arguments(path, output, *extra)) == 0
    (config,) = Path(output).glob("transfer/*/config.json")
    return config.parent


def refused(capsys, argv):
    """What a probe that must be refused says; nothing may be written or fetched."""
    assert transfer_student.main(argv) == 2
    out, errors = capsys.readouterr()
    assert out == ""
    assert errors.startswith("error: ")
    assert 1 <= len(errors.splitlines()) <= 2
    return errors


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A resnet8 after an epoch on the digits, with batch-norm statistics of its own."""
    output = tmp_path_factory.mktemp("source")
    assert train_alone(output, "--epochs", "1") == 0
    return folder_of(output) / "resnet8_last.pth"


@pytest.fixture(scope="module")
def distilled(trained, tmp_path_factory):
    """A mixer_pico after an epoch of std, whose file holds a head more than the network."""
    output = tmp_path_factory.mktemp("distilled")
    assert train("std", output=output, teacher=trained, student="mixer_pico", extra=["--epochs", "1"]) == 0
    return folder_of(output) / "mixer_pico_last.pth"


@pytest.fixture(scope="module")
def of_100_classes(tmp_path_factory):
    path = tmp_path_factory.mktemp("classes") / "source.pth"
    save_network(path, "resnet8", CIFAR100, seed=3)
    return path


@pytest.fixture(scope="module")
def probed(trained, tmp_path_factory):
    return probe(trained, tmp_path_factory.mktemp("probed"), *PLAIN)


def assert_only_head_changed(folder, source, arch, head):
    before, after = load(source)["model"], load(folder / f"{arch}_last.pth")["model"]
    assert before.keys() == after.keys()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed == {f"{head}.weight", f"{head}.bias"}


# --- what is trained -------------------------------------------------------------------------------


def test_only_the_head_changes(probed, trained):
    assert_only_head_changed(probed, trained, "resnet8", "fc")  # batch-norm buffers are entries like any other
    buffers = [key for key in load(trained)["model"] if key.endswith(("running_mean", "running_var"))]
    assert len(buffers) > 10


def test_augmentation_and_weight_decay_do_not_reach_the_backbone(trained, tmp_path):
    folder = probe(trained, tmp_path, "--weight_decay", "0.1", "--mixup", "0.8", "--cutmix", "1")
    assert_only_head_changed(folder, trained, "resnet8", "fc")


def test_network_of_other_classes_and_size(of_100_classes, tmp_path):
    folder = probe(of_100_classes, tmp_path)
    saved = load(folder / "resnet8_last.pth")
    source = load(of_100_classes)["model"]
    assert (saved["num_classes"], saved["image_size"], saved["dataset"]) == (10, 8, "digits")
    assert saved["model"]["fc.weight"].shape == (10, 64)
    assert all(torch.equal(saved["model"][key], source[key]) for key in source if not key.startswith("fc."))


def test_file_of_a_method_with_heads_is_probed_bare(distilled, tmp_path, capsys):
    assert load(distilled)["method"]["name"] == "std"
    folder = probe(distilled, tmp_path)
    assert_only_head_changed(folder, distilled, "mixer_pico", "head")
    assert load(folder / "mixer_pico_last.pth")["method"] is None
    assert read_json(folder / "config.json")["backbone"]["trained_by"] == "std"


@pytest.mark.parametrize("family", sorted({entry.family for _, entry in MODELS.items()}))
def test_every_family(family, tmp_path):
    """The last linear layer is found by what it is, whatever it is called."""
    name = next(name for name, entry in MODELS.items() if entry.family == family)
    source = create_model(name, 100, 32)
    torch.save({f"module.{key}": value for key, value in source.state_dict().items()}, tmp_path / f"{name}.pth")
    network = create_model(name, 10, 32)
    fresh = network.last_linear.weight.clone()
    load_backbone(network, read_start_weights(tmp_path / f"{name}.pth"))
    trainable = {parameter for parameter in network.parameters() if parameter.requires_grad}
    assert trainable == {network.last_linear.weight, network.last_linear.bias}
    assert torch.equal(network.last_linear.weight, fresh)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        ours, theirs = network.eval().features(images), source.eval().features(images)
    assert torch.equal(ours.embedding, theirs.embedding)


# --- what it computes ------------------------------------------------------------------------------


@torch.no_grad()
def embeddings(network, images, labels):
    seen = [network.features(batch).embedding for batch, _ in evaluation_batches(images, labels, DIGITS, 500, "cpu")]
    return torch.cat(seen).double().numpy()


def regression_by_hand(path, epochs, decay_epochs):
    """Multinomial logistic regression on fixed embeddings: SGD with momentum 0.9 in NumPy."""
    network = create_model("resnet8", 10, 8)
    network.load_state_dict(load(path)["model"])
    data = load_arrays("digits", "data")
    x, labels = embeddings(network.eval(), data.train_images, data.train_labels), np.asarray(data.train_labels)
    with isolated_seed(derive_seed(1, "student")):
        head = create_model("resnet8", 10, 8).last_linear
    w, b = head.weight.detach().double().numpy().copy(), head.bias.detach().double().numpy().copy()
    moving_w, moving_b = np.zeros_like(w), np.zeros_like(b)
    plain = Augmentation(crop=False, flip=False)
    stream = BatchStream(data.train_images, data.train_labels, DIGITS, Batching(plain, 120, 1, False), "cpu")
    for epoch in range(1, epochs + 1):
        rate = 0.05 * 0.1 ** sum(epoch > decay for decay in decay_epochs)
        for batch in stream.epoch(epoch):
            index = batch.index.numpy()
            logits = x[index] @ w.T + b
            p = np.exp(logits - logits.max(axis=1, keepdims=True))
            p /= p.sum(axis=1, keepdims=True)
            p[np.arange(len(index)), labels[index]] -= 1
            moving_w = 0.9 * moving_w + p.T @ x[index] / len(index)
            moving_b = 0.9 * moving_b + p.mean(axis=0)
            w, b = w - rate * moving_w, b - rate * moving_b
    logits = embeddings(network, data.test_images, data.test_labels) @ w.T + b
    return w, b, 100 * (logits.argmax(axis=1) == data.test_labels).mean()


def test_agrees_with_logistic_regression_on_its_embeddings(probed, trained):
    w, b, top1 = regression_by_hand(trained, 4, (1, 2, 3))
    saved = load(probed / "resnet8_last.pth")["model"]
    np.testing.assert_allclose(saved["fc.weight"].numpy(), w, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(saved["fc.bias"].numpy(), b, rtol=1e-4, atol=1e-5)
    assert read_json(probed / "result.json")["last"]["top1"] == pytest.approx(top1, abs=0.21)  # one image of 500


def test_a_cut_changes_nothing(trained, tmp_path, monkeypatch, capsys):
    expected = outcome_of(probe(trained, tmp_path / "whole", "--save_freq", "2"))
    for output, position, stop, when in (
        ("within", [2, 4], stop_at_step, (2, 3)),
        ("after", [3, 0], stop_after_epoch, (2,)),
    ):
        argv = arguments(trained, tmp_path / output, "--save_freq", "2")
        with monkeypatch.context() as patch:
            stop(patch, *when)
            assert transfer_student.main(argv) == 130
        folder = folder_of(tmp_path / output)
        state = load(folder / "checkpoint.pth")
        assert state["position"] == position
        assert len(state["optimizer"]["state"]) == 2  # momentum of the classifier's weight and bias
        capsys.readouterr()
        assert transfer_student.main(argv) == 0
        assert f"epoch {position[0]}, step {position[1]}" in capsys.readouterr().out
        assert_same(outcome_of(folder), expected)


# --- what it leaves --------------------------------------------------------------------------------


def test_records(probed, trained):
    config = read_json(probed / "config.json")
    assert (config["kind"], config["method"], config["model"], config["dataset"]) == (
        "probe",
        "none",
        "resnet8",
        "digits",
    )
    backbone = config["backbone"]
    assert backbone.keys() == {"model", "path", "sha256", "trained_by", "code", "training"}
    of_backbone = read_json(trained.parent / "config.json")["code"]
    assert backbone["code"] == {f"backbone: {file}": digest for file, digest in of_backbone.items()}
    assert backbone["code"].items() < config["code"].items()
    assert (backbone["model"], backbone["path"], backbone["trained_by"]) == ("resnet8", str(trained), "none")
    assert probed.name == f"resnet8_to_digits_lr_0.05_decay_0_trial_1_{config['run_id']}"
    assert len(read_metrics(probed)) == 4
    assert {path.name for path in probed.iterdir()} == {
        "config.json", "metrics.jsonl", "result.json", "tensorboard", "resnet8_best.pth", "resnet8_last.pth",
    }  # fmt: skip
    assert read_json(trained.parent / "config.json")["backbone"] is None


def test_evaluate_reads_the_result(probed, capsys):
    assert evaluate.main(["--path", str(probed / "resnet8_last.pth"), "--dataset", "digits", "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    last = read_json(probed / "result.json")["last"]
    assert (measured["top1"], measured["top5"]) == (last["top1"], last["top5"])


def test_a_probe_of_a_probe_has_the_backbone_of_the_first(probed, tmp_path):
    again = probe(probed / "resnet8_last.pth", tmp_path / "again", "--epochs", "1")
    found, first = (read_json(folder / "config.json")["backbone"] for folder in (again, probed))
    assert (found["trained_by"], found["code"]) == ("none", first["code"])


def test_recipe():
    recipe = RECIPES["probe"]
    assert (recipe.optimizer, recipe.learning_rate, recipe.momentum, recipe.weight_decay) == ("sgd", 0.05, 0.9, 0)
    assert (recipe.epochs, recipe.batch_size, recipe.lr_decay_epochs) == (120, 64, (30, 60, 90))
    assert resolve_recipe("probe", MODELS["resnet8"], {}) == recipe


def test_classes_are_weighed_in_probes_too(tmp_path):
    save_network(tmp_path / "net.pth")
    folder = probe(tmp_path / "net.pth", tmp_path / "out", "--class_weights", "balanced")
    assert read_json(folder / "config.json")["recipe"]["class_weights"] == "balanced"


@pytest.mark.parametrize(("flag", "value"), [("--freeze_epochs", "1"), ("--layer_decay", "0.5")])
def test_what_would_change_nothing_in_a_probe_is_refused(tmp_path, capsys, flag, value):
    save_network(tmp_path / "net.pth")
    assert flag in refused(capsys, arguments(tmp_path / "net.pth", tmp_path / "out", flag, value))


def test_rate_that_suits_a_whole_network_is_not_the_probes(tmp_path):
    """MobileNetV2 is trained at 0.01, one linear layer on it is not."""
    save_network(tmp_path / "net.pth", "MobileNetV2")
    folder = probe(tmp_path / "net.pth", tmp_path / "out", "--epochs", "1")
    assert read_json(folder / "config.json")["recipe"]["learning_rate"] == 0.05


# --- refusals --------------------------------------------------------------------------------------


def test_mlp_for_images_of_another_size(tmp_path, capsys):
    save_network(tmp_path / "mlp.pth", "mixer_pico", CIFAR100)
    errors = refused(capsys, arguments(tmp_path / "mlp.pth", tmp_path / "out"))
    assert all(word in errors for word in ("mixer_pico", "32×32", "8×8"))
    save_network(tmp_path / "small.pth", "mixer_pico")
    argv = arguments(tmp_path / "small.pth", tmp_path / "out", "--data_folder", tmp_path / "data", dataset="cifar10")
    errors = refused(capsys, argv)
    assert all(word in errors for word in ("mixer_pico", "32×32", "8×8"))
    assert {path.name for path in tmp_path.iterdir()} == {"mlp.pth", "small.pth"}


def test_mlp_of_unknown_origin_for_images_of_another_size(tmp_path, capsys):
    torch.save(create_model("mixer_pico", 100, 32).state_dict(), tmp_path / "mixer_pico.pth")
    errors = refused(capsys, arguments(tmp_path / "mixer_pico.pth", tmp_path / "out"))
    assert all(word in errors for word in ("mixer_pico.pth", "mixer_pico"))


@pytest.mark.parametrize(
    ("name", "extra", "words"),
    [
        ("missing.pth", (), ["missing.pth"]),
        ("net.pth", ("--model_s", "resnet14"), ["net.pth", "resnet14"]),
        ("net.pth", ("--model_s", "resnet9"), ["resnet9"]),
        ("net.pth", ("--dataset", "mnist"), ["mnist"]),
        ("net.pth", ("--recipe", "prob"), ["prob", "probe"]),
        ("net.pth", ("--epochs", "0"), ["--epochs", "0"]),
        ("empty.pth", (), ["empty.pth"]),
        ("unnamed.pth", (), ["unnamed.pth", "--model_s"]),
    ],
)
def test_wrong_requests(name, extra, words, of_100_classes, tmp_path, capsys):
    shutil.copy(of_100_classes, tmp_path / "net.pth")
    (tmp_path / "empty.pth").touch()
    torch.save(create_model("resnet8", 10, 8).state_dict(), tmp_path / "unnamed.pth")
    errors = refused(capsys, [*arguments(tmp_path / name, tmp_path / "out"), *extra])
    assert all(word in errors for word in words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("missing", "argv"), [("--path_s", ["--dataset", "digits"]), ("--dataset", ["--path_s", "x"])])
def test_what_must_be_named(missing, argv, capsys):
    assert transfer_student.main(argv) == 2
    assert missing in capsys.readouterr().err.splitlines()[-1]


# --- tables ----------------------------------------------------------------------------------------


def copy_of(folder, target, last, trial, trained_by, sha256):
    """A probe with another backbone and another result, and epochs that lead to it."""
    shutil.copytree(folder, target)
    config, result = read_json(target / "config.json"), read_json(target / "result.json")
    config |= {"run_id": target.name, "trial": trial, "seed": trial}
    config["backbone"] |= {"trained_by": trained_by, "sha256": sha256}
    result["last"]["top1"], result["best"]["top1"] = last, last + 1
    (target / "config.json").write_text(json.dumps(config))
    (target / "result.json").write_text(json.dumps(result))
    lines = [{"epoch": epoch, "test": {"top1": last + (epoch == 1)}, "seconds": 0.1} for epoch in (1, 2, 3, 4)]
    (target / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def probes(probed, tmp_path):
    for trial, last in enumerate((50.0, 51.0, 53.0), 1):
        copy_of(probed, tmp_path / f"none{trial}", last, trial, "none", f"n{trial}")
    # All three backbones probed with one seed: repetitions all the same.
    for number, last in enumerate((55.0, 56.0, 58.0), 1):
        copy_of(probed, tmp_path / f"kd{number}", last, 1, "kd", f"k{number}")
    return tmp_path


def test_compare_shows_means_and_gains(probes):
    runs, skipped = read_runs([probes])
    table, notes = tabulated(runs)
    assert (skipped, notes) == ([], [])
    assert list(table.role) == ["probe", "probe"]
    assert list(table.method) == ["kd", "none"]
    assert list(table.n) == [3, 3]
    assert list(table.last_mean) == pytest.approx([np.mean([55, 56, 58]), np.mean([50, 51, 53])])
    assert list(table.last_std) == pytest.approx([np.std([55, 56, 58], ddof=1)] * 2)
    assert table.gain[0] == pytest.approx(5)
    assert np.isnan(table.gain[1])


def test_compare_prints_a_table_of_their_own(probes, trained, capsys):
    shutil.copytree(trained.parent, probes / "alone")
    assert compare.main([str(probes)]) == 0
    page = capsys.readouterr().out
    frozen = page.index("### frozen backbones, new classifier")
    heading = page.index("probe crop=False flip=False, 4 epochs, batch 120, fp32")
    assert heading < frozen < page.index("### networks trained alone")
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page[frozen:].splitlines()]
    assert ["model", "trained by", "last top-1 (n)", "best top-1", "gain over none"] in lines
    assert ["resnet8", "kd", "56.33 ± 1.53 (3)", "57.33", "+5.00"] in lines
    assert ["resnet8", "none", "51.33 ± 1.53 (3)", "52.33", ""] in lines
    for name in ("csv", "json", "latex", "html"):
        assert compare.main([str(probes), "--format", name]) == 0
        text = capsys.readouterr().out
        assert ("probe" if name in ("csv", "json") else "frozen backbones, new classifier") in text


def test_the_same_backbone_twice_with_one_seed_is_one_trial(probes):
    copy_of(probes / "kd1", probes / "other", 90.0, 1, "kd", "k1")
    table, notes = tabulated(read_runs([probes])[0])
    assert table.n[0] == 3
    assert len(notes) == 1
    assert all(word in notes[0] for word in ("resnet8", "kd", "digits", "trial 1", "seed 1"))


def test_a_probe_is_no_baseline_of_a_student(probes):
    """A student trained by the same recipe shares the protocol, and neither's gain is over the other."""
    config = read_json(probes / "kd1" / "config.json")
    shutil.copytree(probes / "kd1", probes / "student")
    config |= {"kind": "student", "run_id": "s", "backbone": None}
    (probes / "student" / "config.json").write_text(json.dumps(config))
    table, _ = tabulated(read_runs([probes])[0])
    gains = {(row.role, row.method): row.gain for row in table.itertuples()}
    assert gains.keys() == {("student", "none"), ("probe", "kd"), ("probe", "none")}
    assert gains["probe", "kd"] == pytest.approx(5)
    assert np.isnan(gains["student", "none"])


@pytest.mark.parametrize("backbone", [None, {}, {"sha256": "a"}, {"trained_by": "kd"}, {"sha256": 1, "trained_by": ""}])
def test_probe_without_a_record_of_its_backbone_is_broken(probed, tmp_path, backbone):
    shutil.copytree(probed, tmp_path / "run")
    config = read_json(probed / "config.json") | {"backbone": backbone}
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    runs, skipped = read_runs([tmp_path])
    assert runs == []
    assert [entry.state for entry in skipped] == ["broken"]
    assert "backbone" in skipped[0].reason
