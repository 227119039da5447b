"""Where and how a run computes: compilation, determinism, and what these must not change."""

import os
import shutil
import sys
import sysconfig
from functools import partial
from pathlib import Path

import pytest
import torch

import train_student
from distiller_zoo import Method, register_method
from distiller_zoo.registry import METHODS
from engine.device.compute import resolve_compute
from engine.training.teacher_pass import teacher_pass
from models import Features
from tests.helpers import (
    assert_same,
    folder_of,
    folders_of,
    outcome_of,
    read_json,
    read_metrics,
    train,
)

HAS_CUDA = torch.cuda.is_available()


@pytest.fixture(autouse=True)
def settings_of_torch():
    yield
    torch.use_deterministic_algorithms(False)
    torch._dynamo.reset()


@pytest.fixture(scope="module")
def compiles():
    """What torch.compile needs on a CPU is there; then it must work."""
    compiler = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(compiler) is None:
        pytest.skip(f"no C++ compiler {compiler}")
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        pytest.skip("no headers of Python")


def test_auto_compiles_on_cuda_alone():
    assert resolve_compute("cpu", "fp32").compilation == "off"
    if HAS_CUDA:
        assert resolve_compute("cuda").compilation == "on"


def test_one_of_several_processes_does_not_compile(monkeypatch):
    """Nor does it try to: all would do so on the first device."""
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch, "compile", None)
    assert resolve_compute("cpu", "fp32", "on").compilation == "off"


class TinyTeacher(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(12, 5)

    def features(self, images):
        return Features(self.linear(images.flatten(1)), embedding=images.flatten(1), stages=(images, 2 * images))


@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiled_teacher_shows_the_same_features(backend, compiles, monkeypatch):
    """By default without machine code, whose compilation takes half a minute."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    network, images = TinyTeacher(), torch.randn(4, 3, 2, 2)
    seen = [
        teacher_pass([network], {"stages"}, resolve_compute("cpu", "fp32", choice))(images)[0]
        for choice in ("off", "on")
    ]
    for off, on in zip(seen[0].stages, seen[1].stages, strict=True):
        assert torch.equal(off, on)
    assert torch.allclose(seen[0].logits, seen[1].logits)
    assert seen[1].embedding is None
    # What a student's loss keeps for its gradient must be an ordinary tensor.
    assert not any(tensor.is_inference() for features in seen for tensor in (features.logits, *features.stages))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["kd", "std"])
def test_compiled_students_learn_the_same(method, compiles, teacher, tmp_path):
    """To float tolerance: compiled code adds numbers in another order."""
    folders = []
    for choice in ("off", "on"):
        extra = ["--compile", choice, "--epochs", "1", "--learning_rate", "0.01"]
        assert train(method, output=tmp_path / choice, teacher=teacher, student="mixer_pico", extra=extra) == 0
        folders.append(folder_of(tmp_path / choice))
    off, on = (read_metrics(folder)[0] for folder in folders)
    assert on["train"] == pytest.approx(off["train"], rel=1e-3)
    assert on["test"]["loss"] == pytest.approx(off["test"]["loss"], rel=1e-3)
    assert [read_json(folder / "config.json")["environment"]["compile"] for folder in folders] == ["off", "on"]
    assert folders[0].name == folders[1].name  # one run, however it was computed


def test_cuda_graphs_need_cuda(tmp_path, capsys):
    assert train("none", output=tmp_path, extra=["--compile", "graphs"]) == 2
    assert "--compile graphs" in capsys.readouterr().err


def test_compilation_that_does_not_work_is_said_before_anything_else(tmp_path, capsys, monkeypatch):
    def broken(*arguments, **options):
        raise RuntimeError("no C++ compiler\nand a long story")

    monkeypatch.setattr(torch, "compile", broken)
    assert train("none", output=tmp_path, extra=["--compile", "on"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    for named in ("--compile on", "no C++ compiler", "off"):
        assert named in line
    assert not folders_of(tmp_path)


@pytest.mark.runs
def test_deterministic_is_recorded_and_changes_nothing_on_the_cpu(teacher, tmp_path):
    for name, extra in (("plain", []), ("deterministic", ["--deterministic"])):
        argv = [*extra, "--epochs", "1", "--batch_size", "260"]
        assert train("crd", output=tmp_path / name, teacher=teacher, extra=argv) == 0
        folder = folder_of(tmp_path / name)
        assert read_json(folder / "config.json")["environment"]["deterministic"] == bool(extra)
    assert not torch.are_deterministic_algorithms_enabled()  # given back to the caller
    assert_same(outcome_of(folder), outcome_of(folder_of(tmp_path / "plain")))


@pytest.mark.runs
def test_a_method_without_deterministic_form_is_named(teacher, tmp_path, capsys):
    class Scattering(Method):
        def loss(self, student, teacher, batch):
            raise RuntimeError(
                "scatter_cuda does not have a deterministic implementation, but you set "
                "'torch.use_deterministic_algorithms(True)'. You can turn it off."
            )

    extra = ["--deterministic", "--epochs", "1", "--batch_size", "433"]
    with METHODS.temporarily():
        register_method("scattering")(Scattering)
        assert train("scattering", "kd", output=tmp_path, teacher=teacher, extra=extra) == 1
    errors = capsys.readouterr().err
    (line,) = errors.splitlines()
    for named in ("scattering", "scatter_cuda", "--deterministic"):
        assert named in line
    assert (folder_of(tmp_path, "kd") / "result.json").exists()


# --- several students and weights --------------------------------------------------------------------


@pytest.mark.runs
def test_several_students_and_weights_share_what_they_can(teacher, tmp_path, monkeypatch):
    """CNN and MLP train by recipes of their own, so by batches of their own; the rest shares."""
    streams = []
    from engine.training import run_plans as run

    original = run.make_stream
    monkeypatch.setattr(
        run, "make_stream", lambda member, *rest: streams.append(member.plan.model) or original(member, *rest)
    )
    short = ["--dataset", "digits", "--device", "cpu", "--epochs", "1", "--batch_size", "433", "--path_t", str(teacher)]
    both = ["--distill", "none", "kd", "--model_s", "resnet8", "mixer_pico", "-a", "0.5", "0.9"]
    assert train_student.main([*short, *both, "--output", str(tmp_path / "together")]) == 0
    assert streams == ["resnet8", "mixer_pico"]
    together = {folder.name: folder for folder in folders_of(tmp_path / "together")}
    assert len(together) == 6  # of each student: none, and kd with two weights
    for model, method, alpha in (("resnet8", "kd", "0.9"), ("mixer_pico", "none", "0.5")):
        alone = ["--distill", method, "--model_s", model, "-a", alpha, "--output", str(tmp_path / model / method)]
        assert train_student.main([*short, *alone]) == 0
        folder = folder_of(tmp_path / model / method)
        assert_same(outcome_of(together[folder.name]), outcome_of(folder))


@pytest.mark.runs
def test_one_run_for_equal_weights(teacher, tmp_path):
    extra = ["-a", "0.9", "0.9", "-r", "0.1", "--epochs", "1", "--batch_size", "433"]
    assert train("kd", output=tmp_path, teacher=teacher, extra=extra) == 0
    assert len(folders_of(tmp_path)) == 1
