"""SimKD: the projector by plain loops, the teacher's classifier as the student's, its weights files and options."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from dataset import DATASETS
from distiller_zoo import Method, Pair, Weights, create_method
from engine.checkpoints.inference_network import InferenceNetwork
from engine.checkpoints.weights import TrainedMethod, WeightsHeader, load_network, save_weights
from models import Network, create_model
from tests import naive
from tests.distiller_zoo.cases import (
    CNN,
    MLP,
    WIDE,
    Head,
    assert_published,
    assert_refused,
    batch_of,
    features,
    make,
    shapes,
)
from tests.distiller_zoo.odd_inputs import assert_method_stays_finite
from tests.numerics import arrays, assert_gradient, assert_near, every_dtype, normal

LARGER, SMALLER, EQUAL = shapes((5, 4, 4)), shapes((6, 2, 2)), shapes((6, 4, 4))


@every_dtype
@pytest.mark.parametrize(("of_s", "of_t"), [(LARGER, SMALLER), (LARGER, EQUAL), (shapes((5, 2, 2)), EQUAL)])
def test_it_predicts_through_the_teachers_classifier(of_s, of_t, dtype):
    method = make("simkd", of_s, of_t, dtype)
    student, teacher, head = features(of_s, 1, dtype=dtype), features(of_t, 2, dtype=dtype), Head(6)
    method.inspect_networks(None, (head,))
    between = ["BatchNorm2d", "ReLU"]
    assert naive.described(method.projector) == [(5, 3, 1), *between, (3, 3, 3), *between, (3, 6, 1), *between]
    f_s, f_t = naive.common_size(*arrays(student.last_map, teacher.last_map))
    projected = naive.run_layers(method.projector, f_s)
    attached = method.attach(student)
    found = method.losses(attached, (teacher,), batch_of())
    assert list(found) == ["simkd"]
    assert_near(found["simkd"], ((projected - f_t) ** 2).mean())
    assert_near(attached.logits, naive.linear(head.last_linear, projected.mean(axis=(2, 3))))
    assert torch.equal(method.predict(attached), attached.logits)


def test_gradient_through_the_projector():
    """In evaluation mode, so that batch norm is a fixed scale; the gradient of logits and projected map."""
    method, student = make("simkd", LARGER, EQUAL).eval(), features(LARGER, 1)
    method.inspect_networks(None, (Head(6),))
    target = normal(3, 6, 4, 4, seed=5)

    def loss(f):
        projected = method.projector(f)
        logits = method.attach(replace(student, last_map=f)).logits
        return (projected - target).square().mean() + logits.square().mean()

    assert_gradient(loss, student.last_map)


@pytest.mark.parametrize(("factor", "width"), [(1, 6), (4, 1), (6, 1)])
def test_factor(factor, width):
    assert make("simkd", teacher=EQUAL, simkd_factor=factor).projector[0].out_channels == width


def test_deployed_features_stay_those_of_the_network():
    method, student = make("simkd").eval(), features(CNN, 1)
    attached = method.attach(student)
    assert attached.last_map is student.last_map
    assert replace(attached, logits=student.logits) == student


def test_an_mlps_map_may_be_negative():
    assert isinstance(make("simkd", CNN, MLP).projector[-1], nn.Identity)


def test_odd_features():
    assert_method_stays_finite(lambda: make("simkd"), CNN, WIDE)


# --- networks -------------------------------------------------------------------------------------


def method_for(student: Network, teacher: Network, **options: int) -> tuple[Method, Pair]:
    pair = Pair(student.feature_shapes(), (teacher.feature_shapes(),), 50)
    method = create_method("simkd", pair, options)
    method.inspect_networks(student, (teacher,))
    return method, pair


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
def test_reads_the_map_before_a_layer_that_widens_it(teacher, student, read, parameters):
    """The projectors of the authors' code: 1×1, 3×3 and 1×1 convolutions with batch norm, half the teacher's width."""
    of_s, of_t = (create_model(model, 100, 32).feature_shapes() for model in (student, teacher))
    projector = make("simkd", of_s, of_t).projector
    (c_s, *_), c_t = read, of_t.last_map[0]
    half = c_t // 2
    assert c_s * half + 2 * half + 9 * half**2 + 2 * half + half * c_t + 2 * c_t == parameters
    assert sum(p.numel() for p in projector.parameters()) == parameters
    assert projector[0].in_channels == c_s
    assert read in {of_s.stages[-1], of_s.last_map}


def save(path, arch, network, method, pair, options):
    measured = {"top1": 0.0, "top5": 0.0, "loss": 0.0}
    trained = TrainedMethod(method, pair, options)
    save_weights(path, network, WeightsHeader(arch, DATASETS["digits"], 1, measured, trained))


@pytest.mark.parametrize("student", ["MobileNetV2", "ShuffleV2"])
def test_deploys_what_it_trains(student, tmp_path):
    """What goes into the layer that widens the map goes into the projector, in training, deployed, and from a file."""
    torch.manual_seed(0)
    network, teacher = create_model(student, 10, 8), create_model("resnet8x4", 10, 8).eval()
    method, pair = method_for(network, teacher)
    x, seen = torch.randn(6, 3, 8, 8), []
    network.conv2.register_forward_pre_hook(lambda layer, given: seen.append(given[0].detach()))
    with torch.no_grad():
        taught = teacher.features(x)
    loss = method.loss(method.attach(network.features(x)), taught, batch_of(6))
    f_t = nn.functional.adaptive_avg_pool2d(taught.last_map, seen[0].shape[2:])
    torch.testing.assert_close(loss, (method.projector(seen[0]) - f_t).square().mean())
    loss.backward()
    assert all(p.grad is None for p in [*network.conv2.parameters(), *network.last_linear.parameters()])
    path = tmp_path / "student.pth"
    save(path, student, network, method, pair, {})
    with torch.no_grad():
        deployed = InferenceNetwork(network, method).eval()(x)
        expected = teacher.fc(method.projector(seen[-1]).mean(dim=(2, 3)))
        torch.testing.assert_close(deployed, expected)
        assert torch.equal(load_network(path, DATASETS["digits"]).network(x), deployed)


def test_the_students_own_classifier_learns_nothing():
    student, teacher = create_model("resnet8", 10, 8), create_model("resnet14", 10, 8)
    method, _ = method_for(student, teacher)
    x = torch.randn(4, 3, 8, 8)
    attached = method.attach(student.features(x))
    with torch.no_grad():
        taught = teacher.features(x)
    (0 * attached.logits.sum() + method.loss(attached, taught, batch_of(4))).backward()
    assert student.fc.weight.grad is None
    assert all(p.grad is not None for key, p in student.named_parameters() if not key.startswith("fc."))
    assert all(p.grad is not None for p in method.parameters())


def test_a_weights_file_needs_no_teacher(tmp_path):
    torch.manual_seed(0)
    student, teacher = create_model("resnet8", 10, 8), create_model("resnet8x4", 10, 8)
    method, pair = method_for(student, teacher, simkd_factor=4)
    with torch.no_grad():
        method.attach(student.features(torch.randn(8, 3, 8, 8)))  # moves the running statistics
    path = tmp_path / "student.pth"
    save(path, "resnet8", student, method, pair, {"simkd_factor": 4})
    x = torch.randn(4, 3, 8, 8)
    expected = InferenceNetwork(student, method).eval()(x)
    assert torch.equal(load_network(path, DATASETS["digits"]).network(x), expected)
    projected = method.projector(student.features(x).last_map)
    torch.testing.assert_close(expected, teacher.fc(projected.mean(dim=(2, 3))))


def test_published():
    assert_published("simkd", Weights(0, 0, 1), {"simkd_factor": 2})


def test_refused_options():
    for factor in (0, 8):  # the teacher is 7 wide
        assert_refused("simkd", CNN, WIDE, simkd_factor=factor)
