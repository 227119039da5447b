"""Methods on what the classifier says at places of the last map (sdd, sdd_dkd, catkd), against plain loops."""

import math

import numpy as np
import pytest
import torch

from common.errors import RequestError
from dataset import Batch
from distiller_zoo import METHODS, Pair, Weights, create_method, options_of
from distiller_zoo.catkd import class_attention_loss, class_maps
from distiller_zoo.dkd import nckd_of_each, tckd_of_each
from distiller_zoo.kd import kd_loss
from distiller_zoo.predictions import pool_to_grid
from distiller_zoo.sdd import region_logits, region_weights, sdd_loss
from distiller_zoo.sdd_dkd import of_each_region
from models import Features, create_model
from tests.numerics import arrays, every_dtype

# Batch, channels, height, width: cells that divide the map, that overlap, that are smaller than a pixel.
MAPS = [(2, 3, 4, 4), (3, 4, 8, 8), (2, 3, 7, 5), (1, 2, 1, 1), (2, 5, 2, 6)]
NAMES = ["sdd", "sdd_dkd", "catkd"]


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def assert_near(found, expected):
    tolerance = 1e-8 if found.dtype == torch.float64 else 2e-4
    np.testing.assert_allclose(found.detach().double().numpy(), expected, rtol=tolerance, atol=tolerance / 10)


# --- the formulas in loops ------------------------------------------------------------------------


def naive_cells(sample, size):
    """The mean over each cell of a C×H×W map, row by row: C numbers each."""
    _, high, wide = sample.shape
    for i in range(size):
        rows = slice(math.floor(i * high / size), math.ceil((i + 1) * high / size))
        for j in range(size):
            columns = slice(math.floor(j * wide / size), math.ceil((j + 1) * wide / size))
            yield sample[:, rows, columns].mean(axis=(1, 2))


def softmax(row):
    powers = np.exp(row - row.max())
    return powers / powers.sum()


def naive_kl(z_s, z_t, temperature):
    p_s, p_t = softmax(z_s / temperature), softmax(z_t / temperature)
    return temperature**2 * sum(t * math.log(t / s) for t, s in zip(p_t, p_s, strict=True))


def naive_dkd(z_s, z_t, label, alpha, beta, temperature):
    p_s, p_t = softmax(z_s / temperature), softmax(z_t / temperature)
    own = p_t[label] * math.log(p_t[label] / p_s[label])
    own += (1 - p_t[label]) * math.log((1 - p_t[label]) / (1 - p_s[label]))
    return alpha * temperature**2 * own + beta * naive_kl(np.delete(z_s, label), np.delete(z_t, label), temperature)


def naive_sdd(maps_s, maps_t, heads, labels, scales, complementary, loss):
    """Mean over samples and regions; `heads` are weight and bias of student and teacher."""
    w_s, b_s, w_t, b_t = heads
    total = []
    for f_s, f_t, label in zip(maps_s, maps_t, labels, strict=True):
        whole_right = (w_t @ f_t.mean(axis=(1, 2)) + b_t).argmax() == label
        for scale in scales:
            for cell_s, cell_t in zip(naive_cells(f_s, scale), naive_cells(f_t, scale), strict=True):
                z_s, z_t = w_s @ cell_s + b_s, w_t @ cell_t + b_t
                weight = 1 if (z_t.argmax() == label) == whole_right else complementary
                total.append(weight * loss(z_s, z_t, label))
    return sum(total) / len(total)


def naive_catkd(maps_s, maps_t, w_s, w_t, size, normalise):
    total = []
    for f_s, f_t in zip(maps_s, maps_t, strict=True):
        for row_s, row_t in zip(w_s, w_t, strict=True):
            cam_s, cam_t = (
                np.array([row @ cell for cell in naive_cells(f, size)]) for row, f in ((row_s, f_s), (row_t, f_t))
            )
            if normalise:
                cam_s, cam_t = cam_s / math.sqrt((cam_s**2).sum()), cam_t / math.sqrt((cam_t**2).sum())
            total += list((cam_t - cam_s) ** 2)
    return sum(total) / len(total)


# --- values ---------------------------------------------------------------------------------------


def example(shape_s, shape_t, classes, dtype, scale=3.0):
    """Maps of both, weight and bias of both classifiers, labels."""
    maps = scale * normal(*shape_s, seed=1, dtype=dtype), scale * normal(*shape_t, seed=2, dtype=dtype)
    heads = []
    for seed, shape in enumerate((shape_s, shape_t)):
        heads += [normal(classes, shape[1], seed=10 + seed, dtype=dtype), normal(classes, seed=20 + seed, dtype=dtype)]
    labels = torch.randint(classes, (len(maps[0]),), generator=torch.Generator().manual_seed(3))
    return maps, heads, labels


PAIRS = [(shape, (shape[0], 6, 4, 4), classes) for shape, classes in zip(MAPS, (3, 10, 4, 2, 5), strict=True)]


@every_dtype
@pytest.mark.parametrize(("shape_s", "shape_t", "classes"), PAIRS)
@pytest.mark.parametrize("scales", [(1,), (1, 2), (1, 2, 4)])
@pytest.mark.parametrize("complementary", [1.0, 2.0])
def test_sdd(shape_s, shape_t, classes, scales, complementary, dtype):
    maps, heads, labels = example(shape_s, shape_t, classes, dtype)
    z_s, z_t = (region_logits(f, *heads[2 * i : 2 * i + 2], scales) for i, f in enumerate(maps))
    weights = region_weights(z_t, labels, complementary)
    read = (*arrays(*maps), arrays(*heads), labels.tolist(), scales, complementary)
    assert_near(sdd_loss(z_s, z_t, weights, 4.0), naive_sdd(*read, lambda s, t, y: naive_kl(s, t, 4.0)))
    each = of_each_region(tckd_of_each, z_s, z_t, labels, 4.0)
    each = each + 8 * of_each_region(nckd_of_each, z_s, z_t, labels, 4.0)
    expected = naive_sdd(*read, lambda s, t, y: naive_dkd(s, t, y, 1, 8, 4.0))
    assert_near((weights * each).mean(), expected)


@every_dtype
@pytest.mark.parametrize(("shape_s", "shape_t", "classes"), PAIRS)
@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("normalise", [False, True])
def test_catkd(shape_s, shape_t, classes, size, normalise, dtype):
    maps, heads, _ = example(shape_s, shape_t, classes, dtype)
    found = class_attention_loss(class_maps(maps[0], heads[0], size), class_maps(maps[1], heads[2], size), normalise)
    assert_near(found, naive_catkd(*arrays(*maps, heads[0], heads[2]), size, normalise))


@pytest.mark.parametrize("shape", MAPS)
@pytest.mark.parametrize("size", [1, 2, 4])
def test_cells(shape, size):
    maps = normal(*shape)
    expected = np.array([list(naive_cells(sample, size)) for sample in maps.numpy()])
    assert_near(pool_to_grid(maps, size).flatten(2).transpose(1, 2), expected)


# --- gradients ------------------------------------------------------------------------------------


def test_gradients():
    maps, (w_s, b_s, w_t, b_t), labels = example((2, 3, 4, 4), (2, 2, 2, 2), 4, torch.float64)
    z_t = region_logits(maps[1], w_t, b_t, (1, 2))
    weights = region_weights(z_t, labels, 2.0)

    def sdd(f, weight, bias):
        return sdd_loss(region_logits(f, weight, bias, (1, 2)), z_t, weights, 4.0)

    def sdd_dkd(f, weight, bias):
        z_s = region_logits(f, weight, bias, (1, 2))
        each = of_each_region(tckd_of_each, z_s, z_t, labels, 4.0) + of_each_region(nckd_of_each, z_s, z_t, labels, 4.0)
        return (weights * each).mean()

    student = tuple(tensor.requires_grad_() for tensor in (maps[0], w_s, b_s))
    assert torch.autograd.gradcheck(sdd, student)
    assert torch.autograd.gradcheck(sdd_dkd, student)
    for normalise in (False, True):
        cam_t = class_maps(maps[1], w_t, 2)
        assert torch.autograd.gradcheck(
            lambda f, weight: class_attention_loss(class_maps(f, weight, 2), cam_t, normalise),  # noqa: B023
            student[:2],
        )


# --- known values ---------------------------------------------------------------------------------


def test_regions_of_the_whole_alone_are_kd():
    maps, (w_s, b_s, w_t, b_t), labels = example((3, 4, 8, 8), (3, 5, 4, 4), 6, torch.float64)
    z_s, z_t = region_logits(maps[0], w_s, b_s, (1,)), region_logits(maps[1], w_t, b_t, (1,))
    found = sdd_loss(z_s, z_t, region_weights(z_t, labels, 2.0), 4.0)
    assert_near(found, kd_loss(z_s[0], z_t[0], 4.0).item())


def test_complementary_regions():
    """Two samples: the teacher is right on the first as a whole, wrong on the second; two further regions each."""
    right, wrong = [0.0, 5.0], [5.0, 0.0]
    logits = torch.tensor([[right, wrong], [right, wrong], [wrong, right]])
    assert region_weights(logits, torch.tensor([1, 1]), 2.0).tolist() == [[1, 1], [1, 1], [2, 2]]
    assert region_weights(logits, torch.tensor([1, 0]), 3.0).tolist() == [[1, 1], [1, 1], [3, 3]]
    assert region_weights(logits, torch.tensor([0, 0]), 2.0).tolist() == [[1, 1], [1, 1], [2, 2]]


def test_order_of_the_regions():
    maps = torch.arange(16.0).view(1, 1, 4, 4)
    found = region_logits(maps, torch.ones(1, 1), torch.tensor([100.0]), (1, 2))
    assert found.flatten().tolist() == [107.5, 102.5, 104.5, 110.5, 112.5]


def test_unit_length_forgets_the_scale():
    f, weight = normal(2, 3, 4, 4), normal(5, 3, seed=1)
    maps = class_maps(f, weight, 2)
    assert class_attention_loss(7 * maps, maps, True) < 1e-20
    assert_near(class_attention_loss(3 * maps, maps, False), (4 * maps.square()).mean().item())
    assert class_attention_loss(maps, maps, False) == 0


def test_a_map_of_one_cell_is_the_logits_but_for_the_bias():
    network = create_model("resnet8", 10, 8).eval()
    with torch.no_grad():
        features = network.features(torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
        classifier = network.last_linear
        found = class_maps(features.last_map, classifier.weight, 1).squeeze(2) + classifier.bias
    torch.testing.assert_close(found, features.logits)


@pytest.mark.parametrize("kind", ["zeros", "large", "tiny", "one place"])
def test_stays_finite_for_odd_maps(kind):
    odd = {
        "zeros": torch.zeros(2, 3, 4, 4),
        "large": 50 * normal(2, 3, 4, 4, dtype=torch.float32).sign(),
        "tiny": 1e-12 * normal(2, 3, 4, 4, dtype=torch.float32),
        "one place": normal(2, 3, 1, 1, dtype=torch.float32),
    }[kind]
    ordinary = normal(2, 3, 4, 4, seed=1, dtype=torch.float32)
    weight, bias, labels = normal(5, 3, dtype=torch.float32), normal(5, dtype=torch.float32), torch.tensor([1, 4])
    for f_s, f_t in ((odd, ordinary), (ordinary, odd), (odd, odd)):
        f_s = f_s.clone().requires_grad_()
        z_s, z_t = region_logits(f_s, weight, bias, (1, 2, 4)), region_logits(f_t, weight, bias, (1, 2, 4))
        weights = region_weights(z_t, labels, 2.0)
        value = (
            sdd_loss(z_s, z_t, weights, 4.0) + (weights * of_each_region(nckd_of_each, z_s, z_t, labels, 4.0)).mean()
        )
        for normalise in (False, True):
            cams = class_maps(f_s, weight, 2), class_maps(f_t, weight, 2)
            value = value + class_attention_loss(*cams, normalise)
        value.backward()
        assert value.isfinite()
        assert f_s.grad.isfinite().all()


# --- the methods ----------------------------------------------------------------------------------

PUBLISHED = {
    "sdd": (Weights(0.1, 0, 0.9), {"sdd_scales": "1,2", "sdd_complementary": 2.0, "sdd_T": 4.0}),
    "sdd_dkd": (
        Weights(1, 0, 1),
        {"sdd_scales": "1,2", "sdd_complementary": 2.0}
        | {"dkd_alpha": 1.0, "dkd_beta": 8.0, "dkd_T": 4.0, "dkd_warmup": 20},
    ),
    "catkd": (Weights(1, 0, 15), {"catkd_size": 2, "catkd_normalise": False}),
}


@pytest.mark.parametrize("name", NAMES)
def test_published_weights_and_defaults(name):
    weights, options = PUBLISHED[name]
    assert METHODS[name].weights == weights
    assert {option: parameter.default for option, parameter in options_of(name).items()} == options
    assert METHODS[name].reads_of_student() == METHODS[name].reads_of_teacher() == ("last_map",)


def networks(teacher="wrn_16_1", student="resnet8"):
    torch.manual_seed(0)
    made = [create_model(model, 10, 8) for model in (student, teacher)]
    for network in made:
        torch.nn.init.normal_(network.last_linear.weight)
        torch.nn.init.normal_(network.last_linear.bias)
    return made


def met(name, student, teacher, **options):
    pair = Pair(student.feature_shapes(), (teacher.feature_shapes(),), 20)
    method = create_method(name, pair, options)
    method.inspect_networks(student, (teacher,))
    return method


LABELS = torch.tensor([3, 0, 7])


def loss_of(method, maps, epoch=100, targets=None):
    batch = Batch(torch.zeros(3, 3, 1, 1), LABELS, torch.arange(3), targets, epoch, 0, 1)
    unread = torch.full((3, 10), math.nan)
    student, teacher = (Features(unread, last_map=f) for f in maps)
    return method.own_losses(student, (teacher,), batch)[method.name]


def heads_of(student, teacher):
    return arrays(*(part for network in (student, teacher) for part in network.last_linear.parameters()))


def z_scored(row):
    return (row - row.mean()) / (row.std(ddof=1) + 1e-7)


def naive(name, maps, heads, scales=(1, 2), labels=LABELS, seen=lambda logits: logits):
    """`seen` is what the logits of a region go through before they are compared."""
    read = (*arrays(*maps), heads, labels.tolist(), scales, 2.0)
    if name == "catkd":
        return naive_catkd(*arrays(*maps), heads[0], heads[2], 2, False)
    if name == "sdd":
        return naive_sdd(*read, lambda s, t, y: naive_kl(seen(s), seen(t), 4.0))
    return naive_sdd(*read, lambda s, t, y: naive_dkd(seen(s), seen(t), y, 1, 8, 4.0))


@pytest.mark.parametrize("name", NAMES)
def test_loss_of_the_method(name):
    student, teacher = networks()
    method = met(name, student, teacher)
    maps = normal(3, 64, 2, 2, dtype=torch.float32), normal(3, 64, 2, 2, seed=1, dtype=torch.float32)
    assert_near(loss_of(method, maps), naive(name, maps, heads_of(student, teacher)))
    if name != "catkd":
        other = met(name, student, teacher, sdd_scales="1,2,4")
        assert_near(loss_of(other, maps), naive(name, maps, heads_of(student, teacher), (1, 2, 4)))


@pytest.mark.parametrize("name", ["sdd", "sdd_dkd"])
def test_logits_of_each_region_are_standardised(name):
    student, teacher = networks()
    method = met(name, student, teacher)
    method.logit_standardization = True
    maps = normal(3, 64, 2, 2, dtype=torch.float32), normal(3, 64, 2, 2, seed=1, dtype=torch.float32)
    expected = naive(name, maps, heads_of(student, teacher), seen=z_scored)
    assert_near(loss_of(method, maps), expected)
    assert abs(expected / naive(name, maps, heads_of(student, teacher)) - 1) > 0.1


@pytest.mark.parametrize("name", ["sdd", "sdd_dkd"])
def test_the_label_of_a_mixed_image_is_that_of_its_larger_part(name):
    student, teacher = networks()
    method = met(name, student, teacher)
    maps = normal(3, 64, 2, 2, dtype=torch.float32), normal(3, 64, 2, 2, seed=1, dtype=torch.float32)
    weight, bias = heads_of(student, teacher)[2:]
    favourites = torch.tensor([(weight @ f.mean(axis=(1, 2)) + bias).argmax() for f in arrays(maps[1])[0]])
    assert (favourites != LABELS).sum() == 2  # where the teacher is right about the larger part alone
    targets = 0.4 * torch.eye(10)[LABELS] + 0.6 * torch.eye(10)[favourites]
    expected = naive(name, maps, heads_of(student, teacher), labels=favourites)
    assert_near(loss_of(method, maps, targets=targets), expected)
    assert abs(expected / naive(name, maps, heads_of(student, teacher)) - 1) > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_it_follows_the_students_classifier_and_trains_it(name):
    student, teacher = networks()
    method = met(name, student, teacher)
    maps = normal(3, 64, 2, 2, dtype=torch.float32), normal(3, 64, 2, 2, seed=1, dtype=torch.float32)
    loss_of(method, maps).backward()
    assert student.last_linear.weight.grad.abs().sum() > 0
    assert teacher.last_linear.weight.grad is None
    assert (student.last_linear.bias.grad is None) == (name == "catkd")  # class maps have no bias
    with torch.no_grad():
        student.last_linear.weight.mul_(-1)
    assert_near(loss_of(method, maps), naive(name, maps, heads_of(student, teacher)))


@pytest.mark.parametrize("name", NAMES)
def test_the_networks_are_no_part_of_the_method(name):
    student, teacher = networks()
    method = met(name, student, teacher)
    assert list(method.parameters()) == []
    assert method.state_dict() == {}
    assert {tuple(buffer.shape) for buffer in method.buffers()} <= {(10, 64), (10,)}
    create_method(name, Pair(student.feature_shapes(), (teacher.feature_shapes(),), 20)).load_state_dict({})


def test_warm_up_of_sdd_dkd():
    student, teacher = networks()
    method = met("sdd_dkd", student, teacher)
    maps = normal(3, 64, 2, 2, dtype=torch.float32), normal(3, 64, 2, 2, seed=1, dtype=torch.float32)
    assert_near(loss_of(method, maps, epoch=5), loss_of(method, maps).item() / 4)
    assert loss_of(method, maps, epoch=20) == loss_of(method, maps)
    assert loss_of(met("sdd_dkd", student, teacher, dkd_warmup=0), maps, epoch=1) == loss_of(method, maps)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("pair", [("mixer_pico", "resnet8"), ("resnet8", "mixer_pico"), ("wrn_16_1", "ShuffleV1")])
def test_across_families(name, pair):
    student, teacher = networks(*pair)
    method = met(name, student, teacher)
    images = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    maps = student.eval().features(images).last_map, teacher.eval().features(images).last_map.detach()
    assert_near(loss_of(method, maps), naive(name, maps, heads_of(student, teacher)))


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("side", ["student", "teacher"])
def test_a_classifier_that_reads_something_else_is_refused(name, side):
    student, teacher = networks()
    pair = Pair(student.feature_shapes(), (teacher.feature_shapes(),), 20)
    odd = student if side == "student" else teacher
    odd.fc = torch.nn.Linear(48, 10)
    sentence = (
        f"^{name} applies the classifier to the last map, and that of {type(odd).__name__} has 64 channels where its "
        f"classifier reads 48; choose another model$"
    )
    with pytest.raises(RequestError, match=sentence):
        create_method(name, pair).inspect_networks(student, (teacher,))


REFUSALS = [
    ("sdd", "sdd_T", 0, "it must be positive"),
    ("sdd", "sdd_complementary", -1, "it must be 0 or more"),
    ("sdd_dkd", "sdd_complementary", -1, "it must be 0 or more"),
    ("sdd_dkd", "dkd_T", 0, "it must be positive"),
    ("sdd_dkd", "dkd_alpha", -1, "it must be 0 or more"),
    ("sdd_dkd", "dkd_beta", -1, "it must be 0 or more"),
    ("sdd_dkd", "dkd_warmup", -1, "it must be 0 or more"),
    ("catkd", "catkd_size", 0, "it must be positive"),
]


@pytest.mark.parametrize(("name", "option", "value", "said"), REFUSALS)
def test_refused_options(name, option, value, said):
    student, teacher = networks()
    with pytest.raises(RequestError, match=f"^--{option} is {value}; {said}$"):
        create_method(name, Pair(student.feature_shapes(), (teacher.feature_shapes(),), 20), {option: value})
