"""Testing a network: figures against NumPy by head, and one batch only of a network that has no heads."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dataset import Arrays, load_arrays
from engine.device.compute import Compute
from engine.device.world import World
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


def test_balanced_accuracy_is_the_mean_of_the_classes_that_occur():
    labels = np.array([0] * 700 + [3] * 200 + [9] * 50)
    images = np.zeros((len(labels), 8, 8, 3), dtype=np.uint8)
    data, places = Arrays(images, labels, images, labels), iter(range(len(labels)))
    right = np.arange(len(labels)) % 4 != 0  # in each class another share

    def forward(batch):
        rows = [next(places) for _ in batch]
        predicted = np.where(right[rows], labels[rows], (labels[rows] + 1) % 10)
        return torch.nn.functional.one_hot(torch.from_numpy(predicted), 10).float()

    found = evaluate(forward, data, DIGITS, CPU)
    assert found["top1"] == 100 * right.mean()
    assert found["balanced"] == pytest.approx(100 * np.mean([right[labels == label].mean() for label in (0, 3, 9)]))


def test_processes_together_count_every_class():
    """Of two processes each takes every second batch; together they have the figures of one."""
    data = many_digits()

    def forward(images):
        return images.flatten(1)[:, 20:30]

    class Both(World):
        def sum(self, tensor):
            sums[self.rank].append(tensor)
            return tensor

    sums = ([], [])
    for rank in range(2):
        evaluate(forward, data, DIGITS, replace(CPU, world=Both(rank, 2)))
    (whole, by_class), one = (a + b for a, b in zip(*sums, strict=True)), evaluate(forward, data, DIGITS, CPU)
    assert by_class[10:].tolist() == np.bincount(data.test_labels).tolist()
    assert 100 * (by_class[:10] / by_class[10:]).mean().item() == pytest.approx(one["balanced"])
    assert (by_class[:10].sum(), whole[0]) == (pytest.approx(one["top1"] * len(data.test_labels) / 100),) * 2


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
