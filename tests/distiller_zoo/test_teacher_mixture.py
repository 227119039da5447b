"""Several teachers as one: mixtures and confidence weights by loops, in the run's KL, and in whole runs."""

from dataclasses import replace

import pytest
import torch

from distiller_zoo import METHODS, Method, Weights, register_method
from distiller_zoo.teacher_mixture import confidence_weights, mixture, negative_entropies
from engine.training.loss import training_loss
from models import Features
from tests import golden_cases as gold
from tests import naive
from tests.distiller_zoo.cases import batch_of, make, shapes
from tests.distiller_zoo.odd_inputs import one_hot_logits
from tests.helpers import folders_of, read_json, save_network, train
from tests.numerics import arrays, assert_gradient, assert_near, every_dtype, normal


def logits_of(count, batch, classes, dtype=torch.float64):
    return [3 * normal(batch, classes, seed=seed, dtype=dtype) for seed in range(count)]


def naive_weights(logits):
    """M×B: of each sample the softmax over the teachers of their negative entropies."""
    entropies = [[naive.negative_entropy(row) for row in of_teacher] for of_teacher in logits]
    by_sample = [naive.softmax(sample) for sample in zip(*entropies, strict=True)]
    return list(zip(*by_sample, strict=True))


every_size = pytest.mark.parametrize(("count", "batch", "classes"), [(2, 5, 7), (3, 1, 2), (1, 4, 10)])


@every_dtype
@every_size
def test_confidence_weights(count, batch, classes, dtype):
    logits = logits_of(count, batch, classes, dtype)
    assert_near(confidence_weights(logits), naive_weights(arrays(*logits)))
    entropies = [[naive.negative_entropy(row) for row in of_teacher] for of_teacher in arrays(*logits)]
    assert_near(negative_entropies(logits), entropies)


def test_gradient_of_confidence_weights():
    assert_gradient(lambda a, b: confidence_weights([a, b]), *logits_of(2, 3, 5))


@pytest.mark.parametrize("weighting", ["average", "confidence"])
@every_size
def test_mixture(count, batch, classes, weighting):
    logits = logits_of(count, batch, classes)
    weights = naive_weights(arrays(*logits)) if weighting == "confidence" else [[1 / count] * batch] * count
    expected = []
    for sample in range(batch):
        p = [naive.softmax(of_teacher[sample]) for of_teacher in arrays(*logits)]
        expected.append([sum(w[sample] * row[k] for w, row in zip(weights, p, strict=True)) for k in range(classes)])
    found = mixture(tuple(map(Features, logits)), weighting).logits
    assert_near(found.exp(), expected)


def test_the_confident_teacher_counts_sample_by_sample():
    """One teacher is sure of the first sample, the other of the second."""
    sure, unsure = torch.tensor([9.0, 0, 0, 0]), torch.tensor([0.2, 0, 0, 0])
    weights = confidence_weights([torch.stack([sure, unsure]), torch.stack([unsure, sure])])
    assert weights.shape == (2, 2)
    assert weights[0, 0] > 0.75 > 0.25 > weights[0, 1]
    torch.testing.assert_close(weights.sum(dim=0), torch.ones(2))
    torch.testing.assert_close(weights[0, 0], weights[1, 1])


def test_the_weight_of_a_certain_teacher_against_a_clueless_one():
    """Entropies 0 and log 10: weights 10/11 and 1/11, whatever the rest of the batch."""
    certain, clueless = torch.zeros(3, 10), torch.zeros(3, 10)
    certain[:, 0] = 200
    expected = torch.tensor([[10 / 11], [1 / 11]]).expand(2, 3)
    torch.testing.assert_close(confidence_weights([certain, clueless]), expected)


def test_weights_of_one_hot_teachers_are_finite():
    sharp, soft = one_hot_logits(1e4), normal(3, 5, dtype=torch.float32)
    for teachers in ([sharp, soft], [sharp, sharp], [sharp, -sharp]):
        weights = confidence_weights(teachers)
        assert weights.isfinite().all()
        torch.testing.assert_close(weights.sum(dim=0), torch.ones(3))


def test_a_mixture_of_certain_teachers_is_finite():
    certain = Features(torch.tensor([[500.0, -500.0, 0.0]]))
    logits = mixture((certain, Features(torch.zeros(1, 3))), "confidence").logits
    assert logits.isfinite().all()
    assert logits.argmax() == 0


@pytest.mark.parametrize("weighting", ["average", "confidence"])
def test_the_kl_of_a_run(weighting):
    """The mean of the divergences to each teacher, or the divergence to their mixture by confidence."""
    z, *logits = logits_of(3, 4, 5)
    teachers = tuple(map(Features, logits))
    plan = gold.plan_of("kd", Weights(0, 1, 0), 2.0)
    plan = replace(plan, teachers=plan.teachers * 2, teacher_weighting=weighting)
    method = make("kd", shapes(), shapes())
    losses, _ = training_loss(plan, method, None, Features(z), teachers, batch_of(4))
    mixed = logits if weighting == "average" else [mixture(teachers, weighting).logits]
    assert_near(losses["kl"], naive.mean([naive.kd(*arrays(z, t), 2.0) for t in mixed]))


# --- whole runs -----------------------------------------------------------------------------------


@pytest.fixture
def two_teachers(tmp_path):
    paths = [tmp_path / f"{seed}.pth" for seed in (1, 2)]
    for seed, path in enumerate(paths):
        save_network(path, "resnet8", seed=seed)
    return [str(path) for path in paths]


@pytest.mark.runs
def test_methods_on_predictions_take_several(two_teachers, tmp_path):
    """KL by mean or by confidence, and a loss of one teacher with their mixture; each a run of its own."""

    class Mimic(Method):
        weights = Weights(1, 0, 1)

        def loss(self, student, teacher, batch):
            return (student.logits.log_softmax(1) - teacher.logits.log_softmax(1)).square().mean()

    with METHODS.temporarily():
        register_method("mimic")(Mimic)
        for weighting in ("average", "confidence"):
            extra = ["--path_t", *two_teachers, "--teacher_weighting", weighting, "--epochs", "1"]
            assert train("kd", "mimic", "kd+mimic", "none", output=tmp_path / "save", extra=extra) == 0
    folders = folders_of(tmp_path / "save")
    last = {
        read_json(folder / "config.json")["label"]: read_json(folder / "result.json")["last"]["loss"]
        for folder in folders
    }
    by = "teachers by confidence"
    expected = ["kd", f"kd {by}", "kd+mimic", f"kd+mimic {by}", "mimic", f"mimic {by}", "none"]
    assert sorted(last) == expected
    assert len(folders) == len(expected)
    assert last["kd"] != last[f"kd {by}"]
    assert last["mimic"] != last[f"mimic {by}"]


@pytest.mark.runs
def test_methods_on_features_take_one(two_teachers, tmp_path, capsys):
    assert train("hint", output=tmp_path / "save", extra=["--path_t", *two_teachers]) == 2
    message = capsys.readouterr().err
    assert "hint" in message
    assert "--path_t" in message
