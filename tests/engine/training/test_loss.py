"""The loss of a step: cross-entropy, standardised logits, and labels from the run's own past."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from sklearn.utils.class_weight import compute_class_weight

from dataset import DATASETS, Batch
from distiller_zoo import Pair, create_method, method_class
from distiller_zoo.predictions import standardised
from engine.protocol.plan import RunPlan, TeacherFile
from engine.protocol.recipes import RECIPES
from engine.training.loss import balanced_weights, cross_entropy, training_loss
from engine.training.retrospection import Retrospection, RetrospectionPlan
from engine.training.student_run import StudentRun, accuracy
from models import Features, create_model
from tests.engine.training.few import train_few
from tests.helpers import assert_same, folder_of, outcome_of, read_json, read_metrics, stop_at_step, train_alone


def random(*shape, seed=0, scale=3.0):
    return scale * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def batch_of(labels, index, epoch=1):
    return Batch(torch.zeros(len(labels), 1), labels, index, None, epoch, 0, 1)


@pytest.mark.parametrize("shape", [(4, 10), (1, 3), (7, 100)])
def test_standardised_logits(shape):
    z = random(*shape)
    found = standardised(z).numpy()
    rows = [(row - row.mean()) / (row.std(ddof=1) + 1e-7) for row in z.numpy()]
    np.testing.assert_allclose(found, np.stack(rows), atol=1e-12)
    np.testing.assert_allclose(standardised(5 * z + 3).numpy(), found, atol=1e-6)
    assert standardised(torch.ones(2, 5)).isfinite().all()
    np.testing.assert_allclose(standardised(torch.stack([z, z])).numpy(), [found, found], atol=1e-12)


def test_a_student_whose_logits_are_all_equal_takes_no_giant_step():
    """As those of a classifier that starts at zero: they have no scale to divide by."""
    z, weight = torch.zeros(3, 5, dtype=torch.float64, requires_grad=True), random(3, 5)
    (standardised(z) * weight).sum().backward()
    np.testing.assert_allclose(z.grad.numpy(), weight.numpy() - weight.numpy().mean(1, keepdims=True), atol=1e-12)


def plan_of(method, **changes):
    plan = RunPlan(
        "student",
        "digits",
        "resnet8",
        method,
        {},
        method_class(method).weights,
        4.0,
        (TeacherFile("resnet8", Path("teacher.pth"), "0" * 64),),
        RECIPES["repdistiller"],
        "fp32",
        1,
        1,
    )
    return replace(plan, **changes)


def test_kd_on_standardised_logits_against_numpy():
    shapes = create_model("resnet8", 10, 8).feature_shapes()
    method = create_method("kd", Pair(shapes, (shapes,), 100))
    z_s, z_t, labels = random(6, 10), random(6, 10, seed=1), torch.arange(6)
    losses, total = training_loss(
        plan_of("kd", logit_standardization=True),
        method,
        None,
        Features(z_s),
        (Features(z_t),),
        batch_of(labels, labels),
    )
    s, t = ((z - z.mean(1, keepdims=True)) / z.std(1, ddof=1, keepdims=True) / 4 for z in (z_s.numpy(), z_t.numpy()))
    kl = 16 * (softmax(t, 1) * (log_softmax(t, 1) - log_softmax(s, 1))).sum(1).mean()
    ce = -log_softmax(z_s.numpy(), 1)[np.arange(6), labels].mean()  # of the logits as they are
    assert losses["kl"].item() == pytest.approx(kl, rel=1e-6)
    assert losses["ce"].item() == pytest.approx(ce, rel=1e-12)
    assert total.item() == pytest.approx(0.1 * ce + 0.9 * kl, rel=1e-6)


def mixed_batch(labels, main):
    """Images that are mixed of all ten classes in random shares, most of class `main`."""
    shares = np.random.default_rng(0).dirichlet(np.ones(10), len(main))
    shares[np.arange(len(main)), main] += 1
    batch = batch_of(labels, torch.arange(len(main)))
    batch.targets = torch.from_numpy(shares / shares.sum(1, keepdims=True))
    return batch


def test_balanced_weights_are_scikit_learns():
    labels = torch.tensor([0, 0, 0, 1, 3, 3, -1])  # no image of class 2, and one without a label
    expected = compute_class_weight("balanced", classes=np.array([0, 1, 3]), y=labels[:-1].numpy())
    found = balanced_weights(labels, 4)
    assert found[2] == 0
    # scikit-learn knows three classes, and there are four.
    assert found[[0, 1, 3]].numpy() == pytest.approx(expected * 3 / 4)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("mixed", [False, True])
def test_cross_entropy_by_class_weights_against_torch(mixed, smoothing):
    z, labels = random(6, 10), torch.arange(6)
    batch = mixed_batch(labels, labels.numpy() + 4) if mixed else batch_of(labels, labels)
    weights = torch.arange(1, 11, dtype=z.dtype)
    expected = torch.nn.CrossEntropyLoss(weights, label_smoothing=smoothing)(z, batch.targets if mixed else labels)
    assert cross_entropy(z, batch, smoothing, weights).item() == pytest.approx(expected.item(), rel=1e-12)
    assert cross_entropy(z, batch, smoothing, torch.ones_like(weights)).item() != pytest.approx(expected.item())


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("mixed", [False, True])
def test_cross_entropy_of_mixed_images_and_smoothed_labels_against_numpy(mixed, smoothing):
    z, labels = random(6, 10), torch.arange(6)
    batch = mixed_batch(labels, labels.numpy() + 4) if mixed else batch_of(labels, labels)
    plan = plan_of("none", recipe=replace(RECIPES["repdistiller"], label_smoothing=smoothing))
    method = create_method("none", Pair(create_model("resnet8", 10, 8).feature_shapes(), (), 100))
    losses, total = training_loss(plan, method, None, Features(z), (), batch)
    shares = batch.targets.numpy() if mixed else np.eye(10)[labels]
    expected = -(((1 - smoothing) * shares + smoothing / 10) * log_softmax(z.numpy(), 1)).sum(1).mean()
    assert losses["ce"].item() == pytest.approx(expected, rel=1e-9)
    assert total.item() == pytest.approx(expected, rel=1e-9)


def test_training_accuracy_is_by_the_larger_part_of_a_mixed_image():
    """Four of six predictions are of that class; none is of the class that the image had before."""
    labels, main = torch.arange(6), np.arange(6) + 4
    predicted = torch.from_numpy(np.where(np.arange(6) < 4, main, (main + 1) % 10))
    batch = mixed_batch(labels, main)
    assert accuracy(torch.eye(10)[predicted], batch.main_labels).item() == pytest.approx(100 * 4 / 6)


def z_scored(logits):
    rows = logits.detach().numpy()
    return (rows - rows.mean(axis=1, keepdims=True)) / (rows.std(axis=1, ddof=1, keepdims=True) + 1e-7)


def naive_kl(z_s, z_t, temperature):
    """T²·KL of each sample."""
    s, t = z_s / temperature, z_t / temperature
    return temperature**2 * (softmax(t, 1) * (log_softmax(t, 1) - log_softmax(s, 1))).sum(1)


@pytest.mark.parametrize("flag", [False, True])
@pytest.mark.parametrize("name", ["wsld", "sdd", "kd+sdd+wsld"])
def test_a_run_tells_its_method_and_all_parts(name, flag, tmp_path):
    """Each part standardises what it compares: the KL and wsld the networks' logits, sdd those of a region."""
    torch.manual_seed(0)
    teacher, options = create_model("resnet8", 10, 8), {"sdd_scales": "1"} if "sdd" in name else {}
    plan = plan_of(name, logit_standardization=flag, options=options)
    run = StudentRun(plan, DATASETS["digits"], (teacher,), tmp_path, writes=False)
    run.method.double()
    maps = random(6, 64, 2, 2, seed=1), random(6, 64, 2, 2, seed=2)
    heads = run.student.double().last_linear, teacher.double().last_linear
    z_s, z_t = (head(f.mean(dim=(2, 3))).detach() for head, f in zip(heads, maps, strict=True))
    labels = torch.arange(6)
    student, taught = Features(z_s, last_map=maps[0]), Features(z_t, last_map=maps[1])
    losses, _ = training_loss(plan, run.method, None, student, (taught,), batch_of(labels, labels))
    s, t = (z_scored(z) if flag else z.numpy() for z in (z_s, z_t))
    ce_s, ce_t = (-log_softmax(z, 1)[np.arange(6), labels] for z in (s, t))
    entropies = -(softmax(t / 4, 1) * log_softmax(s / 4, 1)).sum(1)
    expected = {
        "kl": naive_kl(s, t, 4.0).mean(),
        "sdd": naive_kl(s, t, 4.0).mean(),  # of the one region that is the whole
        "wsld": 16 * ((1 - np.exp(-ce_s / (ce_t + 1e-7))) * entropies).mean(),
    }
    own = set(name.replace("kd+", "kl+").split("+"))
    assert losses.keys() == {"ce"} | own
    for part in own:
        assert losses[part].item() == pytest.approx(expected[part], rel=1e-6), part
    assert losses["ce"].item() == pytest.approx(-log_softmax(z_s.numpy(), 1)[np.arange(6), labels].mean(), rel=1e-9)


@pytest.mark.parametrize("labels", ["hard", "soft"])
def test_std_standardises_soft_labels_and_no_weights(labels):
    """The teachers' weights come from how sure they are: their logits as they are."""
    shapes = create_model("mixer_pico", 10, 8).feature_shapes()
    options = {"std_modules": "last+intermediate", "std_labels": labels, "std_T": 2.0}
    method = create_method("std", Pair(shapes, (shapes, shapes), 100), options)
    method.logit_standardization = True
    heads, taught = [random(5, 10, seed=seed) for seed in (1, 2)], [random(5, 10, seed=seed) for seed in (3, 4)]
    student = Features(random(5, 10), heads=tuple(heads))
    found = method.own_losses(student, tuple(map(Features, taught)), None)["std"].item()
    sure = np.stack([(softmax(z.numpy(), 1) * log_softmax(z.numpy(), 1)).sum(1) for z in taught])
    each = []
    for head, z in zip(heads, taught, strict=True):
        if labels == "soft":
            each.append(naive_kl(z_scored(head), z_scored(z), 2.0))
        else:
            each.append(-log_softmax(head.numpy(), 1)[np.arange(5), z.numpy().argmax(1)])
    assert found == pytest.approx((softmax(sure, 0) * np.stack(each)).sum(0).mean(), rel=1e-6)


@pytest.mark.runs
def test_standardised_runs_have_a_name_of_their_own(teacher, tmp_path):
    for extra in ([], ["--logit_standardization"]):
        assert train_few("kd", output=tmp_path, teacher=teacher, extra=extra) == 0
    labels = {read_json(path)["label"] for path in tmp_path.glob("*/*/config.json")}
    assert labels == {"kd", "kd standardised"}


# --- retrospection ------------------------------------------------------------------------------------


def naive(plan, epochs, logits_by_epoch, labels):
    """Algorithm 1 with one batch that is the whole data set: the base loss of each epoch."""
    kept, found, tau = None, [], plan.temperature
    for epoch, z in enumerate(logits_by_epoch, 1):
        ce = -log_softmax(z, 1)[np.arange(len(z)), labels].mean()
        if epoch <= plan.k:
            found.append(ce)
        else:
            alpha = 1 - plan.rate * (plan.k * ((epoch - 1) // plan.k)) / epochs
            kl = sum((q * (np.log(q) - p)).sum() for q, p in zip(kept, log_softmax(z / tau, 1), strict=True)) / len(z)
            found.append(alpha * ce + (1 - alpha) * tau**2 * kl)
        if epoch % plan.k == 0:
            kept = softmax(z / tau, 1)
    return found


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_retrospection_against_numpy(k):
    plan, epochs, n, classes = RetrospectionPlan(k, 0.9, 5.0), 7, 11, 4
    logits = [random(n, classes, seed=epoch) for epoch in range(1, epochs + 1)]
    labels = torch.arange(n) % classes
    retrospection = Retrospection(plan, epochs, n, classes).double()
    order = torch.randperm(n, generator=torch.Generator().manual_seed(3))
    found = []
    for epoch, z in enumerate(logits, 1):
        ce = torch.nn.functional.cross_entropy(z, labels)
        _, base = retrospection(ce, z[order], batch_of(labels[order], order, epoch))
        found.append(base.item())
    assert found == pytest.approx(naive(plan, epochs, [z.numpy() for z in logits], labels.numpy()), rel=1e-9)


def test_labels_lose_weight_down_to_the_rate():
    retrospection = Retrospection(RetrospectionPlan(5, 0.9, 5.0), 20, 3, 2)
    weights = [retrospection.label_weight(epoch) for epoch in range(1, 21)]
    assert weights == sorted(weights, reverse=True)
    assert weights[0] == 1
    assert all(0.1 <= weight <= 1 for weight in weights)
    assert math.isclose(weights[-1], 1 - 0.9 * 15 / 20)


@pytest.mark.runs
def test_a_run_with_retrospection_is_continued(teacher, tmp_path, monkeypatch):
    options = {"teacher": teacher, "extra": ["--lwr", "1", "--epochs", "3"]}
    assert train_few("kd", "none", output=tmp_path / "whole", **options) == 0
    with monkeypatch.context() as patch:
        stop_at_step(patch, 2, 2)
        assert train_few("kd", "none", output=tmp_path / "cut", **options) == 130
    assert train_few("kd", "none", output=tmp_path / "cut", **options) == 0
    for method in ("kd", "none"):
        whole, cut = (folder_of(tmp_path / name, method) for name in ("whole", "cut"))
        assert_same(outcome_of(cut), outcome_of(whole))
        assert read_json(cut / "config.json")["label"] == f"{method} lwr=1"
    records = read_metrics(folder_of(tmp_path / "whole", "none"))
    train_means = records[0]["train"]
    assert train_means["loss"] == pytest.approx(train_means["ce"])  # in the first k epochs the labels alone
    train_means = records[1]["train"]
    alpha = 1 - 0.9 / 3
    expected = alpha * train_means["ce"] + (1 - alpha) * train_means["retrospection"]
    assert train_means["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("extra", "flag"),
    [
        (["--lwr", "0"], "--lwr"),
        (["--lwr", "5", "--lwr_rate", "1.5"], "--lwr_rate"),
        (["--lwr", "5", "--lwr_T", "0"], "--lwr_T"),
        (["--lwr", "5", "--recipe", "deit"], "--mixup"),
    ],
)
def test_refused(extra, flag, tmp_path, capsys):
    assert train_few("none", output=tmp_path, extra=extra) == 2
    assert flag in capsys.readouterr().err


@pytest.mark.runs
def test_a_run_weighs_the_classes_of_its_training_set(tmp_path, monkeypatch):
    """It is another run than the plain one, and is so to tables."""
    for extra in ((), ("--class_weights", "balanced")):
        assert train_alone(tmp_path, "--epochs", "1", *extra) == 0
    plain, weighted = sorted(map(read_json, tmp_path.glob("models/*/config.json")), key=lambda c: len(c["recipe"]))
    assert weighted["recipe"]["class_weights"] == "balanced"
    assert "class_weights" not in plain["recipe"]
    assert plain["protocol_id"] != weighted["protocol_id"]
    losses = [read_metrics(path.parent)[0]["train"]["ce"] for path in tmp_path.glob("models/*/config.json")]
    assert losses[0] != losses[1]
