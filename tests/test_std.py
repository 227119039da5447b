"""STD: the tokens against loops over their equations, what they leave alone, their size, and who teaches whom."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from common.errors import RequestError
from distiller_zoo import Pair, create_method
from distiller_zoo.std import SpatialChannelModule, confidence_weights
from models import Features, FeatureShapes, create_model
from models.mixer import MlpMixer

TEACHER = FeatureShapes(5, 8, (3, 4, 4), (), ())
BOTH = {"std_modules": "last+intermediate"}


def make_pair(options=None, teachers=1, depth=4):
    """A small Mixer, none of whose parameters is zero, and STD for it, in double precision."""
    torch.manual_seed(0)
    mixer = MlpMixer(width=8, depth=depth, patch=2, num_classes=5, image_size=6).double()
    method = create_method("std", Pair(mixer.feature_shapes(), (TEACHER,) * teachers, 50), options).double()
    with torch.no_grad():
        for parameter in (*mixer.parameters(), *method.parameters()):
            parameter += 0.2 * torch.randn_like(parameter)
    return mixer, method


def images(batch=4):
    return torch.randn(batch, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def teacher_features(count, batch=4, scale=1.0):
    generator = torch.Generator().manual_seed(2)
    return tuple(
        Features(scale * torch.randn(batch, 5, dtype=torch.float64, generator=generator)) for _ in range(count)
    )


# --- the module -----------------------------------------------------------------------------------


def gelu(v):
    return v * (1 + math.erf(v / math.sqrt(2))) / 2


def naive_norm(rows, norm):
    out = []
    for row in rows:
        mean = sum(row) / len(row)
        variance = sum((v - mean) ** 2 for v in row) / len(row)
        scaled = [(v - mean) / math.sqrt(variance + 1e-6) for v in row]
        out.append([s * w + b for s, w, b in zip(scaled, norm.weight.tolist(), norm.bias.tolist(), strict=True)])
    return out


def naive_delta(vector, mlp):
    """W2·GELU(W1·v), one number."""
    hidden = []
    for row, bias in zip(mlp.fc1.weight.tolist(), mlp.fc1.bias.tolist(), strict=True):
        hidden.append(gelu(sum(w * v for w, v in zip(row, vector, strict=True)) + bias))
    return sum(w * h for w, h in zip(mlp.fc2.weight[0].tolist(), hidden, strict=True)) + mlp.fc2.bias.item()


def naive_module(module, z):
    """Logits of one sample from the P×N features of its block."""
    spatial, channel = module.spatial_token[0, 0].tolist(), module.channel_token[0, :, 0].tolist()
    with_row = naive_norm([*z, spatial], module.spatial.norm)
    t_s = [t + naive_delta([row[n] for row in with_row], module.spatial) for n, t in enumerate(spatial)]
    with_column = naive_norm([[*row, t] for row, t in zip(z, channel, strict=True)], module.channel.norm)
    t_c = [t + naive_delta(row, module.channel) for t, row in zip(channel, with_column, strict=True)]
    head = zip(module.head.weight.tolist(), module.head.bias.tolist(), strict=True)
    return [sum(w * t for w, t in zip(row, t_s + t_c, strict=True)) + bias for row, bias in head]


@pytest.mark.parametrize(("height", "width", "channels"), [(3, 3, 4), (2, 3, 6), (1, 1, 2)])
@torch.no_grad()
def test_module_against_its_equations(height, width, channels):
    torch.manual_seed(0)
    module = SpatialChannelModule(height * width, channels, num_classes=3).double()
    for parameter in module.parameters():
        parameter += 0.3 * torch.randn_like(parameter)
    block = torch.randn(3, channels, height, width, dtype=torch.float64)
    expected = []
    for sample in block:
        z = [[sample[n, i, j].item() for n in range(channels)] for i in range(height) for j in range(width)]
        expected.append(naive_module(module, z))
    np.testing.assert_allclose(module(block).numpy(), expected, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_tokens_start_small_and_random():
    module = SpatialChannelModule(64, 512, 10)
    for token, shape in ((module.spatial_token, (1, 1, 512)), (module.channel_token, (1, 64, 1))):
        assert token.shape == shape
        assert 0.014 < token.std() < 0.026


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
    ("depth", "options", "taps"), [(8, {}, [7]), (8, BOTH, [5, 7]), (12, BOTH, [8, 11]), (4, BOTH, [2, 3])]
)
@torch.no_grad()
def test_modules_stand_at_the_last_block_and_two_thirds_up(depth, options, taps):
    mixer, method = make_pair(options, depth=depth)
    features = mixer.features(images())
    heads = method.attach(features).heads
    assert len(heads) == len(taps)
    for head, branch, tap in zip(heads, method.branches, taps, strict=True):
        assert torch.equal(head, branch(features.blocks[tap]))


@torch.no_grad()
def test_modules_share_nothing():
    mixer, method = make_pair(BOTH, depth=6)
    before = method.attach(mixer.features(images())).heads
    method.branches[0].spatial_token.add_(1)
    after = method.attach(mixer.features(images())).heads
    assert (before[0] != after[0]).all()
    assert torch.equal(before[1], after[1])


@pytest.mark.parametrize(("options", "teachers"), [({}, 1), (BOTH, 1), (BOTH, 2)])
def test_every_parameter_gets_a_gradient(options, teachers):
    mixer, method = make_pair(options, teachers)
    features = method.attach(mixer.features(images()))
    own = method.losses(features, teacher_features(teachers), None)
    assert list(own) == ["std"]
    (F.cross_entropy(features.logits, torch.tensor([0, 1, 2, 3])) + own["std"]).backward()
    for module in (mixer, method):
        assert [key for key, p in module.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize(
    ("model", "classes", "size", "alone", "one", "two"),
    [("mixer_s16", 1000, 224, 18_528_264, 20_345_688, 22_163_112), ("mixer_s4", 100, 32, 17_156_196, None, None)],
)
def test_parameter_counts(model, classes, size, alone, one, two):
    """Of the student, and of the student with one and two modules, on Mixer-S/16 the 22.2 M of the paper."""
    mixer = create_model(model, classes, size)
    shapes = mixer.feature_shapes()
    assert count(mixer) == alone
    for options, total in (({}, one), (BOTH, two)):
        method = create_method("std", Pair(shapes, (TEACHER,), 50), options)
        assert count(method) == len(method.branches) * by_hand(64 if size == 32 else 196, 512, classes)
        assert total is None or count(mixer) + count(method) == total


def by_hand(p, n, k):
    spatial = 2 * n + (p + 1) * (n // 2) + n // 2 + n // 2 + 1
    channel = 2 * (n + 1) + (n + 1) * 4 * n + 4 * n + 4 * n + 1
    return n + p + spatial + channel + (n + p) * k + k


def count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("options", [{}, BOTH])
@torch.no_grad()
def test_the_answer_is_the_mean_of_class_and_distillation_logits(options):
    mixer, method = make_pair(options)
    features = method.attach(mixer.features(images()))
    heads = np.array([head.numpy() for head in features.heads])
    expected = (features.logits.numpy() + sum(heads) / len(heads)) / 2
    np.testing.assert_allclose(method.predict(features).numpy(), expected, rtol=1e-12)


# --- the loss -------------------------------------------------------------------------------------


def softmax(row):
    powers = [math.exp(v - max(row)) for v in row]
    return [power / sum(powers) for power in powers]


def naive_loss(heads, teachers):
    """Mean over samples of Σ_i w_i·CE(head_i, argmax teacher_i), w the softmax of Σ_k p·log p."""
    total = 0.0
    for sample in range(len(heads[0])):
        rows = [list(teacher[sample]) for teacher in teachers]
        weights = softmax([sum(p * math.log(p) for p in softmax(row)) for row in rows])
        for weight, head, row in zip(weights, heads, rows, strict=True):
            total -= weight * math.log(softmax(head[sample])[row.index(max(row))])
    return total / len(heads[0])


@pytest.mark.parametrize(("options", "teachers"), [({}, 1), (BOTH, 1), (BOTH, 2)])
@torch.no_grad()
def test_loss_against_loops(options, teachers):
    """One teacher teaches every module; of two, the first teaches the intermediate one."""
    mixer, method = make_pair(options, teachers)
    features, given = method.attach(mixer.features(images())), teacher_features(teachers)
    taught = [teacher.logits.numpy() for teacher in given] * (len(method.branches) // teachers)
    expected = naive_loss([head.numpy() for head in features.heads], taught)
    np.testing.assert_allclose(method.losses(features, given, None)["std"].item(), expected, rtol=1e-9)


def test_the_confident_teacher_counts_sample_by_sample():
    """One teacher is sure of the first sample, the other of the second."""
    sure, unsure = torch.tensor([9.0, 0, 0, 0]), torch.tensor([0.2, 0, 0, 0])
    weights = confidence_weights([torch.stack([sure, unsure]), torch.stack([unsure, sure])])
    assert weights.shape == (2, 2)
    assert weights[0, 0] > 0.75 > 0.25 > weights[0, 1]
    torch.testing.assert_close(weights.sum(dim=0), torch.ones(2))
    torch.testing.assert_close(weights[0, 0], weights[1, 1])


def test_the_weight_of_a_certain_teacher_against_a_clueless_one():
    """Entropies 0 and log 10: weights 10/11 and 1/11, whatever the rest of the batch."""
    certain, clueless = torch.zeros(3, 10), torch.zeros(3, 10)
    certain[:, 0] = 200
    expected = torch.tensor([[10 / 11], [1 / 11]]).expand(2, 3)
    torch.testing.assert_close(confidence_weights([certain, clueless]), expected)


@pytest.mark.parametrize("scale", [1e4, 1e30])
def test_one_hot_teachers_give_finite_losses_and_gradients(scale):
    mixer, method = make_pair(BOTH, teachers=2)
    features = method.attach(mixer.features(images()))
    loss = method.losses(features, teacher_features(2, scale=scale), None)["std"]
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in method.parameters())


# --- refusals -------------------------------------------------------------------------------------


def test_a_cnn_is_refused():
    cnn = create_model("resnet8", 5, 8).feature_shapes()
    with pytest.raises(RequestError, match=r"^std distils into MLPs: .* choose an MLP, for instance --model_s mixer"):
        create_method("std", Pair(cnn, (TEACHER,), 50))


def test_two_teachers_need_two_modules():
    with pytest.raises(RequestError, match=r"^std with two teachers needs two modules; add --std_modules last\+inter"):
        make_pair(teachers=2)


def test_three_teachers_are_too_many():
    with pytest.raises(RequestError, match=r"std learns from up to 2 teacher\(s\), but 3 were given"):
        make_pair(BOTH, teachers=3)
