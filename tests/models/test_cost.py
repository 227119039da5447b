"""Multiply-accumulates are those that papers give, and counting changes nothing."""

import pytest
import torch

from models import create_model
from models.cost import multiply_accumulates


# He et al. 2016, Touvron et al. 2021 (DeiT), Tolstikhin et al. 2021 (Mixer-S/16: 3.8) and Chen et al. 2022 (CycleMLP).
@pytest.mark.parametrize(
    ("name", "size", "giga"),
    [("resnet20", 32, 0.041), ("deit_base", 224, 17.56), ("mixer_s16", 224, 3.78), ("cyclemlp_b1", 224, 2.1)],
)
def test_counts_are_those_of_the_papers(name, size, giga):
    network = create_model(name, num_classes=1000 if size == 224 else 10, image_size=size)
    assert multiply_accumulates(network) / 1e9 == pytest.approx(giga, rel=0.02)


def test_a_count_by_hand():
    network = create_model("resnet8", num_classes=3, image_size=8)
    layers = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)]
    sides = {16: 8, 32: 4, 64: 2}  # of the maps that a convolution of so many channels gives
    convolutions = sum(layer.weight.numel() * sides[layer.out_channels] ** 2 for layer in layers)
    assert multiply_accumulates(network) == convolutions + network.last_linear.weight.numel()


def test_counting_changes_nothing():
    network = create_model("resnet8", num_classes=3, image_size=8).train()
    network.bn1.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    multiply_accumulates(network)
    assert network.training and not network.bn1.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
