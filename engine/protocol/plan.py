"""A run, fully resolved: every value that its result depends on, its identity, its name and its label."""

import hashlib
import json
from collections.abc import Collection
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from common.words import counted
from dataset import DATASETS
from distiller_zoo import Weights, method_class
from distiller_zoo.published_settings import published_for
from distiller_zoo.teacher_mixture import Weighting
from engine.protocol.options import default_options
from engine.protocol.recipes import RECIPES, Recipe, changed_values
from engine.records.code_version import Sources
from engine.training.retrospection import RetrospectionPlan
from models.registry import MODELS, file_name_of
from models.timm_models import Normalisation

DEFAULT_KD_T = 4.0
NAME_LENGTH = 180  # characters of a folder's name before its trial and hash; file systems take 255 in all


@dataclass(frozen=True)
class WeightsFile:
    """A network's checkpoint: which network, where, and the SHA-256 of the file."""

    model: str
    path: Path
    sha256: str


@dataclass(frozen=True)
class TeacherFile(WeightsFile):
    """A teacher's checkpoint.

    Attributes:
        normalisation: of the images that it expects, where timm:NAME.TAG said so and the file does not.
    """

    normalisation: Normalisation | None = None


@dataclass(frozen=True)
class BackboneFile(WeightsFile):
    """A trained network's checkpoint whose weights are kept and frozen.

    Attributes:
        trained_by: what tables call the way in which it was trained.
        sources: the code that trained it; empty where its run does not say.
    """

    trained_by: str
    sources: Sources = field(default_factory=dict)


# Where runs of each kind lie below the output root.
FOLDERS = {"teacher": "models", "student": "student_model", "probe": "transfer"}


@dataclass(frozen=True)
class RunPlan:
    """One network trained by one method once.

    Attributes:
        kind: "teacher" for a network trained alone by train_teacher.py, "probe" for a new classifier on a frozen
            backbone, "student" for all else.
        options: all options of the method, defaults included (see `engine.protocol.options`).
        trial, seed: which repetition, and what all its random numbers derive from.
        backbone: weights that are kept and frozen; only the classifier is trained.
        logit_standardization: whether losses on logits see standardised ones.
        teacher_weighting: how methods that learn from predictions see several teachers.
        validation: how many training images are held out and measured on beside the test set.
        retrospection: how the run learns from its own past predictions; None for cross-entropy alone.
    """

    kind: str
    dataset: str
    model: str
    method: str
    options: dict[str, Any]
    weights: Weights
    kd_T: float
    teachers: tuple[TeacherFile, ...]
    recipe: Recipe
    precision: str
    trial: int
    seed: int
    save_freq: int = field(default=40, compare=False)
    backbone: BackboneFile | None = None
    logit_standardization: bool = False
    retrospection: RetrospectionPlan | None = None
    teacher_weighting: Weighting = "average"
    validation: int = 0

    def __post_init__(self):
        """What cannot touch this run is no part of it: a student alone is the same beside any method's settings."""
        if not self.weights.alpha:
            object.__setattr__(self, "kd_T", DEFAULT_KD_T)
        if not self.teachers:
            object.__setattr__(self, "logit_standardization", False)
        if len(self.teachers) < 2:
            object.__setattr__(self, "teacher_weighting", "average")

    def as_published(self, given: Collection[str]) -> "RunPlan":
        """With the weight and options that a paper gives for this pair, where one does; `given` ones stay."""
        pair = published_for(self.method, (teacher.model for teacher in self.teachers), self.model)
        if pair is None:
            return self
        options = {name: value for name, value in pair.options.items() if name not in given}
        weights = {name: value for name, value in pair.weights.items() if name not in given}
        return replace(self, options=self.options | options, weights=replace(self.weights, **weights))

    @property
    def run_id(self) -> str:
        """Hash of all that determines the result, and of nothing else (no path, no device)."""
        task = [self.kind, self.dataset, self.model, [teacher.sha256 for teacher in self.teachers]]
        method = [self.method, self.options, asdict(self.weights), self.kd_T]
        protocol = [self.recipe.digest(), self.precision, self.trial, self.seed]
        # Runs without what came later keep the identity that they had before.
        backbone = [] if self.backbone is None else [self.backbone.sha256]
        modifiers = ["logit_standardization"] if self.logit_standardization else []
        modifiers += [self.teacher_weighting] if self.teacher_weighting != "average" else []
        modifiers += [] if self.retrospection is None else [asdict(self.retrospection)]
        modifiers += [{"validation": self.validation}] if self.validation else []
        told = [teacher.normalisation for teacher in self.teachers]
        modifiers += [{"normalisation": told}] if any(told) else []
        return _digest([task, method, protocol, *backbone, *modifiers])

    @property
    def name(self) -> str:
        """The run's folder: readable, safe on every file system, distinct for distinct runs."""
        model, dataset = file_name_of(self.model), file_name_of(self.dataset)
        rates = f"lr_{self.recipe.learning_rate:g}_decay_{self.recipe.weight_decay:g}"
        if self.kind == "teacher":
            text = f"{model}_{dataset}_{rates}"
        elif self.kind == "probe":
            text = f"{model}_to_{dataset}_{rates}"
        else:
            teachers = "+".join(file_name_of(teacher.model) for teacher in self.teachers) or "none"
            w = self.weights
            text = f"S_{model}_T_{teachers}_{dataset}_{self.method.replace('*', 'x')}"
            text += f"_r_{w.gamma:g}_a_{w.alpha:g}_b_{w.beta:g}"
        return f"{text[:NAME_LENGTH]}_trial_{self.trial}_{self.run_id}"

    @property
    def folder(self) -> Path:
        """Where it lies below the output root."""
        return Path(FOLDERS[self.kind]) / self.name

    @property
    def label(self) -> str:
        """The method as tables call it: its name and what differs from its published defaults."""
        published = method_class(self.method).weights
        parts = [self.method]
        for key, value in asdict(self.weights).items():
            if value != getattr(published, key):
                parts.append(f"{key}={value:g}")
        if self.weights.alpha and self.kd_T != DEFAULT_KD_T:
            parts.append(f"kd_T={self.kd_T:g}")
        for key, default in default_options(self.method, self.recipe).items():
            if self.options[key] != default:
                parts.append(f"{key}={self.options[key]}")
        if self.logit_standardization:
            parts.append("standardised")
        if self.teacher_weighting != "average":
            parts.append(f"teachers by {self.teacher_weighting}")
        if self.retrospection is not None:
            parts.append(f"lwr={self.retrospection.k}")
            parts += [f"lwr_{key}={value:g}" for key, value in _changes(self.retrospection).items() if key != "k"]
        return " ".join(parts)

    @property
    def protocol(self) -> str:
        """One line for people: what two runs must share to be compared.

        With what the recipe has otherwise than its preset: "repdistiller schedule=cosine, 9 epochs, batch 64, fp32".
        """
        recipe, model = self.recipe, MODELS[self.model]
        if self.kind == "probe":  # of all networks at the rate of the recipe
            model = replace(model, learning_rate=None)
        words = [recipe.name, *(f"{key}={_words(value)}" for key, value in changed_values(recipe, model).items())]
        held_out = f", {self.validation} images held out" if self.validation else ""
        length = f"{counted(recipe.epochs, 'epoch')}, batch {recipe.batch_size}"
        return f"{' '.join(words)}, {length}, {self.precision}{held_out}"

    @property
    def protocol_id(self) -> str:
        """Hash of the same.

        A learning rate that the recipe keeps for this network counts as the recipe's: the published tables have
        MobileNetV2 and ShuffleNets beside ResNets, at another rate, under one protocol. Probes of all networks have
        the rate of their recipe.
        """
        recipe, own = self.recipe, []
        usual, preset = MODELS[self.model].learning_rate, RECIPES[recipe.name].learning_rate
        if recipe.optimizer == "sgd" and usual is not None and self.kind != "probe":
            own = ["another learning rate"] if recipe.learning_rate != usual else []
            recipe = recipe if own else replace(recipe, learning_rate=preset)
        held_out = [self.validation] if self.validation else []
        return _digest([recipe.digest(), self.precision, *held_out, *own])

    def config(self, measured: list[dict[str, float]], environment: dict[str, Any]) -> dict[str, Any]:
        """What config.json holds. `measured` is each teacher's accuracy on the test set."""
        entry = DATASETS[self.dataset]
        return {
            "format": 1,
            "kind": self.kind,
            "dataset": self.dataset,
            "num_classes": entry.num_classes,
            "image_size": entry.image_size,
            "model": self.model,
            "method": self.method,
            "label": self.label,
            "weights": asdict(self.weights),
            "kd_T": self.kd_T,
            "options": self.options,
            "teachers": [
                {"model": t.model, "path": str(t.path), "sha256": t.sha256, "normalisation": t.normalisation, **result}
                for t, result in zip(self.teachers, measured, strict=True)
            ],
            "logit_standardization": self.logit_standardization,
            "teacher_weighting": self.teacher_weighting,
            "retrospection": None if self.retrospection is None else asdict(self.retrospection),
            "backbone": None if self.backbone is None else asdict(self.backbone) | {"path": str(self.backbone.path)},
            "trial": self.trial,
            "seed": self.seed,
            "recipe": self.recipe.as_dict(),
            "precision": self.precision,
            "validation": self.validation,
            "protocol": self.protocol,
            "protocol_id": self.protocol_id,
            "run_id": self.run_id,
            "environment": environment,
        }


def _words(value: Any) -> str:
    """A value of a recipe for people: 150,180,210; 0.05; "none" for an empty one."""
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value) or "none"


def _changes(plan: RetrospectionPlan) -> dict[str, float]:
    """What differs from the defaults."""
    return {key: value for key, value in asdict(plan).items() if value != getattr(RetrospectionPlan(), key)}


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]
