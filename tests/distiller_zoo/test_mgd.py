"""MGD: the generation loss by plain loops, its gradient, what it masks and when, its layers and options."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from distiller_zoo import Weights
from distiller_zoo.mgd import generation_loss
from tests import naive
from tests.distiller_zoo.cases import (
    CNN,
    PAIRS,
    WIDE,
    assert_published,
    assert_refused,
    batch_of,
    features,
    make,
    maps_pair,
)
from tests.distiller_zoo.odd_inputs import assert_method_stays_finite
from tests.numerics import arrays, assert_gradient, assert_near, every_dtype


@every_dtype
def test_formula(dtype):
    f = maps_pair((3, 4, 2, 5), (3, 4, 2, 5), dtype)
    assert_near(
        generation_loss(*f), naive.mean([float(((a - b) ** 2).sum()) for a, b in zip(*arrays(*f), strict=True)])
    )


def test_gradient_and_equal_maps():
    s, t = maps_pair((2, 3, 2, 2), (2, 3, 2, 2))
    assert_gradient(generation_loss, s, t)
    assert generation_loss(s, s) == 0


# --- the mask -------------------------------------------------------------------------------------


class Recorder(nn.Module):
    """Takes the place of the generator and remembers what it was given."""

    def forward(self, x):
        self.given = x
        return x


def masked_by(method, step=0, batch=200):
    """Which (sample, channel, row, column) of the student's map an mgd lets through."""
    method.generate = Recorder()
    student, teacher = features(CNN, 1, batch), features(CNN, 2, batch)
    method.losses(student, (teacher,), batch_of(batch, step=step))
    kept = method.generate.given != 0
    assert torch.equal(method.generate.given[kept], student.stages[-1][kept])  # what is kept is not scaled
    return kept


@pytest.mark.parametrize(("mask", "axes"), [("channel", (2, 3)), ("spatial", (1,))])
def test_channels_or_positions_are_masked_as_a_whole(mask, axes):
    kept = masked_by(make("mgd", CNN, CNN, mgd_mask=mask, mgd_ratio=0.3))
    assert torch.equal(kept.all(dim=axes), kept.any(dim=axes))
    share = 1 - kept.all(dim=axes).double().mean().item()
    assert share == pytest.approx(0.3, abs=0.06)
    other = kept.all(dim=axes).flatten(1)
    assert not (other == other[0]).all()  # each sample has its own


def test_each_step_has_its_mask():
    method = make("mgd", CNN, CNN)
    before = torch.get_rng_state()
    assert torch.equal(masked_by(method, 3), masked_by(method, 3))
    assert not torch.equal(masked_by(method, 3), masked_by(method, 4))
    assert torch.equal(torch.get_rng_state(), before)  # the global generator is not asked


def test_without_a_mask():
    assert masked_by(make("mgd", CNN, CNN, mgd_ratio=0.0)).all()


# --- the method -----------------------------------------------------------------------------------


def test_other_channels_are_aligned_and_the_larger_map_is_pooled():
    assert isinstance(make("mgd", CNN, CNN).align, nn.Identity)
    method = make("mgd", CNN, WIDE, mgd_ratio=0.0)
    student, teacher = features(CNN, 1), features(WIDE, 2)
    losses = method.losses(student, (teacher,), batch_of())
    assert list(losses) == ["mgd"]
    assert naive.described(method.generate) == [(7, 7, 3), "ReLU", (7, 7, 3)]
    generated = naive.run_layers([method.align, *method.generate], student.stages[-1].numpy())
    target = F.avg_pool2d(teacher.stages[-1], 2).numpy()  # 2×2 and 4×4
    assert_near(losses["mgd"], ((generated - target) ** 2).sum() / 3)


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
@pytest.mark.parametrize("options", [{}, {"mgd_mask": "spatial", "mgd_ratio": 0.5}])
def test_odd_features(pair, options):
    assert_method_stays_finite(lambda: make("mgd", *pair, **options), *pair)


def test_published():
    assert_published("mgd", Weights(1, 0, 0.0012), {"mgd_ratio": 0.15, "mgd_mask": "channel"})


def test_refused_options():
    assert_refused("mgd", mgd_ratio=1.0)
    assert_refused("mgd", mgd_ratio=-0.1)
