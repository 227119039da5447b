"""The record of features: what is kept of it, and what happens to a method that reads more than it declares."""

import copy
from dataclasses import fields, replace

import pytest
import torch
import torch.nn.functional as F

from common.errors import RunError, UndeclaredFieldError
from models import Features

IMAGES, CLASSES = 4, 3


def record() -> Features:
    maps = torch.randn(IMAGES, 5, 2, 2)
    embedding = maps.mean(dim=(2, 3))
    logits = torch.randn(IMAGES, CLASSES)
    return Features(logits, embedding, maps, (maps, maps), (maps, maps), maps, (maps,), (logits,), (embedding,))


def test_only_keeps_what_is_named_in_float32():
    seen = record().map(torch.Tensor.half)
    kept = seen.only(["stages"])
    assert kept.logits.dtype == kept.stages[0].dtype == torch.float32
    assert {field.name for field in fields(kept) if getattr(kept, field.name) is None} == {
        "embedding", "stem", "preacts", "last_map", "blocks", "heads", "tokens",
    }  # fmt: skip


def test_only_copies_on_request():
    seen = record()
    assert seen.only([]).logits.data_ptr() == seen.logits.data_ptr()
    assert seen.only([], copy=True).logits.data_ptr() != seen.logits.data_ptr()


def test_first_takes_rows_of_every_field():
    shortened = record().only(["stages", "embedding"]).first(2)
    assert len(shortened.logits) == len(shortened.embedding) == len(shortened.stages[1]) == 2
    assert shortened.stem is None


def test_shapes_leave_the_batch_dimension_out():
    shapes = record().shapes()
    assert (shapes.num_classes, shapes.embedding, shapes.stem) == (CLASSES, 5, (5, 2, 2))
    assert (shapes.stages, shapes.blocks, shapes.last_map) == (((5, 2, 2),) * 2, ((5, 2, 2),), (5, 2, 2))


def test_guarded_keeps_logits_and_what_is_named():
    seen = record()
    guarded = seen.guarded(["stages"])
    assert guarded.logits is seen.logits
    assert guarded.stages is seen.stages
    assert not isinstance(guarded.embedding, torch.Tensor)


def test_logits_are_guarded_on_request():
    guarded = record().guarded(["embedding"], logits=False)
    for changed in (guarded, guarded.first(2), guarded.only(["embedding"]), guarded.guarded(["embedding"])):
        assert isinstance(changed.embedding, torch.Tensor)
        with pytest.raises(UndeclaredFieldError, match="reads_teacher_logits"):
            changed.logits.softmax(dim=1)


USES = {
    "attribute": lambda x: x.shape,
    "method": lambda x: x.flatten(1),
    "length": len,
    "iteration": lambda x: list(x),
    "star": lambda x: [*x],
    "zip": lambda x: list(zip(x, x, strict=True)),
    "index": lambda x: x[-1],
    "slice": lambda x: x[:1],
    "truth": bool,
    "membership": lambda x: 1 in x,
    "sum": lambda x: x + torch.ones(1),
    "sum on the right": lambda x: torch.ones(1) + x,
    "joined tuples": lambda x: (1,) + x,  # noqa: RUF005
    "difference": lambda x: 1 - x,
    "product": lambda x: 2 * x,
    "matrix product": lambda x: torch.ones(2, 2) @ x,
    "power": lambda x: x**2,
    "minus": lambda x: -x,
    "quotient": lambda x: x / 2,
    "order": lambda x: x < 1,
    "torch function": torch.relu,
    "functional": lambda x: F.mse_loss(torch.ones(1), x),
    "list of tensors": lambda x: torch.cat([torch.ones(1), x]),
    "keyword": lambda x: F.cross_entropy(torch.ones(1, 2), target=x),
    "module": torch.nn.Linear(2, 2),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("left_out", [False, True])
def test_a_field_that_was_not_declared_raises_when_it_is_used(use, left_out):
    seen = record().only(["embedding"]) if left_out else record()
    guarded = seen.guarded(["embedding"])
    with pytest.raises(UndeclaredFieldError) as raised:
        use(guarded.stages)
    assert isinstance(raised.value, RunError)
    for word in ("'stages'", "needs", "student_needs", "teacher_needs"):
        assert word in str(raised.value)


def test_the_guard_survives_what_is_done_to_a_record():
    """Attached heads (`replace`), fewer rows, another precision, a copy by hand: none of them uses the field."""
    guarded = record().guarded(["embedding"])
    for changed in (
        replace(guarded, logits=torch.zeros(IMAGES, CLASSES)),
        guarded.first(2),
        guarded.only(["embedding", "stages"]),
        guarded.map(torch.Tensor.double),
        guarded.guarded(["embedding", "stages"]),
        copy.copy(guarded),
    ):
        with pytest.raises(UndeclaredFieldError):
            len(changed.stages)
    assert "stages" in repr(guarded)
