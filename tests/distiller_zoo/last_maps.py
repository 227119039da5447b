"""Two small networks, whose classifiers methods apply to places of the last map."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from common.errors import RequestError
from distiller_zoo import Method, Pair, create_method
from models import Features, Network, create_model
from tests.distiller_zoo.cases import batch_of
from tests.numerics import arrays, assert_near, normal

# Batch, channels, height, width: cells that divide the map, that overlap, that are smaller than a pixel.
SHAPES = [(2, 3, 4, 4), (3, 4, 8, 8), (2, 3, 7, 5), (1, 2, 1, 1), (2, 5, 2, 6)]
# Maps of student and teacher, and classes.
CASES = [(shape, (shape[0], 6, 4, 4), classes) for shape, classes in zip(SHAPES, (3, 10, 4, 2, 5), strict=True)]
every_case = pytest.mark.parametrize(("shape_s", "shape_t", "classes"), CASES)
LABELS = torch.tensor([3, 0, 7])
FAMILIES = [("mixer_pico", "resnet8"), ("resnet8", "mixer_pico"), ("wrn_16_1", "resnet8")]  # student, teacher


def example(shape_s, shape_t, classes, dtype=torch.float64) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Maps of student and teacher, weight and bias of both classifiers, labels."""
    maps = [3 * normal(*shape, seed=1 + i, dtype=dtype) for i, shape in enumerate((shape_s, shape_t))]
    classifiers = []
    for seed, f in enumerate(maps):
        classifiers += [normal(classes, f.shape[1], seed=10 + seed, dtype=dtype)]
        classifiers += [normal(classes, seed=20 + seed, dtype=dtype)]
    return maps, classifiers, torch.randint(classes, (len(maps[0]),), generator=torch.Generator().manual_seed(3))


def networks(student: str = "resnet8", teacher: str = "wrn_16_1") -> tuple[Network, Network]:
    """Student and teacher for ten classes, with random classifiers."""
    torch.manual_seed(0)
    made = create_model(student, 10, 8), create_model(teacher, 10, 8)
    for network in made:
        nn.init.normal_(network.last_linear.weight)
        nn.init.normal_(network.last_linear.bias)
    return made


def method_for(name: str, student: Network, teacher: Network, **options) -> Method:
    """A method that has inspected the networks."""
    method = create_method(name, Pair(student.feature_shapes(), (teacher.feature_shapes(),), 20), options)
    method.inspect_networks(student, (teacher,))
    return method


def random_maps() -> list[Tensor]:
    """Last maps of student and teacher of three images, as wide as those of `networks()`."""
    return [normal(3, 64, 2, 2, seed=seed, dtype=torch.float32) for seed in (0, 1)]


def classifiers_of(student: Network, teacher: Network) -> list[np.ndarray]:
    """Weight and bias of the student, weight and bias of the teacher."""
    return arrays(*(part for network in (student, teacher) for part in network.last_linear.parameters()))


def loss_of(method: Method, maps: list[Tensor], epoch: int = 100, targets: Tensor | None = None) -> Tensor:
    """The method's one loss of the last maps of student and teacher; the logits of both are NaN."""
    unread = torch.full((len(maps[0]), 10), torch.nan)
    student, teacher = (Features(unread, last_map=f) for f in maps)
    losses = method.own_losses(student, (teacher,), batch_of(labels=LABELS, targets=targets, epoch=epoch))
    assert list(losses) == [method.name]
    return losses[method.name]


def assert_it_trains_the_students_classifier(name: str, expected, reads_bias: bool) -> None:
    """The classifier is read where it is used, and gets a gradient; the teacher's is a copy.

    Args:
        expected: the loss from maps and classifiers in NumPy.
    """
    student, teacher = networks()
    method, maps = method_for(name, student, teacher), random_maps()
    assert_near(loss_of(method, maps), expected(arrays(*maps), classifiers_of(student, teacher)))
    loss_of(method, maps).backward()
    assert student.last_linear.weight.grad.abs().sum() > 0
    assert teacher.last_linear.weight.grad is None
    assert (student.last_linear.bias.grad is not None) == reads_bias
    with torch.no_grad():
        student.last_linear.weight.mul_(-1)
    assert_near(loss_of(method, maps), expected(arrays(*maps), classifiers_of(student, teacher)))


def assert_the_networks_are_no_part_of_the_method(name: str) -> None:
    """Nothing of them is trained or saved with it."""
    student, teacher = networks()
    method = method_for(name, student, teacher)
    assert list(method.parameters()) == []
    assert method.state_dict() == {}
    assert {tuple(buffer.shape) for buffer in method.buffers()} <= {(10, 64), (10,)}
    create_method(name, Pair(student.feature_shapes(), (teacher.feature_shapes(),), 20)).load_state_dict({})


def assert_other_families_are_taken(name: str, expected) -> None:
    """CNN and MLP teach each other."""
    images = normal(3, 3, 8, 8, dtype=torch.float32)
    for pair in FAMILIES:
        student, teacher = networks(*pair)
        method = method_for(name, student, teacher)
        with torch.no_grad():
            maps = [network.eval().features(images).last_map for network in (student, teacher)]
        assert_near(loss_of(method, maps), expected(arrays(*maps), classifiers_of(student, teacher)))


def assert_a_classifier_that_reads_something_else_is_refused(name: str) -> None:
    """On either side, before any data is loaded, naming method and network."""
    for side in (0, 1):
        pair = networks()
        of = Pair(pair[0].feature_shapes(), (pair[1].feature_shapes(),), 20)
        pair[side].fc = nn.Linear(48, 10)
        with pytest.raises(RequestError, match=name) as refusal:
            create_method(name, of).inspect_networks(pair[0], (pair[1],))
        assert type(pair[side]).__name__ in str(refusal.value)
