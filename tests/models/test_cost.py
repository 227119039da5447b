"""Multiply-accumulates against sums over layers by hand."""

import pytest
import torch

from models import create_model
from models.cost import multiply_accumulates


def conv(channels_in, channels_out, size, kernel=3):
    """Multiply-accumulates of a convolution whose output is size × size."""
    return channels_in * channels_out * kernel**2 * size**2


def test_resnet20():
    """A stem, three stages of six 3×3 convolutions, two 1×1 shortcuts and the classifier."""
    stages = [
        6 * conv(16, 16, 32),
        conv(16, 32, 16) + 5 * conv(32, 32, 16) + conv(16, 32, 16, kernel=1),
        conv(32, 64, 8) + 5 * conv(64, 64, 8) + conv(32, 64, 8, kernel=1),
    ]
    expected = conv(3, 16, 32) + sum(stages) + 64 * 100
    assert expected == pytest.approx(40.8e6, abs=5e4)
    assert multiply_accumulates(create_model("resnet20", 100, 32)) == expected


def test_wrn_16_2():
    """A stem, three stages of four 3×3 convolutions with a 1×1 shortcut each, and the classifier."""
    stages = [
        conv(before, after, size) + 3 * conv(after, after, size) + conv(before, after, size, kernel=1)
        for before, after, size in ((16, 32, 32), (32, 64, 16), (64, 128, 8))
    ]
    expected = conv(3, 16, 32) + sum(stages) + 128 * 100
    assert expected == pytest.approx(101.1e6, abs=5e4)
    assert multiply_accumulates(create_model("wrn_16_2", 100, 32)) == expected


def test_attention_counts_as_its_two_matrix_products():
    """Of 32×32 pixels 64 patches of 4×4, and the class token; 8 blocks of width 128."""
    tokens, width, blocks = 65, 128, 8
    linear = tokens * width * (3 * width + width + 2 * 4 * width)  # queries, keys and values; projection; perceptron
    attention = 2 * tokens**2 * width
    expected = 64 * 3 * 4 * 4 * width + blocks * (linear + attention) + width * 100
    assert multiply_accumulates(create_model("vit_nano", 100, 32)) == expected


def test_larger_images_cost_more():
    small, large = (multiply_accumulates(create_model("resnet8", 10, size)) for size in (32, 64))
    assert large - 64 * 10 == 4 * (small - 64 * 10)


# Touvron et al. 2021 (DeiT), Tolstikhin et al. 2021 (Mixer-S/16) and Chen et al. 2022 (CycleMLP).
@pytest.mark.parametrize(("name", "giga"), [("deit_base", 17.56), ("mixer_s16", 3.78), ("cyclemlp_b1", 2.1)])
def test_counts_are_those_of_the_papers(name, giga):
    assert multiply_accumulates(create_model(name, 1000, 224)) / 1e9 == pytest.approx(giga, rel=0.02)


def test_nothing_changes():
    network = create_model("resnet8", 10, 32).train()
    network.layer1.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    random = torch.random.get_rng_state()
    multiply_accumulates(network)
    assert network.training
    assert network.conv1.training
    assert not network.layer1.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert torch.equal(random, torch.random.get_rng_state())
    assert all(parameter.grad is None for parameter in network.parameters())
