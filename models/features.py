"""The one record that every network returns, so that every method meets every family."""

from collections.abc import Collection
from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class Features:
    """What one forward pass yields. Maps are B×C×H×W; tokens of MLPs are reshaped to maps.

    Every network gives every field (`models.contract` checks it), of which `blocks`, `heads` and `tokens` may be empty
    tuples. None stands for what was left out (see `only`): a method is given the fields that it declares.

    Attributes:
        logits: B×K.
        embedding: B×D, what the classifier reads.
        stem: output of the stem.
        stages: output of each stage, in order.
        preacts: the stages before their last activation; equal to `stages` where a stage ends without one.
        last_map: B×D×H×W, whose mean over positions is the embedding: the classifier applied to each position of it
            gives logits in space.
        blocks: of MLPs, the output of every block, all of one shape: of the whole network where it keeps one
            resolution (MLP-Mixer, ResMLP), of the last stage where it has stages (CycleMLP). Empty for CNNs.
        heads: B×K logits of further heads, which a network has (DeiT's distillation head) or a method attached to it.
        tokens: B×D, what each of those heads reads.
    """

    logits: Tensor
    embedding: Tensor | None = None
    stem: Tensor | None = None
    stages: tuple[Tensor, ...] | None = None
    preacts: tuple[Tensor, ...] | None = None
    last_map: Tensor | None = None
    blocks: tuple[Tensor, ...] | None = ()
    heads: tuple[Tensor, ...] | None = ()
    tokens: tuple[Tensor, ...] | None = ()

    def only(self, names: Collection[str], copy: bool = False) -> "Features":
        """The logits and the named fields in float32; everything else is None and can be freed.

        Args:
            copy: new tensors even of what is float32 already.
        """
        kept = {f.name: getattr(self, f.name) for f in fields(self) if f.name in names or f.name == "logits"}
        dropped = {f.name: None for f in fields(self) if f.name not in kept}
        return Features(**{name: _as_float(value, copy) for name, value in kept.items()}, **dropped)

    def first(self, rows: int) -> "Features":
        """The same of the first rows of the batch."""
        return Features(**{f.name: _first(getattr(self, f.name), rows) for f in fields(self)})

    def shapes(self) -> "FeatureShapes":
        """The shapes of all fields without the batch dimension."""
        return FeatureShapes(
            num_classes=self.logits.shape[1],
            embedding=self.embedding.shape[1],
            stem=tuple(self.stem.shape[1:]),
            stages=_shapes_of(self.stages),
            preacts=_shapes_of(self.preacts),
            blocks=_shapes_of(self.blocks),
            last_map=tuple(self.last_map.shape[1:]),
        )


@dataclass(frozen=True)
class FeatureShapes:
    """Shapes without the batch dimension: (C, H, W) for maps; what a method is built from.

    Fields as in `Features`; `embedding` is its width D, `num_classes` the width K of the logits.
    """

    num_classes: int
    embedding: int
    stem: tuple[int, int, int]
    stages: tuple[tuple[int, int, int], ...]
    preacts: tuple[tuple[int, int, int], ...]
    blocks: tuple[tuple[int, int, int], ...] = ()
    last_map: tuple[int, int, int] | tuple[()] = ()


def _as_float(value, copy: bool):
    if isinstance(value, Tensor):
        return value.to(torch.float32, copy=copy)
    return None if value is None else tuple(_as_float(part, copy) for part in value)


def _first(value, rows: int):
    if isinstance(value, Tensor):
        return value[:rows]
    return None if value is None else tuple(_first(part, rows) for part in value)


def _shapes_of(maps) -> tuple:
    return tuple(tuple(m.shape[1:]) for m in maps)
