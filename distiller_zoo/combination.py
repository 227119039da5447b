"""Several methods at once: `crd+kd`, `crd*0.5+hint+kd`. Each part keeps its own β, or takes the one behind its `*`.

    γ·CE + α·KL_T + β·Σ_parts β_part·L_part

γ is the largest of the parts' (1 beside any method that keeps the cross-entropy whole), as in the published rows
"CRD+KD" with γ = α = 1. A part that is KL alone (`kd`) sets α to 1, or to the number behind its `*`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from common.errors import RequestError, RunError
from distiller_zoo.method import Method, Pair, Weights
from distiller_zoo.registry import declared_options


@dataclass(frozen=True)
class Part:
    """One of the methods and what it weighs; None for its published β."""

    cls: type[Method]
    given: float | None = None

    @property
    def beta(self) -> float:
        return self.cls.weights.beta if self.given is None else self.given

    @property
    def is_kl(self) -> bool:
        """Whether it is the protocol's KL term and nothing else."""
        return self.cls.weights.alpha > 0 and self.cls.weights.beta == 0

    def __str__(self) -> str:
        return self.cls.name if self.given is None else f"{self.cls.name}*{self.given:g}"


def combine(parts: Sequence[Part]) -> type[Method]:
    """The class of a combination.

    Raises:
        RequestError: parts that do not go together.
    """
    parts = sorted(parts, key=lambda part: part.cls.name)
    name = "+".join(map(str, parts))
    _check(parts, name)
    kl = [part for part in parts if part.is_kl]
    alpha = max((1.0 if part.given is None else part.given for part in kl), default=0.0)
    attributes = {
        "name": name,
        "parts": tuple(parts),
        "paper": "; ".join(part.cls.paper for part in parts),
        "weights": Weights(gamma=max(part.cls.weights.gamma for part in parts), alpha=alpha, beta=1.0),
        "student_needs": _union(part.cls.reads_of_student() for part in parts),
        "teacher_needs": _union(part.cls.reads_of_teacher() for part in parts),
        "min_teachers": max(part.cls.min_teachers for part in parts),
        "max_teachers": min(part.cls.most_teachers() for part in parts),
        "views": max(part.cls.views for part in parts),
        "max_initial_rate": min(filter(None, (part.cls.max_initial_rate for part in parts)), default=None),
        "initial_trains_student": any(part.cls.initial_trains_student for part in parts),
    }
    for flag in ("attaches", "changes_predictions", "needs_training_set_pass", "takes_extra_step"):
        attributes[flag] = any(getattr(part.cls, flag) for part in parts)
    return type("Combination", (Combination,), attributes)


def _check(parts: Sequence[Part], name: str) -> None:
    names = [part.cls.name for part in parts]
    for twice in {one for one in names if names.count(one) > 1}:
        raise RequestError(f"--distill {name} names {twice} twice; name it once, with its weight: {twice}*0.5")
    for part in parts:
        if part.cls.max_teachers == 0:
            raise RequestError(f"--distill {name}: {part.cls.name} has no teacher and goes with nothing; leave it out")
    answering = [part.cls.name for part in parts if part.cls.changes_predictions]
    if len(answering) > 1:
        raise RequestError(f"--distill {name}: {' and '.join(answering)} each have the student answer in their own way")


def _union(needs) -> tuple[str, ...]:
    return tuple(sorted({name for part in needs for name in part}))


class Combination(Method):
    """Parts that share student, teachers and batches. Built by `combine`."""

    parts: ClassVar[tuple[Part, ...]] = ()
    standardises_itself = True  # each part does what it does alone

    def __init__(self, pair: Pair, **options: Any):
        super().__init__(pair)
        self.methods = nn.ModuleList(part.cls(pair, **self._own(part, options)) for part in self.parts)
        staged = [part.cls.name for part, m in zip(self.parts, self.methods, strict=True) if m.initial_epochs]
        if len(staged) > 1:
            raise RequestError(f"{' and '.join(staged)} each begin with a stage of their own; take one of them")
        self.initial_epochs = max(method.initial_epochs for method in self.methods)

    @staticmethod
    def _own(part: Part, options: dict[str, Any]) -> dict[str, Any]:
        """A part's options: NAME, or METHOD.NAME where parts have one name with different defaults."""
        own = {}
        for name in declared_options(part.cls):
            key = f"{part.cls.name}.{name}"
            if key in options or name in options:
                own[name] = options.get(key, options.get(name))
        return own

    def inspect_networks(self, student, teachers):
        for method in self.methods:
            method.inspect_networks(student, teachers)

    def prepare(self, labels):
        for method in self.methods:
            method.prepare(labels)

    def fit_on_training_set(self, teachers, labels):
        for method in self.methods:
            if method.needs_training_set_pass:
                method.fit_on_training_set(teachers, labels)

    def attach(self, features):
        for method in self.methods:
            features = method.attach(features)
        return features

    def predict(self, features):
        for method in self.methods:
            if method.changes_predictions:  # one at most
                return method.predict(features)
        return features.logits

    def predictions_by_head(self, features):
        return {
            name: logits for method in self.methods for name, logits in method.predictions_by_head(features).items()
        }

    def losses(self, student, teachers, batch):
        self._sources, found = {}, {}
        for part, method in zip(self.parts, self.methods, strict=True):
            if part.beta and not part.is_kl:
                own = method.own_losses(*self._seen_by(method, student, teachers, batch))
                for name in found.keys() & own.keys():
                    raise RunError(f"{self.name}: two of its methods call a loss {name!r}; rename it in one of them")
                self._sources |= dict.fromkeys(own, (part, method))
                found |= own
        return found

    def total(self, losses, zero):
        total = torch.zeros_like(zero)
        for name, loss in losses.items():
            total = total + self._sources[name][0].beta * loss
        return total

    def _seen_by(self, method: Method, student, teachers, batch):
        """A part that wants fewer views sees the first ones only."""
        if method.views == self.views:
            return student, teachers, batch
        rows = len(batch.labels) // self.views * method.views
        return student.first(rows), tuple(teacher.first(rows) for teacher in teachers), batch.first(rows)

    def initial_losses(self, student, teachers, batch):
        (method,) = (method for method in self.methods if method.initial_epochs)
        return method.initial_losses(*self._seen_by(method, student, teachers, batch))

    def end_initial_stage(self):
        for method in self.methods:
            if method.initial_epochs:
                method.end_initial_stage()

    def after_step(self):
        for method in self.methods:
            method.after_step()

    def extra_step(self, trainee, batch):
        for method in self.methods:
            if method.takes_extra_step:
                method.extra_step(trainee, batch)

    def extra_metrics(self):
        return {name: value for method in self.methods for name, value in method.extra_metrics().items()}
