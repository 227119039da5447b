"""A run in words: the name of its folder, its label in tables, and its protocol in a line."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.messages import counted
from distiller_zoo import method_class
from engine.protocol.options import DEFAULT_KD_T, default_options
from engine.protocol.recipes import changed_values
from models import MODELS
from models.registry import file_name_of

if TYPE_CHECKING:
    from engine.protocol.plan import RunPlan

# Where runs of each kind lie below the output root.
FOLDERS = {"teacher": "models", "student": "student_model", "probe": "transfer"}
NAME_LENGTH = 180  # characters of a folder's name before its trial and hash
LONGEST_NAME = 255  # bytes that file systems take in all; a letter of another script has up to four


def folder(plan: RunPlan) -> Path:
    """The run's folder below the output root."""
    return Path(FOLDERS[plan.kind]) / folder_name(plan)


def folder_name(plan: RunPlan) -> str:
    """A readable name that is safe on every file system, and distinct for distinct runs."""
    model, dataset = file_name_of(plan.model), file_name_of(plan.dataset)
    rates = f"lr_{plan.recipe.learning_rate:g}_decay_{plan.recipe.weight_decay:g}"
    if plan.kind == "teacher":
        text = f"{model}_{dataset}_{rates}"
    elif plan.kind == "probe":
        text = f"{model}_to_{dataset}_{rates}"
    else:
        teachers = "+".join(file_name_of(teacher.model) for teacher in plan.teachers) or "none"
        w = plan.weights
        text = f"S_{model}_T_{teachers}_{dataset}_{plan.method.replace('*', 'x')}"
        text += f"_r_{w.gamma:g}_a_{w.alpha:g}_b_{w.beta:g}"
    end = f"_trial_{plan.trial}_{plan.run_id}"
    return _first_bytes(text[:NAME_LENGTH], LONGEST_NAME - len(end)) + end


def _first_bytes(text: str, most: int) -> str:
    """The beginning of a text in whole letters, at most so many bytes of a file's name."""
    while len(os.fsencode(text)) > most:
        text = text[:-1]
    return text


def label(plan: RunPlan) -> str:
    """The method's name and what differs from its published defaults, as tables call it."""
    published = method_class(plan.method).weights
    parts = [plan.method]
    for key, value in asdict(plan.weights).items():
        if value != getattr(published, key):
            parts.append(f"{key}={value:g}")
    if plan.weights.alpha and plan.kd_T != DEFAULT_KD_T:
        parts.append(f"kd_T={plan.kd_T:g}")
    for key, default in default_options(plan.method, plan.recipe).items():
        if plan.options[key] != default:
            parts.append(f"{key}={plan.options[key]}")
    if plan.logit_standardization:
        parts.append("standardised")
    if plan.teacher_weighting != "average":
        parts.append(f"teachers by {plan.teacher_weighting}")
    if plan.retrospection is not None:
        parts.append(f"lwr={plan.retrospection.k}")
        parts += [f"lwr_{key}={value:g}" for key, value in plan.retrospection.changes().items() if key != "k"]
    if plan.unlabelled is not None:
        parts.append(plan.unlabelled.label)
    return " ".join(parts)


def console_name(plan: RunPlan) -> str:
    """What the lines of a command call a run: its network, and its method unless it is trained alone for itself."""
    return f"{plan.model} {label(plan)}" if plan.kind == "student" else plan.model


def distinct_names(plans: Iterable[RunPlan]) -> dict[str, str]:
    """What runs of one command are called, by their hash, where they would be alike: "resnet8 kd learning_rate=0.1".

    Only runs of one network and trial are told apart, by the values of their recipes that differ.
    """
    alike: dict[tuple[str, str, int], list[RunPlan]] = {}
    for plan in plans:
        alike.setdefault((plan.model, plan.label, plan.trial), []).append(plan)
    found = {}
    for of_one_label in (group for group in alike.values() if len(group) > 1):
        values = [_recipe_values(plan) for plan in of_one_label]
        differing = [key for key in values[0] if any(each[key] != values[0][key] for each in values)]
        for plan, own in zip(of_one_label, values, strict=True):
            found[plan.run_id] = " ".join([plan.console_name, *(f"{key}={_words(own[key])}" for key in differing)])
    return found


def _recipe_values(plan: RunPlan) -> dict[str, Any]:
    values = asdict(plan.recipe)
    augmentation = values.pop("augmentation")
    return {"recipe": values.pop("name")} | {key: values[key] for key in values if key != "summary"} | augmentation


def protocol_line(plan: RunPlan) -> str:
    """What two runs must share to be compared: "repdistiller schedule=cosine, 9 epochs, batch 64, fp32"."""
    recipe = plan.recipe
    words = [recipe.name, *(f"{key}={_words(value)}" for key, value in recipe_changes(plan).items())]
    held_out = f", {plan.validation} images held out" if plan.validation else ""
    length = f"{counted(recipe.epochs, 'epoch')}, batch {recipe.batch_size}"
    return f"{' '.join(words)}, {length}, {plan.precision}{held_out}"


def recipe_changes(plan: RunPlan) -> dict[str, Any]:
    """The values of the recipe that differ from its preset (of the same epochs and batch size), by flag."""
    model = MODELS[plan.model]
    if plan.kind == "probe":  # all networks have the learning rate of the recipe
        model = replace(model, learning_rate=None)
    return changed_values(plan.recipe, model)


def _words(value: Any) -> str:
    """A value of a recipe as text: 150,180,210; 0.05; "none" for an empty one."""
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value) or "none"
