"""Start weights of other image sizes, other data sets and other networks."""

import dataclasses

import pytest
import timm
import torch

from common.errors import RequestError
from engine.checkpoints.start_weights import load_start_weights, read_start_weights
from models import create_model
from tests.helpers import DIGITS, save_network

VIT = "timm:test_vit"
AT_32 = dataclasses.replace(DIGITS, image_size=32)


def test_positions_of_a_transformer_are_resampled_for_another_image_size(tmp_path):
    """As timm itself does it for a network that it builds."""
    torch.manual_seed(0)
    original = timm.create_model("test_vit", num_classes=10, img_size=64)
    torch.nn.init.normal_(original.pos_embed)
    torch.save(original.state_dict(), tmp_path / "w.pth")
    expected = timm.create_model("test_vit", num_classes=10, img_size=32)
    timm.models.load_checkpoint(expected, str(tmp_path / "w.pth"), filter_fn=filter_of(expected))
    network = create_model(VIT, 10, 32)
    weights = read_start_weights(tmp_path / "w.pth", image_size=32, arch=VIT)
    assert load_start_weights(network, weights, AT_32)
    assert network.net.pos_embed.shape != original.pos_embed.shape
    assert torch.equal(network.net.pos_embed, expected.pos_embed)
    assert torch.equal(network.last_linear.weight, original.head.weight)


def filter_of(network):
    from timm.models import vision_transformer

    assert type(network).__module__ == vision_transformer.__name__
    return vision_transformer.checkpoint_filter_fn


def test_weights_that_fit_are_passed_through_no_filter(tmp_path, monkeypatch):
    network = create_model(VIT, 10, 32)
    monkeypatch.setattr(timm.models.vision_transformer, "checkpoint_filter_fn", lambda *_: {})
    state = network.state_dict()
    assert network.adapted(state) is state


@pytest.mark.parametrize("dataset", ["digits", "elsewhere"])
def test_a_classifier_without_names_is_kept_for_its_own_data_set_only(tmp_path, dataset):
    save_network(tmp_path / "w.pth", "resnet8", dataclasses.replace(DIGITS, name=dataset, classes=()))
    nameless = dataclasses.replace(DIGITS, classes=())
    weights = read_start_weights(tmp_path / "w.pth", image_size=8, arch="resnet8")
    assert load_start_weights(create_model("resnet8", 10, 8), weights, nameless) == (dataset == "digits")


def test_a_refusal_names_the_network_that_fits(tmp_path):
    save_network(tmp_path / "w.pth", "resnet8", AT_32)
    weights = read_start_weights(tmp_path / "w.pth", arch="resnet14")
    with pytest.raises(RequestError, match="fits resnet8"):
        load_start_weights(create_model("resnet14", 10, 32), weights, AT_32)
