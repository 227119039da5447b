"""What can be measured: a teacher, a student, the methods that serve the pair, and images to train on."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from common.errors import RequestError
from common.seeds import derive_seed, isolated_seed
from dataset import Augmentation, DatasetEntry, load_arrays
from distiller_zoo import METHODS, canonical_method, method_class
from engine.checkpoints.inference_network import InferenceNetwork
from engine.checkpoints.weights import load_network
from engine.protocol.plan import SharedSettings, TeacherFile, Trial, make_plan
from engine.protocol.recipes import Recipe, resolve_recipe
from engine.training.student_run import StudentRun
from models import MODELS, create_model

ALONE = "none"  # the method whose step is the student's part of every other one's
SEED = 1
# No time depends on the rate, and with this one no loss diverges, whatever the teacher's weights.
LEARNING_RATE = 1e-6
NOWHERE = Path(os.devnull)  # runs need a folder, but write to it only at the end of an epoch, which none reaches


@dataclass
class Candidates:
    """A pair and the runs that can be made of it.

    Attributes:
        members: by method.
        student: the run without a teacher; one of the members where it was asked for.
        left_out: what the methods said that refuse the pair.
    """

    teacher_name: str
    student_name: str
    teacher: InferenceNetwork
    recipe: Recipe
    members: dict[str, StudentRun]
    student: StudentRun
    left_out: dict[str, str]

    @property
    def title(self) -> str:
        return f"{self.teacher_name} → {self.student_name}"


def make_candidates(
    pair: str,
    path: Path | None,
    methods: Iterable[str],
    entry: DatasetEntry,
    recipe: str,
    batch_size: int | None,
    precision: str,
) -> Candidates:
    """Build the networks and methods of `TEACHER:STUDENT`, on the CPU.

    Args:
        path: the teacher's checkpoint; without one its weights are random.
        batch_size: by default the recipe's.

    Raises:
        RequestError: unknown networks, no such teacher, a recipe that the plain loop does not know, or all methods
            refuse the pair.
    """
    if pair.count(":") != 1:
        raise RequestError(f"--pairs {pair}: give each as TEACHER:STUDENT, for instance resnet32x4:resnet8x4")
    teacher_name, student_name = (MODELS.canonical(name) for name in pair.split(":"))
    resolved = _resolve_recipe(recipe, batch_size, student_name, entry)
    file, teacher = make_teacher(teacher_name, path, entry)
    make = partial(
        _make_member, student_name, file=file, teacher=teacher, entry=entry, recipe=resolved, precision=precision
    )
    members, left_out = {}, {}
    for method in methods:
        try:
            members[method] = make(method)
        except RequestError as refusal:
            left_out[method] = str(refusal)
    if not members:
        raise RequestError(f"no method can serve {pair}: " + "; ".join(left_out.values()))
    student = members.get(ALONE) or make(ALONE)
    return Candidates(teacher_name, student_name, teacher, resolved, members, student, left_out)


def resolve_methods(names: Sequence[str]) -> list[str]:
    """Each method once, in the order given; `all` names every one."""
    return list(dict.fromkeys(canonical_method(name) for name in (METHODS if names == ["all"] else names)))


def _resolve_recipe(name: str, batch_size: int | None, student: str, entry: DatasetEntry) -> Recipe:
    given = {"learning_rate": LEARNING_RATE} | ({} if batch_size is None else {"batch_size": batch_size})
    recipe = resolve_recipe(name, MODELS[student], given)
    if recipe.augmentation != Augmentation():
        raise RequestError(f"--recipe {recipe.name} augments as no plain loop does; choose repdistiller or light")
    if recipe.batch_size > entry.train_size:
        raise RequestError(
            f"--batch_size {recipe.batch_size} is more than the {entry.train_size} images; give a smaller one"
        )
    return recipe


def _make_member(
    student: str,
    method: str,
    file: TeacherFile,
    teacher: InferenceNetwork,
    entry: DatasetEntry,
    recipe: Recipe,
    precision: str,
) -> StudentRun:
    taught = method_class(method).max_teachers > 0
    shared = SharedSettings(kind="student", dataset=entry.name, precision=precision, teachers=(file,))
    plan = make_plan(method, student, recipe, shared, Trial(SEED, SEED))
    return StudentRun(plan, entry, (teacher.network,) if taught else (), NOWHERE)


def make_teacher(name: str, path: Path | None, entry: DatasetEntry) -> tuple[TeacherFile, InferenceNetwork]:
    """The frozen teacher: from its checkpoint, or with random weights and batch-norm statistics that go with them."""
    if path is not None:
        loaded = load_network(path, entry, arch=name)
        return TeacherFile(
            loaded.arch, path, loaded.sha256, normalisation_override=loaded.normalisation_override
        ), loaded.network
    with isolated_seed(derive_seed(SEED, "teacher")), torch.no_grad():
        network = create_model(name, entry.num_classes, entry.image_size).train()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0  # one batch sets them; otherwise features grow from block to block
        network(torch.randn(16, 3, entry.image_size, entry.image_size))
    return TeacherFile(name, Path("random"), ""), InferenceNetwork(network).eval().requires_grad_(False)


def make_data(entry: DatasetEntry, folder: Path, synthetic: bool) -> tuple[np.ndarray, np.ndarray, str]:
    """Training images and labels, and where they are from; nothing is downloaded."""
    if not synthetic and entry.at_hand(folder):
        data = load_arrays(entry.name, folder)
        return data.train_images, data.train_labels, entry.name
    generator = np.random.default_rng(SEED)
    size = (entry.train_size, entry.image_size, entry.image_size, 3)
    images = generator.integers(256, size=size, dtype=np.uint8)
    labels = generator.permutation(np.arange(entry.train_size) % entry.num_classes)
    return images, labels, f"synthetic {entry.name}"
