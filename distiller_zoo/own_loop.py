"""A method in a training loop of your own, without the engine (docs/your_own_loop.md)."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from common.errors import RequestError
from common.seeds import make_generator
from distiller_zoo.building import create_method, method_class
from distiller_zoo.kd import mean_kd_loss
from distiller_zoo.method import Batch, Method, Pair
from models import Features, FeatureShapes, Network

DEFAULT_KD_T = 4.0


@dataclass(frozen=True)
class SimpleBatch:
    """A training batch as a loop of your own has it: unmixed images, on the device that trains.

    Attributes:
        images: B×3×H×W.
        labels: B, int64.
        index: B, int64: position of each image in the training set, for methods that keep a memory of it.
        epoch: from 1; some losses grow over the first epochs.
        step: within the epoch, from 0; with epoch and seed it decides the random numbers of the step.
    """

    images: Tensor
    labels: Tensor
    index: Tensor
    epoch: int = 1
    step: int = 0
    seed: int = 0

    @property
    def main_labels(self) -> Tensor:
        """B, int64: `labels`, as nothing is mixed."""
        return self.labels

    @property
    def targets(self) -> None:
        """None: nothing is mixed."""

    def generator(self, purpose: str) -> torch.Generator:
        """A generator on the images' device, seeded by (seed, purpose, epoch, step)."""
        return make_generator(self.seed, purpose, self.epoch, self.step, device=self.images.device)

    def first(self, rows: int) -> "SimpleBatch":
        """The first `rows` samples."""
        return replace(self, images=self.images[:rows], labels=self.labels[:rows], index=self.index[:rows])


def method_for(
    name: str,
    student: Features,
    teacher: Features,
    labels: Tensor,
    networks: tuple[Network, Network] | None = None,
    **options: object,
) -> Method:
    """Build a method for two networks, known by example features of any batch.

    Args:
        name: a method, an alias, or a combination such as `crd+kd`.
        student, teacher: features of one batch, on the device that trains. Fields that the method does not read may be
            left out.
        labels: N, int64: of the whole training set.
        networks: student and teacher, for methods that read a classifier or batch-norm layers (catkd, ofd, sdd, simkd,
            srrl, abound). They need `last_linear`, or `stage_norms()` and `norm_follows_last_stage`, as
            `models.Network` has them.
        options: of the method, by their names on the command line.

    Returns:
        The method in training mode, on the device of the student's features. Its parameters are trained with the
        student's, `after_step` is called after each optimizer step, and its state is in `state_dict`.

    Raises:
        RequestError: an unknown method or option, a pair that the method refuses, or a field that it reads is missing.
    """
    method = method_class(name)
    for side, features, fields in (
        ("student", student, method.reads_of_student()),
        ("teacher", teacher, method.reads_of_teacher()),
    ):
        for field in fields:
            if getattr(features, field) is None:
                raise RequestError(f"{method.name} reads {field!r} of the {side}; give Features(..., {field}=...)")
    teachers = (example_shapes(teacher),) if method.max_teachers else ()
    built = create_method(name, Pair(example_shapes(student), teachers, len(labels)), options)
    built.to(student.logits.device)
    if networks is not None:
        built.inspect_networks(networks[0], (networks[1],))
    built.prepare(labels.to(student.logits.device))
    return built.train()


def distillation_loss(
    method: Method, student: Features, teacher: Features, batch: Batch, kd_T: float = DEFAULT_KD_T
) -> Tensor:
    """α·KL_T + β·(the method's own losses), a scalar: all of the published loss but the γ·CE.

    Args:
        method: of `method_for`; `method.weights` are γ, α and β, which can be replaced.
        student, teacher: features of the batch, the teacher's without gradients.
        kd_T: temperature of the KL.

    Raises:
        RunError: a hook that the method requires has not been called, or it reads a field that it does not declare.
    """
    if method.attaches:
        student = method.attach(student)
    total = torch.zeros_like(student.logits[0, 0])
    if method.weights.alpha:
        logits = [replace(features, logits=method.standardise(features.logits)) for features in (student, teacher)]
        total = total + method.weights.alpha * mean_kd_loss(logits[0], (logits[1],), kd_T)
    if method.weights.beta:
        losses = method.own_losses(student, (teacher,), batch)
        total = total + method.weights.beta * method.total(losses, total)
    return total


def initial_stage_loss(method: Method, student: Features, teacher: Features, batch: Batch) -> Tensor:
    """The loss of a method's initial stage, a scalar, for the `method.initial_epochs` epochs before the others.

    After them, call `method.end_initial_stage()` and make a new optimizer of what still requires a gradient.

    Raises:
        RunError: as `distillation_loss`.
    """
    losses = method.initial_losses(*method.declared_inputs(student, (teacher,)), batch)
    return torch.stack(list(losses.values())).sum()


def example_shapes(features: Features) -> FeatureShapes:
    """Shapes of features without the batch dimension; a field that was left out counts as empty."""

    def shape(maps: Tensor | None) -> tuple[int, int, int]:
        if maps is None:
            return 0, 0, 0
        channels, height, width = maps.shape[1:]
        return channels, height, width

    return FeatureShapes(
        num_classes=features.logits.shape[1],
        embedding=0 if features.embedding is None else features.embedding.shape[1],
        stem=shape(features.stem),
        stages=tuple(map(shape, features.stages or ())),
        preacts=tuple(map(shape, features.preacts or ())),
        blocks=tuple(map(shape, features.blocks or ())),
        last_map=shape(features.last_map),
    )
