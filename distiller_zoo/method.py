"""What a distillation method is, and what it is built from.

The loss of every run is  γ·CE + α·KL_T + β·(the method's own losses).  CE and KL belong to the
protocol and are computed by the engine; a method returns only its own losses, unweighted.
"""

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, ClassVar, Protocol

import torch
from torch import Tensor, nn

from distiller_zoo.predictions import standardised, with_standardised_logits
from distiller_zoo.teacher_mixture import MANY, Weighting, mixture
from models import Features, FeatureShapes, Network

# The annotation of an option that counts epochs: its default is meant for a run of full length, and a shorter run
# takes a share of it in proportion (`engine.protocol.options.default_options`).
Epochs = Annotated[int, "epochs"]


@dataclass(frozen=True)
class Weights:
    """γ (cross-entropy), α (KL to the teacher's softened output) and β (the method's own losses)."""

    gamma: float = 1.0
    alpha: float = 0.0
    beta: float = 1.0


@dataclass(frozen=True)
class Pair:
    """Teacher(s) and student as a method sees them before any data is loaded.

    Attributes:
        student: shapes of the student's features.
        teachers: shapes of each teacher's features; empty for training without a teacher.
        num_samples: size of the training set.
    """

    student: FeatureShapes
    teachers: tuple[FeatureShapes, ...]
    num_samples: int

    @property
    def teacher(self) -> FeatureShapes:
        """The first teacher, for methods that take one."""
        return self.teachers[0]


class Batch(Protocol):
    """What a method may read of a training batch (see dataset.stream.Batch)."""

    labels: Tensor  # B, int64: the class of each image before any mixing
    main_labels: Tensor  # B, int64: the class with the largest share of each image as it is
    index: Tensor  # B, int64: position in the training set
    epoch: int  # from 1
    step: int  # within the epoch, from 0

    generator: Callable[[str], torch.Generator]  # a stream of random numbers of its own for each purpose and step


@dataclass(frozen=True)
class Trainee:
    """The student between two steps, for a method that takes one of its own.

    Attributes:
        features: another pass of images B×3×H×W, with what the method attaches, in float32.
        parameters: what the optimizer trains, of student and method.
        average: to be called on all that has a gradient, between the backward pass and the update; of several
            processes it makes their gradients one.
    """

    features: Callable[[Tensor], Features]
    parameters: list[nn.Parameter]
    average: Callable[[Iterable[nn.Parameter]], None]


class Method(nn.Module):
    """Base of all methods. Most subclasses declare `needs` and write `loss`; the rest is optional.

    The options of a method are the keyword-only arguments of its `__init__`, with their published
    defaults; they become command-line flags. A pair that cannot work is refused there, by raising
    RequestError with a sentence that says why. Parameters of the module are trained with the student's;
    buffers are saved in the checkpoint, so memories survive an interruption.

    Class attributes:
        weights: published γ, α, β.
        weights_from: what they are, where they are not those of published CIFAR-100 tables (a phrase, for the docs).
        paper: authors, title, venue and year.
        needs: fields of `Features` read from both student and teacher (logits always are).
        student_needs, teacher_needs: the same for one side only; they default to `needs`.
        min_teachers, max_teachers: how many teachers it can learn from. One that takes one and reads its predictions
            alone learns from several as from their mixture (see `most_teachers`).
        views: how many independent augmentations of each image a batch holds, one after the other: with 2, images,
            labels and index have 2B rows, and `chunk(2)` parts them. Cross-entropy and KL see all rows.
        initial_trains_student: whether the initial stage (see `initial_epochs`) trains the student's features too.
        max_initial_rate: the highest learning rate of that stage; None for the recipe's, whatever it is.
        standardises_itself: under --logit_standardization a method is given standardised logits. One that compares
            other logits than those of `Features`, or some of them as they are, is given all as they are, and calls
            `standardise` where it compares.
        attaches: whether it has `attach`.
        changes_predictions: whether the deployed student predicts by other logits than its own: it has `predict`, or
            `attach` replaces the logits. Such a method's weights are kept with the student's.
        needs_training_set_pass: whether it has `fit_on_training_set`.
        takes_extra_step: whether it has `extra_step`.
    """

    weights: ClassVar[Weights] = Weights()
    weights_from: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    needs: ClassVar[tuple[str, ...]] = ()
    student_needs: ClassVar[tuple[str, ...] | None] = None
    teacher_needs: ClassVar[tuple[str, ...] | None] = None
    min_teachers: ClassVar[int] = 1
    max_teachers: ClassVar[int] = 1
    views: ClassVar[int] = 1
    initial_trains_student: ClassVar[bool] = False
    max_initial_rate: ClassVar[float | None] = None
    standardises_itself: ClassVar[bool] = False
    attaches: ClassVar[bool] = False
    changes_predictions: ClassVar[bool] = False
    needs_training_set_pass: ClassVar[bool] = False
    takes_extra_step: ClassVar[bool] = False

    teacher_weighting: Weighting = "average"  # how several teachers become one; set by the engine
    logit_standardization: bool = False  # whether losses on logits see standardised ones; set by the engine
    initial_epochs: int = 0  # of a stage before the main one that minimises `initial_losses` alone

    name: ClassVar[str]  # set by the registry

    def __init__(self, pair: Pair):
        super().__init__()

    def inspect_networks(self, student: Network, teachers: tuple[Network, ...]) -> None:
        """Called once, before any data is loaded, with the networks: for classifiers and batch-norm statistics.

        What is kept of them must not become a part of the module (`self.teacher = network` would), or it would be
        trained and saved with it: copy tensors into buffers, or keep a network in a tuple.

        Raises:
            RequestError: the networks lack what the method reads.
        """

    def prepare(self, labels: Tensor) -> None:
        """Called once before training with the labels of the training set (N, int64, on the device)."""

    def fit_on_training_set(self, teachers: tuple[Features, ...], labels: Tensor) -> None:
        """Called for each batch of the whole training set before the first step, by a pass of the teachers over it.

        Only where `needs_training_set_pass` is declared and β is not 0. Images come in their order and as they would be
        tested, on every process all of them; what is learned from them belongs into buffers, for a run that continues
        from a checkpoint sees them no more. No gradients. Torch's global generator is seeded for each batch.

        Args:
            teachers: logits and the fields of `reads_of_teacher` of each teacher, in float32 and as they are.
            labels: B, int64.
        """

    def attach(self, features: Features) -> Features:
        """Extend the student's features by what the method adds to the network itself (extra heads).

        Runs with the student, in training and evaluation alike, under the same precision.
        """
        return features

    def predict(self, features: Features) -> Tensor:
        """B×K logits of the deployed student, from attached features."""
        return features.logits

    def predictions_by_head(self, features: Features) -> dict[str, Tensor]:
        """B×K logits by each way in which the student could answer, where there are several; by name."""
        return {}

    def loss_inputs(self, student: Features, teachers: tuple[Features, ...]) -> tuple[Features, tuple[Features, ...]]:
        """Student and teachers as `losses` is to see them.

        Logits are standardised under --logit_standardization, and several teachers become their mixture for a method
        that learns from one.
        """
        if self.logit_standardization and not self.standardises_itself:
            student, *others = map(with_standardised_logits, (student, *teachers))
            teachers = tuple(others)
        if len(teachers) > self.max_teachers:
            teachers = (mixture(teachers, self.teacher_weighting),)
        return student, teachers

    def own_losses(self, student: Features, teachers: tuple[Features, ...], batch: Batch) -> dict[str, Tensor]:
        """`losses` of `loss_inputs`: the method's own losses by name, scalars in float32, unweighted."""
        return self.losses(*self.loss_inputs(student, teachers), batch)

    def standardise(self, logits: Tensor) -> Tensor:
        """Logits ...×K as losses on them shall see them: under --logit_standardization standardised."""
        return standardised(logits) if self.logit_standardization else logits

    def losses(self, student: Features, teachers: tuple[Features, ...], batch: Batch) -> dict[str, Tensor]:
        """The method's own losses by name: scalars in float32, unweighted."""
        return {self.name: self.loss(student, teachers[0], batch)}

    def loss(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        """The one loss of a method with one teacher."""
        raise NotImplementedError(f"{type(self).__name__} defines neither loss nor losses")

    def total(self, losses: dict[str, Tensor], zero: Tensor) -> Tensor:
        """What β weighs: the sum of `losses`, which may be empty; `zero` is any scalar of the right device."""
        return sum(losses.values(), start=torch.zeros_like(zero))

    def initial_losses(self, student: Features, teachers: tuple[Features, ...], batch: Batch) -> dict[str, Tensor]:
        """The losses of the initial stage by name, unweighted; their sum is minimised."""
        raise NotImplementedError(f"{type(self).__name__} has an initial stage and no losses for it")

    def end_initial_stage(self) -> None:
        """Called once after the initial stage, before the main one: to freeze what it trained, say."""

    def after_step(self) -> None:
        """Called after each optimiser step, for what must not change before the backward pass is done."""

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

    @classmethod
    def most_teachers(cls) -> int:
        """How many teachers it can be given."""
        return MANY if cls.max_teachers == 1 and not cls.reads_of_teacher() else cls.max_teachers

    @classmethod
    def reads_of_student(cls) -> tuple[str, ...]:
        return cls.needs if cls.student_needs is None else cls.student_needs

    @classmethod
    def reads_of_teacher(cls) -> tuple[str, ...]:
        return cls.needs if cls.teacher_needs is None else cls.teacher_needs
