"""Two hashes of a run: what makes it this run and no other, and what it must share with others to be compared."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from engine.protocol.recipes import RECIPES
from models import MODELS

if TYPE_CHECKING:
    from engine.protocol.plan import RunPlan


def run_id(plan: RunPlan) -> str:
    """Hash everything that determines the result, and nothing else: no path, no device.

    Settings that were added later count only where they are used, so runs of earlier versions keep their ids.
    """
    task = [plan.kind, plan.dataset, plan.model, [teacher.sha256 for teacher in plan.teachers]]
    method = [plan.method, plan.options, asdict(plan.weights), plan.kd_T]
    protocol = [plan.recipe.digest(), plan.precision, plan.trial, plan.seed]
    added: list[Any] = []
    if plan.backbone is not None:
        added.append(plan.backbone.sha256)
    if plan.logit_standardization:
        added.append("logit_standardization")
    if plan.teacher_weighting != "average":
        added.append(plan.teacher_weighting)
    if plan.retrospection is not None:
        added.append(asdict(plan.retrospection))
    if plan.validation:
        added.append({"validation": plan.validation})
    overrides = [teacher.normalisation_override for teacher in plan.teachers]
    if any(overrides):
        added.append({"normalisation": overrides})
    keys = [teacher.weights_key for teacher in plan.teachers]
    if any(keys):
        added.append({"weights_key": keys})
    if plan.backbone is not None and plan.backbone.weights_key:
        added.append({"backbone_key": plan.backbone.weights_key})
    if plan.init is not None:
        named = plan.init.normalisation if plan.init.named_normalisation else None
        added.append({"init": [plan.init.sha256, plan.init.weights_key, named]})
    if plan.unlabelled is not None:
        added.append({"unlabelled": [plan.unlabelled.sha256, plan.unlabelled.only]})
    return _digest([task, method, protocol, *added])


def protocol_id(plan: RunPlan) -> str:
    """Hash what two runs must share to be compared: recipe, precision and held-out images.

    A learning rate that the recipe keeps for this network counts as the recipe's: the published tables have
    MobileNetV2 and ShuffleNets beside ResNets, at another rate, under one protocol. Probes of all networks have the
    rate of their recipe.
    """
    recipe, own = plan.recipe, []
    usual, preset = MODELS[plan.model].learning_rate, RECIPES[recipe.name].learning_rate
    if recipe.optimizer == "sgd" and usual is not None and plan.kind != "probe":
        own = ["another learning rate"] if recipe.learning_rate != usual else []
        recipe = recipe if own else replace(recipe, learning_rate=preset)
    held_out = [plan.validation] if plan.validation else []
    return _digest([recipe.digest(), plan.precision, *held_out, *own])


def _digest(values: list[Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]
