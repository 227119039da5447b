"""Logits, embeddings and CKA of networks, collected in one pass."""

import numpy as np
import pytest
import torch

from analysis.cka import cka
from analysis.collect import collect, layers_of
from analysis.named_networks import load_named_network, load_students
from common.errors import RunError
from dataset import evaluation_batches, load_arrays
from engine.device.compute import resolve_compute
from engine.training.evaluation import evaluate
from tests.helpers import DIGITS, save_network


def saved_networks(root, *archs):
    for number, arch in enumerate(archs):
        save_network(root / f"{arch}_{number}.pth", arch, seed=number)
    paths = [root / f"{arch}_{number}.pth" for number, arch in enumerate(archs)]
    return [load_named_network(paths[0], DIGITS, "teacher", None, False), *load_students(paths[1:], DIGITS, None)]


def test_predictions_are_those_of_the_networks_in_batches_of_any_size(tmp_path):
    data, compute = load_arrays("digits", tmp_path), resolve_compute("cpu", "fp32", "off")
    found = saved_networks(tmp_path, "resnet8", "mixer_pico")
    chosen = np.array([0, 7, 499])
    whole = collect(found, data, DIGITS, compute, chosen, batch_size=500)
    ((images, _),) = evaluation_batches(data.test_images, data.test_labels, DIGITS, 500, "cpu")
    features = [named.network.features(images) for named in found]
    teacher = layers_of(features[0])
    for predictions, own, named in zip(whole, features, found, strict=True):
        np.testing.assert_allclose(predictions.logits, own.logits.numpy(), atol=1e-5)
        np.testing.assert_allclose(predictions.embeddings, own.embedding[chosen].numpy(), atol=1e-5)
        assert predictions.layers == tuple(layers_of(own))
        expected = [[cka(t, s) for s in layers_of(own).values()] for t in teacher.values()]
        np.testing.assert_allclose(predictions.cka, expected, atol=1e-4)
        top1 = 100 * (predictions.logits.argmax(1) == data.test_labels).mean()
        assert top1 == pytest.approx(evaluate(named.network, data, DIGITS, compute)["top1"])
    np.testing.assert_allclose(np.diag(whole[0].cka), 1)
    parts = collect(found, data, DIGITS, compute, chosen, batch_size=83)  # the last batch has two images
    for predictions, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(other.logits, predictions.logits, atol=1e-4)
        np.testing.assert_allclose(other.embeddings, predictions.embeddings, atol=1e-4)
        np.testing.assert_allclose(other.cka, predictions.cka, atol=0.1)


def test_numbers_that_are_not_finite_are_a_failed_training(tmp_path):
    network = save_network(tmp_path / "resnet8.pth")
    state = torch.load(tmp_path / "resnet8.pth", weights_only=True)
    state["model"]["fc.weight"] = torch.full_like(network.fc.weight, 3e38)  # finite itself
    torch.save(state, tmp_path / "resnet8.pth")
    found = load_students([tmp_path / "resnet8.pth"], DIGITS, None)
    data, compute = load_arrays("digits", tmp_path), resolve_compute("cpu", "fp32", "off")
    with pytest.raises(RunError, match=r"resnet8\.pth"):
        collect(found, data, DIGITS, compute, np.array([0]), 250)
