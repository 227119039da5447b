"""What a new network must have, and how it is told what it lacks: the network of docs/extending.md with faults."""

from types import ModuleType

import pytest
import torch

import train_teacher
from common.errors import RequestError
from models import MODELS, create_model
from tests.docs.pages import code_of
from tests.helpers import folders_of

(NETWORK,) = code_of("docs/extending.md")
# What the message must name, the piece of the network that is replaced, and by what.
LACKS = {
    "no image size": ("image_size", "        self.image_size = image_size\n", ""),
    "another image size": ("image_size", "self.image_size = image_size", "self.image_size = 32"),
    "no classifier": ("fc", 'classifier_name = "head"', "pass"),
    "another layer": ("Conv2d", '"head"', '"conv2"'),
    "other classes": ("100", "nn.Linear(64, num_classes)", "nn.Linear(64, 100)"),
    "no network": ("tinynet", "Network)", "nn.Module)"),
}
FAULTS = {
    "no stem": ("stem", "embedding, stem, (", "embedding, None, ("),
    "no last map": ("last_map", ", last_map=stage2", ""),
    "no embedding": ("embedding", "(embedding), embedding", "(embedding), None"),
    "no stages": ("stages", "(stage1, stage2), (preact1, preact2)", "(), ()"),
    "no preacts": ("preacts", "(preact1, preact2)", "None"),
    "one preact": ("preacts", "(preact1, preact2)", "(preact1,)"),
    "a list of stages": ("stages", "(stage1, stage2)", "[stage1, stage2]"),
    "a map for stages": ("stages", "(stage1, stage2)", "stage2"),
    "a flat stage": ("stages[1]", "(stage1, stage2)", "(stage1, embedding)"),
    "a flat map": ("last_map", "last_map=stage2", "last_map=embedding"),
    "another last map": ("last_map", "last_map=stage2", "last_map=stage1"),
    "another embedding": ("embedding", "(embedding), embedding", "(embedding), embedding[:, 1:]"),
    "no batch": ("embedding", "(embedding), embedding", "(embedding), embedding.T"),
    "other logits": ("logits", "Features(self.head(embedding)", "Features(embedding"),
    "several blocks": ("blocks", "last_map=stage2", "last_map=stage2, blocks=(stage1, stage2)"),
    "a head alone": ("heads", "last_map=stage2", "last_map=stage2, heads=(embedding[:, :10],)"),
    "another head": ("heads[0]", "last_map=stage2", "last_map=stage2, heads=(embedding,), tokens=(embedding,)"),
    "logits alone": ("Tensor", "last_map=stage2)", "last_map=stage2).logits"),
}


@pytest.fixture
def register():
    """Registers the page's network with one piece of its source replaced."""

    def register(piece, by):
        assert piece in NETWORK
        exec(compile(NETWORK.replace(piece, by), "tinynet.py", "exec"), ModuleType("models.tinynet").__dict__)

    with MODELS.temporarily():
        yield register


@pytest.mark.parametrize("case", LACKS)
def test_a_network_that_lacks_something_is_refused_where_it_is_created(case, register):
    name, piece, by = LACKS[case]
    register(piece, by)
    with pytest.raises(RequestError) as refusal:
        create_model("tinynet", 10, 8)
    assert_names(refusal, name)


@pytest.mark.parametrize("case", FAULTS)
def test_features_that_lack_something_are_refused_where_they_are_first_seen(case, register):
    name, piece, by = FAULTS[case]
    register(piece, by)
    network = create_model("tinynet", 10, 8)
    with pytest.raises(RequestError) as refusal:
        network.feature_shapes()
    assert_names(refusal, name)


def assert_names(refusal, name):
    """Two short lines at most, with the network and what is wrong with it."""
    lines = str(refusal.value).splitlines()
    assert len(lines) <= 2
    assert max(map(len, lines)) <= 140
    assert "TinyNet" in lines[0]
    assert name in str(refusal.value)


@pytest.mark.parametrize("case", ["no image size", "no classifier", "no stem"])
def test_the_command_ends_before_it_trains(case, register, tmp_path, capsys):
    register(*(LACKS | FAULTS)[case][1:])
    argv = ["--model", "tinynet", "--dataset", "digits", "--epochs", "1", "--device", "cpu", "--precision", "fp32"]
    assert train_teacher.main([*argv, "--output", str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) <= 2
    assert folders_of(tmp_path) == []


@pytest.mark.parametrize("name", ["resnet8", "mixer_pico", "deit_pico_distilled"])
def test_the_checks_draw_nothing_and_change_nothing(name):
    torch.manual_seed(3)
    network = MODELS[name].build(num_classes=10, image_size=8)
    drawn, state = torch.get_rng_state(), {key: value.clone() for key, value in network.state_dict().items()}
    torch.manual_seed(3)
    checked = create_model(name, 10, 8)
    checked.feature_shapes()
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(value, state[key]) for key, value in checked.state_dict().items())
    assert checked.training
