"""Every method on each of RepDistiller's 13 pairs at CIFAR-100's sizes: it takes a real step, or it says why it cannot.

The step is that of a run: the student that a run would start from, the published learning rate and weight of the
method's own losses, 50,000 labels and memories of their size, forward, losses, backward, optimizer. Left out are
cross-entropy, weight decay and KL (but for kd, which is KL), so that what changes the student is what the method
teaches it. Small are the batch, 4 images of noise, and the teacher's share: its features of them are computed once.
"""

import math
from functools import cache
from pathlib import Path

import pytest
import torch

from common.errors import RequestError
from dataset import DATASETS, Batch
from distiller_zoo import METHODS, Weights, method_class, options_of
from engine.device.compute import Compute
from engine.protocol.plan import RunPlan, TeacherFile
from engine.protocol.recipes import resolve_recipe
from engine.training.running_means import RunningMeans
from engine.training.student_run import StudentRun
from models import MODELS, Features, Network, create_model

ENTRY = DATASETS["cifar100"]
COMPUTE = Compute(torch.device("cpu"), "fp32")
BATCH_SIZE = 4
STEPS_PER_EPOCH = 782

# The columns of RepDistiller's two tables. Pairs of one teacher are neighbours: a process computes it once.
ONE_FAMILY = [
    ("wrn_40_2", "wrn_16_2"),
    ("wrn_40_2", "wrn_40_1"),
    ("resnet56", "resnet20"),
    ("resnet110", "resnet20"),
    ("resnet110", "resnet32"),
    ("resnet32x4", "resnet8x4"),
    ("vgg13", "vgg8"),
]
TWO_FAMILIES = [
    ("vgg13", "MobileNetV2"),
    ("ResNet50", "MobileNetV2"),
    ("ResNet50", "vgg8"),
    ("resnet32x4", "ShuffleV1"),
    ("resnet32x4", "ShuffleV2"),
    ("wrn_40_2", "ShuffleV1"),
]
PAIRS = sorted(ONE_FAMILY + TWO_FAMILIES, key=lambda pair: pair[0])
UNEQUAL_CHANNELS = {("wrn_40_2", "wrn_40_1"), *TWO_FAMILIES}
# Which pairs a method refuses, and a piece of the sentence that says why; all others it takes.
REFUSED = {
    "std": (set(PAIRS), "std distils into MLPs"),
    "deit": (set(PAIRS), "deit trains the head of a distillation token"),  # no CNN has one
    "fsp": (UNEQUAL_CHANNELS, "must be equally wide"),  # N/A in the published table
    "kdsvd": (UNEQUAL_CHANNELS, "must be equally wide"),
}
# Methods whose main stage is cross-entropy alone, as published: they teach before it, or not at all.
CROSS_ENTROPY_ALONE = {"none", "abound", "fsp"}
# 850 million parameters: a projection to each stage of the teacher, by 3×3 convolutions of up to 4096 channels.
HUGE = {("semckd", "ResNet50")}
CELLS = [
    pytest.param(name, *pair, marks=[pytest.mark.slow] if (name, pair[0]) in HUGE else [])
    for pair in PAIRS
    for name in METHODS
]


@cache
def teacher_of(model: str) -> tuple[Network, Features]:
    """An untrained network and its features of two views of the batch's images.

    In training mode: its batch norm has no statistics yet, and without any the maps of 110 layers overflow.
    """
    torch.manual_seed(0)
    network = create_model(model, ENTRY.num_classes, ENTRY.image_size)
    with torch.no_grad():
        features = network.features(images())
    return network.eval(), features


@cache
def images() -> torch.Tensor:
    return torch.randn(2 * BATCH_SIZE, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@cache
def train_labels() -> torch.Tensor:
    return torch.arange(ENTRY.train_size) % ENTRY.num_classes


def batch_of(views: int, epoch: int) -> Batch:
    index = torch.tensor([7, 49_999, 107, 20_031]).repeat(views)  # two of one class
    return Batch(images()[: len(index)], train_labels()[index], index, None, epoch, 0, seed=1)


def member_of(name: str, teacher: str, student: str, folder: Path, **given: float) -> StudentRun:
    """The run; `given` are values of its recipe."""
    options = {option: parameter.default for option, parameter in options_of(name).items()}
    method = method_class(name)
    count = method.min_teachers
    files = (TeacherFile(teacher, Path(f"{teacher}.pth"), "0" * 64),) * count
    weights = method.weights
    if name not in CROSS_ENTROPY_ALONE:
        weights = Weights(0, 0 if weights.beta else weights.alpha, weights.beta)
    recipe = resolve_recipe("repdistiller", MODELS[student], {"weight_decay": 0.0, **given})
    plan = RunPlan("student", ENTRY.name, student, name, options, weights, 4.0, files, recipe, "fp32", 1, 1)
    return StudentRun(plan, ENTRY, (teacher_of(teacher)[0],) * count, folder, writes=False)


def changed_by_step(member: StudentRun, features: Features, part: str) -> list[str]:
    """Take a step of the stage that the member is in; the parameters of "student" or "method" that it changed."""
    before = {key: value.clone() for key, value in getattr(member, part).named_parameters()}
    batch = batch_of(member.method.views, member.position[0])
    seen = features.first(len(batch.labels)).only(member.method.reads_of_teacher())
    member.step(batch, (seen,) * len(member.plan.teachers))
    assert [key for key, value in member.meters.means().items() if not math.isfinite(value)] == []
    for module in (member.student, member.method):
        assert [key for key, value in module.state_dict().items() if not value.isfinite().all()] == []
    return [key for key, value in getattr(member, part).named_parameters() if not torch.equal(value, before[key])]


def begin_main_stage(member: StudentRun) -> None:
    member.position, member.meters = (1, 0), RunningMeans()
    member.begin_main_stage()


@pytest.mark.parametrize(("name", "teacher", "student"), CELLS)
def test_one_step_or_one_sentence(name, teacher, student, tmp_path):
    pairs, reason = REFUSED.get(name, ((), ""))
    if (teacher, student) in pairs:
        with pytest.raises(RequestError, match=reason) as refusal:  # and no data was there
            member_of(name, teacher, student, tmp_path)
        sentence = str(refusal.value)
        assert len(sentence.splitlines()) == 1
        assert ". " not in sentence
        return
    member = member_of(name, teacher, student, tmp_path)
    features = teacher_of(teacher)[1]
    member.start(COMPUTE, train_labels(), STEPS_PER_EPOCH)
    if member.method.needs_training_set_pass:
        batch = batch_of(1, 1)
        seen = features.first(len(batch.labels)).only(member.method.reads_of_teacher())
        member.method.fit_on_training_set((seen,), batch.labels)
    if member.initial:
        assert changed_by_step(member, features, "student" if member.method.initial_trains_student else "method")
        begin_main_stage(member)
    assert changed_by_step(member, features, "student")
    without = [key for key, p in member.method.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []


@pytest.mark.parametrize(
    ("name", "student", "given", "rate"),
    [
        ("factor", "resnet20", {}, 0.01),  # where the main stage has 0.05
        ("factor", "MobileNetV2", {}, 0.01),  # as the main stage has
        ("factor", "resnet20", {"learning_rate": 0.002}, 0.002),
        ("factor+hint", "resnet20", {}, 0.01),
        ("fsp", "resnet20", {}, 0.05),
    ],
)
def test_the_rate_of_the_initial_stage(name, student, given, rate, tmp_path):
    member = member_of(name, "resnet56", student, tmp_path, **given)
    member.start(COMPUTE, train_labels(), STEPS_PER_EPOCH)
    features = teacher_of("resnet56")[1]
    changed_by_step(member, features, "method")
    assert [group["lr"] for group in member.optimizer.param_groups] == [rate]
    begin_main_stage(member)
    changed_by_step(member, features, "method")
    assert [group["lr"] for group in member.optimizer.param_groups] == [member.plan.recipe.learning_rate]


def test_the_paraphrasers_first_step(tmp_path):
    """0.01 times the gradient of the mean squared error, and of the weight decay beside it, as published."""
    member = member_of("factor", "resnet56", "resnet20", tmp_path, weight_decay=0.1)
    member.start(COMPUTE, train_labels(), STEPS_PER_EPOCH)
    method, features = member.method, teacher_of("resnet56")[1].first(BATCH_SIZE)
    f_t = features.stages[-1]
    before = {key: p.detach().clone() for key, p in method.paraphraser.named_parameters()}
    error = (method.paraphraser(f_t) - f_t).square().mean()
    gradients = torch.autograd.grad(error, list(method.paraphraser.parameters()))
    changed_by_step(member, features, "method")
    for (key, moved), gradient in zip(method.paraphraser.named_parameters(), gradients, strict=True):
        torch.testing.assert_close(moved, before[key] - 0.01 * (gradient + 0.1 * before[key]), rtol=1e-5, atol=1e-7)


def test_the_pairs_are_the_published_ones():
    assert len(set(PAIRS)) == 13
    assert set(REFUSED) <= set(METHODS)
