"""Inputs at which formulas divide by zero or overflow, and checks that losses and gradients stay finite there."""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import replace

import torch
from torch import Tensor

from distiller_zoo import Method
from models import Features, FeatureShapes
from tests.distiller_zoo.cases import LABELS, Head, batch_of, features
from tests.numerics import normal

Loss = Callable[[Tensor, Tensor], Tensor]
Change = Callable[[Tensor], Tensor]

# Of B×... tensors of any kind, in float32.
ODD: dict[str, Change] = {
    "zeros": torch.zeros_like,
    "one sample of zeros": lambda x: torch.cat([torch.zeros_like(x[:1]), x[1:]]),
    "constant": torch.ones_like,
    "all samples alike": lambda x: x[:1].expand_as(x).clone(),
    "two samples alike": lambda x: torch.cat([x[:1], x[:1], x[2:]]),
    "opposite samples": lambda x: torch.cat([x[:1], -x[:1], x[2:]]),
    "saturated": lambda x: 50 * x.sign(),
    "huge": lambda x: 1e4 * x.sign(),
    "tiny": lambda x: 1e-12 * x,
    "a batch of one": lambda x: x[:1],
    "a batch of two": lambda x: torch.cat([x[:1], -x[:1]]),
}
ODD_MAPS = ODD | {
    "a channel of zeros": lambda x: torch.cat([torch.zeros_like(x[:, :1]), x[:, 1:]], dim=1),
    "one channel again and again": lambda x: x[:, :1].expand_as(x).clone(),
}


def without(*kinds: str) -> dict[str, Change]:
    """Odd inputs but for some kinds."""
    assert set(kinds) <= set(ODD)
    return {kind: change for kind, change in ODD.items() if kind not in kinds}


def assert_finite(loss: Loss, student: Tensor, teacher: Tensor, what: str = "") -> None:
    """Fail if a loss, or its gradient in the student, is infinite or NaN."""
    student = student.detach().clone().requires_grad_()
    value = loss(student, teacher).sum()
    value.backward()
    assert value.isfinite(), what
    assert student.grad.isfinite().all(), what


def assert_finite_for_odd_inputs(
    loss: Loss, student: Tensor, teacher: Tensor, kinds: dict[str, Change] | None = None
) -> None:
    """Fail if a loss is not finite where student, teacher or both are odd."""
    for kind, change in (kinds or ODD).items():
        odd_s, odd_t = change(student.float()), change(teacher.float())
        rows = len(odd_s)
        for s, t in ((odd_s, odd_t), (odd_s, teacher[:rows].float()), (student[:rows].float(), odd_t)):
            assert_finite(loss, s, t, kind)


# --- logits ---------------------------------------------------------------------------------------


def one_hot_logits(size: float, shift: int = 0) -> Tensor:
    """Logits of three samples: `size` at the label (moved by `shift`), −size elsewhere."""
    logits = torch.full((3, 5), -size)
    logits[torch.arange(3), (LABELS + shift) % 5] = size
    return logits


ODD_LOGITS = {
    "saturated right": one_hot_logits(50.0),
    "saturated wrong": one_hot_logits(50.0, shift=1),
    "far out": one_hot_logits(1e4),
    "far out and wrong": one_hot_logits(1e4, shift=2),
    "zeros": torch.zeros(3, 5),
    "constant": torch.full((3, 5), 50.0),
    "ordinary": 3 * normal(3, 5, dtype=torch.float32),
}


def assert_finite_for_odd_logits(loss: Loss, batches: Iterable[int] = (3,)) -> None:
    """Fail if a loss of three samples with LABELS (or of the first ones) is not finite for some odd logits."""
    for (kind_s, s), (kind_t, t), size in itertools.product(ODD_LOGITS.items(), ODD_LOGITS.items(), batches):
        assert_finite(loss, s[:size], t[:size], f"{kind_s}, {kind_t}")


def assert_no_giant_first_step(loss: Loss) -> None:
    """Fail if a student that starts with logits of zero, as MLPs do, gets a huge gradient.

    Equal predictions have no scale to divide by, whatever rounding makes of them.
    """
    for classes in (5, 10, 100):
        teacher = 3 * normal(3, classes, dtype=torch.float32)
        student = torch.zeros(3, classes, requires_grad=True)
        loss(student, teacher).sum().backward()
        assert student.grad.abs().max() < 100, classes


# --- whole methods --------------------------------------------------------------------------------


def assert_method_stays_finite(
    create: Callable[[], Method], of_s: FeatureShapes, of_t: FeatureShapes, kinds: dict[str, Change] | None = None
) -> None:
    """Fail if losses or gradients of a method in float32 are not finite where all features of a side are odd.

    Args:
        create: makes the method, anew for each kind.
    """
    student, teacher = (features(of, seed, dtype=torch.float32) for seed, of in enumerate((of_s, of_t), start=1))
    for kind, change in (kinds or ODD).items():
        for odd_s, odd_t in ((change, None), (None, change), (change, change)):
            method = create().float()
            method.inspect_networks(*_heads(method, of_s, of_t))
            rows = len(change(student.logits))
            s, leaves = _leaves(_changed(student.first(rows), odd_s))
            losses = method.losses(method.attach(s), (_changed(teacher.first(rows), odd_t),), batch_of(rows))
            assert all(loss.isfinite() and loss.shape == () for loss in losses.values()), (kind, losses)
            sum(losses.values()).backward()
            with_gradient = [leaf for leaf in leaves if leaf.grad is not None]
            assert with_gradient, kind
            assert all(leaf.grad.isfinite().all() for leaf in with_gradient), kind
            assert all(p.grad.isfinite().all() for p in method.parameters() if p.grad is not None), kind
            method.after_step()


def _heads(method: Method, of_s: FeatureShapes, of_t: FeatureShapes) -> tuple[Head, tuple[Head, ...]]:
    student, teacher = (Head(of.embedding, of.num_classes, dtype=torch.float32) for of in (of_s, of_t))
    return student, (teacher,)


def _changed(given: Features, change: Change | None) -> Features:
    """Features whose tensors are all changed in one way."""
    if change is None:
        return given
    stages, preacts, blocks = (tuple(map(change, maps)) for maps in (given.stages, given.preacts, given.blocks))
    one_each = {name: change(getattr(given, name)) for name in ("logits", "embedding", "stem", "last_map")}
    return replace(given, stages=stages, preacts=preacts, blocks=blocks, **one_each)


def _leaves(given: Features) -> tuple[Features, list[Tensor]]:
    """Features that keep gradients, and the tensors that they are of."""
    leaves: list[Tensor] = []

    def leaf(x: Tensor) -> Tensor:
        leaves.append(x.detach().clone().requires_grad_())
        return leaves[-1]

    return _changed(given, leaf), leaves
