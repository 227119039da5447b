"""A run before it starts: every value that its result depends on. `make_plan` builds it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from distiller_zoo import Weights, method_class
from distiller_zoo.teacher_mixture import Weighting
from engine.protocol import identity, names
from engine.protocol.options import DEFAULT_KD_T, resolve_options
from engine.protocol.recipes import Recipe
from engine.protocol.retrospection_plan import RetrospectionPlan
from engine.protocol.unlabelled_plan import UnlabelledPlan
from models.timm_models import Normalisation

Code = dict[str, str]  # files of methods and networks, relative to the repository → start of the SHA-256 of each


@dataclass(frozen=True)
class WeightsFile:
    """A network's checkpoint: the network's name, the path, and the SHA-256 of the file."""

    model: str
    path: Path
    sha256: str


@dataclass(frozen=True)
class TeacherFile(WeightsFile):
    """A teacher's checkpoint.

    Attributes:
        normalisation_override: mean and standard deviation of the images that the teacher expects, if timm:NAME.TAG
            gives others than the data set's and the file has none. One file is then two teachers.
        weights_key: where in the file the weights are, if the user chose among several. Likewise.
    """

    normalisation_override: Normalisation | None = None
    weights_key: str | None = None


@dataclass(frozen=True)
class BackboneFile(WeightsFile):
    """A trained network's checkpoint whose weights are kept and frozen.

    Attributes:
        trained_by: how it was trained, as tables call it.
        code: the code that trained it; empty if unknown.
        training: data set, protocol and teachers of that training; empty if unknown.
        weights_key: where in the file the weights are, if the user chose among several.
    """

    trained_by: str
    code: Code = field(default_factory=dict)
    training: dict[str, str] = field(default_factory=dict)
    weights_key: str | None = None


@dataclass(frozen=True)
class InitialWeights(WeightsFile):
    """A checkpoint that a network starts from, all of it being trained further.

    Attributes:
        name: what tables call it.
        normalisation: mean and standard deviation of the images that the network expects; None for the data set's.
        named_normalisation: whether the network's name gives it, timm:NAME.TAG, and not the file. One file can then be
            two starts.
        weights_key: where in the file the weights are, if the user chose among several. Likewise.
    """

    name: str
    normalisation: Normalisation | None = None
    named_normalisation: bool = False
    weights_key: str | None = None


class Trial(NamedTuple):
    """A repetition: its number, and the seed that all random numbers of the run derive from."""

    number: int
    seed: int


FIRST_TRIAL = Trial(1, 1)


@dataclass(frozen=True)
class SharedSettings:
    """Settings that all runs of a command share.

    Attributes:
        kind: see `RunPlan`.
        precision: "fp32" or "bf16".
        teachers: learned from by the methods that have teachers.
        given_options: options of methods that the user gave, by name; a method takes those that it has.

    The others are described at `RunPlan`.
    """

    kind: str
    dataset: str
    precision: str
    teachers: tuple[TeacherFile, ...] = ()
    given_options: Mapping[str, Any] = field(default_factory=dict)
    kd_T: float = DEFAULT_KD_T
    logit_standardization: bool = False
    teacher_weighting: Weighting = "average"
    retrospection: RetrospectionPlan | None = None
    backbone: BackboneFile | None = None
    init: InitialWeights | None = None
    validation: int = 0
    save_freq: int = 40
    unlabelled: UnlabelledPlan | None = None


@dataclass(frozen=True)
class RunPlan:
    """One network trained by one method once.

    Attributes:
        kind: "teacher" for a network trained alone by train_teacher.py, "probe" for a new classifier on a frozen
            backbone, "student" otherwise.
        options: all options of the method, defaults included (see `engine.protocol.options`).
        kd_T: temperature of the KL term.
        trial, seed: number of the repetition, and what all its random numbers derive from.
        save_freq: the weights of every so many epochs are kept; 0 for none.
        backbone: weights that are kept and frozen; only the classifier is trained.
        init: weights that the network starts from; None for random ones.
        logit_standardization: losses on logits see standardised logits.
        retrospection: how the run learns from its own past predictions; None for cross-entropy alone.
        teacher_weighting: how the predictions of several teachers are averaged.
        validation: number of training images that are held out and measured on beside the test set.
        unlabelled: images without labels that it trains on too, or instead; None for none.
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
    init: InitialWeights | None = None
    logit_standardization: bool = False
    retrospection: RetrospectionPlan | None = None
    teacher_weighting: Weighting = "average"
    validation: int = 0
    unlabelled: UnlabelledPlan | None = None

    @property
    def expected_normalisation(self) -> Normalisation | None:
        """Mean and standard deviation of the images that the network expects; None for the data set's."""
        return None if self.init is None else self.init.normalisation

    @property
    def run_id(self) -> str:
        """Hash of everything that determines the result (see `engine.protocol.identity`)."""
        return identity.run_id(self)

    @property
    def label(self) -> str:
        """The method as tables call it (see `engine.protocol.names`)."""
        return names.label(self)

    @property
    def console_name(self) -> str:
        """The network and the method in the lines of a command (see `engine.protocol.names`)."""
        return names.console_name(self)

    @property
    def short_name(self) -> str:
        """The run among those of one command, without its folder: "resnet20 kd, trial 2"."""
        return f"{self.console_name}, trial {self.trial}"

    @property
    def name(self) -> str:
        """The name of the run's folder (see `engine.protocol.names`)."""
        return names.folder_name(self)

    @property
    def folder(self) -> Path:
        """The run's folder below the output root."""
        return names.folder(self)


def make_plan(
    method: str,
    model: str,
    recipe: Recipe,
    shared: SharedSettings,
    trial: Trial = FIRST_TRIAL,
    weights: Weights | None = None,
) -> RunPlan:
    """Plan one run of a command.

    Args:
        method, model: canonical names.
        weights: of the losses; None for the method's published ones.
    """
    cls = method_class(method)
    plan = RunPlan(
        kind=shared.kind,
        dataset=shared.dataset,
        model=model,
        method=method,
        options=resolve_options(method, recipe, shared.given_options),
        weights=cls.weights if weights is None else weights,
        kd_T=shared.kd_T,
        teachers=shared.teachers if cls.max_teachers else (),
        recipe=recipe,
        precision=shared.precision,
        trial=trial.number,
        seed=trial.seed,
        save_freq=shared.save_freq,
        backbone=shared.backbone,
        init=shared.init,
        logit_standardization=shared.logit_standardization,
        retrospection=shared.retrospection,
        teacher_weighting=shared.teacher_weighting,
        validation=shared.validation,
        unlabelled=shared.unlabelled,
    )
    return without_idle_settings(plan)


def without_idle_settings(plan: RunPlan) -> RunPlan:
    """Reset the settings that cannot affect this run, so that it is the same run beside any method's settings.

    These are the temperature without a KL term, standardised logits without a teacher, and the weighting of fewer than
    two teachers.
    """
    return replace(
        plan,
        kd_T=plan.kd_T if plan.weights.alpha else DEFAULT_KD_T,
        logit_standardization=plan.logit_standardization and bool(plan.teachers),
        teacher_weighting=plan.teacher_weighting if len(plan.teachers) > 1 else "average",
    )
