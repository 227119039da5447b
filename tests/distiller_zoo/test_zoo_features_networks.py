"""OFD, ReviewKD, SemCKD, SRRL and SimKD, which know more of the networks than their features, or add layers to them."""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from common.errors import RequestError
from dataset import DATASETS, Batch
from distiller_zoo import METHODS, Pair, Weights, create_method, options_of
from distiller_zoo.ofd import expected_negative, last_norms, partial_distance
from distiller_zoo.reviewkd import hierarchical_context_loss
from distiller_zoo.semckd import calibrated_loss, group_similarities
from distiller_zoo.srrl import regression_losses
from engine.checkpoints.inference_network import InferenceNetwork
from engine.checkpoints.weights import TrainedMethod, WeightsHeader, load_network, save_weights
from models import Features, FeatureShapes, create_model
from tests import numerics
from tests.numerics import arrays, every_dtype, naive_common, naive_pool, normal

assert_near = partial(numerics.assert_near, double=1e-8, single=2e-4)
DIGITS = DATASETS["digits"]


STAGES_S = ((3, 4, 4), (5, 2, 2))
STAGES_T = ((4, 8, 8), (2, 4, 4), (6, 1, 1))


def shapes(stages, embedding, blocks=()):
    return FeatureShapes(7, embedding, (2, 8, 8), stages, stages, blocks, (embedding, *stages[-1][1:]))


OF_S, OF_T = shapes(STAGES_S, 5), shapes(STAGES_T, 6)


def features(of, seed, dtype=torch.float64, batch=3):
    """Random features of such shapes, each of its own."""
    maps = [normal(batch, *shape, seed=seed + n, dtype=dtype) for n, shape in enumerate((*of.stages, *of.preacts))]
    last_map = normal(batch, *of.last_map, seed=seed + 50, dtype=dtype)
    stages, preacts = tuple(maps[: len(of.stages)]), tuple(maps[len(of.stages) :])
    return Features(
        normal(batch, 7, seed=seed + 60, dtype=dtype), last_map.mean(dim=(2, 3)), None, stages, preacts, last_map
    )


def make(name, dtype=torch.float64, of_s=OF_S, of_t=OF_T, **options):
    torch.manual_seed(0)
    return create_method(name, Pair(of_s, (of_t,), 50), options).to(dtype)


def batch_at(epoch):
    return Batch(torch.zeros(3, 3, 1, 1), torch.zeros(3, dtype=torch.int64), torch.arange(3), None, epoch, 0, 1)


class Head:
    """Stands for a network of which only the last linear layer is looked at."""

    def __init__(self, width, classes=7, bias=True, seed=7):
        torch.manual_seed(seed)
        self.last_linear = nn.Linear(width, classes, bias=bias).double()


# --- layers by plain loops ------------------------------------------------------------------------


def nearest(maps, height, width):
    rows = [i * maps.shape[2] // height for i in range(height)]
    columns = [j * maps.shape[3] // width for j in range(width)]
    return maps[:, :, rows][:, :, :, columns]


def convolve(x, layer):
    (weight,) = arrays(layer.weight)
    size = weight.shape[2]
    padding = size // 2
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    out = np.zeros((len(x), len(weight), x.shape[2] - size + 1, x.shape[3] - size + 1))
    for b, c, i, j in np.ndindex(out.shape):
        out[b, c, i, j] = (x[b, :, i : i + size, j : j + size] * weight[c]).sum()
    return out if layer.bias is None else out + arrays(layer.bias)[0][:, None, None]


def run_layers(x, layers):
    """Layers in training mode: batch norm (fresh: weight 1, bias 0) takes the statistics of the batch."""
    for layer in layers:
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            axes = (0, *range(2, x.ndim))
            x = (x - x.mean(axis=axes, keepdims=True)) / np.sqrt(x.var(axis=axes, keepdims=True) + 1e-5)
        elif isinstance(layer, nn.ReLU):
            x = np.maximum(x, 0)
        elif isinstance(layer, nn.Sigmoid):
            x = 1 / (1 + np.exp(-x))
        elif isinstance(layer, nn.Linear):
            x = x @ arrays(layer.weight)[0].T + (0 if layer.bias is None else arrays(layer.bias)[0])
        elif not isinstance(layer, nn.Identity):
            x = convolve(x, layer)
    return x


def described(layers):
    """What stands where: (in, out, kernel) of convolutions, (in, out) of linear layers, names of the others."""
    out = []
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            out.append((layer.in_channels, layer.out_channels, layer.kernel_size[0]))
        elif isinstance(layer, nn.Linear):
            out.append((layer.in_features, layer.out_features))
        else:
            out.append(type(layer).__name__)
    return out


# --- OFD ------------------------------------------------------------------------------------------


def published_margin(mean, std):
    std = abs(std)
    if stats.norm.cdf(-mean / std) > 0.001:
        return mean - std * math.exp(-((mean / std) ** 2) / 2) / math.sqrt(2 * math.pi) / stats.norm.cdf(-mean / std)
    return -3 * std


def test_expected_negative():
    mean = torch.tensor([0.0, 1.0, -1.0, 3.0, 3.2, -40.0, 0.3, 5.0], dtype=torch.float64)
    std = torch.tensor([1.0, 0.5, 2.0, 1.0, 1.0, 1.0, -0.7, 1.0], dtype=torch.float64)
    found = expected_negative(mean, std)
    assert_near(found, [published_margin(m.item(), s.item()) for m, s in zip(mean, std, strict=True)])
    assert_near(found[0], -math.sqrt(2 / math.pi))
    assert found[4] == -3  # Φ(−3.2) < 0.001
    assert_near(found[5], -40)  # hardly ever positive: the mean itself
    draws = 0.5 * normal(10**6) + 1
    assert found[1].item() == pytest.approx(draws[draws < 0].mean().item(), rel=0.01)


def test_margins_of_constant_channels_are_finite():
    found = expected_negative(torch.tensor([0.0, 2.0, -2.0]), torch.zeros(3))
    np.testing.assert_allclose(found.numpy(), [0, 0, -2], atol=1e-9)


def naive_partial(s, t, margin):
    """By three cases: beyond the margin, between margin and zero, above zero."""
    total = 0.0
    for b, c, i, j in np.ndindex(s.shape):
        x, y, m = s[b, c, i, j], t[b, c, i, j], margin[c]
        if y > 0:
            total += (x - y) ** 2
        elif y <= m:
            total += (x - m) ** 2 if x > m else 0
        else:
            total += (x - y) ** 2 if x > y else 0
    return total / len(s)


@every_dtype
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 4, 4), (3, 5, 2, 3)])
def test_partial_distance(shape, dtype):
    s, t = normal(*shape, seed=1, dtype=dtype), normal(*shape, seed=2, dtype=dtype)
    margin = -normal(shape[1], seed=3, dtype=dtype).abs()
    assert_near(partial_distance(s, t, margin), naive_partial(*arrays(s, t, margin)))


def test_partial_distance_of_known_neurons():
    s = torch.tensor([-2.0, 0.0, 1.0]).view(3, 1, 1, 1)
    for t, expected in ((-5.0, 1 + 4), (-0.5, 0.25 + 2.25), (1.0, 9 + 1)):
        found = partial_distance(s, torch.full_like(s, t), torch.tensor([-1.0]))
        assert found.item() == pytest.approx(expected / 3)


@every_dtype
def test_ofd_through_its_connectors(dtype):
    """Two of three teacher stages; maps of different sizes; margins as they were told."""
    method, student, teacher = make("ofd", dtype), features(OF_S, 1, dtype), features(OF_T, 20, dtype)
    expected = 0.0
    for place, (i, j) in enumerate(((0, 1), (1, 2))):
        margin = method.margins[place]
        margin.known = True
        margin.total.copy_(-normal(len(margin.total), seed=place).abs())
        margin.count.fill_(1)
        connector = method.connectors[place]
        assert described(connector) == [(STAGES_S[i][0], STAGES_T[j][0], 1), "BatchNorm2d"]
        s, t = naive_common(run_layers(*arrays(student.preacts[i]), connector), *arrays(teacher.preacts[j]))
        expected += naive_partial(s, t, margin.total.numpy()) / 2 ** (1 - place)
    assert_near(method.loss(student, teacher, None), expected)


@pytest.mark.parametrize("model", ["resnet8", "resnet8x4", "wrn_16_1", "vgg8", "MobileNetV2", "ResNet50"])
def test_last_norms_end_the_stages(model):
    """What their bias gains, the preacts of their stage gain, each at every position."""
    torch.manual_seed(0)
    network = create_model(model, 10, 8).double().eval()
    x = normal(2, 3, 8, 8)
    norms = last_norms(network)
    with torch.no_grad():
        for stage, norm in enumerate(norms):
            before = network.features(x).preacts[stage]
            norm.bias += 0.5
            torch.testing.assert_close(network.features(x).preacts[stage], before + 0.5)
    assert len(norms) == len(network.feature_shapes().preacts)


def test_margins_come_from_the_teacher():
    teacher, student = create_model("wrn_16_1", 10, 8), create_model("vgg8", 10, 8)
    for norm in last_norms(teacher):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    method = create_method("ofd", Pair(student.feature_shapes(), (teacher.feature_shapes(),), 50))
    method.inspect_networks(student, (teacher,))
    assert [j for _, j in method.pairs] == [0, 1, 2]
    for margin, norm in zip(method.margins, last_norms(teacher), strict=True):
        expected = [published_margin(m, s) for m, s in zip(*arrays(norm.bias, norm.weight), strict=True)]
        np.testing.assert_allclose(margin(torch.zeros(1, len(expected), 1, 1)).numpy(), expected, rtol=1e-5, atol=1e-6)
    before = {key: value.clone() for key, value in method.state_dict().items()}
    with torch.no_grad():
        method.loss(student.features(torch.randn(2, 3, 8, 8)), teacher.features(torch.randn(2, 3, 8, 8)), None)
    method.after_step()
    state = method.state_dict()
    assert all(torch.equal(state[key], value) for key, value in before.items() if key.startswith("margins"))


@pytest.mark.parametrize("model", ["ShuffleV1", "ShuffleV2", "mixer_pico"])
def test_margins_of_other_families_are_collected(model):
    """Means of all negative values so far, the batch at hand counted in, and unknown to what has none."""
    teacher = create_model(model, 10, 8)
    assert last_norms(teacher) is None
    method = create_method("ofd", Pair(OF_S, (teacher.feature_shapes(),), 50))
    method.inspect_networks(None, (teacher,))
    margin, seen = method.margins[0], []
    for step in range(3):
        seen.append(normal(2, len(margin.total), 3, 3, seed=step))
        seen[-1][:, 0] = 1
        everything = torch.cat(seen).transpose(0, 1).flatten(1)
        expected = [0 if min(row) >= 0 else np.mean([v for v in row if v < 0]) for row in everything.tolist()]
        assert_near(margin(seen[-1]), expected)
        assert_near(margin(seen[-1]), expected)  # asked twice in a step, it counts once
        method.after_step()
    other = create_method("ofd", Pair(OF_S, (teacher.feature_shapes(),), 50))
    other.load_state_dict(method.state_dict())
    assert torch.equal(other.margins[0](seen[0]), margin(seen[0]))


# --- ReviewKD -------------------------------------------------------------------------------------


def naive_hcl(f_s, f_t):
    total, weights, weight = ((f_s - f_t) ** 2).mean(), 1.0, 1.0
    for size in (4, 2, 1):
        if size < f_s.shape[2]:
            weight /= 2
            weights += weight
            total += weight * ((naive_pool(f_s, size, size) - naive_pool(f_t, size, size)) ** 2).mean()
    return total / weights


@every_dtype
@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (3, 2, 4, 4), (1, 2, 2, 2), (4, 5, 1, 1), (2, 3, 7, 5)])
def test_hcl(shape, dtype):
    maps = normal(*shape, seed=1, dtype=dtype), normal(*shape, seed=2, dtype=dtype)
    assert_near(hierarchical_context_loss(*maps), naive_hcl(*arrays(*maps)))


def test_hcl_of_known_maps():
    """A constant difference is the same in every resolution; one without a mean is in the finest alone."""
    f = normal(2, 3, 8, 8)
    assert hierarchical_context_loss(f, f) == 0
    assert_near(hierarchical_context_loss(f + 3, f), 9.0)
    checks = (torch.arange(8)[:, None] + torch.arange(8)) % 2 * 2 - 1
    assert_near(hierarchical_context_loss(f + checks, f), 1 / (1 + 1 / 2 + 1 / 4 + 1 / 8))


@every_dtype
def test_reviewkd_from_the_embedding_upwards(dtype):
    method, student, teacher = make("reviewkd", dtype), features(OF_S, 1, dtype), features(OF_T, 20, dtype)
    levels_s = [*arrays(student.embedding[:, :, None, None], student.stages[1], student.stages[0])]
    levels_t = [*arrays(teacher.embedding[:, :, None, None], teacher.preacts[2], teacher.preacts[1])]
    expected, deeper = 0.0, None
    for fusion, f_s, f_t in zip(method.fusions, levels_s, levels_t, strict=True):
        assert described(fusion.conv_in) == [(f_s.shape[1], 5, 1), "BatchNorm2d"]
        assert described(fusion.conv_out) == [(5, f_t.shape[1], 3), "BatchNorm2d"]
        x = run_layers(f_s, fusion.conv_in)
        if deeper is not None:
            assert described(fusion.attention) == [(10, 2, 1), "Sigmoid"]
            deeper = nearest(deeper, *x.shape[2:])
            gates = run_layers(np.concatenate([x, deeper], axis=1), fusion.attention)
            x = x * gates[:, :1] + deeper * gates[:, 1:]
        deeper = nearest(x, *f_t.shape[2:])
        expected += naive_hcl(run_layers(deeper, fusion.conv_out), f_t)
    assert_near(method.loss(student, teacher, batch_at(20)), expected)
    assert_near(method.loss(student, teacher, batch_at(5)), expected / 4)
    assert_near(method.loss(student, teacher, batch_at(200)), expected)


@pytest.mark.parametrize(("warmup", "epoch", "share"), [(0, 1, 1.0), (1, 1, 1.0), (10, 3, 0.3)])
def test_warmup(warmup, epoch, share):
    method, student, teacher = make("reviewkd", reviewkd_warmup=warmup), features(OF_S, 1), features(OF_T, 20)
    assert_near(method.loss(student, teacher, batch_at(epoch)) / method.loss(student, teacher, batch_at(99)), share)


def test_no_level_is_wider_than_512_inside():
    method = make("reviewkd", of_s=shapes(STAGES_S, 1280))
    assert [fusion.conv_in[0].out_channels for fusion in method.fusions] == [512, 512, 512]


# --- SemCKD ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("batch", "group"), [(4, 4), (3, 4), (6, 4), (9, 4), (1, 2), (5, 5)])
def test_group_similarities(batch, group):
    f = normal(batch, 2, 3, 3)
    expected = np.zeros((batch, group))
    for i, j in np.ndindex(batch, batch):
        if i // group == j // group:
            expected[i, j % group] = (f[i] * f[j]).sum()
    assert_near(group_similarities(f, group), expected)


def naive_calibrated(distances, queries, keys, temperature):
    batch, stages_s, stages_t = distances.shape
    total = 0.0
    for b, s in np.ndindex(batch, stages_s):
        powers = [math.exp(queries[b, s] @ keys[b, t] / temperature) for t in range(stages_t)]
        total += sum(power / sum(powers) * distances[b, s, t] for t, power in enumerate(powers))
    return total / batch / stages_s


@every_dtype
@pytest.mark.parametrize(("batch", "stages_s", "stages_t", "width"), [(1, 1, 1, 1), (3, 2, 4, 5), (4, 3, 2, 2)])
def test_calibrated_loss(batch, stages_s, stages_t, width, dtype):
    given = (
        normal(batch, stages_s, stages_t, seed=1, dtype=dtype).square(),
        normal(batch, stages_s, width, seed=2, dtype=dtype),
        normal(batch, stages_t, width, seed=3, dtype=dtype),
    )
    assert_near(calibrated_loss(*given, 0.7), naive_calibrated(*arrays(*given), 0.7))


def test_equal_keys_weigh_all_teacher_stages_alike():
    distances, keys = normal(3, 2, 4).square(), torch.ones(3, 4, 5, dtype=torch.float64)
    assert_near(calibrated_loss(distances, normal(3, 2, 5), keys, 1.0), distances.mean().item())


@every_dtype
def test_semckd_through_its_layers(dtype):
    """A batch of three in groups of eight: the last five columns of similarities are empty."""
    method = make("semckd", dtype, semckd_group=8, semckd_temperature=0.5)
    student, teacher = features(OF_S, 1, dtype), features(OF_T, 20, dtype)
    maps_s, maps_t = arrays(*student.stages), arrays(*teacher.stages)
    embedded = []
    for layers, maps in ((method.query, maps_s), (method.key, maps_t)):
        rows = []
        for layer, f in zip(layers, maps, strict=True):
            assert described(layer) == [(8, 4), "ReLU", (4, 2)]
            similarity = np.zeros((3, 8))
            similarity[:, :3] = [[(a * b).sum() for b in f] for a in f]
            out = run_layers(similarity, layer)
            rows.append(out / np.sqrt((out**2).sum(axis=1, keepdims=True)))
        embedded.append(np.stack(rows, axis=1))
    distances = np.zeros((3, 2, 3))
    for i, j in np.ndindex(2, 3):
        projection, (c_s, c_t) = method.projections[i][j], (STAGES_S[i][0], STAGES_T[j][0])
        norm_and_relu = ["BatchNorm2d", "ReLU"]
        expected = [(c_s, 2 * c_t, 1), *norm_and_relu, (2 * c_t, 2 * c_t, 3), *norm_and_relu, (2 * c_t, c_t, 1)]
        assert described(projection) == expected
        s, t = naive_common(maps_s[i], maps_t[j])
        distances[:, i, j] = ((run_layers(s, projection) - t) ** 2).mean(axis=(1, 2, 3))
    found = method.losses(student, (teacher,), None)
    assert list(found) == ["semckd"]
    assert_near(found["semckd"], naive_calibrated(distances, *embedded, 0.5))


# --- SRRL -----------------------------------------------------------------------------------------


@every_dtype
@pytest.mark.parametrize("bias", [True, False])
def test_srrl_through_the_teachers_classifier(bias, dtype):
    method, student, teacher = make("srrl", dtype), features(OF_S, 1, dtype), features(OF_T, 20, dtype)
    head = Head(6, bias=bias)
    method.inspect_networks(None, (head,))
    assert described(method.connector) == [(5, 6), "BatchNorm1d", "ReLU"]
    e_s, e_t, w = arrays(student.embedding, teacher.embedding, head.last_linear.weight)
    h = run_layers(e_s, method.connector)
    found = method.losses(student, (teacher,), None)
    assert list(found) == ["srrl_feature", "srrl_regression"]
    assert_near(found["srrl_feature"], ((h - e_t) ** 2).mean())
    assert_near(found["srrl_regression"], (((h - e_t) @ w.T) ** 2).mean())  # the bias falls out


def test_the_classifier_is_saved_but_not_trained():
    for name in ("srrl", "simkd"):
        method, head = make(name), Head(6)
        method.inspect_networks(None, (head,))
        other = make(name)
        other.load_state_dict(method.state_dict())
        assert torch.equal(other.classifier.weight, head.last_linear.weight)
        assert torch.equal(other.classifier.bias, head.last_linear.bias)
        assert not [key for key, _ in method.named_parameters() if key.startswith("classifier")]


@pytest.mark.parametrize("name", ["srrl", "simkd"])
def test_an_mlps_embedding_may_be_negative(name):
    """CNNs end in a ReLU, MLPs in a layer norm: what shall match them ends alike."""
    ends = {}
    for family, blocks in (("cnn", ()), ("mlp", ((6, 2, 2),))):
        method = make(name, of_t=shapes(STAGES_T, 6, blocks))
        layers = method.connector if name == "srrl" else method.projector
        ends[family] = type(layers[-1]).__name__
    assert ends == {"cnn": "ReLU", "mlp": "Identity"}


# --- SimKD ----------------------------------------------------------------------------------------

LARGER, SMALLER, EQUAL = ((5, 4, 4),), ((6, 2, 2),), ((6, 4, 4),)


@every_dtype
@pytest.mark.parametrize(("stages_s", "stages_t"), [(LARGER, SMALLER), (LARGER, EQUAL), (((5, 2, 2),), EQUAL)])
def test_simkd_answers_through_the_teachers_classifier(stages_s, stages_t, dtype):
    of_s, of_t = shapes(stages_s, 5), shapes(stages_t, 6)
    method, student, teacher = make("simkd", dtype, of_s, of_t), features(of_s, 1, dtype), features(of_t, 20, dtype)
    head = Head(6)
    method.inspect_networks(None, (head,))
    layers = method.projector
    expected = [(5, 3, 1), "BatchNorm2d", "ReLU", (3, 3, 3), "BatchNorm2d", "ReLU", (3, 6, 1), "BatchNorm2d", "ReLU"]
    assert described(layers) == expected
    f_s, f_t = naive_common(*arrays(student.last_map, teacher.last_map))
    projected = run_layers(f_s, layers)
    attached = method.attach(student)
    found = method.losses(attached, (teacher,), None)
    assert list(found) == ["simkd"]
    assert_near(found["simkd"], ((projected - f_t) ** 2).mean())
    weight, bias = arrays(head.last_linear.weight, head.last_linear.bias)
    assert_near(attached.logits, projected.mean(axis=(2, 3)) @ weight.T + bias)
    assert torch.equal(method.predict(attached), attached.logits)


@pytest.mark.parametrize(("factor", "width"), [(1, 6), (4, 1), (6, 1)])
def test_simkd_factor(factor, width):
    assert make("simkd", simkd_factor=factor).projector[0].out_channels == width


def test_deployed_features_stay_those_of_the_network():
    method, student = make("simkd").eval(), features(OF_S, 1)
    attached = method.attach(student)
    assert attached.last_map is student.last_map
    assert replace(attached, logits=student.logits) == student


@pytest.mark.parametrize(
    ("teacher", "student", "read", "parameters"),
    [
        ("resnet32x4", "ShuffleV2", (464, 4, 4), 240_640),
        ("vgg13", "MobileNetV2", (160, 2, 2), 763_904),
        ("resnet32x4", "ShuffleV1", (960, 4, 4), 304_128),
        ("resnet32x4", "resnet8x4", (256, 8, 8), 214_016),
        ("wrn_40_2", "wrn_16_2", (128, 8, 8), 53_760),
        ("vgg13", "vgg8", (512, 4, 4), 854_016),
    ],
)
def test_simkd_reads_the_map_before_a_layer_that_widens_it(teacher, student, read, parameters):
    """The projectors of the authors' code: 1×1, 3×3 and 1×1 convolutions with batch norm, half the teacher's width."""
    of_s, of_t = (create_model(model, 100, 32).feature_shapes() for model in (student, teacher))
    projector = create_method("simkd", Pair(of_s, (of_t,), 50)).projector
    (c_s, *_), c_t = read, of_t.last_map[0]
    half = c_t // 2
    assert c_s * half + 2 * half + 9 * half**2 + 2 * half + half * c_t + 2 * c_t == parameters
    assert sum(p.numel() for p in projector.parameters()) == parameters
    assert projector[0].in_channels == c_s
    assert read in {of_s.stages[-1], of_s.last_map}


@pytest.mark.parametrize("student", ["MobileNetV2", "ShuffleV2"])
def test_simkd_deploys_what_it_trains(student, tmp_path):
    """What goes into the layer that widens the map goes into the projector, in training, deployed, and from a file."""
    torch.manual_seed(0)
    network, teacher = create_model(student, 10, 8), create_model("resnet8x4", 10, 8).eval()
    pair = Pair(network.feature_shapes(), (teacher.feature_shapes(),), 50)
    method = create_method("simkd", pair)
    method.inspect_networks(network, (teacher,))
    x, seen = torch.randn(6, 3, 8, 8), []
    network.conv2.register_forward_pre_hook(lambda layer, given: seen.append(given[0].detach()))
    with torch.no_grad():
        taught = teacher.features(x)
    loss = method.loss(method.attach(network.features(x)), taught, None)
    f_t = nn.functional.adaptive_avg_pool2d(taught.last_map, seen[0].shape[2:])
    torch.testing.assert_close(loss, (method.projector(seen[0]) - f_t).square().mean())
    loss.backward()
    assert all(p.grad is None for p in [*network.conv2.parameters(), *network.last_linear.parameters()])
    path, measured = tmp_path / "student.pth", {"top1": 0.0, "top5": 0.0, "loss": 0.0}
    save_weights(path, network, WeightsHeader(student, DIGITS, 1, measured, TrainedMethod(method, pair, {})))
    with torch.no_grad():
        deployed = InferenceNetwork(network, method).eval()(x)
        expected = teacher.fc(method.projector(seen[-1]).mean(dim=(2, 3)))
        torch.testing.assert_close(deployed, expected)
        assert torch.equal(load_network(path, DIGITS).network(x), deployed)


def test_the_students_own_classifier_learns_nothing():
    student, teacher = create_model("resnet8", 10, 8), create_model("resnet14", 10, 8)
    method = create_method("simkd", Pair(student.feature_shapes(), (teacher.feature_shapes(),), 50))
    method.inspect_networks(student, (teacher,))
    x = torch.randn(4, 3, 8, 8)
    attached = method.attach(student.features(x))
    with torch.no_grad():
        taught = teacher.features(x)
    (0 * attached.logits.sum() + method.loss(attached, taught, None)).backward()
    assert student.fc.weight.grad is None
    assert all(p.grad is not None for key, p in student.named_parameters() if not key.startswith("fc."))
    assert all(p.grad is not None for p in method.parameters())


def test_a_weights_file_needs_no_teacher(tmp_path):
    torch.manual_seed(0)
    student, teacher = create_model("resnet8", 10, 8), create_model("resnet8x4", 10, 8)
    pair, options = Pair(student.feature_shapes(), (teacher.feature_shapes(),), 50), {"simkd_factor": 4}
    method = create_method("simkd", pair, options)
    method.inspect_networks(student, (teacher,))
    with torch.no_grad():
        method.attach(student.features(torch.randn(8, 3, 8, 8)))  # moves the running statistics
    path = tmp_path / "student.pth"
    measured = {"top1": 0.0, "top5": 0.0, "loss": 0.0}
    save_weights(path, student, WeightsHeader("resnet8", DIGITS, 1, measured, TrainedMethod(method, pair, options)))
    x = torch.randn(4, 3, 8, 8)
    expected = InferenceNetwork(student, method).eval()(x)
    assert torch.equal(load_network(path, DIGITS).network(x), expected)
    projected = method.projector(student.features(x).last_map)
    torch.testing.assert_close(expected, teacher.fc(projected.mean(dim=(2, 3))))


# --- gradients and degenerate inputs --------------------------------------------------------------


def through(name, field):
    """A method's loss as a function of one of the student's fields, in evaluation mode (batch norm stands still)."""
    method, student, teacher = make(name).eval(), features(OF_S, 1), features(OF_T, 20)
    if name in ("srrl", "simkd"):
        method.inspect_networks(None, (Head(6),))

    def loss(f):
        whole = replace(
            student, **{field: f if field in ("embedding", "last_map") else (f, *getattr(student, field)[1:])}
        )
        return sum(method.losses(whole, (teacher,), batch_at(20)).values())

    if name == "simkd":  # what `attach` made of it
        student = replace(student, last_map=normal(3, 6, 1, 1))
    start = getattr(student, field)
    return loss, (start if isinstance(start, torch.Tensor) else start[0])


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("ofd", "preacts"), ("reviewkd", "stages"), ("reviewkd", "embedding"), ("semckd", "stages"),
        ("srrl", "embedding"), ("simkd", "last_map"),
    ],
)  # fmt: skip
def test_gradient(name, field):
    loss, start = through(name, field)
    assert torch.autograd.gradcheck(loss, (start.clone().requires_grad_(),))


LOSSES = {
    "partial": (lambda s, t: partial_distance(s, t, torch.tensor([-0.1, -0.2, -0.3]).to(s)), (2, 3, 2, 2)),
    "hcl": (hierarchical_context_loss, (2, 3, 4, 4)),
    "similarities": (lambda s, t: (group_similarities(s, 4) - group_similarities(t, 4)).square().mean(), (3, 2, 2, 2)),
    "calibrated": (lambda s, t: calibrated_loss(s.square(), s[:, :, :1], t[:, :, 1:], 1.0), (3, 2, 2)),
    "regression": (lambda s, t: sum(regression_losses(s, t, lambda e: e * 2)), (3, 4)),
}
every_loss = pytest.mark.parametrize("name", LOSSES)


@every_loss
def test_gradient_of_the_bare_loss(name):
    loss, shape = LOSSES[name]
    student, teacher = normal(*shape, seed=1).requires_grad_(), normal(*shape, seed=2)
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher), (student,))


DEGENERATE = {
    "zeros": torch.zeros_like,
    "one sample of zeros": lambda x: torch.cat([torch.zeros_like(x[:1]), x[1:]]),
    "constant": torch.ones_like,
    "saturated": lambda x: 50 * x.sign(),
    "tiny": lambda x: 1e-12 * x,
}


@pytest.mark.parametrize("name", ["ofd", "reviewkd", "semckd", "srrl", "simkd"])
@pytest.mark.parametrize("kind", DEGENERATE)
def test_methods_stay_finite(name, kind):
    """Of student, of teacher, of both: all fields at once."""
    sides = [features(of, seed, torch.float32) for of, seed in ((OF_S, 1), (OF_T, 20))]
    for degraded in ((0,), (1,), (0, 1)):
        method = make(name, torch.float32)
        if name in ("srrl", "simkd"):
            method.inspect_networks(None, (Head(6),))
        given = list(sides)
        for side in degraded:
            change, f = DEGENERATE[kind], sides[side]
            stages, preacts = (tuple(map(change, maps)) for maps in (f.stages, f.preacts))
            given[side] = Features(
                change(f.logits), change(f.embedding), None, stages, preacts, last_map=change(f.last_map)
            )
        student, teacher = given
        leaves = [student.embedding, student.last_map, *student.stages, *student.preacts]
        for leaf in leaves:
            leaf.requires_grad_()
        total = sum(method.losses(method.attach(student), (teacher,), batch_at(20)).values())
        total.backward()
        assert total.isfinite()
        assert all(leaf.grad.isfinite().all() for leaf in leaves if leaf.grad is not None)
        assert all(p.grad.isfinite().all() for p in method.parameters())
        for leaf in leaves:
            leaf.requires_grad_(False).grad = None


# --- what is published and what is refused --------------------------------------------------------

PUBLISHED = {
    "ofd": (Weights(1, 0, 0.001), {}),
    "reviewkd": (Weights(1, 0, 1), {"reviewkd_warmup": 20}),
    "semckd": (Weights(1, 1, 400), {"semckd_group": 64, "semckd_temperature": 1.0}),
    "srrl": (Weights(1, 1, 1), {}),
    "simkd": (Weights(0, 0, 1), {"simkd_factor": 2}),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_values(name):
    weights, options = PUBLISHED[name]
    assert METHODS[name].weights == weights
    assert {option: parameter.default for option, parameter in options_of(name).items()} == options


REFUSALS = [
    ("reviewkd", {"reviewkd_warmup": -1}, "--reviewkd_warmup is -1; it must be 0 or more epochs"),
    ("semckd", {"semckd_group": 3}, "--semckd_group is 3; it must be 4 or more, best the batch size"),
    ("semckd", {"semckd_temperature": 0.0}, "--semckd_temperature is 0.0; it must be positive"),
    ("simkd", {"simkd_factor": 0}, "--simkd_factor is 0; it must be from 1 to 6, the teacher's width"),
    ("simkd", {"simkd_factor": 7}, "--simkd_factor is 7; it must be from 1 to 6"),
]


@pytest.mark.parametrize(("name", "options", "sentence"), REFUSALS)
def test_refusals(name, options, sentence):
    with pytest.raises(RequestError, match=sentence):
        make(name, **options)
