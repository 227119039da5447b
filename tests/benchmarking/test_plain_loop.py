"""The plain loop does the same work as the suite."""

import copy
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarking.candidates import make_teacher
from benchmarking.plain_loop import PlainInput, PlainLoop, accuracies
from benchmarking.suite import suite_step
from dataset import Batching, BatchStream, load_arrays
from dataset.augment import normalise
from distiller_zoo import METHODS, options_of
from engine.device.compute import Compute
from engine.protocol.plan import DEFAULT_KD_T, RunPlan, TeacherFile
from engine.protocol.recipes import resolve_recipe
from engine.training.student_run import StudentRun
from models import MODELS
from tests.helpers import DIGITS

CPU = torch.device("cpu")


@pytest.mark.parametrize("workers", [0, 2])
def test_plain_input_yields_every_image_normalised_once_an_epoch(workers):
    data = load_arrays("digits", Path())
    images, labels = data.train_images[:64], data.train_labels[:64]
    source = PlainInput(images, labels, replace(DIGITS, crop_padding=0), 16, workers)
    with source.at_work():
        batches = [next(source) for _ in range(12)]
    source.close()
    seen = torch.cat([index for _, _, index in batches])
    if workers == 0:  # else some batches were drawn before
        for epoch in seen.view(3, 64):
            assert sorted(epoch.tolist()) == list(range(64))
    assert torch.bincount(seen).max() <= 4
    expected = normalise(torch.from_numpy(images).permute(0, 3, 1, 2), DIGITS.mean, DIGITS.std)
    for found, classes, index in batches:
        assert torch.allclose(found, expected[index], atol=1e-5)
        assert torch.equal(classes, torch.from_numpy(labels)[index])


def test_plain_input_crops_and_mirrors_where_the_data_set_allows():
    image = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(1, 8, 8, 3)
    entry = replace(DIGITS, crop_padding=1, horizontal_flip=True)
    source = PlainInput(image, np.zeros(1, dtype=np.int64), entry, 1, 0)
    kinds = {next(source)[0].numpy().tobytes() for _ in range(300)}
    assert len(kinds) == 2 * 9


class GivenBatches:
    """Stands where PlainInput stands."""

    def __init__(self, batches):
        self.batches = iter(batches)

    def __next__(self):
        batch = next(self.batches)
        return batch.images.contiguous(), batch.labels, batch.index


def prepared(method, labels):
    method.prepare(labels)
    return method


def make_member(method, tmp_path, recipe="repdistiller", **values):
    teacher = make_teacher("resnet14", None, DIGITS)[1]
    plan = RunPlan(
        kind="student",
        dataset="digits",
        model="resnet8",
        method=method,
        options={name: parameter.default for name, parameter in options_of(method).items()},
        weights=METHODS[method].weights,
        kd_T=DEFAULT_KD_T,
        teachers=(TeacherFile("resnet14", Path("random"), ""),) if METHODS[method].max_teachers else (),
        recipe=resolve_recipe(recipe, MODELS["resnet8"], {"batch_size": 32, "learning_rate": 0.01} | values),
        precision="fp32",
        trial=1,
        seed=1,
    )
    return StudentRun(plan, DIGITS, (teacher.network,) if plan.teachers else (), tmp_path), teacher


@pytest.mark.parametrize(
    ("method", "values"),
    [(name, {}) for name in ("none", "kd", "hint", "attention", "similarity", "vid", "pkt")]
    + [("none", {"label_smoothing": 0.1, "weight_decay": 0.1, "momentum": 0.5})],
)
def test_three_steps_of_the_plain_loop_are_three_steps_of_the_suite(tmp_path, method, values):
    """The same batches lead both to the same weights: neither does less work."""
    data = load_arrays("digits", Path())
    member, teacher = make_member(method, tmp_path, **values)
    batching = Batching(member.plan.recipe.augmentation, 32, 1, True)
    stream = BatchStream(data.train_images, data.train_labels, DIGITS, batching, CPU)
    batches = list(itertools.islice(stream.epoch(1), 3))
    start = {key: value.clone() for key, value in member.student.state_dict().items()}
    plain = PlainLoop(
        member.plan,
        copy.deepcopy(member.student),
        prepared(copy.deepcopy(member.method), stream.labels),
        copy.deepcopy(teacher) if member.plan.teachers else None,
        GivenBatches(batches),
        CPU,
    )
    compute = Compute(CPU, "fp32")
    member.start(compute, stream.labels, stream.steps_per_epoch)
    step = suite_step([member], teacher, iter(batches), compute)
    for _ in range(3):
        plain.step()
        step()
    assert member.position == (1, 3)
    for found, expected in ((plain.student, member.student), (plain.method, member.method)):
        expected = expected.state_dict()
        for key, value in found.state_dict().items():
            torch.testing.assert_close(value, expected[key], rtol=1e-3, atol=1e-4)
    moved = (plain.student.conv1.weight - start["conv1.weight"]).abs().max()
    assert moved > 1e-3  # far beyond the tolerance


def test_the_plain_optimizers_are_those_of_the_recipe(tmp_path):
    data = load_arrays("digits", Path())
    for recipe, kind in (("repdistiller", torch.optim.SGD), ("light", torch.optim.AdamW)):
        member, _ = make_member("none", tmp_path, recipe)
        method = prepared(member.method, torch.from_numpy(data.train_labels))
        loop = PlainLoop(member.plan, member.student, method, None, GivenBatches([]), CPU)
        assert type(loop.optimizer) is kind
        assert not loop.optimizer.defaults["fused"]
        (group,) = loop.optimizer.param_groups
        assert (group["lr"], group["weight_decay"]) == (0.01, member.plan.recipe.weight_decay)


def test_accuracies_are_those_of_the_best_classes():
    logits = torch.tensor([[0.0, 1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1, 0], [0, 1, 2, 3, 4, 5, 6]])
    assert accuracies(logits, torch.tensor([6, 4, 1])) == pytest.approx([100 / 3, 200 / 3])
    assert accuracies(logits[:, :3], torch.tensor([2, 2, 1])) == pytest.approx([100 / 3, 100])
