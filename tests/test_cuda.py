"""On a GPU: every method, eager and compiled, against the CPU; no wait in a step; the same bits twice.

Skipped where there is none. The random numbers of a method are drawn on the device, so those of a GPU are others than
the CPU's: what draws is compared with itself alone.
"""

import itertools
from functools import cache
from pathlib import Path

import pytest
import torch

from common.errors import RequestError
from dataset import DATASETS, Batching, BatchStream, load_arrays
from distiller_zoo import METHODS, options_of
from engine.checkpoints.inference_network import InferenceNetwork
from engine.device.compute import Compute, resolve_compute
from engine.protocol.plan import RunPlan, TeacherFile
from engine.protocol.recipes import resolve_recipe
from engine.training.student_run import CUDA_CHECK_INTERVAL, StudentRun
from engine.training.teacher_pass import teacher_pass
from models import MODELS, create_model
from tests.helpers import arguments, assert_same, folder_of, outcome_of, stop_at_step

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

ENTRY = DATASETS["digits"]
DRAWING = ("crd", "manifold", "mgd")
EVERY = pytest.mark.parametrize("method", list(METHODS))


@pytest.fixture(autouse=True)
def settings_of_torch():
    # TF32 would round what is compared with the CPU.
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = True
    torch.use_deterministic_algorithms(False)
    torch._dynamo.reset()


@cache
def data():
    return load_arrays("digits", Path())


class Steps:
    """A run on a device whose steps are taken one by one."""

    def __init__(self, method: str, compute: Compute, folder: Path):
        torch.manual_seed(0)
        self.teacher = InferenceNetwork(create_model("resnet20", ENTRY.num_classes, ENTRY.image_size)).eval()
        self.teacher.requires_grad_(False)
        file = TeacherFile("resnet20", Path("teacher.pth"), "0" * 64)
        for student in ("resnet8", "mixer_pico", "deit_pico_distilled"):
            try:
                self.run = self.make(method, student, file, folder)
                break
            except RequestError:
                continue
        compute.place(self.teacher)
        recipe = self.run.plan.recipe
        batching = Batching(recipe.augmentation, 64, seed=1, drop_last=True, channels_last=True)
        self.stream = BatchStream(data().train_images, data().train_labels, ENTRY, batching, compute.device)
        self.run.start(compute, self.stream.labels, self.stream.steps_per_epoch)
        if self.run.method.needs_training_set_pass:
            batch = next(iter(self.stream.epoch(1)))
            with torch.no_grad():
                seen = self.teacher.features(batch.images).only(self.run.method.reads_of_teacher(), copy=True)
            self.run.method.fit_on_training_set((seen,), batch.labels)
        self.batches = itertools.chain.from_iterable(self.stream.epoch(epoch) for epoch in itertools.count(1))
        self.teach = teacher_pass([self.teacher], self.run.method.reads_of_teacher(), compute)

    def make(self, method, student, file, folder):
        recipe = resolve_recipe("light", MODELS[student], {"batch_size": 64, "warmup_epochs": 0, "learning_rate": 1e-4})
        options = {name: parameter.default for name, parameter in options_of(method).items()}
        taught = METHODS[method].max_teachers > 0
        teachers = (file,) if taught else ()
        plan = RunPlan(
            "student", "digits", student, method, options, METHODS[method].weights, 4.0, teachers, recipe, "fp32", 1, 1
        )
        return StudentRun(plan, ENTRY, (self.teacher.network,) if taught else (), folder)

    def take(self, count: int) -> dict[str, float]:
        """So many steps; the means of all that was measured meanwhile."""
        for _ in range(count):
            batch = next(self.batches)
            self.run.position = (batch.epoch, batch.step)
            self.run.step(batch, self.teach(batch.images))
        return self.run.meters.means()


@pytest.mark.parametrize(
    ("method", "compilation"),
    [
        (method, compilation)
        for method in METHODS
        for compilation in ("off", "on", "graphs")
        if not (method in DRAWING and compilation == "off")  # would be compared with itself
    ],
)
def test_as_on_the_cpu(method, compilation, tmp_path):
    found = Steps(method, resolve_compute("cuda", "fp32", compilation), tmp_path).take(3)
    eager = resolve_compute("cuda", "fp32", "off") if method in DRAWING else resolve_compute("cpu", "fp32", "off")
    expected = Steps(method, eager, tmp_path).take(3)
    assert found == pytest.approx(expected, rel=2e-3, abs=1e-4)


@EVERY
def test_bf16_learns_too(method, tmp_path):
    means = Steps(method, resolve_compute("cuda", "bf16"), tmp_path).take(3)
    expected = Steps(method, resolve_compute("cuda", "fp32"), tmp_path).take(3)
    assert means["loss"] == pytest.approx(expected["loss"], rel=0.1)


@EVERY
def test_a_step_waits_for_nothing(method, tmp_path):
    """From the batch to the optimizer, between two looks at the losses."""
    steps = Steps(method, resolve_compute("cuda", "bf16", "off"), tmp_path)
    steps.take(2)
    assert steps.stream.steps_per_epoch < CUDA_CHECK_INTERVAL
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            batch = next(steps.batches)
            steps.run.position = (batch.epoch, batch.step)
            steps.run.step(batch, steps.teach(batch.images))
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_seconds_are_those_of_the_work_and_not_of_its_launch(tmp_path, monkeypatch):
    """10⁹ cycles take a third of a second or more, and are launched at once."""
    steps = Steps("kd", resolve_compute("cuda", "fp32", "off"), tmp_path)
    steps.take(1)
    monkeypatch.setattr(steps.run.method, "after_step", lambda: torch.cuda._sleep(10**9))
    steps.take(1)
    assert steps.run.meters.seconds > 0.2


def on_cuda(*methods, **options):
    """Arguments of a small run on the GPU."""
    argv = arguments(*methods, **options)
    argv[argv.index("--device") + 1] = "cuda"
    return argv


@EVERY
def test_deterministic_gives_the_same_bits(method, teacher, tmp_path, monkeypatch):
    """Twice, and when it was cut in between."""
    import train_student

    student = {"std": "mixer_pico", "deit": "deit_pico_distilled"}.get(method, "resnet8")

    def run(name):
        argv = on_cuda(method, output=tmp_path / name, teacher=teacher, student=student, extra=["--deterministic"])
        return train_student.main(argv)

    assert run("once") == run("twice") == 0
    expected = outcome_of(folder_of(tmp_path / "once"))
    assert_same(outcome_of(folder_of(tmp_path / "twice")), expected)
    with monkeypatch.context() as patch:
        stop_at_step(patch, 2, 3)
        assert run("cut") == 130
    assert run("cut") == 0
    assert_same(outcome_of(folder_of(tmp_path / "cut")), expected)


def test_a_group_of_all_methods_compiled(teacher, tmp_path):
    import train_student

    extra = ["--compile", "graphs", "--skip_refused"]
    assert train_student.main(on_cuda("all", output=tmp_path, teacher=teacher, extra=extra)) == 0
