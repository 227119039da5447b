"""STD: where its modules attach, what they leave alone, their size, who teaches whom, the loss by loops, options."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from common.errors import RequestError
from distiller_zoo import Pair, Weights, create_method
from distiller_zoo.std import hard_label_losses, reweighted
from models import Features, FeatureShapes, create_model
from models.mixer import MlpMixer
from tests import naive
from tests.distiller_zoo.cases import assert_published, assert_refused, shapes_of_model
from tests.distiller_zoo.odd_inputs import assert_finite, one_hot_logits
from tests.helpers import disturb
from tests.numerics import arrays, assert_gradient, assert_near, every_dtype, normal

TEACHER = FeatureShapes(5, 8, (3, 4, 4), (), ())
BOTH = {"std_modules": "last+intermediate"}


def make_pair(options=None, teachers=1, depth=4):
    """A small Mixer, none of whose parameters is zero, and STD for it, in double precision."""
    torch.manual_seed(0)
    mixer = MlpMixer(width=8, depth=depth, patch=2, num_classes=5, image_size=6).double()
    method = create_method("std", Pair(mixer.feature_shapes(), (TEACHER,) * teachers, 50), options).double()
    return disturb(mixer), disturb(method)


def images(batch=4):
    return normal(batch, 3, 6, 6, seed=1)


def teacher_features(count, batch=4, scale=1.0):
    return tuple(Features(scale * normal(batch, 5, seed=2 + i)) for i in range(count))


# --- at the network -------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, BOTH])
def test_patches_and_class_logits_are_untouched(options):
    mixer, method = make_pair(options)
    alone, attached = mixer.features(images()), method.attach(mixer.features(images()))
    assert len(attached.heads) == len(method.branches)
    for field in ("logits", "embedding", "stem"):
        assert torch.equal(getattr(alone, field), getattr(attached, field))
    for field in ("stages", "preacts", "blocks"):
        for a, b in zip(getattr(alone, field), getattr(attached, field), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("depth", "options", "taps"),
    [(8, {}, [7]), (8, BOTH, [4, 7]), (12, BOTH, [7, 11]), (4, {"std_modules": "1+3+4"}, [0, 2, 3])],
)
@torch.no_grad()
def test_modules_attach_to_the_last_block_and_two_thirds_up(depth, options, taps):
    mixer, method = make_pair(options, depth=depth)
    features = mixer.features(images())
    heads = method.attach(features).heads
    assert len(heads) == len(taps)
    for head, branch, tap in zip(heads, method.branches, taps, strict=True):
        assert torch.equal(head, branch.classify(branch(features.blocks[tap])[1])[0])


@torch.no_grad()
def test_modules_share_nothing():
    mixer, method = make_pair(BOTH, depth=6)
    before = method.attach(mixer.features(images())).heads
    method.branches[0].spatial_token.add_(1)
    after = method.attach(mixer.features(images())).heads
    assert (before[0] != after[0]).all()
    assert torch.equal(before[1], after[1])


FORMS = [
    ({}, 1),
    (BOTH, 1),
    (BOTH, 2),
    ({"std_teachers": "all"}, 3),
    ({**BOTH, "std_teachers": "all"}, 2),
    ({**BOTH, "std_propagate": True}, 2),
    ({**BOTH, "std_propagate": True, "std_heads": "last", "std_teachers": "all"}, 2),
    ({**BOTH, "std_propagate": True, "std_heads": "last"}, 1),
    ({"std_layers": 3}, 1),
    ({"std_tokens": "spatial"}, 1),
    ({"std_tokens": "channel"}, 1),
    ({**BOTH, "std_tokens": "none"}, 2),
    ({"std_labels": "soft", "std_T": 2.0}, 1),
    ({**BOTH, "std_reweighting": "entropy"}, 2),
    ({**BOTH, "std_reweighting": "uniform"}, 2),
    ({"std_mine": True}, 1),
]


@pytest.mark.parametrize(("options", "teachers"), FORMS)
def test_every_parameter_gets_a_gradient(options, teachers):
    mixer, method = make_pair(options, teachers)
    features = method.attach(mixer.features(images()))
    own = method.losses(features, teacher_features(teachers), None)
    assert list(own) == ["std"]
    (F.cross_entropy(features.logits, torch.tensor([0, 1, 2, 3])) + own["std"]).backward()
    for module in (mixer, method):
        trained = [(key, p.grad) for key, p in module.named_parameters() if p.requires_grad]
        assert [key for key, gradient in trained if gradient is None or not gradient.any()] == []


# --- its size -------------------------------------------------------------------------------------


def by_hand(p, n, k):
    spatial = 2 * n + (p + 1) * (n // 2) + n // 2 + n // 2 + 1
    channel = 2 * (n + 1) + (n + 1) * 4 * n + 4 * n + 4 * n + 1
    return n + p + spatial + channel + (n + p) * k + k


def count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.fixture(scope="module")
def mixer_s16():
    with torch.device("meta"):  # nothing but shapes is asked for
        network = create_model("mixer_s16", 1000, 224)
    return network


@pytest.mark.parametrize(
    ("options", "total"), [({}, 20_345_688), (BOTH, 22_163_112)], ids=["one module", "two modules"]
)
def test_parameter_counts(mixer_s16, options, total):
    """Of the student, and of the student with one and two modules, on Mixer-S/16 the 22.2 M of the paper."""
    assert count(mixer_s16) == 18_528_264
    method = create_method("std", Pair(mixer_s16.feature_shapes(), (TEACHER,), 50), options)
    assert count(method) == len(method.branches) * by_hand(196, 512, 1000)
    assert count(mixer_s16) + count(method) == total


def test_parameter_counts_for_small_images():
    with torch.device("meta"):
        mixer = create_model("mixer_s4", 100, 32)
    assert count(mixer) == 17_156_196
    method = create_method("std", Pair(mixer.feature_shapes(), (TEACHER,), 50))
    assert count(method) == by_hand(64, 512, 100)


@pytest.mark.parametrize(
    ("options", "teachers", "total"),
    [  # in millions, as counted for other readings of the paper's table
        ({"std_teachers": "all"}, 2, 21.06),
        ({**BOTH, "std_teachers": "all"}, 2, 23.59),
        ({**BOTH, "std_layers": 2}, 1, 24.38),
    ],
)
def test_parameter_counts_of_other_readings(mixer_s16, options, teachers, total):
    method = create_method("std", Pair(mixer_s16.feature_shapes(), (TEACHER,) * teachers, 50), options)
    assert round((count(mixer_s16) + count(method)) / 1e6, 2) == total


# --- predictions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, BOTH])
@torch.no_grad()
def test_it_predicts_by_the_mean_of_class_and_distillation_logits(options):
    mixer, method = make_pair(options)
    features = method.attach(mixer.features(images()))
    heads = np.array([head.numpy() for head in features.heads])
    expected = (features.logits.numpy() + sum(heads) / len(heads)) / 2
    np.testing.assert_allclose(method.predict(features).numpy(), expected, rtol=1e-12)


@torch.no_grad()
def test_other_predictions():
    mixer, method = make_pair(BOTH)
    features = method.attach(mixer.features(images()))
    z, heads = features.logits.numpy(), [head.numpy() for head in features.heads]
    found = {name: logits.numpy() for name, logits in method.predictions_by_head(features).items()}
    assert list(found) == ["average", "class", "distillation", "confidence"]
    np.testing.assert_array_equal(found["class"], z)
    np.testing.assert_allclose(found["distillation"], sum(heads) / 2, rtol=1e-12)
    np.testing.assert_allclose(found["average"], (z + sum(heads) / 2) / 2, rtol=1e-12)
    for sample, logits in enumerate(found["confidence"]):
        rows = [row[sample] for row in (z, *heads)]
        weights = naive.softmax([naive.negative_entropy(row) for row in rows])
        p = [naive.softmax(row) for row in rows]
        mixed = [sum(w * row[k] for w, row in zip(weights, p, strict=True)) for k in range(5)]
        np.testing.assert_allclose(np.exp(logits), mixed, rtol=1e-9)
    for name in found:
        _, chosen = make_pair({**BOTH, "std_predict": name})
        np.testing.assert_array_equal(chosen.predict(features).numpy(), found[name])


# --- the loss -------------------------------------------------------------------------------------


@every_dtype
def test_hard_label_losses(dtype):
    student, teacher = normal(6, 5, seed=1, dtype=dtype), normal(6, 5, seed=2, dtype=dtype)
    expected = [naive.hard_label_loss(s, t) for s, t in zip(*arrays(student, teacher), strict=True)]
    assert_near(hard_label_losses(student, teacher), expected)


def test_gradient_of_hard_label_losses():
    teacher = normal(3, 5, seed=2)
    assert_gradient(lambda s: hard_label_losses(s, teacher), normal(3, 5, seed=1))


def test_hard_label_losses_of_one_hot_teachers_are_finite():
    assert_finite(hard_label_losses, one_hot_logits(1e4), -one_hot_logits(1e4))


def naive_std(heads, teachers, options):
    """Mean over samples of Σ_i w_i·(CE(head_i, argmax teacher_i), or T²·KL(teacher_i ‖ head_i))."""
    sign = {"negative_entropy": 1, "entropy": -1, "uniform": 0}[options.get("std_reweighting", "negative_entropy")]
    total = []
    for sample in range(len(heads[0])):
        rows = [teacher[sample] for teacher in teachers]
        weights = naive.softmax([sign * naive.negative_entropy(row) for row in rows])
        for weight, head, row in zip(weights, heads, rows, strict=True):
            if options.get("std_labels") == "soft":
                total.append(weight * naive.kd_of_one(head[sample], row, options.get("std_T", 1.0)))
            else:
                total.append(weight * naive.hard_label_loss(head[sample], row))
    return math.fsum(total) / len(heads[0])


def taught(options, teachers):
    """Which teacher each head learns from."""
    modules = 2 if "std_modules" in options else 1
    if options.get("std_teachers") == "all":
        return list(range(teachers)) * (1 if "std_heads" in options else modules)
    return [0] if "std_heads" in options else [0] * modules if teachers == 1 else [0, 1]


@pytest.mark.parametrize(("options", "teachers"), FORMS)
@torch.no_grad()
def test_losses(options, teachers):
    """One teacher teaches every module; of two, the first teaches the intermediate one."""
    mixer, method = make_pair(options, teachers)
    features, given = method.attach(mixer.features(images())), teacher_features(teachers)
    logits = [given[i].logits.numpy() for i in taught(options, teachers)]
    assert len(features.heads) == len(features.tokens) == len(logits)
    expected = naive_std([head.numpy() for head in features.heads], logits, options)
    np.testing.assert_allclose(method.losses(features, given, None)["std"].item(), expected, rtol=1e-9)


def test_reweighting_both_ways_and_none():
    sure, unsure = torch.tensor([[9.0, 0, 0]]), torch.tensor([[0.2, 0, 0]])
    favoured, other = reweighted([sure, unsure], "negative_entropy")
    assert favoured > 0.7 > other
    torch.testing.assert_close(reweighted([sure, unsure], "entropy"), torch.stack([other, favoured]))
    torch.testing.assert_close(reweighted([sure, unsure], "uniform"), torch.full((2, 1), 0.5))


@pytest.mark.parametrize("scale", [1e4, 1e30])
def test_one_hot_teachers_give_finite_losses_and_gradients(scale):
    mixer, method = make_pair(BOTH, teachers=2)
    features = method.attach(mixer.features(images()))
    loss = method.losses(features, teacher_features(2, scale=scale), None)["std"]
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in method.parameters())


# --- options --------------------------------------------------------------------------------------


def test_published():
    options = {
        "std_modules": "last",
        "std_teachers": "each",
        "std_heads": "each",
        "std_propagate": False,
        "std_tokens": "both",
        "std_layers": 1,
        "std_labels": "hard",
        "std_T": 1.0,
        "std_reweighting": "negative_entropy",
        "std_predict": "average",
        "std_mine": False,
        "std_mine_every": 0,
        "std_mine_samples": 0,
        "std_mine_pairs": "random",
        "std_mine_lr": 0.01,
        "std_mine_student_lr": 0.01,
    }
    assert_published("std", Weights(0.5, 0, 0.5), options)


@pytest.mark.parametrize(
    ("options", "teachers", "mentions"),
    [
        ({}, 2, ["--std_modules", "--std_teachers"]),
        (BOTH, 3, ["std with 3 teachers"]),
        ({**BOTH, "std_heads": "last", "std_propagate": True}, 2, ["std with 2 teachers"]),
        ({**BOTH, "std_heads": "last"}, 1, ["--std_heads"]),
        ({"std_tokens": "none", "std_propagate": True}, 1, ["--std_propagate"]),
        ({"std_layers": 0}, 1, ["--std_layers"]),
        ({"std_T": 0.0}, 1, ["--std_T"]),
        ({"std_mine": True, "std_tokens": "spatial"}, 1, ["--std_mine", "--std_tokens"]),
        ({"std_mine": True, "std_mine_samples": 1}, 1, ["--std_mine_samples"]),
        ({"std_mine": True, "std_mine_lr": -1.0}, 1, ["--std_mine_lr"]),
        ({"std_mine": True, "std_mine_student_lr": -1.0}, 1, ["--std_mine_student_lr"]),
    ],
)
def test_refused_options(options, teachers, mentions):
    with pytest.raises(RequestError) as refusal:
        make_pair(options, teachers)
    assert all(word in str(refusal.value) for word in mentions)


def test_propagation_needs_one_shape():
    shapes = FeatureShapes(5, 8, (3, 4, 4), (), (), blocks=((4, 2, 2), (8, 1, 1)))
    assert_refused("std", shapes, TEACHER, std_modules="1+2", std_propagate=True, mentions=["--std_propagate"])


@pytest.mark.parametrize("model", ["resnet8", "ShuffleV1"])
def test_a_cnn_is_refused(model):
    assert_refused("std", shapes_of_model(model), TEACHER, mentions=["std", "--model_s"])
