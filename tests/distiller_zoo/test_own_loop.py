"""docs/your_own_loop.md: its code runs for every method, without the engine; what is missing is named."""

import re
from contextlib import suppress
from dataclasses import fields
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from common.errors import RequestError, RunError
from distiller_zoo import (
    METHODS,
    Pair,
    SimpleBatch,
    create_method,
    distillation_loss,
    initial_stage_loss,
    method_class,
    method_for,
)
from distiller_zoo.kd import kd_loss
from models import Features, create_model
from tests.helpers import ROOT

IMAGE_SIZE, CLASSES, BATCH, SAMPLES = 8, 5, 4, 12
PAGE = (ROOT / "docs" / "your_own_loop.md").read_text()
LOOP, OWN_NETWORKS, LOOK = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def loader():
    """Three batches of a training set of twelve images."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(SAMPLES, 3, IMAGE_SIZE, IMAGE_SIZE, generator=generator)
    labels, index = torch.arange(SAMPLES) % CLASSES, torch.arange(SAMPLES)
    return list(zip(images.split(BATCH), labels.split(BATCH), index.split(BATCH), strict=True))


@pytest.fixture(scope="module")
def all_labels():
    return torch.arange(SAMPLES) % CLASSES


@cache
def accepted_student(name):
    """The first kind of small student that a method takes from a small CNN."""
    teachers = (create_model("resnet8", CLASSES, IMAGE_SIZE),) * method_class(name).min_teachers
    shapes = tuple(teacher.feature_shapes() for teacher in teachers)
    for arch in ("resnet8", "mixer_pico", "deit_pico_distilled"):
        student = create_model(arch, CLASSES, IMAGE_SIZE)
        with suppress(RequestError):
            create_method(name, Pair(student.feature_shapes(), shapes, SAMPLES)).inspect_networks(student, teachers)
            return arch
    raise AssertionError(f"{name} takes none of the small students")


def networks_for(name):
    """A small pair that the method accepts."""
    torch.manual_seed(0)
    student, teacher = (create_model(model, CLASSES, IMAGE_SIZE) for model in (accepted_student(name), "resnet8"))
    return student, teacher.eval()


@pytest.mark.parametrize("name", [*METHODS, "crd*0.5+kd"])
def test_every_method_runs_in_the_loop_of_the_page(name, loader, all_labels):
    student, teacher = networks_for(name)
    before = {key: value.clone() for key, value in student.state_dict().items()}
    names = {"name": name, "student": student, "teacher": teacher, "loader": loader[:1], "all_labels": all_labels}
    if method_class(name).needs_training_set_pass:
        with suppress(RunError):  # the look comes between the construction and the loop
            exec(LOOP, names)
        exec(LOOK, names)
        exec(LOOP[LOOP.index("for images") :], names)
    else:
        exec(LOOP, names)
    exec(LOOP[LOOP.index("for images") :], names | {"loader": loader[1:2]})
    assert names["loss"].isfinite()
    assert any(not torch.equal(value, before[key]) for key, value in student.state_dict().items())
    assert all(value.isfinite().all() for value in student.parameters())


@pytest.mark.parametrize("name", METHODS)
def test_the_initial_stage(name, loader, all_labels):
    student, teacher = networks_for(name)
    images, labels, index = loader[0]
    taught = teacher.features(images)
    method = method_for(name, student.features(images), taught, all_labels, networks=(student, teacher))
    if not method.initial_epochs:
        return
    loss = initial_stage_loss(method, student.features(images), taught, SimpleBatch(images, labels, index))
    loss.backward()
    assert loss > 0
    method.end_initial_stage()


def test_networks_of_ones_own(loader, all_labels):
    def network(width):
        last = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, CLASSES))
        return nn.Sequential(nn.Conv2d(3, width, 3, stride=2), nn.Conv2d(width, width, 3, padding=1), last)

    names = {}
    exec(OWN_NETWORKS, names)
    student, teacher = network(4), network(6)
    images, labels, index = loader[0]
    batch = SimpleBatch(images, labels, index)
    for name in ("attention", "vid", "semckd", "kd", "simkd"):
        features, taught = (names["features_of"](side, images) for side in (student, teacher))
        if name == "simkd":
            with pytest.raises(RequestError, match="last_map"):
                method_for(name, features, taught, all_labels)
            continue
        method = method_for(name, features, taught, all_labels)
        distillation_loss(method, features, taught, batch).backward()
        assert student[0].weight.grad.isfinite().all()


@pytest.mark.parametrize("name", METHODS)
def test_fields_that_a_method_does_not_read_may_be_left_out(name, loader, all_labels):
    """Its losses need nothing else than it declares; a constructor that reads the shape of another field names it."""
    images, labels, index = loader[0]
    (student, teacher), cls = networks_for(name), METHODS[name]
    features = student.features(images).only([*cls.reads_of_student(), "blocks"])  # std attaches to blocks
    taught = teacher.features(images).only(cls.reads_of_teacher())
    refusal = None
    try:
        method = method_for(name, features, taught, all_labels, networks=(student, teacher))
    except RequestError as error:
        refusal = str(error)
    if refusal is not None:
        assert any(field.name in refusal for field in fields(Features))
        return
    if method.needs_training_set_pass:
        method.fit_on_training_set((taught,), labels)
    assert distillation_loss(method, features, taught, SimpleBatch(images, labels, index)).isfinite()


NOT_SHOWN = {name: hook for name in METHODS for hook in METHODS[name].required_hooks if hook != "prepare"}


@pytest.mark.parametrize("name", NOT_SHOWN)
def test_a_method_that_was_not_shown_what_it_needs_names_the_hook(name, loader, all_labels):
    student, teacher = networks_for(name)
    images, labels, index = loader[0]
    features, taught = student.features(images), teacher.features(images)
    method = method_for(name, features, taught, all_labels)
    loss = initial_stage_loss if method.initial_epochs else distillation_loss
    with pytest.raises(RunError, match=NOT_SHOWN[name]):
        loss(method, features, taught, SimpleBatch(images, labels, index))


def test_methods_that_read_the_networks_say_so():
    assert {name for name, hook in NOT_SHOWN.items() if hook == "inspect_networks"} >= {
        "abound", "catkd", "ofd", "sdd", "sdd_dkd", "simkd", "srrl",
    }  # fmt: skip
    assert METHODS["crd"].required_hooks == ("prepare",)
    assert NOT_SHOWN["nd"] == "fit_on_training_set"


def test_kd_is_its_published_weight_times_the_divergence(loader, all_labels):
    images, labels, index = loader[0]
    student, teacher = networks_for("kd")
    features, taught = student.features(images), teacher.features(images)
    method = method_for("kd", features, taught, all_labels)
    loss = distillation_loss(method, features, taught, SimpleBatch(images, labels, index), kd_T=2.0)
    assert loss.item() == pytest.approx(0.9 * kd_loss(features.logits, taught.logits, 2.0).item(), rel=1e-6)
    assert method.kl_loss(features, (taught,), 2.0).item() == pytest.approx(loss.item() / 0.9, rel=1e-6)


def test_the_loss_of_a_combination_is_the_weighted_sum_of_its_parts(loader, all_labels):
    images, labels, index = loader[0]
    student, teacher = networks_for("crd")
    features, taught = student.features(images), teacher.features(images)
    batch = SimpleBatch(images, labels, index)
    both = method_for("attention*3+kd*0.5", features, taught, all_labels)
    attention = method_for("attention", features, taught, all_labels)
    expected = 0.5 * kd_loss(features.logits, taught.logits, 4.0)
    expected = expected + 3 * attention.loss(features, taught, batch)
    assert torch.allclose(distillation_loss(both, features, taught, batch), expected, rtol=1e-6)


def test_a_simple_batch_draws_by_purpose_epoch_and_step():
    batch = SimpleBatch(torch.zeros(3, 1), torch.arange(3), torch.arange(3), epoch=2, step=1)

    def draw(batch, purpose):
        return torch.rand(2, generator=batch.generator(purpose)).tolist()

    assert draw(batch, "a") == draw(batch, "a") != draw(batch, "b")
    assert draw(batch.first(2), "a") == draw(batch, "a")
    assert len(batch.first(2).labels) == len(batch.first(2).images) == 2
    assert batch.targets is None
    assert F.one_hot(batch.main_labels).shape == (3, 3)
