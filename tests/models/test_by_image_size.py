"""Default networks, and those beyond reason, by the size of the images."""

import pytest
import torch

from models import MODELS, create_model
from models.by_image_size import better_network, default_student, default_teacher
from models.cost import multiply_accumulates


@pytest.mark.parametrize("size", [8, 32, 64])
def test_defaults_of_small_images_are_those_of_cifar(size):
    assert (default_student(size), default_teacher(size)) == ("mixer_s4", "resnet56")


@pytest.mark.parametrize("size", [96, 224])
def test_defaults_of_photographs_are_within_reason(size):
    student, teacher = (create_model(default(size), 3, size) for default in (default_student, default_teacher))
    assert multiply_accumulates(student) < 0.4e9
    assert multiply_accumulates(teacher) < 4.2e9
    assert better_network(student, "") == better_network(teacher, "") == (0, "")


@pytest.mark.parametrize(("name", "named"), [("mixer_s4", "mixer_s16"), ("ResNet50", "MobileNetV2")])
def test_what_is_beyond_reason(name, named):
    cost, better = better_network(create_model(name, 10, 224), MODELS[name].family)
    assert cost > 50e9
    assert better == named
    assert better_network(create_model(name, 10, 32), MODELS[name].family) == (0, "")


@pytest.mark.parametrize("name", ["deit_base", "vgg19", "resmlp_b24", "resnet110"])
def test_what_is_within_reason(name):
    assert better_network(create_model(name, 10, 224), MODELS[name].family) == (0, "")


def test_the_stem_for_photographs():
    features = create_model("ResNet50_photo", 3, 64).features(torch.zeros(2, 3, 64, 64))
    assert features.stem.shape == (2, 64, 32, 32)
    assert [stage.shape[1:] for stage in features.stages] == [(256, 16, 16), (512, 8, 8), (1024, 4, 4), (2048, 2, 2)]
    assert multiply_accumulates(create_model("ResNet50_photo", 1000, 224)) / 1e9 == pytest.approx(4.09, rel=0.02)
