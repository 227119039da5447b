"""The classes that are kept are those that top-1 accuracy counts, also where logits are equal."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dataset import load_arrays
from engine.device.compute import Compute
from engine.training.evaluation import evaluate
from engine.training.predicted_classes import PredictedClasses
from tests.helpers import DIGITS


@pytest.mark.parametrize("values", [1, 3, 1000])
def test_they_agree_with_the_accuracy(values):
    data = load_arrays(DIGITS.name, Path())
    generator = torch.Generator().manual_seed(0)

    def forward(images):
        return torch.randint(values, (len(images), 10), generator=generator).float()

    predicted = PredictedClasses(forward)
    measured = evaluate(predicted, data, DIGITS, Compute(torch.device("cpu"), "fp32"))
    assert predicted.labels().shape == (500,)
    assert 100 * np.mean(predicted.labels() == data.test_labels) == pytest.approx(measured["top1"])
