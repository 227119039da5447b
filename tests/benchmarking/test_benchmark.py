"""The benchmark: what it prints and writes, and that its plain loop does the same work as the suite. No times."""

import contextlib
import copy
import io
import itertools
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarking.candidates import make_data, make_teacher
from benchmarking.flags import resolve_settings
from benchmarking.plain_loop import PlainInput, PlainLoop, accuracies
from benchmarking.rounds import Settings
from benchmarking.suite import endless_batches, suite_step
from benchmarking.tables import cell
from dataset import DATASETS, Augmentation, BatchStream, load_arrays
from dataset.augment import normalise
from distiller_zoo import METHODS, options_of
from engine.checkpoints.inference_network import InferenceNetwork
from engine.device.compute import Compute
from engine.protocol.plan import DEFAULT_KD_T, RunPlan, TeacherFile
from engine.protocol.recipes import resolve_recipe
from engine.training.student_run import StudentRun
from engine.training.teacher_pass import teacher_pass
from models import MODELS
from tests.helpers import DIGITS, ROOT, read_json, save_network

sys.path.insert(0, str(ROOT / "scripts"))

import benchmark

CPU = torch.device("cpu")
FIGURES = {"ms", "rounds_ms", "images_per_second", "seconds_per_epoch", "peak_memory_mib"}
PARTS = ["input", "teacher", "student", "losses"]


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two pairs on the digits: what is printed (stdout, stderr), the JSON, and the folder that it is in."""
    folder = tmp_path_factory.mktemp("here")
    teacher = tmp_path_factory.mktemp("teachers") / "resnet14.pth"
    save_network(teacher, "resnet14")
    argv = ["--dataset", "digits", "--device", "cpu", "--precision", "fp32", "--json", str(folder / "out.json")]
    argv += ["--pairs", "resnet14:resnet8", "resnet14:mixer_pico", "--path_t", str(teacher), str(teacher)]
    argv += ["--distill", "none", "kd", "crd", "std", "--steps", "1", "--rounds", "2", "--workers", "0"]
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        assert benchmark.main(argv) == 0
    return out.getvalue(), errors.getvalue(), read_json(folder / "out.json"), folder


@pytest.mark.runs
def test_json_holds_everything(run):
    content = run[2]
    assert content.keys() == {"format", "environment", "arguments", "settings", "images", "pairs"}
    assert content["environment"]["torch"] == torch.__version__
    assert content["arguments"]["distill"] == ["none", "kd", "crd", "std"]
    expected = {"steps": 1, "rounds": 2, "warmup": 1, "workers": 0}
    assert content["settings"] == expected | {"precision": "fp32", "compile": "off", "deterministic": False}
    assert content["images"] == "digits"
    assert [pair["student"] for pair in content["pairs"]] == ["resnet8", "mixer_pico"]
    assert [list(pair["methods"]) for pair in content["pairs"]] == [["none", "kd", "crd"], ["none", "kd", "crd", "std"]]
    for pair in content["pairs"]:
        assert pair["steps_per_epoch"] == 21  # 1,297 images in batches of 64
        assert pair["group"]["methods"] == list(pair["methods"])
        measured = [part for method in pair["methods"].values() for part in (method["plain"], method["suite"])]
        measured += [pair["group"]["suite"], *pair["parts"].values()]
        for figures in measured:
            assert figures.keys() == FIGURES
            assert len(figures["rounds_ms"]) == 2
        assert pair["parts"].keys() == {"plain_input", "input", "teacher", "student"}


@pytest.mark.runs
def test_figures_follow_from_the_best_rounds(run):
    for pair in run[2]["pairs"]:
        plain_sum, parts = 0.0, {name: min(part["rounds_ms"]) for name, part in pair["parts"].items()}
        for name, method in pair["methods"].items():
            plain, suite = min(method["plain"]["rounds_ms"]), min(method["suite"]["rounds_ms"])
            assert method["ratio"] == pytest.approx(plain / suite)
            assert method["suite"]["ms"] == suite
            assert method["suite"]["images_per_second"] == pytest.approx(64_000 / suite)
            assert method["plain"]["seconds_per_epoch"] == pytest.approx(0.021 * plain)
            teacher = parts["teacher"] if name != "none" else 0
            rest = suite - parts["input"] - teacher - parts["student"]
            expected = [part / suite for part in (parts["input"], teacher, parts["student"], rest)]
            assert method["shares"] == pytest.approx(dict(zip(PARTS, expected, strict=True)))
            plain_sum += plain
        group, best = pair["group"], min(pair["group"]["suite"]["rounds_ms"])
        assert group["plain_sum_ms"] == pytest.approx(plain_sum)
        assert group["ratio"] == pytest.approx(plain_sum / best)
        assert group["shares"]["student"] == pytest.approx(len(pair["methods"]) * parts["student"] / best)
        assert sum(group["shares"].values()) == pytest.approx(1)


@pytest.mark.runs
def test_prints_tables_that_show_the_json(run):
    out, _, content, _ = run
    for pair in content["pairs"]:
        section = out.split(f"## resnet14 → {pair['student']}: digits, batch 64")[1].split("\n## ")[0]
        rows = [[part.strip() for part in line.strip("|").split("|")] for line in section.splitlines() if "|" in line]
        found = {row[0]: row[-1] for row in rows[: len(pair["methods"]) + 3]}
        for name, method in [*pair["methods"].items(), (f"group of {len(pair['methods'])}", pair["group"])]:
            assert found[name] == cell(method["ratio"])
        assert "| share of the suite's step" in section
        assert "| input alone" in section
    assert "{" not in out.split("**plain**")[1]  # the legend is filled in


@pytest.mark.runs
def test_names_methods_that_refuse_the_pair(run):
    out, _, content, _ = run
    assert out.count("left out: std: ") == 1
    assert list(content["pairs"][0]["left_out"]) == ["std"]
    assert content["pairs"][1]["left_out"] == {}


@pytest.mark.runs
def test_leaves_nothing_but_the_json(run):
    _, errors, _, folder = run
    assert [path.name for path in folder.iterdir()] == ["out.json"]
    assert "resnet14 → mixer_pico  round 2/2  crd plain: " in errors
    assert not [line for line in errors.splitlines() if "Warning" in line or "Traceback" in line]


WRONG = [
    (["--distill", "kd", "crdd"], "crdd"),
    (["--pairs", "resnet8:resnet9"], "resnet9"),
    (["--pairs", "resnet8"], "--pairs resnet8"),
    (["--dataset", "digit"], "digit"),
    (["--recipe", "deit"], "--recipe deit"),
    (["--recipe", "dite"], "dite"),
    (["--device", "cuda:99"], "--device cuda:99"),
    (["--batch_size", "1298"], "--batch_size 1298"),
    (["--batch_size", "0"], "--batch_size is 0"),
    (["--steps", "0"], "--steps is 0"),
    (["--threads", "0"], "--threads is 0"),
    (["--workers", "-1"], "--workers is -1"),
    (["--json", "."], "--json ."),
    (["--json", "nowhere/out.json"], "--json nowhere/out.json"),
    (["--path_t", "a.pth", "b.pth"], "--path_t"),
    (["--path_t", "a.pth"], "a.pth"),
    (["--distill", "std"], "std"),
]


@pytest.mark.parametrize(("argv", "named"), WRONG, ids=lambda value: " ".join(value) if type(value) is list else "")
def test_wrong_requests_end_before_anything_is_measured(capsys, monkeypatch, tmp_path, argv, named):
    monkeypatch.chdir(tmp_path)
    base = ["--dataset", "digits", "--pairs", "resnet8:resnet8"]
    assert benchmark.main([*base, *argv]) == 2
    out, errors = capsys.readouterr()
    assert out == ""
    assert errors.startswith("error: ")
    assert named in errors
    assert 1 <= len(errors.splitlines()) <= 2
    assert list(tmp_path.iterdir()) == []


def test_torchrun_is_refused(capsys, monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    assert benchmark.main(["--dataset", "digits"]) == 2
    out, errors = capsys.readouterr()
    assert out == ""
    assert "torchrun" in errors
    assert len(errors.splitlines()) == 1


def test_defaults_of_the_devices():
    given = benchmark.parse(["--rounds", "7"])
    assert resolve_settings(given, "cpu") == Settings(steps=3, rounds=7, warmup=1)
    assert resolve_settings(given, "cuda") == Settings(steps=50, rounds=7, warmup=10)


# --- the images -----------------------------------------------------------------------------------


def test_images_are_synthetic_where_files_are_missing_or_unwanted(tmp_path):
    entry = DATASETS["cifar100"]
    images, labels, source = make_data(entry, tmp_path, synthetic=False)
    assert source == "synthetic cifar100"
    assert (images.shape, images.dtype) == ((50_000, 32, 32, 3), np.uint8)
    assert (np.bincount(labels) == 500).all()
    assert list(tmp_path.iterdir()) == []
    assert make_data(DIGITS, tmp_path, synthetic=True)[2] == "synthetic digits"


def test_images_of_files_at_hand_are_taken(tmp_path):
    images, labels, source = make_data(DIGITS, tmp_path, synthetic=False)
    expected = load_arrays("digits", tmp_path)
    assert source == "digits"
    assert np.array_equal(images, expected.train_images)
    assert np.array_equal(labels, expected.train_labels)


@pytest.mark.parametrize("workers", [0, 2])
def test_plain_input_yields_every_image_normalised_once_an_epoch(workers):
    data = load_arrays("digits", Path())
    images, labels = data.train_images[:64], data.train_labels[:64]
    source = PlainInput(images, labels, replace(DIGITS, crop_padding=0), 16, workers)
    with source.at_work():
        batches = [next(source) for _ in range(12)]
    source.close()
    seen = torch.cat([index for _, _, index in batches])
    if workers == 0:  # else some batches were drawn before
        for epoch in seen.view(3, 64):
            assert sorted(epoch.tolist()) == list(range(64))
    assert torch.bincount(seen).max() <= 4
    expected = normalise(torch.from_numpy(images).permute(0, 3, 1, 2), DIGITS.mean, DIGITS.std)
    for found, classes, index in batches:
        assert torch.allclose(found, expected[index], atol=1e-5)
        assert torch.equal(classes, torch.from_numpy(labels)[index])


def test_plain_input_crops_and_mirrors_where_the_data_set_allows():
    image = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(1, 8, 8, 3)
    entry = replace(DIGITS, crop_padding=1, horizontal_flip=True)
    source = PlainInput(image, np.zeros(1, dtype=np.int64), entry, 1, 0)
    kinds = {next(source)[0].numpy().tobytes() for _ in range(300)}
    assert len(kinds) == 2 * 9


def test_the_suites_batches_go_round():
    stream = BatchStream(
        np.zeros((20, 8, 8, 3), np.uint8), np.zeros(20, np.int64), DIGITS, Augmentation(), 8, 1, True, "cpu"
    )
    steps = [(batch.epoch, batch.step) for batch in itertools.islice(endless_batches(stream), 5)]
    assert steps == [(1, 0), (1, 1), (1, 0), (1, 1), (1, 0)]


# --- the plain loop against the suite -------------------------------------------------------------


class GivenBatches:
    """Stands where PlainInput stands."""

    def __init__(self, batches):
        self.batches = iter(batches)

    def __next__(self):
        batch = next(self.batches)
        return batch.images.contiguous(), batch.labels, batch.index


def prepared(method, labels):
    method.prepare(labels)
    return method


def make_member(method, tmp_path, recipe="repdistiller", **values):
    teacher = make_teacher("resnet14", None, DIGITS)[1]
    plan = RunPlan(
        kind="student",
        dataset="digits",
        model="resnet8",
        method=method,
        options={name: parameter.default for name, parameter in options_of(method).items()},
        weights=METHODS[method].weights,
        kd_T=DEFAULT_KD_T,
        teachers=(TeacherFile("resnet14", Path("random"), ""),) if METHODS[method].max_teachers else (),
        recipe=resolve_recipe(recipe, MODELS["resnet8"], {"batch_size": 32, "learning_rate": 0.01} | values),
        precision="fp32",
        trial=1,
        seed=1,
    )
    return StudentRun(plan, DIGITS, (teacher.network,) if plan.teachers else (), tmp_path), teacher


@pytest.mark.parametrize(
    ("method", "values"),
    [(name, {}) for name in ("none", "kd", "hint", "attention", "similarity", "vid", "pkt")]
    + [("none", {"label_smoothing": 0.1, "weight_decay": 0.1, "momentum": 0.5})],
)
def test_three_steps_of_the_plain_loop_are_three_steps_of_the_suite(tmp_path, method, values):
    """The same batches lead both to the same weights: neither does less work."""
    data = load_arrays("digits", Path())
    member, teacher = make_member(method, tmp_path, **values)
    stream = BatchStream(
        data.train_images, data.train_labels, DIGITS, member.plan.recipe.augmentation, 32, 1, True, CPU
    )
    batches = list(itertools.islice(stream.epoch(1), 3))
    start = {key: value.clone() for key, value in member.student.state_dict().items()}
    plain = PlainLoop(
        member.plan,
        copy.deepcopy(member.student),
        prepared(copy.deepcopy(member.method), stream.labels),
        copy.deepcopy(teacher) if member.plan.teachers else None,
        GivenBatches(batches),
        CPU,
    )
    compute = Compute(CPU, "fp32")
    member.start(compute, stream.labels, stream.steps_per_epoch)
    step = suite_step([member], teacher, iter(batches), compute)
    for _ in range(3):
        plain.step()
        step()
    assert member.position == (1, 3)
    for found, expected in ((plain.student, member.student), (plain.method, member.method)):
        expected = expected.state_dict()
        for key, value in found.state_dict().items():
            torch.testing.assert_close(value, expected[key], rtol=1e-3, atol=1e-4)
    moved = (plain.student.conv1.weight - start["conv1.weight"]).abs().max()
    assert moved > 1e-3  # far beyond the tolerance


def test_the_plain_optimizers_are_those_of_the_recipe(tmp_path):
    data = load_arrays("digits", Path())
    for recipe, kind in (("repdistiller", torch.optim.SGD), ("light", torch.optim.AdamW)):
        member, _ = make_member("none", tmp_path, recipe)
        method = prepared(member.method, torch.from_numpy(data.train_labels))
        loop = PlainLoop(member.plan, member.student, method, None, GivenBatches([]), CPU)
        assert type(loop.optimizer) is kind
        assert not loop.optimizer.defaults["fused"]
        (group,) = loop.optimizer.param_groups
        assert (group["lr"], group["weight_decay"]) == (0.01, member.plan.recipe.weight_decay)


def test_a_random_teachers_features_have_the_size_of_a_trained_ones():
    """However deep it is: otherwise losses on them would overflow."""
    teacher = make_teacher("resnet110", None, DIGITS)[1]
    assert isinstance(teacher, InferenceNetwork)
    assert not teacher.training
    teach = teacher_pass([teacher], {"stages"}, Compute(CPU, "fp32"))
    (features,) = teach(torch.randn(32, 3, 8, 8))
    for stage in features.stages:
        assert 0.1 < stage.std() < 10


def test_accuracies_are_those_of_the_best_classes():
    logits = torch.tensor([[0.0, 1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1, 0], [0, 1, 2, 3, 4, 5, 6]])
    assert accuracies(logits, torch.tensor([6, 4, 1])) == pytest.approx([100 / 3, 200 / 3])
    assert accuracies(logits[:, :3], torch.tensor([2, 2, 1])) == pytest.approx([100 / 3, 100])
