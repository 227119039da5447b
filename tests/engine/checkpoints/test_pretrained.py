"""timm's published weights: found in the hub's cache, and what is said where they cannot be had."""

import pytest
import safetensors.torch
import torch

import train_teacher
from common.errors import RequestError
from engine.checkpoints.find_weights import WeightsChoice
from engine.checkpoints.initial_weights import initial_weights, read_initial_weights
from engine.checkpoints.pretrained import published_weights
from models import create_model
from tests.helpers import DIGITS

COMMIT = "0" * 40


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The hub's cache below a test's folder, without a network; puts a state dict in a repository's place there."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def put(repository, state):
        folder = tmp_path / "hub" / f"models--{repository.replace('/', '--')}"
        (folder / "snapshots" / COMMIT).mkdir(parents=True)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text(COMMIT)
        path = folder / "snapshots" / COMMIT / "model.safetensors"
        safetensors.torch.save_file({name: value.contiguous() for name, value in state.items()}, path)
        return path

    return put


def test_weights_come_from_the_cache_of_the_hub(hub):
    network = create_model("timm:resnet10t", num_classes=7, image_size=32)
    path = hub("timm/resnet10t.c3_in1k", network.state_dict())
    assert published_weights("timm:resnet10t", "--init") == (path, "timm:resnet10t.c3_in1k")
    weights = read_initial_weights("pretrained", "timm:resnet10t", DIGITS, "--init", WeightsChoice())
    assert torch.equal(weights.state["conv1.0.weight"], network.state_dict()["conv1.0.weight"])
    file = initial_weights(weights, DIGITS)
    assert (file.name, file.model) == ("resnet10t.c3_in1k", "timm:resnet10t")
    assert file.normalisation == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_the_message_without_a_network_says_where_the_file_is(hub):
    with pytest.raises(RequestError) as refusal:
        published_weights("timm:resnet10t", "--init_s")
    assert "https://huggingface.co/timm/resnet10t.c3_in1k/resolve/main/model.safetensors" in str(refusal.value)
    assert "--init_s FILE" in str(refusal.value)
    assert "timm:resnet10t.c3_in1k" in str(refusal.value)
    assert str(refusal.value).count("\n") == 1


@pytest.mark.parametrize(
    ("name", "named"), [("resnet8", "timm"), ("timm:resnet10z", "resnet10t"), ("timm:resnet10t.none", "c3_in1k")]
)
def test_names_without_published_weights_are_refused(hub, name, named):
    with pytest.raises(RequestError, match=named):
        published_weights(name, "--init")


@pytest.mark.runs
def test_pretrained_weights_that_are_missing_end_the_command(hub, tmp_path, capsys):
    argv = ["--model", "timm:resnet10t", "--init", "pretrained", "--dataset", "digits", "--output", str(tmp_path / "o")]
    assert train_teacher.main(argv) == 2
    assert "model.safetensors" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()
