"""The one record that every network returns, so that every method meets every family."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, NoReturn

import torch
from torch import Tensor

from common.errors import UndeclaredFieldError

LEFT_OUT: Any = None  # the value of a field that a record does without


@dataclass(frozen=True)
class Features:
    """The result of one forward pass. Maps are B×C×H×W; tokens of MLPs are reshaped to maps.

    Every network fills every field (`models.contract` checks it); `blocks`, `heads` and `tokens` may be empty tuples.
    A field that was left out (see `only`) is None.

    Attributes:
        logits: B×K.
        embedding: B×D, the input of the classifier.
        stem: output of the stem.
        stages: output of each stage, in order.
        preacts: the stages before their last activation; equal to `stages` where a stage ends without one.
        last_map: B×D×H×W, whose mean over positions is the embedding: the classifier applied to each position of it
            gives logits in space.
        blocks: of MLPs, the output of every block, all of one shape: of the whole network where it keeps one
            resolution (MLP-Mixer, ResMLP), of the last stage where it has stages (CycleMLP). Empty for CNNs.
        heads: B×K logits of further heads, which a network has (DeiT's distillation head) or a method attached to it.
        tokens: B×D, the input of each of those heads.
    """

    logits: Tensor
    embedding: Tensor = LEFT_OUT
    stem: Tensor = LEFT_OUT
    stages: tuple[Tensor, ...] = LEFT_OUT
    preacts: tuple[Tensor, ...] = LEFT_OUT
    last_map: Tensor = LEFT_OUT
    blocks: tuple[Tensor, ...] = ()
    heads: tuple[Tensor, ...] = ()
    tokens: tuple[Tensor, ...] = ()

    def only(self, names: Collection[str], copy: bool = False) -> "Features":
        """Logits and the named fields in float32 (float64 stays); everything else is None and can be freed.

        Args:
            copy: make new tensors even of what is float32 already.
        """
        is_double = isinstance(self.logits, Tensor) and self.logits.dtype == torch.float64
        dtype = torch.float64 if is_double else torch.float32
        convert = partial(Tensor.to, dtype=dtype, copy=copy)
        kept = {name: _map(convert, getattr(self, name)) for name in {"logits", *names}}
        return Features(**NOTHING | kept)

    def guarded(self, names: Collection[str], logits: bool = True) -> "Features":
        """The named fields as they are, and the logits; any use of another field raises `UndeclaredFieldError`.

        Args:
            logits: False to guard the logits as well.
        """
        names = {"logits", *names} if logits else set(names)
        return Features(**{name: getattr(self, name) if name in names else other for name, other in UNDECLARED.items()})

    def first(self, rows: int) -> "Features":
        """Features of the first `rows` images of the batch."""
        return self.map(lambda tensor: tensor[:rows])

    def map(self, function: Callable[[Tensor], Tensor]) -> "Features":
        """Apply `function` to every tensor of the record; fields without tensors stay as they are."""
        return Features(**{name: _map(function, getattr(self, name)) for name in UNDECLARED})

    def shapes(self) -> "FeatureShapes":
        """Shapes of all fields without the batch dimension."""
        return FeatureShapes(
            num_classes=self.logits.shape[1],
            embedding=self.embedding.shape[1],
            stem=_shape(self.stem),
            stages=tuple(map(_shape, self.stages)),
            preacts=tuple(map(_shape, self.preacts)),
            blocks=tuple(map(_shape, self.blocks)),
            last_map=_shape(self.last_map),
        )


@dataclass(frozen=True)
class FeatureShapes:
    """Shapes without the batch dimension, (C, H, W) for maps: all that a method is built from.

    Fields as in `Features`; `embedding` is its width D, `num_classes` the width K of the logits.
    """

    num_classes: int
    embedding: int
    stem: tuple[int, int, int]
    stages: tuple[tuple[int, int, int], ...]
    preacts: tuple[tuple[int, int, int], ...]
    blocks: tuple[tuple[int, int, int], ...] = ()
    last_map: tuple[int, ...] = ()


@dataclass(frozen=True)
class Undeclared:
    """Takes the place of the field `name` of `Features`; raises `UndeclaredFieldError` as soon as it is used."""

    name: str

    def _refuse(self, *_args: object, **_kwargs: object) -> NoReturn:
        if self.name == "logits":
            raise UndeclaredFieldError(
                "it reads the teacher's logits, and declares that it does not; leave reads_teacher_logits = False out"
            )
        raise UndeclaredFieldError(
            f"it reads {self.name!r}, which it does not declare; "
            f'add "{self.name}" to needs (or student_needs, teacher_needs)'
        )

    __getattr__ = __getitem__ = __iter__ = __len__ = __bool__ = __contains__ = __call__ = _refuse
    __add__ = __sub__ = __mul__ = __matmul__ = __truediv__ = __pow__ = __neg__ = __abs__ = _refuse
    __radd__ = __rsub__ = __rmul__ = __rmatmul__ = __rtruediv__ = __rpow__ = _refuse
    __lt__ = __le__ = __gt__ = __ge__ = _refuse

    @classmethod
    def __torch_function__(cls, _function: object, _types: object, args: tuple = (), kwargs: dict | None = None):
        """Called by torch in place of any of its functions that is given such an object."""
        for found in _undeclared_in([args, kwargs or {}]):
            found._refuse()


# In place of each field, by its name.
UNDECLARED: dict[str, Any] = {field.name: Undeclared(field.name) for field in fields(Features)}
NOTHING: dict[str, Any] = dict.fromkeys(UNDECLARED, LEFT_OUT)


def _undeclared_in(value: object) -> list[Undeclared]:
    if isinstance(value, Undeclared):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [found for part in parts for found in _undeclared_in(part)]


def _map(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    if isinstance(value, Tensor):
        return function(value)
    return tuple(_map(function, part) for part in value) if isinstance(value, tuple) else value


def _shape(maps: Tensor) -> tuple[int, int, int]:
    channels, height, width = maps.shape[1:]
    return channels, height, width
