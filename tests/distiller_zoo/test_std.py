"""STD: the tokens against loops over their equations, what they leave alone, their size, and who teaches whom."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from common.errors import RequestError
from distiller_zoo import Pair, create_method
from distiller_zoo.std import module_blocks, reweighted
from distiller_zoo.std_module import SpatialChannelModule, Tokens
from distiller_zoo.teacher_mixture import confidence_weights
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


def naive_deltas(vector, mlp):
    """W2·GELU(W1·v), a number for each token."""
    hidden = []
    for row, bias in zip(mlp.fc1.weight.tolist(), mlp.fc1.bias.tolist(), strict=True):
        hidden.append(gelu(sum(w * v for w, v in zip(row, vector, strict=True)) + bias))
    rows = zip(mlp.fc2.weight.tolist(), mlp.fc2.bias.tolist(), strict=True)
    return [sum(w * h for w, h in zip(row, hidden, strict=True)) + bias for row, bias in rows]


def naive_module(module, z, spatial, channel):
    """Logits of each head for one sample, from the P×N features of its block.

    `spatial` holds M tokens of length N, `channel` M tokens of length P.
    """
    spatial, channel = [list(t) for t in spatial], [list(t) for t in channel]
    for mlp in module.spatial:
        rows = naive_norm([*z, *spatial], mlp.norm)
        for n in range(len(z[0])):
            for token, delta in zip(spatial, naive_deltas([row[n] for row in rows], mlp), strict=True):
                token[n] += delta
    for mlp in module.channel:
        rows = naive_norm([[*row, *(t[i] for t in channel)] for i, row in enumerate(z)], mlp.norm)
        for i, row in enumerate(rows):
            for token, delta in zip(channel, naive_deltas(row, mlp), strict=True):
                token[i] += delta
    pairs = len(module.heads)
    read = [(spatial[i] if spatial else []) + (channel[i] if channel else []) for i in range(pairs)]
    if not spatial and not channel:
        read = [[sum(column) / len(z) for column in zip(*z, strict=True)]] * pairs
    logits = []
    for head, token in zip(module.heads, read, strict=True):
        rows = zip(head.weight.tolist(), head.bias.tolist(), strict=True)
        logits.append([sum(w * t for w, t in zip(row, token, strict=True)) + bias for row, bias in rows])
    return logits


@pytest.mark.parametrize("form", [{}, {"pairs": 2}, {"layers": 2}, {"pairs": 3, "layers": 2}])
@pytest.mark.parametrize("kinds", ["both", "spatial", "channel", "none"])
@pytest.mark.parametrize(("height", "width", "channels"), [(3, 3, 4), (2, 3, 6), (1, 1, 2)])
@torch.no_grad()
def test_module_against_its_equations(height, width, channels, kinds, form):
    torch.manual_seed(0)
    module = SpatialChannelModule(height * width, channels, num_classes=3, kinds=kinds, **form).double()
    for parameter in module.parameters():
        parameter += 0.3 * torch.randn_like(parameter)
    block = torch.randn(3, channels, height, width, dtype=torch.float64)
    spatial = [] if module.spatial_token is None else module.spatial_token[0].tolist()
    channel = [] if module.channel_token is None else module.channel_token[0].T.tolist()
    expected = []
    for sample in block:
        z = [[sample[n, i, j].item() for n in range(channels)] for i in range(height) for j in range(width)]
        expected.append(naive_module(module, z, spatial, channel))
    found = module.classify(module(block)[1])
    np.testing.assert_allclose(torch.stack(found, dim=1).numpy(), expected, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_a_module_can_start_from_the_tokens_of_another():
    torch.manual_seed(0)
    first, second = (SpatialChannelModule(4, 3, num_classes=2, own_tokens=own).double() for own in (True, False))
    assert second.spatial_token is second.channel_token is None
    block = torch.randn(1, 3, 2, 2, dtype=torch.float64)
    start = first(block)[0]
    assert isinstance(start, Tokens)
    z = block[0].flatten(1).T.tolist()
    expected = naive_module(second, z, start.spatial[0].tolist(), start.channel[0].T.tolist())
    np.testing.assert_allclose(second.classify(second(block, start)[1])[0][0].tolist(), expected[0], rtol=1e-9)


@torch.no_grad()
def test_tokens_of_several_teachers_part():
    """Each has its own output row: the reproduction adds one and the same update to all of them."""
    torch.manual_seed(0)
    module = SpatialChannelModule(4, 3, num_classes=2, pairs=2).double()
    block = torch.randn(5, 3, 2, 2, dtype=torch.float64)
    tokens, _ = module(block)
    for token, start, rows in ((tokens.spatial, module.spatial_token, 1), (tokens.channel, module.channel_token, 2)):
        update = token - start
        assert not torch.allclose(*update.unbind(rows), atol=1e-3)


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
    ("depth", "options", "taps"),
    [(8, {}, [7]), (8, BOTH, [4, 7]), (12, BOTH, [7, 11]), (4, {"std_modules": "1+3+4"}, [0, 2, 3])],
)
@torch.no_grad()
def test_modules_stand_at_the_last_block_and_two_thirds_up(depth, options, taps):
    mixer, method = make_pair(options, depth=depth)
    features = mixer.features(images())
    heads = method.attach(features).heads
    assert len(heads) == len(taps)
    for head, branch, tap in zip(heads, method.branches, taps, strict=True):
        assert torch.equal(head, branch.classify(branch(features.blocks[tap])[1])[0])


@pytest.mark.parametrize(
    ("text", "depth", "blocks"),
    [
        ("last", 1, [0]),
        ("last+intermediate", 5, [2, 4]),
        ("last+intermediate", 3, [1, 2]),
        ("8+6", 8, [5, 7]),
        ("last+intermediate", 2, [0, 1]),
        ("3", 3, [2]),
    ],
)
def test_where_modules_stand(text, depth, blocks):
    """Of 5 blocks after the third and the last, as Figure 2 draws it; of CycleMLP-B2's last three after the second."""
    assert module_blocks(text, depth) == blocks


@pytest.mark.parametrize("text", ["first", "", "0", "9", "8+8", "last+8", "6,8", "-1", "last+intermediate+5"])
def test_blocks_that_are_not_there(text):
    with pytest.raises(RequestError, match=r"--std_modules .*: give last, last\+intermediate, or different numbers"):
        module_blocks(text, 8)


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


@pytest.mark.parametrize(
    ("options", "teachers", "total"),
    [  # in millions, as counted for other readings of the paper's table
        ({"std_teachers": "all"}, 2, 21.06),
        ({**BOTH, "std_teachers": "all"}, 2, 23.59),
        ({**BOTH, "std_layers": 2}, 1, 24.38),
    ],
)
def test_parameter_counts_of_other_readings(options, teachers, total):
    mixer = create_model("mixer_s16", 1000, 224)
    method = create_method("std", Pair(mixer.feature_shapes(), (TEACHER,) * teachers, 50), options)
    assert round((count(mixer) + count(method)) / 1e6, 2) == total


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


@torch.no_grad()
def test_other_answers():
    mixer, method = make_pair(BOTH)
    features = method.attach(mixer.features(images()))
    z, heads = features.logits.numpy(), [head.numpy() for head in features.heads]
    answers = {name: answer.numpy() for name, answer in method.predictions_by_head(features).items()}
    assert list(answers) == ["average", "class", "distillation", "confidence"]
    np.testing.assert_array_equal(answers["class"], z)
    np.testing.assert_allclose(answers["distillation"], sum(heads) / 2, rtol=1e-12)
    np.testing.assert_allclose(answers["average"], (z + sum(heads) / 2) / 2, rtol=1e-12)
    for sample, answer in enumerate(answers["confidence"]):
        p = [softmax(row[sample]) for row in (z, *heads)]
        weights = softmax([sum(q * math.log(q) for q in row) for row in p])
        mixed = [sum(w * row[k] for w, row in zip(weights, p, strict=True)) for k in range(5)]
        np.testing.assert_allclose(np.exp(answer), mixed, rtol=1e-9)
    for name in answers:
        _, chosen = make_pair({**BOTH, "std_predict": name})
        np.testing.assert_array_equal(chosen.predict(features).numpy(), answers[name])


# --- the loss -------------------------------------------------------------------------------------


def softmax(row):
    powers = [math.exp(v - max(row)) for v in row]
    return [power / sum(powers) for power in powers]


def naive_loss(heads, teachers, options):
    """Mean over samples of Σ_i w_i·(CE(head_i, argmax teacher_i), or T²·KL(teacher_i ‖ head_i))."""
    sign = {"negative_entropy": 1, "entropy": -1, "uniform": 0}[options.get("std_reweighting", "negative_entropy")]
    T, total = options.get("std_T", 1.0), 0.0
    for sample in range(len(heads[0])):
        rows = [list(teacher[sample]) for teacher in teachers]
        weights = softmax([sign * sum(p * math.log(p) for p in softmax(row)) for row in rows])
        for weight, head, row in zip(weights, heads, rows, strict=True):
            if options.get("std_labels") == "soft":
                p, q = (softmax([v / T for v in logits]) for logits in (row, head[sample]))
                total += weight * T**2 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
            else:
                total -= weight * math.log(softmax(head[sample])[row.index(max(row))])
    return total / len(heads[0])


def taught(options, teachers):
    """Which teacher each head learns from."""
    modules = 2 if "std_modules" in options else 1
    if options.get("std_teachers") == "all":
        return list(range(teachers)) * (1 if "std_heads" in options else modules)
    return [0] if "std_heads" in options else [0] * modules if teachers == 1 else [0, 1]


@pytest.mark.parametrize(("options", "teachers"), FORMS)
@torch.no_grad()
def test_loss_against_loops(options, teachers):
    """One teacher teaches every module; of two, the first teaches the intermediate one."""
    mixer, method = make_pair(options, teachers)
    features, given = method.attach(mixer.features(images())), teacher_features(teachers)
    logits = [given[i].logits.numpy() for i in taught(options, teachers)]
    assert len(features.heads) == len(features.tokens) == len(logits)
    expected = naive_loss([head.numpy() for head in features.heads], logits, options)
    np.testing.assert_allclose(method.losses(features, given, None)["std"].item(), expected, rtol=1e-9)


def test_reweighting_both_ways_and_none():
    sure, unsure = torch.tensor([[9.0, 0, 0]]), torch.tensor([[0.2, 0, 0]])
    favoured, other = reweighted([sure, unsure], "negative_entropy")
    assert favoured > 0.7 > other
    torch.testing.assert_close(reweighted([sure, unsure], "entropy"), torch.stack([other, favoured]))
    torch.testing.assert_close(reweighted([sure, unsure], "uniform"), torch.full((2, 1), 0.5))


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


@pytest.mark.parametrize(
    ("options", "teachers", "sentence"),
    [
        ({}, 2, r"^std with 2 teachers needs 2 modules with heads; .* --std_teachers all$"),
        (BOTH, 3, r"^std with 3 teachers needs 3 modules"),
        ({**BOTH, "std_heads": "last", "std_propagate": True}, 2, r"^std with 2 teachers needs 2 modules with heads"),
        ({**BOTH, "std_heads": "last"}, 1, r"^--std_heads last leaves the tokens of other modules without use"),
        ({"std_tokens": "none", "std_propagate": True}, 1, r"^--std_propagate hands tokens on"),
        ({"std_layers": 0}, 1, r"^--std_layers is 0; give 1 or more$"),
        ({"std_T": 0.0}, 1, r"^--std_T is 0.0; it must be positive$"),
        ({"std_mine": True, "std_tokens": "spatial"}, 1, r"^--std_mine needs both tokens, and --std_tokens is spatial"),
        ({"std_mine": True, "std_mine_samples": 1}, 1, r"give 0 or more, and 2 samples or more$"),
        ({"std_mine": True, "std_mine_lr": -1.0}, 1, r"--std_mine_student_lr are .*; give 0 or more$"),
    ],
)
def test_refusals(options, teachers, sentence):
    with pytest.raises(RequestError, match=sentence):
        make_pair(options, teachers)


def test_propagation_needs_one_shape():
    shapes = FeatureShapes(5, 8, (3, 4, 4), (), (), blocks=((4, 2, 2), (8, 1, 1)))
    with pytest.raises(RequestError, match=r"^--std_propagate needs blocks of one shape"):
        create_method("std", Pair(shapes, (TEACHER,), 50), {"std_modules": "1+2", "std_propagate": True})
