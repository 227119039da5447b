"""Single optimizer steps of runs, as the engine takes them, between networks that were never trained."""

from functools import cache, lru_cache
from pathlib import Path

import torch
from torch import Tensor

from dataset import DATASETS, Batch, Batching, BatchStream, load_arrays
from distiller_zoo import Weights, method_class, options_of
from engine.device.compute import Compute
from engine.protocol.plan import RunPlan, TeacherFile
from engine.protocol.recipes import resolve_recipe
from engine.training.running_means import RunningMeans
from engine.training.student_run import StudentRun
from models import MODELS, Features, Network, create_model

DIGITS = DATASETS["digits"]
COMPUTE = Compute(torch.device("cpu"), "fp32")
# Teacher and student of each kind of pair; the smallest networks that there are of it.
KINDS = {
    "equal CNNs": ("resnet8", "resnet8"),
    "unequal CNNs": ("wrn_16_1", "MobileNetV2"),
    "CNN to MLP": ("resnet8", "mixer_pico"),
    "CNN to ViT": ("resnet8", "deit_pico_distilled"),
    "MLP to CNN": ("mixer_pico", "resnet8"),
}


@cache
def teacher_of(model: str) -> Network:
    """An untrained network; its features are asked for, not its knowledge."""
    torch.manual_seed(0)
    network = create_model(model, DIGITS.num_classes, DIGITS.image_size).eval()
    torch.nn.init.normal_(network.last_linear.weight)  # those of some networks start at zero
    return network


@cache
def digits(batch_size: int) -> BatchStream:
    """Training batches of the digits."""
    data, augmentation = load_arrays(DIGITS.name, Path()), resolve_recipe("light", MODELS["resnet8"], {}).augmentation
    images, labels = data.train_images, data.train_labels
    batching = Batching(augmentation, batch_size, seed=1, drop_last=False, channels_last=True)
    return BatchStream(images, labels, DIGITS, batching, "cpu")


def batch_of_digits(size: int, views: int = 1, step: int = 0) -> Batch:
    """One batch of the first epoch; of a method with two views the images are there twice."""
    batch = next(iter(digits(size).epoch(1, step)))
    if views == 1:
        return batch
    images, labels, index = (torch.cat([part] * views) for part in (batch.images, batch.labels, batch.index))
    return Batch(images, labels, index, None, batch.epoch, batch.step, batch.seed)


@lru_cache(maxsize=16)
def features_of(teacher: str, size: int, views: int = 1, step: int = 0) -> Features:
    """What an untrained teacher makes of a batch."""
    with torch.no_grad():
        return teacher_of(teacher).features(batch_of_digits(size, views, step).images)


def plan_for(
    method: str,
    teacher: str,
    student: str,
    weights: Weights | None = None,
    options: dict[str, object] | None = None,
    **recipe: object,
) -> RunPlan:
    """The plan of a run on the digits, with as many teachers as the method needs at least.

    Args:
        recipe: what differs from the recipe `light`.
    """
    cls = method_class(method)
    options = {name: parameter.default for name, parameter in options_of(method).items()} | (options or {})
    files = (TeacherFile(teacher, Path(f"{teacher}.pth"), "0" * 64),) * cls.min_teachers
    recipe_ = resolve_recipe("light", MODELS[student], {"warmup_lr": 1e-3, **recipe})
    weights = weights or cls.weights
    return RunPlan("student", DIGITS.name, student, method, options, weights, 4.0, files, recipe_, "fp32", 1, 1)


class OneRun:
    """A run at its start, or at its checkpoint where its folder has one.

    Raises:
        RequestError: the method refuses the pair.
    """

    def __init__(self, plan: RunPlan, folder: Path, batch_size: int = 6):
        self.plan, self.batch_size = plan, batch_size
        self.teachers = tuple(teacher.model for teacher in plan.teachers)
        self.run = StudentRun(plan, DIGITS, tuple(teacher_of(model) for model in self.teachers), folder)
        self.run.read_saved()
        self.run.start(COMPUTE, digits(batch_size).labels, digits(batch_size).steps_per_epoch)
        if self.run.method.needs_training_set_pass and not self.run.resumed:
            reads = self.run.method.reads_of_teacher()
            seen = tuple(features_of(model, batch_size).only(reads) for model in self.teachers)
            self.run.method.fit_on_training_set(seen, batch_of_digits(batch_size).labels)

    def step(self, number: int = 0) -> list[str]:
        """Take a step; returns the names of all parameters of student and method that it changed."""
        before = {key: value.clone() for key, value in self._parameters().items()}
        views = self.run.method.views
        teachers = tuple(features_of(model, self.batch_size, views, number) for model in self.teachers)
        self.run.step(batch_of_digits(self.batch_size, views, number), teachers)
        return [key for key, value in self._parameters().items() if not torch.equal(value, before[key])]

    def _parameters(self) -> dict[str, Tensor]:
        parts = {"student": self.run.student, "method": self.run.method}
        return {f"{part}.{key}": p.detach() for part, module in parts.items() for key, p in module.named_parameters()}

    def begin_main_stage(self) -> None:
        """Go on to the first epoch of the main stage, where the run is in an initial one."""
        if self.run.initial:
            self.run.position, self.run.meters = (1, 0), RunningMeans()
            self.run.begin_main_stage()

    def means(self) -> dict[str, float]:
        """What was recorded of the steps so far."""
        return self.run.meters.means()

    def without_gradient(self) -> list[str]:
        """Trained parameters of the method that the last step left without a gradient."""
        return [key for key, p in self.run.method.named_parameters() if p.requires_grad and p.grad is None]

    def save(self) -> None:
        """Write the checkpoint."""
        self.run.folder.path.mkdir(parents=True, exist_ok=True)
        self.run.save()
