"""Every method on each of RepDistiller's 13 pairs at CIFAR-100's sizes: it takes a real step, or says why it cannot.

The step is that of a run: the student that a run would start from, the published learning rate and weight of the
method's own losses, 50,000 labels and memories of their size, forward, losses, backward, optimizer. Left out are
cross-entropy, weight decay and KL (but for kd, which is KL), so that what changes the student is what the method
teaches it. Small are the batch, 4 images of noise, and the teacher's share: its features of them are computed once.
"""

import math
from functools import lru_cache
from pathlib import Path

import pytest
import torch

from common.errors import RequestError
from dataset import DATASETS, Batch
from distiller_zoo import METHODS, Weights, method_class, options_of
from engine.protocol.plan import RunPlan, TeacherFile
from engine.protocol.recipes import resolve_recipe
from engine.training.running_means import RunningMeans
from engine.training.student_run import StudentRun
from models import MODELS, Features, Network, create_model
from tests.distiller_zoo.one_step import COMPUTE

pytestmark = pytest.mark.slow

ENTRY = DATASETS["cifar100"]
BATCH_SIZE = 4
STEPS_PER_EPOCH = 782

# The columns of RepDistiller's two tables. Pairs of one teacher are neighbours: its features are computed once.
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
CELLS = [pytest.param(name, *pair) for pair in PAIRS for name in METHODS]


@lru_cache(maxsize=1)
def teacher_of(model: str) -> tuple[Network, Features]:
    """An untrained network and its features of two views of the batch's images.

    In training mode: its batch norm has no statistics yet, and without any the maps of 110 layers overflow.
    """
    torch.manual_seed(0)
    network = create_model(model, ENTRY.num_classes, ENTRY.image_size)
    with torch.no_grad():
        features = network.features(images())
    return network.eval(), features


def images() -> torch.Tensor:
    return torch.randn(2 * BATCH_SIZE, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def train_labels() -> torch.Tensor:
    return torch.arange(ENTRY.train_size) % ENTRY.num_classes


def batch_of(views: int, epoch: int) -> Batch:
    index = torch.tensor([7, 49_999, 107, 20_031]).repeat(views)  # two of one class
    return Batch(images()[: len(index)], train_labels()[index], index, None, epoch, 0, seed=1)


def run_of(name: str, teacher: str, student: str, folder: Path) -> StudentRun:
    """A run without cross-entropy, and without KL beside losses of the method's own."""
    options = {option: parameter.default for option, parameter in options_of(name).items()}
    method = method_class(name)
    count = method.min_teachers
    files = (TeacherFile(teacher, Path(f"{teacher}.pth"), "0" * 64),) * count
    weights = Weights(0, 0 if method.weights.beta else method.weights.alpha, method.weights.beta)
    recipe = resolve_recipe("repdistiller", MODELS[student], {"weight_decay": 0.0})
    plan = RunPlan("student", ENTRY.name, student, name, options, weights, 4.0, files, recipe, "fp32", 1, 1)
    return StudentRun(plan, ENTRY, (teacher_of(teacher)[0],) * count, folder, writes=False)


def changed_by_step(run: StudentRun, features: Features, part: str) -> list[str]:
    """Take a step of the stage that the run is in; the parameters of "student" or "method" that it changed."""
    before = {key: value.clone() for key, value in getattr(run, part).named_parameters()}
    batch = batch_of(run.method.views, run.position[0])
    seen = features.first(len(batch.labels)).only(run.method.reads_of_teacher())
    run.step(batch, (seen,) * len(run.plan.teachers))
    assert [key for key, value in run.meters.means().items() if not math.isfinite(value)] == []
    for module in (run.student, run.method):
        assert [key for key, value in module.state_dict().items() if not value.isfinite().all()] == []
    return [key for key, value in getattr(run, part).named_parameters() if not torch.equal(value, before[key])]


@pytest.mark.parametrize(("name", "teacher", "student"), CELLS)
def test_one_step_or_one_sentence(name, teacher, student, tmp_path):
    refusal = None
    try:
        run = run_of(name, teacher, student, tmp_path)
    except RequestError as error:  # and no data was there
        refusal = str(error)
    if refusal is not None:
        assert name in refusal or any(f"--{option}" in refusal for option in options_of(name))
        assert len(refusal.splitlines()) == 1
        return
    features = teacher_of(teacher)[1]
    run.start(COMPUTE, train_labels(), STEPS_PER_EPOCH)
    if run.method.needs_training_set_pass:
        batch = batch_of(1, 1)
        seen = features.first(len(batch.labels)).only(run.method.reads_of_teacher())
        run.method.fit_on_training_set((seen,), batch.labels)
    if run.initial:
        assert changed_by_step(run, features, "student" if run.method.initial_trains_student else "method")
        run.position, run.meters = (1, 0), RunningMeans()
        run.begin_main_stage()
    changed = changed_by_step(run, features, "student")
    taught = set(run.meters.means()) - {"loss", "ce", "top1"}
    assert bool(changed) == bool(taught)  # some have cross-entropy alone in their main stage
    assert [key for key, p in run.method.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.mark.parametrize("name", ["fsp", "kdsvd"])
def test_pairs_that_are_not_available_in_the_published_table(name, tmp_path):
    """Those of unequal widths."""
    unequal = {("wrn_40_2", "wrn_40_1"), *TWO_FAMILIES}
    for pair in PAIRS:
        if pair in unequal:
            with pytest.raises(RequestError, match=name):
                run_of(name, *pair, tmp_path)
        else:
            run_of(name, *pair, tmp_path)


def test_the_pairs_are_the_published_ones():
    assert len(set(PAIRS)) == 13
