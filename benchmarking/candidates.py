"""What a benchmark measures: a teacher, a student, the methods that accept the pair, and training images."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarking.timing_flags import resolve_pair
from common.command import say
from common.errors import RequestError
from common.seeds import derive_seed, isolated_seed
from dataset import Augmentation, DatasetEntry, load_arrays
from distiller_zoo import Method
from engine.checkpoints.inference_network import InferenceNetwork
from engine.checkpoints.weights import load_network
from engine.protocol.plan import RunPlan, SharedSettings, TeacherFile, Trial, make_plan
from engine.protocol.recipes import Recipe, resolve_recipe
from engine.training.student_run import StudentRun
from models import MODELS, create_model

ALONE = "none"  # training without a teacher: the student's part of every step
SEED = 1
# Times do not depend on the rate, and at this one no loss diverges, whatever the teacher's weights.
LEARNING_RATE = 1e-6
NOWHERE = Path(os.devnull)  # runs need a folder, but write only at the end of an epoch, which none reaches


@dataclass(frozen=True)
class Conditions:
    """What all pairs of a command share.

    Attributes:
        recipe: name of the recipe.
        batch_size: None for the recipe's.
    """

    entry: DatasetEntry
    recipe: str
    batch_size: int | None
    precision: str


@dataclass
class Candidates:
    """A pair and its runs.

    Attributes:
        runs: by method.
        student: the run without a teacher; one of `runs` if it was asked for.
        left_out: reasons of the methods that refuse the pair, by method.
    """

    teacher_name: str
    student_name: str
    teacher: InferenceNetwork
    recipe: Recipe
    runs: dict[str, StudentRun]
    student: StudentRun
    left_out: dict[str, str]

    @property
    def title(self) -> str:
        return f"{self.teacher_name} → {self.student_name}"


def make_candidates(pair: str, path: Path | None, methods: Iterable[str], conditions: Conditions) -> Candidates:
    """Build the networks and methods of a pair TEACHER:STUDENT, on the CPU.

    Args:
        path: the teacher's checkpoint; None for random weights.

    Raises:
        RequestError: a network or recipe is unknown, the teacher's file or the recipe cannot be used, or all methods
            refuse the pair.
    """
    teacher_name, student_name = resolve_pair("--pairs", pair)
    recipe = _resolve_recipe(conditions, student_name)
    file, teacher = make_teacher(teacher_name, path, conditions.entry)

    def make_run(method: str) -> StudentRun:
        plan = _make_plan(method, student_name, file, recipe, conditions)
        run = StudentRun(plan, conditions.entry, (teacher.network,) if plan.teachers else (), NOWHERE)
        if run.method.needs_training_set_pass:
            fit_on_random_images(run.method, teacher, conditions.entry)
        return run

    runs, left_out = {}, {}
    for method in methods:
        try:
            runs[method] = make_run(method)
        except RequestError as refusal:
            left_out[method] = str(refusal)
    if not runs:
        raise RequestError(f"no method accepts {pair}: " + "; ".join(left_out.values()))
    student = runs.get(ALONE) or make_run(ALONE)
    return Candidates(teacher_name, student_name, teacher, recipe, runs, student, left_out)


def _resolve_recipe(conditions: Conditions, student: str) -> Recipe:
    size, train_size = conditions.batch_size, conditions.entry.train_size
    given = {"learning_rate": LEARNING_RATE} | ({} if size is None else {"batch_size": size})
    recipe = resolve_recipe(conditions.recipe, MODELS[student], given)
    if recipe.augmentation != Augmentation():
        raise RequestError(f"--recipe {recipe.name}: the plain loop only crops and flips; choose repdistiller or light")
    if recipe.batch_size > train_size:
        raise RequestError(f"--batch_size {recipe.batch_size} is more than the {train_size} images; give a smaller one")
    return recipe


def _make_plan(method: str, student: str, file: TeacherFile, recipe: Recipe, conditions: Conditions) -> RunPlan:
    precision = conditions.precision
    shared = SharedSettings(kind="student", dataset=conditions.entry.name, precision=precision, teachers=(file,))
    return make_plan(method, student, recipe, shared, Trial(SEED, SEED))


@torch.no_grad()
def fit_on_random_images(method: Method, teacher: InferenceNetwork, entry: DatasetEntry) -> None:
    """Show a method random images of each class in place of the training set; no time of a step depends on them."""
    with isolated_seed(derive_seed(SEED, "training set")):
        images = torch.randn(entry.num_classes, 3, entry.image_size, entry.image_size)
    features = teacher.features(images).guarded(method.reads_of_teacher())
    method.fit_on_training_set((features,), torch.arange(entry.num_classes))


def make_teacher(name: str, path: Path | None, entry: DatasetEntry) -> tuple[TeacherFile, InferenceNetwork]:
    """Make the frozen teacher, from its checkpoint or with random weights and batch-norm statistics fitting them."""
    if path is not None:
        loaded = load_network(path, entry, arch=name)
        file = TeacherFile(loaded.arch, path, loaded.sha256, loaded.normalisation_override)
        if loaded.note:
            say(loaded.note)
        return file, loaded.network
    with isolated_seed(derive_seed(SEED, "teacher")), torch.no_grad():
        network = create_model(name, entry.num_classes, entry.image_size).train()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0  # one batch sets the statistics; otherwise features grow from block to block
        network(torch.randn(16, 3, entry.image_size, entry.image_size))
    return TeacherFile(name, Path("random"), ""), InferenceNetwork(network).eval().requires_grad_(False)


def make_data(entry: DatasetEntry, folder: Path, synthetic: bool) -> tuple[np.ndarray, np.ndarray, str]:
    """Training images, labels and their source. Random pixels if the files are missing; nothing is downloaded."""
    if not synthetic and entry.at_hand(folder):
        data = load_arrays(entry.name, folder)
        return data.train_images, data.train_labels, entry.name
    generator = np.random.default_rng(SEED)
    size = (entry.train_size, entry.image_size, entry.image_size, 3)
    images = generator.integers(256, size=size, dtype=np.uint8)
    labels = generator.permutation(np.arange(entry.train_size) % entry.num_classes)
    return images, labels, f"synthetic {entry.name}"
