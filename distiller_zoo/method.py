"""The base class of all methods, and the order in which a run calls its hooks:

    method = METHOD(Pair(shapes of student and teachers, N), **options)        # refuses a pair that cannot work
    method.inspect_networks(student, teachers)
    method.prepare(labels of the training set)
    for each batch of the training set: method.fit_on_training_set(teacher features, labels)
    for epoch in 1 − initial_epochs, ..., epochs:                  # the epochs up to 0 are the initial stage
        for step, batch in enumerate(epoch):
            features = method.attach(student.features(batch.images))
            in the initial stage:  loss = Σ method.initial_losses(*method.declared_inputs(features, teachers), batch)
            in the main stage:     losses = method.losses(*method.loss_inputs(features, teachers), batch)
                                   loss = γ·CE + α·KL_T + β·method.total(losses)
            loss.backward(); optimizer.step()
            method.after_step(); method.extra_step(trainee, batch)
        method.end_initial_stage() after the last epoch of that stage
        test accuracy of method.predict(method.attach(student.features(images))); record method.extra_metrics()
    at the end: test accuracy of each of method.predictions_by_head(features)

CE and KL belong to the protocol and are computed by the engine; a method returns only its own losses, unweighted.
"""

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from common.errors import RunError
from distiller_zoo.option_types import Epochs as Epochs  # documented as a name of this module
from distiller_zoo.predictions import standardised, with_standardised_logits
from distiller_zoo.teacher_mixture import MANY, Weighting, mixture
from models import Features, FeatureShapes, Network
from models.features import LEFT_OUT

NO_FEATURES = Features(LEFT_OUT)  # of a student that an initial stage does not run


@dataclass(frozen=True)
class Weights:
    """γ (cross-entropy), α (KL to the teacher's softened predictions) and β (the method's own losses)."""

    gamma: float = 1.0
    alpha: float = 0.0
    beta: float = 1.0


@dataclass(frozen=True)
class Pair:
    """Shapes of student and teacher(s), known before any data is loaded.

    Attributes:
        student: shapes of the student's features.
        teachers: shapes of each teacher's features; empty for training without a teacher.
        num_samples: size of the training set.
        image_size: height and width of the images; None where it does not matter.
    """

    student: FeatureShapes
    teachers: tuple[FeatureShapes, ...]
    num_samples: int
    image_size: int | None = None

    @property
    def teacher(self) -> FeatureShapes:
        """Shapes of the first teacher, for methods that take one."""
        return self.teachers[0]


class Batch(Protocol):
    """The fields of a training batch of B images that a method may read (see `dataset.stream.Batch`)."""

    @property
    def images(self) -> Tensor:
        """B×3×H×W, float32, augmented and normalised."""

    @property
    def labels(self) -> Tensor:
        """B, int64: the class of each image before any mixing. See `Method.reads_labels`."""

    @property
    def main_labels(self) -> Tensor:
        """B, int64: the class with the largest share of each image after mixing; `labels` where nothing is mixed."""

    @property
    def targets(self) -> Tensor | None:
        """B×K shares of the classes in each mixed image, rows of sum 1; None where nothing is mixed."""

    @property
    def index(self) -> Tensor:
        """B, int64: position of each image in the training set."""

    @property
    def epoch(self) -> int:
        """The epoch, from 1; 0 and below in an initial stage."""

    @property
    def step(self) -> int:
        """The step within the epoch, from 0."""

    def generator(self, purpose: str) -> torch.Generator:
        """A fresh random generator on the batch's device, the same for each call with one purpose at one step."""

    def first(self, rows: int) -> "Batch":
        """The first `rows` samples of the batch."""


@dataclass(frozen=True)
class Trainee:
    """The student between two steps, for a method that takes a step of its own.

    Attributes:
        features: runs the student on images B×3×H×W; with what the method attaches, in float32.
        parameters: all that the optimizer trains, of student and method.
        average: averages gradients over the processes; call it between the backward pass and the update.
    """

    features: Callable[[Tensor], Features]
    parameters: list[nn.Parameter]
    average: Callable[[Iterable[nn.Parameter]], None]


class Method(nn.Module):
    """Base of all methods. Most subclasses declare `needs` and write `loss`; the rest is optional.

    The options of a method are the keyword-only arguments of its `__init__`, with their published
    defaults; they become command-line flags. An argument that is annotated by a dataclass stands for a group of
    options, the fields of that dataclass (std.py has three). A pair that cannot work is refused there, by raising
    RequestError with a sentence that says why. Parameters of the module are trained with the student's;
    buffers are saved in the checkpoint, so memories survive an interruption.

    Class attributes:
        weights: published γ, α, β.
        weights_from: where they come from, if not from published CIFAR-100 tables (a phrase, for the docs).
        paper: authors, title, venue and year.
        refuses: the pairs that it refuses, a phrase for --help.
        needs: fields of `Features` read from both student and teacher (logits always are).
        student_needs, teacher_needs: fields read from one side only; they default to `needs`.
        reads_teacher_logits: whether it reads a teacher's logits or classifier. False lets it learn from a teacher of
            any classes, or without a classifier, as long as α is 0; the teachers' logits are then guarded.
        min_teachers, max_teachers: how many teachers it can learn from. A method that takes one teacher and reads only
            its predictions learns from several as from their mixture (see `most_teachers`).
        teacher_order_matters: whether a method that takes several teachers itself gives each of them its own place, so
            that another order is another setting. Tables keep the orders of such a method apart.
        views: how many independent augmentations of each image a batch holds, one after the other: with 2, images,
            labels and index have 2B rows, and `chunk(2)` parts them. Cross-entropy and KL see all rows.
        reads_labels: whether its losses read `labels`, `main_labels` or `targets` of a batch. Such a method is refused
            under --unlabelled, as is one with `prepare` or `fit_on_training_set`, which get labels (`needs_labels`).
        required_hooks: hooks without which no loss can be computed, of `inspect_networks`, `prepare` and
            `fit_on_training_set`. The method's own version of each calls `super()`.
        initial_trains_student: whether the initial stage (see `initial_epochs`) trains the student's features too.
        max_initial_rate: the highest learning rate of that stage; None for the recipe's.
        standardises_itself: under --logit_standardization a method is given standardised logits. One that compares
            other logits than those of `Features`, or some of them as they are, is given all as they are, and calls
            `standardise` where it compares.
        attaches: whether it has `attach`.
        changes_predictions: whether the deployed student predicts by other logits than its own: it has `predict` or
            `predictions_by_head`, or `attach` replaces the logits. Such a method's weights are kept with the student's.
        needs_training_set_pass: whether it has `fit_on_training_set`.
        takes_extra_step: whether it has `extra_step`.
    """

    weights: Weights = Weights()
    weights_from: ClassVar[str] = ""
    paper: str = ""
    refuses: ClassVar[str] = ""
    needs: ClassVar[tuple[str, ...]] = ()
    student_needs: ClassVar[tuple[str, ...] | None] = None
    teacher_needs: ClassVar[tuple[str, ...] | None] = None
    reads_teacher_logits: bool = True
    min_teachers: int = 1
    max_teachers: int = 1
    teacher_order_matters: bool = True
    views: int = 1
    reads_labels: ClassVar[bool] = False
    required_hooks: ClassVar[tuple[str, ...]] = ()
    initial_trains_student: bool = False
    max_initial_rate: float | None = None
    standardises_itself: ClassVar[bool] = False
    attaches: bool = False
    changes_predictions: bool = False
    needs_training_set_pass: bool = False
    takes_extra_step: bool = False

    teacher_weighting: Weighting = "average"  # how several teachers become one; set by the engine
    logit_standardization: bool = False  # whether losses on logits see standardised ones; set by the engine
    initial_epochs: int = 0  # of a stage before the main one that minimises `initial_losses` alone

    name: str  # set by the registry

    def __init__(self, pair: Pair):
        super().__init__()
        self._hooks_to_call = set(self.required_hooks)
        self.register_load_state_dict_post_hook(_fitted_before)

    # --- before training ----------------------------------------------------------------------------------------------

    def inspect_networks(self, student: Network, teachers: tuple[Network, ...]) -> None:
        """Read classifiers or batch-norm layers of the networks; called once, before any data is loaded.

        A network that is kept must not become a part of the module (`self.teacher = network` would), or it would be
        trained and saved with it: copy tensors into buffers, or keep a network in a tuple.

        Raises:
            RequestError: the networks lack something that the method reads.
        """
        self._hooks_to_call.discard("inspect_networks")

    def prepare(self, labels: Tensor) -> None:
        """Called once before training with the labels of the training set (N, int64, on the device)."""
        self._hooks_to_call.discard("prepare")

    def fit_on_training_set(self, teachers: tuple[Features, ...], labels: Tensor) -> None:
        """Called for each batch of the whole training set before the first step, by a pass of the teachers over it.

        Only if `needs_training_set_pass` is declared and β is not 0. Images come in their order and without
        augmentation, on every process all of them; what is learned from them belongs into buffers, since a run that
        continues from a checkpoint does not repeat the pass. No gradients. Torch's global generator is seeded for each
        batch.

        Args:
            teachers: `declared_fields_of` each teacher, in float32, not standardised.
            labels: B, int64.
        """
        self._hooks_to_call.discard("fit_on_training_set")

    # --- the student --------------------------------------------------------------------------------------------------

    def attach(self, features: Features) -> Features:
        """Extend the student's features by what the method adds to the network itself (extra heads).

        Runs with the student, in training and evaluation alike, under the same precision.
        """
        return features

    def predict(self, features: Features) -> Tensor:
        """B×K logits of the deployed student, from attached features."""
        return features.logits

    def predictions_by_head(self, features: Features) -> dict[str, Tensor]:
        """B×K logits of each way to predict by name, for a student that has several; from attached features."""
        return {}

    # --- losses -------------------------------------------------------------------------------------------------------

    def declared_inputs(
        self, student: Features | None, teachers: tuple[Features, ...]
    ) -> tuple[Features, tuple[Features, ...]]:
        """Student and teachers with their logits and the declared fields only; any use of another field raises.

        The teachers' logits are guarded likewise unless `reads_teacher_logits`.

        Args:
            student: None in an initial stage that does not train the student.

        Raises:
            RunError: a hook of `required_hooks` has not been called.
        """
        for hook in self.required_hooks:
            if hook in self._hooks_to_call:
                raise RunError(f"method {self.name} computes no loss before {hook}: call method.{HOOK_CALLS[hook]}")
        student = (student or NO_FEATURES).guarded(self.reads_of_student())
        return student, tuple(map(self.declared_fields_of, teachers))

    def declared_fields_of(self, teacher: Features) -> Features:
        """A teacher's logits and declared fields; any use of another field raises."""
        return teacher.guarded(self.reads_of_teacher(), self.reads_teacher_logits)

    def loss_inputs(self, student: Features, teachers: tuple[Features, ...]) -> tuple[Features, tuple[Features, ...]]:
        """Student and teachers as `losses` reads them.

        Logits are standardised under --logit_standardization, and several teachers become their mixture for a method
        that learns from one.

        Raises:
            RunError: a hook of `required_hooks` has not been called.
        """
        student, teachers = self.declared_inputs(student, teachers)
        if self.logit_standardization and not self.standardises_itself:
            student = with_standardised_logits(student)
            if self.reads_teacher_logits:
                teachers = tuple(map(with_standardised_logits, teachers))
        if len(teachers) > self.max_teachers:
            teachers = (mixture(teachers, self.teacher_weighting),)
        return student, teachers

    def own_losses(self, student: Features, teachers: tuple[Features, ...], batch: Batch) -> dict[str, Tensor]:
        """`losses` of `loss_inputs`: the method's own losses by name, scalars in float32, unweighted."""
        return self.losses(*self.loss_inputs(student, teachers), batch)

    def losses(self, student: Features, teachers: tuple[Features, ...], batch: Batch) -> dict[str, Tensor]:
        """The method's own losses by name: scalars in float32, unweighted."""
        return {self.name: self.loss(student, teachers[0], batch)}

    def loss(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        """The one loss of a method with one teacher: a scalar."""
        raise NotImplementedError(f"{type(self).__name__} defines neither loss nor losses")

    def total(self, losses: dict[str, Tensor], zero: Tensor) -> Tensor:
        """The scalar that β weighs: the sum of `losses`, which may be empty.

        Args:
            zero: any scalar on the right device; its value does not matter.
        """
        return sum(losses.values(), start=torch.zeros_like(zero))

    def standardise(self, logits: Tensor) -> Tensor:
        """Logits ...×K, standardised under --logit_standardization."""
        return standardised(logits) if self.logit_standardization else logits

    def initial_losses(self, student: Features, teachers: tuple[Features, ...], batch: Batch) -> dict[str, Tensor]:
        """The losses of the initial stage by name, unweighted scalars; their sum is minimised.

        Args:
            student: without any field, logits included, unless `initial_trains_student`.
        """
        raise NotImplementedError(f"{type(self).__name__} has an initial stage and no losses for it")

    # --- after a step, a stage, an epoch ------------------------------------------------------------------------------

    def end_initial_stage(self) -> None:
        """Called once after the initial stage, before the main one: to freeze what it trained, say."""

    def after_step(self) -> None:
        """Called after each optimizer step, for what must not change before the backward pass is done."""

    def extra_step(self, trainee: Trainee, batch: Batch) -> None:
        """Called after `after_step`: for updates of the method's own beside the optimizer's. Leaves no gradients."""

    def extra_metrics(self) -> dict[str, Tensor]:
        """Scalars about the method's state that are recorded at the end of each epoch."""
        return {}

    def published_form(self, pair: Pair, labels: Tensor) -> "Method":
        """Copy of the method that computes its losses as the published code does, for benchmarks.

        Args:
            labels: N, int64: of the training set, which the copy's `prepare` gets later.
        """
        return copy.deepcopy(self)

    # --- declarations -------------------------------------------------------------------------------------------------

    @classmethod
    def most_teachers(cls) -> int:
        """The largest number of teachers that it can be given."""
        reads_logits_alone = cls.reads_teacher_logits and not cls.reads_of_teacher()
        return MANY if cls.max_teachers == 1 and reads_logits_alone else cls.max_teachers

    @classmethod
    def needs_labels(cls) -> bool:
        """Returns whether it cannot learn from images without labels."""
        hooks = (cls.prepare, cls.fit_on_training_set)
        return cls.reads_labels or hooks != (Method.prepare, Method.fit_on_training_set)

    def places_teachers(self) -> bool:
        """Returns whether the order of several teachers is part of the setting; a mixture of them has no order."""
        return self.max_teachers > 1 and self.teacher_order_matters

    @classmethod
    def reads_of_student(cls) -> tuple[str, ...]:
        """Fields of `Features` that it reads of the student beside the logits."""
        return cls.needs if cls.student_needs is None else cls.student_needs

    @classmethod
    def reads_of_teacher(cls) -> tuple[str, ...]:
        """Fields of `Features` that it reads of each teacher beside the logits."""
        return cls.needs if cls.teacher_needs is None else cls.teacher_needs


HOOK_CALLS = {
    "inspect_networks": "inspect_networks(student, (teacher,)) with the networks",
    "prepare": "prepare(labels) with the labels of the training set",
    "fit_on_training_set": "fit_on_training_set((teacher_features,), labels) for each batch of the training set",
}


def _fitted_before(module: nn.Module, _incompatible: Any) -> None:
    """A loaded state holds what the pass over the training set gave, as a run that continues relies on."""
    if isinstance(module, Method):
        module._hooks_to_call.discard("fit_on_training_set")
