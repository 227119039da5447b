"""Example shapes, features and batches for tests of methods, and checks of what a method declares."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from common.errors import RequestError
from dataset import Batch
from distiller_zoo import METHODS, Method, Pair, Weights, create_method, options_of
from models import Features, FeatureShapes, create_model
from tests.numerics import normal

Shape = tuple[int, int, int]

# --- shapes ---------------------------------------------------------------------------------------


def shapes(
    *stages: Shape,
    embedding: int | None = None,
    stem: Shape = (3, 8, 8),
    classes: int = 5,
    blocks: tuple[Shape, ...] = (),
    preacts: tuple[Shape, ...] | None = None,
) -> FeatureShapes:
    """Shapes of a network's features; the embedding is as wide as the last stage unless given."""
    stages = stages or ((3, 4, 4),)
    embedding = embedding or stages[-1][0]
    last_map = (embedding, *stages[-1][1:])
    return FeatureShapes(classes, embedding, stem, stages, stages if preacts is None else preacts, blocks, last_map)


def embedding_of(width: int) -> FeatureShapes:
    """Shapes of a network of which only the width of the embedding matters."""
    return shapes(embedding=width)


@cache
def shapes_of_model(name: str) -> FeatureShapes:
    """Shapes of a network of the suite, for small images."""
    return create_model(name, 10, 8).feature_shapes()


CNN = shapes((3, 8, 8), (4, 4, 4), (6, 2, 2))
WIDE = shapes((5, 8, 8), (6, 8, 8), (7, 4, 4), (7, 4, 4))  # another number of stages, other widths and sizes
MLP = shapes((8, 4, 4), (8, 4, 4), (8, 4, 4), (8, 4, 4), stem=(8, 4, 4), blocks=((8, 4, 4),) * 4)
# Student and teacher of each kind of pair.
PAIRS = {
    "CNN to CNN": (CNN, WIDE),
    "wide to CNN": (WIDE, CNN),
    "MLP from CNN": (MLP, CNN),
    "CNN from MLP": (CNN, MLP),
    "alike": (CNN, CNN),
}

# Two B×C×H×W maps, of the student and of the teacher.
MAPS = [
    ((2, 3, 4, 4), (2, 3, 4, 4)),
    ((3, 4, 4, 4), (3, 6, 8, 8)),  # the teacher is pooled
    ((2, 5, 8, 8), (2, 2, 4, 4)),  # the student is pooled
    ((2, 2, 7, 7), (2, 3, 3, 3)),  # cells that overlap
    ((2, 2, 6, 3), (2, 3, 4, 5)),  # each is pooled in one direction
    ((2, 9, 2, 1), (2, 7, 1, 2)),  # more channels than positions
    ((1, 4, 1, 1), (1, 2, 2, 2)),
]
every_map_shape = pytest.mark.parametrize(("shape_s", "shape_t"), MAPS)
# Samples, width of the student, width of the teacher.
every_embedding_shape = pytest.mark.parametrize(("batch", "width_s", "width_t"), [(2, 3, 3), (5, 4, 7), (9, 16, 2)])
every_logits_shape = pytest.mark.parametrize("shape", [(1, 2), (4, 3), (7, 10), (5, 33)])

# --- features and batches -------------------------------------------------------------------------

LABELS = torch.tensor([0, 3, 2])  # of three samples, five classes


def features(of: FeatureShapes, seed: int = 0, batch: int = 3, dtype: torch.dtype = torch.float64) -> Features:
    """Random features of some shapes; every field has numbers of its own."""

    def maps(shapes_of_maps: Sequence[Shape], start: int) -> tuple[Tensor, ...]:
        return tuple(normal(batch, *s, seed=100 * seed + start + i, dtype=dtype) for i, s in enumerate(shapes_of_maps))

    logits = 3 * normal(batch, of.num_classes, seed=100 * seed, dtype=dtype)
    embedding = normal(batch, of.embedding, seed=100 * seed + 1, dtype=dtype)
    stem, last_map = maps([of.stem, of.last_map], 2)
    return Features(logits, embedding, stem, maps(of.stages, 20), maps(of.preacts, 40), last_map, maps(of.blocks, 60))


def logits_pair(shape: tuple[int, int] = (3, 5), dtype: torch.dtype = torch.float64, seed: int = 1) -> list[Tensor]:
    """Logits of a student and of a teacher."""
    return [3 * normal(*shape, seed=seed + i, dtype=dtype) for i in range(2)]


def maps_pair(shape_s, shape_t, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Maps (or embeddings) of a student and of a teacher."""
    return [normal(*shape, seed=seed, dtype=dtype) for seed, shape in enumerate((shape_s, shape_t), start=1)]


def labels_for(shape: tuple[int, int]) -> Tensor:
    """Random labels of B samples for B×K logits."""
    return torch.randint(shape[1], (shape[0],), generator=torch.Generator().manual_seed(5))


def batch_of(
    size: int = 3,
    *,
    labels: Tensor | None = None,
    index: Sequence[int] | Tensor | None = None,
    targets: Tensor | None = None,
    epoch: int = 100,
    step: int = 0,
) -> Batch:
    """A batch without images; the labels of three samples are LABELS, others count up to 3."""
    if labels is None:
        labels = LABELS if size == 3 else torch.arange(size) % 4
    index = torch.arange(len(labels)) if index is None else torch.as_tensor(index)
    return Batch(torch.zeros(len(labels), 3, 1, 1), labels, index, targets, epoch, step, 7)


def mixed_targets(labels: Tensor, others: Tensor, share: float, classes: int = 5) -> Tensor:
    """B×K targets of mixed images: `share` of each is of its own class, the rest of another one."""
    own, other = (nn.functional.one_hot(each, classes).double() for each in (labels, others))
    return share * own + (1 - share) * other


class Head:
    """A stand-in for a network of which only the last linear layer is read."""

    def __init__(self, width: int, classes: int = 5, bias: bool = True, dtype: torch.dtype = torch.float64):
        torch.manual_seed(7)
        self.last_linear = nn.Linear(width, classes, bias=bias, dtype=dtype)

    def stage_norms(self) -> None:
        """No batch norm is known to end a stage."""


# --- methods --------------------------------------------------------------------------------------


def make(
    name: str,
    student: FeatureShapes = CNN,
    teacher: FeatureShapes = WIDE,
    dtype: torch.dtype = torch.float64,
    num_samples: int = 50,
    seed: int = 0,
    **options: Any,
) -> Method:
    """A method for student and one teacher, with options; its random weights follow from the seed."""
    torch.manual_seed(seed)
    return create_method(name, Pair(student, (teacher,), num_samples), options).to(dtype)


def losses_of_logits(
    name: str, s: Tensor, t: Tensor, epoch: int = 100, labels: Tensor | None = None, **options: Any
) -> dict[str, Tensor]:
    """What a method on predictions makes of B×K logits of student and teacher."""
    same_classes = shapes(classes=s.shape[1])
    method = make(name, same_classes, same_classes, **options)
    return method.losses(Features(s), (Features(t),), batch_of(len(s), labels=labels, epoch=epoch))


def losses_of_embeddings(method: Method, e_s: Tensor, e_t: Tensor, batch: Batch | None = None) -> dict[str, Tensor]:
    """What a method makes of two embeddings, with logits of zero."""
    student, teacher = (Features(torch.zeros(len(e), 4), e) for e in (e_s, e_t))
    return method.losses(student, (teacher,), batch or batch_of(len(e_s)))


def assert_published(name: str, weights: Weights, options: dict[str, Any] | None = None) -> None:
    """Check the weights and the defaults of all options of a method against what is published."""
    assert METHODS[name].weights == weights
    assert {option: parameter.default for option, parameter in options_of(name).items()} == (options or {})


def assert_refused(name: str, *pair: FeatureShapes, mentions: Sequence[str] = (), **options: Any) -> None:
    """Check that a method refuses options or a pair, in a message that names the options, or what `mentions` says."""
    with pytest.raises(RequestError) as refusal:
        make(name, *pair, **options)
    message = str(refusal.value)
    assert len(message.splitlines()) <= 2, message
    for word in mentions or [f"--{option}" for option in options] or [name]:
        assert word in message
