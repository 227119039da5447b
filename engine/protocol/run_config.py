"""The content of a run's config.json."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from common.json_files import printable
from dataset import DATASETS
from engine.protocol.identity import protocol_id
from engine.protocol.names import protocol_line, recipe_changes
from engine.protocol.plan import BackboneFile, RunPlan

Figures = Mapping[str, float | None]  # by name; None for what cannot be measured


def run_config(plan: RunPlan, measured: Sequence[Figures], environment: dict[str, Any]) -> dict[str, Any]:
    """Everything that is known of a run before it starts.

    Args:
        measured: each teacher's top1, top5, loss and balanced accuracy on the test set, and its size.
        environment: versions, hardware and commit.
    """
    entry = DATASETS[plan.dataset]
    return {
        "format": 1,
        "kind": plan.kind,
        "dataset": plan.dataset,
        "num_classes": entry.num_classes,
        "classes": list(map(printable, entry.classes)),
        "image_size": entry.image_size,
        "model": plan.model,
        "method": plan.method,
        "label": plan.label,
        "weights": asdict(plan.weights),
        "kd_T": plan.kd_T,
        "options": plan.options,
        "teachers": [
            {
                "model": file.model,
                "path": str(file.path),
                "sha256": file.sha256,
                "normalisation": file.normalisation_override,
                **({"weights_key": file.weights_key} if file.weights_key else {}),
                **result,
            }
            for file, result in zip(plan.teachers, measured, strict=True)
        ],
        "logit_standardization": plan.logit_standardization,
        "teacher_weighting": plan.teacher_weighting,
        "retrospection": None if plan.retrospection is None else asdict(plan.retrospection),
        "backbone": None if plan.backbone is None else _backbone(plan.backbone),
        "init": None if plan.init is None else asdict(plan.init) | {"path": str(plan.init.path)},
        "trial": plan.trial,
        "seed": plan.seed,
        "recipe": plan.recipe.as_dict(),
        "recipe_changes": recipe_changes(plan),
        "precision": plan.precision,
        "validation": plan.validation,
        "unlabelled": None if plan.unlabelled is None else plan.unlabelled.as_dict(),
        "protocol": protocol_line(plan),
        "protocol_id": protocol_id(plan),
        "run_id": plan.run_id,
        "environment": environment,
    }


def _backbone(file: BackboneFile) -> dict[str, Any]:
    fields = asdict(file) | {"path": str(file.path)}
    return fields if file.weights_key else {name: value for name, value in fields.items() if name != "weights_key"}
