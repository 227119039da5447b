"""The sum of the terms of a loss."""

import pytest
import torch

from distiller_zoo.sums import summed


def test_one_or_more_terms():
    terms = [torch.tensor([1.0, 2.0]), torch.tensor([0.5, -4.0])]
    assert summed(terms[:1]) is terms[0]
    assert summed(iter(terms)).tolist() == [1.5, -2.0]


def test_no_terms():
    with pytest.raises(ValueError, match="unpack"):
        summed([])
