"""Testing a network: figures against NumPy by head, and one batch only of a network that has no heads."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dataset import Arrays, load_arrays
from engine.device.compute import Compute
from engine.training.evaluation import batches_of_test, evaluate, evaluate_by_head
from tests.helpers import DIGITS

CPU = Compute(torch.device("cpu"), "fp32")


def test_each_head_has_figures_of_its_own():
    data, calls = many_digits(), []

    def forward(images):
        means = images.mean(dim=(1, 2, 3))
        logits = torch.stack([means * k for k in range(DIGITS.num_classes)], dim=1)
        calls.append(logits)
        return {"first": logits, "second": -logits}

    found = evaluate_by_head(forward, data, DIGITS, CPU)
    logits, labels = torch.cat(calls).double().numpy(), np.asarray(data.test_labels)
    for name, z in (("first", logits), ("second", -logits)):
        loss = np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(z)), labels]
        assert found[name]["images"] == len(labels)
        assert found[name]["top1"] == pytest.approx(100 * (z.argmax(axis=1) == labels).mean())
        assert found[name]["loss"] == pytest.approx(loss.mean(), rel=1e-5)


def test_a_network_without_heads_is_asked_once():
    asked = []
    assert evaluate_by_head(lambda images: asked.append(len(images)) or {}, many_digits(), DIGITS, CPU) == {}
    assert len(asked) == 1


def many_digits():
    """The digits' test set three times over, which takes several batches."""
    data = load_arrays(DIGITS.name, Path())
    images, labels = np.concatenate([data.test_images] * 3), np.concatenate([data.test_labels] * 3)
    return data._replace(test_images=images, test_labels=labels)


def test_a_test_can_be_watched():
    """Each batch passes, and the result stays the same."""
    images, labels = torch.rand(3, 8, 8, 3).mul(255).byte().repeat(300, 1, 1, 1), torch.arange(900) % 10
    data, seen = Arrays(*map(torch.Tensor.numpy, (images, labels, images, labels))), []

    def watch(batches):
        for batch in batches:
            seen.append(len(batch[1]))
            yield batch

    def forward(images):
        return images.flatten(1)[:, :10]

    assert evaluate(forward, data, DIGITS, CPU, watch) == evaluate(forward, data, DIGITS, CPU)
    assert (sum(seen), len(seen)) == (900, batches_of_test(data, DIGITS))
