"""Sizes of networks as they predict: with the heads of a method, and without what it needs for training alone."""

import torch
from torch import nn

from distiller_zoo import Pair, create_method
from engine.checkpoints.deployed_size import deployed_size
from engine.checkpoints.inference_network import InferenceNetwork
from models import Network, create_model
from models.cost import multiply_accumulates
from models.network import count_parameters


def deployed(method, student="mixer_pico", **options):
    network, teacher = create_model(student, 10, 8), create_model("resnet8", 10, 8)
    pair = Pair(network.feature_shapes(), (teacher.feature_shapes(),), 100)
    return InferenceNetwork(network, create_method(method, pair, options))


def test_a_method_that_trains_the_network_alone_adds_nothing():
    network = deployed("hint", "resnet14")
    assert count_parameters(network.method) > 0
    expected = {
        "parameters": count_parameters(network.network),
        "head_parameters": 0,
        "macs": multiply_accumulates(network.network),
    }
    assert deployed_size(network) == expected
    assert deployed_size(InferenceNetwork(network.network)) == expected


def test_heads_count_where_the_network_predicts_with_them():
    network = deployed("std")
    size = deployed_size(network)
    assert size["head_parameters"] == count_parameters(network.method)
    assert size["macs"] > multiply_accumulates(network.network)
    # The network that estimates the mutual information is for training alone.
    with_mine = deployed("std", std_mine=True)
    assert count_parameters(with_mine.method) > count_parameters(network.method)
    assert deployed_size(with_mine)["head_parameters"] == size["head_parameters"]


def test_frozen_networks_stay_frozen_and_training_ones_in_training():
    network = deployed("std").requires_grad_(False)
    network.network.train()
    network.method.eval()
    random = torch.random.get_rng_state()
    assert deployed_size(network)["head_parameters"] > 0
    assert network.network.training
    assert not network.method.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert torch.equal(random, torch.random.get_rng_state())


class Picky(Network):
    """A network that takes no batch of one image."""

    def __init__(self):
        super().__init__()
        self.image_size, self.fc = 8, nn.Linear(3, 10)

    def forward(self, x):
        assert len(x) > 1
        return self.fc(x.mean(dim=(2, 3)))

    features = forward


def test_what_cannot_be_counted_is_unknown():
    assert deployed_size(InferenceNetwork(Picky())) == {"parameters": 40, "head_parameters": None, "macs": None}
