"""Several methods at once: `crd+kd`, `crd*0.5+hint+kd`. Each part keeps its own β, or takes the one behind its `*`.

    γ·CE + α·KL_T + β·Σ_parts β_part·L_part

γ is the largest of the parts' (1 beside any method that keeps the cross-entropy whole), as in the published rows
"CRD+KD" with γ = α = 1. A part that is KL alone (`kd`) sets α to 1, or to the number behind its `*`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from common.errors import RequestError, RunError
from distiller_zoo.method import Batch, Method, Pair, Trainee, Weights
from distiller_zoo.registry import constructor_arguments, declared_options
from distiller_zoo.sums import summed
from models import Features, Network


@dataclass(frozen=True)
class Part:
    """One of the methods of a combination and its weight.

    Attributes:
        given: the number behind its `*`; None for the published weight.
    """

    cls: type[Method]
    given: float | None = None

    @property
    def beta(self) -> float:
        """The weight of its own losses."""
        return self.cls.weights.beta if self.given is None else self.given

    @property
    def alpha(self) -> float:
        """The weight of the KL term that it asks for: 0 unless it is that term alone."""
        if not self.is_kl:
            return 0.0
        return 1.0 if self.given is None else self.given

    @property
    def is_kl(self) -> bool:
        """True for the protocol's KL term and nothing else."""
        return self.cls.weights.alpha > 0 and self.cls.weights.beta == 0

    def __str__(self) -> str:
        return self.cls.name if self.given is None else f"{self.cls.name}*{self.given:g}"


@dataclass(frozen=True)
class CombinationSpec:
    """A combination before it is built: it declares what the class of a method declares, and is called like it.

    Attributes:
        parts: in the order of their names, each method once.
        student_needs, teacher_needs: fields that any part reads, sorted.
        others: as in `Method`.
    """

    parts: tuple[Part, ...]
    name: str
    paper: str
    weights: Weights
    student_needs: tuple[str, ...]
    teacher_needs: tuple[str, ...]
    reads_teacher_logits: bool
    min_teachers: int
    max_teachers: int
    views: int
    max_initial_rate: float | None
    initial_trains_student: bool
    attaches: bool
    changes_predictions: bool
    needs_training_set_pass: bool
    takes_extra_step: bool

    def __call__(self, pair: Pair, **options: object) -> "Combination":
        """The combination for a pair; options are named as `options_of` gives them."""
        return Combination(self, pair, options)

    def most_teachers(self) -> int:
        """The largest number of teachers that it can be given."""
        return self.max_teachers

    def needs_labels(self) -> bool:
        """Returns whether any part cannot learn from images without labels."""
        return any(part.cls.needs_labels() for part in self.parts)

    def reads_of_student(self) -> tuple[str, ...]:
        """Fields of `Features` that any part reads of the student beside the logits, sorted."""
        return self.student_needs

    def reads_of_teacher(self) -> tuple[str, ...]:
        """Fields of `Features` that any part reads of each teacher beside the logits, sorted."""
        return self.teacher_needs


def combine(parts: Sequence[Part]) -> CombinationSpec:
    """The combination of parts in any order.

    Raises:
        RequestError: the parts do not go together.
    """
    parts = tuple(sorted(parts, key=lambda part: part.cls.name))
    name, methods = "+".join(map(str, parts)), [part.cls for part in parts]
    _check(methods, name)
    return CombinationSpec(
        parts=parts,
        name=name,
        paper="; ".join(method.paper for method in methods),
        weights=Weights(max(method.weights.gamma for method in methods), max(part.alpha for part in parts), 1.0),
        student_needs=_union(method.reads_of_student() for method in methods),
        teacher_needs=_union(method.reads_of_teacher() for method in methods),
        reads_teacher_logits=any(method.reads_teacher_logits for method in methods),
        min_teachers=max(method.min_teachers for method in methods),
        max_teachers=min(method.most_teachers() for method in methods),
        views=max(method.views for method in methods),
        max_initial_rate=min(filter(None, (method.max_initial_rate for method in methods)), default=None),
        initial_trains_student=any(method.initial_trains_student for method in methods),
        attaches=any(method.attaches for method in methods),
        changes_predictions=any(method.changes_predictions for method in methods),
        needs_training_set_pass=any(method.needs_training_set_pass for method in methods),
        takes_extra_step=any(method.takes_extra_step for method in methods),
    )


def _check(methods: list[type[Method]], name: str) -> None:
    names = [method.name for method in methods]
    for twice in {one for one in names if names.count(one) > 1}:
        raise RequestError(f"--distill {name} names {twice} twice; name it once, with its weight: {twice}*0.5")
    for method in methods:
        if method.max_teachers == 0:
            raise RequestError(f"--distill {name}: {method.name} learns from no teacher; leave it out")
    changing = [method.name for method in methods if method.changes_predictions]
    if len(changing) > 1:
        raise RequestError(
            f"--distill {name}: {' and '.join(changing)} each change the student's predictions; take one of them"
        )


def _union(needs: Iterable[Iterable[str]]) -> tuple[str, ...]:
    return tuple(sorted({name for part in needs for name in part}))


class Combination(Method):
    """Methods that share student, teachers and batches.

    Raises:
        RequestError: a part refuses the pair, or two parts have an initial stage.
    """

    standardises_itself = True  # each part does what it does alone

    def __init__(self, spec: CombinationSpec, pair: Pair, options: dict[str, object]):
        super().__init__(pair)
        self.spec = spec
        self.name, self.weights, self.paper = spec.name, spec.weights, spec.paper
        self.reads_teacher_logits = spec.reads_teacher_logits
        self.min_teachers, self.max_teachers, self.views = spec.min_teachers, spec.max_teachers, spec.views
        self.max_initial_rate, self.initial_trains_student = spec.max_initial_rate, spec.initial_trains_student
        self.attaches, self.changes_predictions = spec.attaches, spec.changes_predictions
        self.needs_training_set_pass, self.takes_extra_step = spec.needs_training_set_pass, spec.takes_extra_step
        built = tuple(
            part.cls(pair, **constructor_arguments(part.cls, _options_of_part(part, options))) for part in spec.parts
        )
        self.methods = nn.ModuleList(built)
        self.teacher_order_matters = any(method.places_teachers() for method in built)
        self._built = built  # the same modules: a ModuleList does not know that its entries are methods
        staged = [method for method in built if method.initial_epochs]
        if len(staged) > 1:
            names = " and ".join(method.name for method in staged)
            raise RequestError(f"{names} each begin with an initial stage of their own; take one of them")
        self.initial_epochs = max(method.initial_epochs for method in built)
        self._beta_of: dict[str, float] = {}  # of each loss of the last step

    def reads_of_student(self) -> tuple[str, ...]:  # type: ignore[override]  # of this combination, not of its class
        return self.spec.reads_of_student()

    def reads_of_teacher(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.spec.reads_of_teacher()

    def needs_labels(self) -> bool:  # type: ignore[override]
        return self.spec.needs_labels()

    def inspect_networks(self, student: Network, teachers: tuple[Network, ...]) -> None:
        for method in self._built:
            method.inspect_networks(student, teachers)

    def prepare(self, labels: Tensor) -> None:
        for method in self._built:
            method.prepare(labels)

    def fit_on_training_set(self, teachers: tuple[Features, ...], labels: Tensor) -> None:
        for method in self._built:
            if method.needs_training_set_pass:
                method.fit_on_training_set(teachers, labels)

    def attach(self, features: Features) -> Features:
        for method in self._built:
            features = method.attach(features)
        return features

    def predict(self, features: Features) -> Tensor:
        for method in self._built:
            if method.changes_predictions:  # one at most
                return method.predict(features)
        return features.logits

    def predictions_by_head(self, features: Features) -> dict[str, Tensor]:
        return {name: logits for method in self._built for name, logits in method.predictions_by_head(features).items()}

    def losses(self, student: Features, teachers: tuple[Features, ...], batch: Batch) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = {}
        for part, method in zip(self.spec.parts, self._built, strict=True):
            if part.is_kl or not part.beta:
                continue
            of_part = method.own_losses(*self._views_of(method, student, teachers, batch))
            for name in losses.keys() & of_part.keys():
                raise RunError(f"{self.name}: two of its methods call a loss {name!r}; rename it in one of them")
            self._beta_of |= dict.fromkeys(of_part, part.beta)
            losses |= of_part
        return losses

    def total(self, losses: dict[str, Tensor], zero: Tensor) -> Tensor:
        return summed([zero.new_zeros(()), *(self._beta_of[name] * loss for name, loss in losses.items())])

    def _views_of(
        self, method: Method, student: Features, teachers: tuple[Features, ...], batch: Batch
    ) -> tuple[Features, tuple[Features, ...], Batch]:
        """The inputs of a part's losses: one that wants fewer views gets the first ones only."""
        if method.views == self.views:
            return student, teachers, batch
        rows = len(batch.index) // self.views * method.views
        return student.first(rows), tuple(teacher.first(rows) for teacher in teachers), batch.first(rows)

    def initial_losses(self, student: Features, teachers: tuple[Features, ...], batch: Batch) -> dict[str, Tensor]:
        (method,) = (method for method in self._built if method.initial_epochs)
        student, teachers, batch = self._views_of(method, student, teachers, batch)
        return method.initial_losses(*method.declared_inputs(student, teachers), batch)

    def end_initial_stage(self) -> None:
        for method in self._built:
            if method.initial_epochs:
                method.end_initial_stage()

    def after_step(self) -> None:
        for method in self._built:
            method.after_step()

    def extra_step(self, trainee: Trainee, batch: Batch) -> None:
        for method in self._built:
            if method.takes_extra_step:
                method.extra_step(trainee, batch)

    def extra_metrics(self) -> dict[str, Tensor]:
        return {name: value for method in self._built for name, value in method.extra_metrics().items()}


def _options_of_part(part: Part, options: dict[str, object]) -> dict[str, object]:
    """A part's options: NAME, or METHOD.NAME if parts have one name with different defaults."""
    given: dict[str, object] = {}
    for name in declared_options(part.cls):
        for key in (name, f"{part.cls.name}.{name}"):
            if key in options:
                given[name] = options[key]
    return given
