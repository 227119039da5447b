"""Training on images without labels: the loss of a step, and whole runs from a folder of images."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.special import log_softmax

from dataset import DATASETS, UNLABELLED, Batch
from distiller_zoo import METHODS, Method, Pair, Weights, create_method, register_method
from engine.protocol.recipes import RECIPES
from engine.training.loss import cross_entropy, training_loss
from engine.training.student_run import measured_on_labels
from models import Features, create_model
from tests.engine.training.few import few_digits, train_few
from tests.engine.training.test_loss import naive_kl, plan_of, random
from tests.helpers import (
    assert_same,
    folder_of,
    folders_of,
    load,
    outcome_of,
    read_json,
    read_metrics,
    save_network,
    stop_at_step,
)

LABELS = torch.tensor([3, UNLABELLED, 0, UNLABELLED, UNLABELLED, 9])


def losses_of(z_s, z_t, batch, smoothing=0.0, weights=None):
    shapes = create_model("resnet8", 10, 8).feature_shapes()
    method = create_method("kd", Pair(shapes, (shapes,), 100))
    recipe = replace(RECIPES["repdistiller"], label_smoothing=smoothing)
    plan = plan_of("kd", recipe=recipe) if weights is None else plan_of("kd", recipe=recipe, weights=weights)
    return training_loss(plan, method, None, Features(z_s), (Features(z_t),), batch)


def batch_of(labels, targets=None, labelled="some"):
    return Batch(torch.zeros(len(labels), 1), labels, torch.arange(len(labels)), targets, 1, 0, 1, labelled)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_counts_labelled_images_and_kl_all(smoothing):
    z_s, z_t = random(6, 10), random(6, 10, seed=1)
    losses, total = losses_of(z_s, z_t, batch_of(LABELS), smoothing)
    rows = [row for row in range(6) if LABELS[row] >= 0]
    shares = (1 - smoothing) * np.eye(10)[LABELS[rows]] + smoothing / 10
    ce = -(shares * log_softmax(z_s.numpy()[rows], 1)).sum(1).mean()
    kl = naive_kl(z_s.numpy(), z_t.numpy(), 4.0).mean()
    assert losses["ce"].item() == pytest.approx(ce, rel=1e-9)
    assert losses["kl"].item() == pytest.approx(kl, rel=1e-9)
    assert total.item() == pytest.approx(0.1 * ce + 0.9 * kl, rel=1e-9)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_class_weights_are_those_of_the_labelled_images(smoothing):
    z, labelled = random(6, 10), LABELS >= 0
    weights = torch.arange(1, 11, dtype=z.dtype)
    expected = torch.nn.CrossEntropyLoss(weights, label_smoothing=smoothing)(z[labelled], LABELS[labelled])
    assert cross_entropy(z, batch_of(LABELS), smoothing, weights).item() == pytest.approx(expected.item(), rel=1e-9)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_of_a_mixed_image_the_labelled_share_counts(smoothing):
    """The mean over labelled shares, each with the loss of its own class."""
    z_s, share = random(6, 10), 0.3
    own, partner = LABELS.tolist(), LABELS.flip(0).tolist()
    targets, parts = torch.zeros(6, 10, dtype=torch.float64), []
    for row in range(6):
        for label, part in ((own[row], share), (partner[row], 1 - share)):
            if label >= 0:
                targets[row, label] += part
                log_p = log_softmax(z_s[row].numpy())
                parts.append((part, -(1 - smoothing) * log_p[label] - smoothing * log_p.mean()))
    losses, _ = losses_of(z_s, random(6, 10, seed=1), batch_of(LABELS, targets), smoothing)
    expected = sum(part * loss for part, loss in parts) / sum(part for part, _ in parts)
    assert losses["ce"].item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("labelled", ["some", "no"])
def test_a_batch_without_labels_has_the_gradient_of_the_kl(mixed, labelled):
    z_s, z_t = random(6, 10).requires_grad_(), random(6, 10, seed=1)
    targets = torch.zeros(6, 10, dtype=torch.float64) if mixed else None
    losses, total = losses_of(z_s, z_t, batch_of(torch.full((6,), UNLABELLED), targets, labelled))
    (found,) = torch.autograd.grad(total, z_s, retain_graph=True)
    (expected,) = torch.autograd.grad(losses["kl"], z_s)
    torch.testing.assert_close(found, 0.9 * expected)
    assert ("ce" in losses) == (labelled == "some")
    assert losses.get("ce", torch.zeros(())).item() == 0


def test_training_accuracy_is_that_of_labelled_images():
    predicted = torch.eye(10)[[3, 1, 5, 0, 0, 9]]
    measured, counts = measured_on_labels(predicted, batch_of(LABELS))
    assert measured["top1"].item() == pytest.approx(100 * 2 / 3)
    assert {name: count.item() for name, count in counts.items()} == {"ce": 3, "top1": 3}
    assert measured_on_labels(predicted, batch_of(LABELS, labelled="no")) == ({}, None)


# --- whole runs ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The training images of `few` as PNGs, in their order."""
    place = tmp_path_factory.mktemp("images") / "png"
    for number, image in enumerate(few_digits().train_images):
        path = place / f"{number // 50}" / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return place


def weights_of(output):
    return load(next(folder_of(output).glob("*_last.pth")))["model"]


@pytest.mark.runs
@pytest.mark.parametrize("mixing", [[], ["--mixup", "0.8", "--cutmix", "1"]])
def test_the_same_images_without_labels_give_the_same_weights_by_kd(mixing, folder, teacher, tmp_path):
    """To the bit, where no label counts: γ is 0."""
    alone = ["--unlabelled", str(folder), "--unlabelled_only"]
    for name, extra in (("labelled", ["-r", "0"]), ("unlabelled", alone)):
        assert train_few("kd", output=tmp_path / name, teacher=teacher, extra=[*extra, *mixing]) == 0
    labelled, unlabelled = (weights_of(tmp_path / name) for name in ("labelled", "unlabelled"))
    assert_same(unlabelled, labelled)
    run = folder_of(tmp_path / "unlabelled")
    assert read_json(run / "config.json")["weights"]["gamma"] == 0
    assert read_metrics(run)[0]["train"].keys() == {"loss", "kl"}


@pytest.mark.runs
def test_runs_on_both_are_continued_to_the_bit(folder, teacher, tmp_path, monkeypatch):
    """252 images make eight steps; mlkd has two views of each."""
    methods, extra = ("kd", "mlkd"), ["--unlabelled", str(folder), "--mixup", "0.8"]
    options = {"teacher": teacher, "extra": extra}
    assert train_few(*methods, output=tmp_path / "whole", **options) == 0
    cuts = 0
    with monkeypatch.context() as patch:
        stop_at_step(patch, 2, 5)
        while train_few(*methods, output=tmp_path / "cut", **options) == 130:
            cuts += 1
    assert cuts == 2  # mlkd's batches make a group of their own
    for method in methods:
        whole, cut = (folder_of(tmp_path / name, method) for name in ("whole", "cut"))
        assert_same(outcome_of(cut), outcome_of(whole))
    first = read_metrics(folder_of(tmp_path / "whole", "kd"))[0]
    assert {"ce", "kl", "top1"} <= first["train"].keys()


@pytest.mark.runs
def test_what_a_run_records_and_who_shares_a_folder(folder, teacher, tmp_path):
    images = ["--unlabelled", str(folder)]
    for extra in ([], images, [*images, "--unlabelled_only"], [*images, "--validation", "20"]):
        assert train_few("kd", output=tmp_path, teacher=teacher, extra=["--epochs", "1", *extra]) == 0
    configs = [read_json(place / "config.json") for place in folders_of(tmp_path)]
    assert len(configs) == 4
    given = [config["unlabelled"] for config in configs if config["unlabelled"]]
    assert {(each["path"], each["images"]) for each in given} == {(str(folder), 126)}
    assert sorted(each["only"] for each in given) == [False, False, True]
    assert len({config["label"] for config in configs}) == 3
    assert len({config["data_sha256"] for config in configs}) == 1  # one table


@pytest.mark.runs
def test_damaged_images(folder, teacher, tmp_path, capsys):
    place = shutil.copytree(folder, tmp_path / "png")
    (place / "0/007.png").write_bytes(b"no image")
    extra = ["--unlabelled", str(place), "--epochs", "1"]
    assert train_few("kd", output=tmp_path / "save", teacher=teacher, extra=extra) == 2
    message = capsys.readouterr().err
    assert all(word in message for word in ("007.png", "--skip_bad_images"))
    assert train_few("kd", output=tmp_path / "save", teacher=teacher, extra=[*extra, "--skip_bad_images"]) == 0
    assert list(read_json(folder_of(tmp_path / "save") / "config.json")["left_out"]) == [str(place / "0/007.png")]


@pytest.mark.runs
@pytest.mark.parametrize(
    ("methods", "extra", "flags"),
    [
        (["dkd"], [], ["--unlabelled", "dkd"]),
        (["crd+kd"], [], ["--unlabelled", "crd+kd"]),
        (["nd"], [], ["--unlabelled", "nd"]),
        (["none"], [], ["--unlabelled", "none"]),
        (["none", "wsld"], ["--skip_refused"], ["--unlabelled", "none"]),
        (["kd"], ["-a", "0", "-r", "1"], ["--unlabelled", "--alpha"]),
        (["kd"], ["--lwr", "1"], ["--lwr", "--unlabelled"]),
        (["kd"], ["--unlabelled_only", "-r", "0.1"], ["--gamma", "--unlabelled_only"]),
        (["hint"], ["--unlabelled_only"], ["--alpha", "hint"]),
        (["hint"], ["-r", "0"], ["--alpha", "hint"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_refused(methods, extra, flags, folder, teacher, tmp_path, capsys):
    extra = ["--unlabelled", str(folder), *extra]
    assert train_few(*methods, output=tmp_path / "save", teacher=teacher, extra=extra) == 2
    message = capsys.readouterr().err
    assert all(flag in message for flag in flags)
    assert not (tmp_path / "save").exists()


@pytest.mark.runs
@pytest.mark.parametrize(
    ("methods", "extra"),
    [(["hint"], ["-a", "1"]), (["simkd"], []), (["dist"], []), (["kd+hint"], []), (["hint+mlkd"], [])],
    ids=str,
)
def test_without_labels_a_method_that_trains_what_predicts_is_taken(methods, extra, folder, teacher, tmp_path):
    extra = ["--unlabelled", str(folder), "--unlabelled_only", "--epochs", "1", *extra]
    assert train_few(*methods, output=tmp_path, teacher=teacher, extra=extra) == 0


@pytest.mark.runs
def test_the_predictions_of_a_teacher_of_other_classes_are_not_advised(folder, tmp_path, capsys):
    save_network(tmp_path / "teacher.pth", entry=DATASETS["cifar100"])
    extra = ["--unlabelled", str(folder), "-r", "0"]
    assert train_few("hint", output=tmp_path / "save", teacher=tmp_path / "teacher.pth", extra=extra) == 2
    message = capsys.readouterr().err
    assert "--gamma" in message
    assert "--alpha" not in message


class ReadsInItsLoss(Method):
    paper, weights = "none", Weights(1, 1, 1)

    def loss(self, student, teacher, batch):
        return student.logits.mean() * len(batch.labels)


class ReadsInAStep(Method):
    paper, weights, takes_extra_step = "none", Weights(1, 1, 1), True

    def loss(self, student, teacher, batch):
        return student.logits.mean()

    def extra_step(self, trainee, batch):
        batch.main_labels.sum()


@pytest.mark.runs
@pytest.mark.parametrize("cls", [ReadsInItsLoss, ReadsInAStep])
def test_a_method_that_reads_labels_and_does_not_say_so_fails_alone(cls, folder, teacher, tmp_path, capsys):
    with METHODS.temporarily():
        register_method("reader")(cls)
        assert train_few("reader", output=tmp_path / "labelled", teacher=teacher, extra=["--epochs", "1"]) == 0
        extra = ["--unlabelled", str(folder), "--epochs", "1"]
        assert train_few("reader", "kd", output=tmp_path / "both", teacher=teacher, extra=extra) == 1
    assert "reads_labels" in capsys.readouterr().err
    assert (folder_of(tmp_path / "both", "kd") / "result.json").exists()


@pytest.mark.runs
def test_refused_methods_can_be_left_out(folder, teacher, tmp_path):
    extra = ["--unlabelled", str(folder), "--skip_refused", "--epochs", "1"]
    assert train_few("none", "kd", "dkd", output=tmp_path, teacher=teacher, extra=extra) == 0
    assert read_json(folder_of(tmp_path) / "config.json")["method"] == "kd"


@pytest.mark.runs
def test_images_without_a_folder(teacher, tmp_path, capsys):
    for extra in (["--unlabelled_only"], ["--unlabelled", str(tmp_path / "missing")], ["--unlabelled", ""]):
        assert train_few("kd", output=tmp_path / "save", teacher=teacher, extra=extra) == 2
        assert "--unlabelled" in capsys.readouterr().err
