"""The benchmark: what it prints and writes, and that its plain loop does the same work as the suite. No times."""

import copy
import itertools
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarking.candidates import make_data, make_teacher
from benchmarking.flags import resolve_settings
from benchmarking.plain_loop import PlainCrd, PlainInput, PlainLoop, accuracies
from benchmarking.rounds import Settings
from benchmarking.suite import over_and_over, suite_step
from benchmarking.tables import cell
from dataset import DATASETS, Augmentation, BatchStream, load_arrays
from dataset.augment import normalise
from distiller_zoo import METHODS, Pair, create_method, options_of
from engine.checkpoints.inference_network import InferenceNetwork
from engine.device.compute import Compute
from engine.protocol.plan import DEFAULT_KD_T, RunPlan, TeacherFile
from engine.protocol.recipes import resolve_recipe
from engine.training.student_run import StudentRun
from engine.training.teacher_pass import teacher_pass
from models import MODELS, Features, FeatureShapes
from tests.helpers import DIGITS, ROOT, read_json, run_script, save_network

sys.path.insert(0, str(ROOT / "scripts"))

import benchmark

CPU = torch.device("cpu")
FIGURES = {"ms", "rounds_ms", "images_per_second", "seconds_per_epoch", "peak_memory_mib"}
PARTS = ["input", "teacher", "student", "losses"]


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two pairs on the digits as a user measures them: the finished process, the JSON and the folder it ran in."""
    folder = tmp_path_factory.mktemp("here")
    teacher = tmp_path_factory.mktemp("teachers") / "resnet14.pth"
    save_network(teacher, "resnet14")
    done = run_script(
        "scripts/benchmark.py", "--dataset", "digits", "--device", "cpu", "--precision", "fp32", "--json", "out.json",
        "--pairs", "resnet14:resnet8", "resnet14:mixer_pico", "--path_t", teacher, teacher,
        "--distill", "none", "kd", "crd", "std", "--steps", "1", "--rounds", "2", "--workers", "1", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done, read_json(folder / "out.json"), folder


def test_json_holds_everything(run):
    _, content, _ = run
    assert content.keys() == {"format", "environment", "arguments", "settings", "images", "pairs"}
    assert content["environment"]["torch"] == torch.__version__
    assert content["arguments"]["distill"] == ["none", "kd", "crd", "std"]
    expected = {"steps": 1, "rounds": 2, "warmup": 1, "workers": 1}
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


def test_figures_follow_from_the_best_rounds(run):
    for pair in run[1]["pairs"]:
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


def test_prints_tables_that_show_the_json(run):
    done, content, _ = run
    for pair in content["pairs"]:
        section = done.stdout.split(f"## resnet14 → {pair['student']}: digits, batch 64")[1].split("\n## ")[0]
        rows = [[part.strip() for part in line.strip("|").split("|")] for line in section.splitlines() if "|" in line]
        found = {row[0]: row[-1] for row in rows[: len(pair["methods"]) + 3]}
        for name, method in [*pair["methods"].items(), (f"group of {len(pair['methods'])}", pair["group"])]:
            assert found[name] == cell(method["ratio"])
        assert "| share of the suite's step" in section
        assert "| input alone" in section
    assert "a DataLoader with 1\nworker processes" in done.stdout
    assert "{" not in done.stdout.split("**plain**")[1]


def test_names_methods_that_refuse_the_pair(run):
    done, content, _ = run
    assert done.stdout.count("left out: std: std distils into MLPs") == 1
    assert list(content["pairs"][0]["left_out"]) == ["std"]
    assert content["pairs"][1]["left_out"] == {}


def test_leaves_nothing_but_the_json(run):
    done, _, folder = run
    assert [path.name for path in folder.iterdir()] == ["out.json"]
    progress = done.stderr.splitlines()
    assert "resnet14 → mixer_pico  round 2/2  crd plain: " in done.stderr
    assert not [line for line in progress if "Warning" in line or "Traceback" in line]


WRONG = [
    (["--distill", "kd", "crdd"], "unknown method 'crdd'; did you mean crd"),
    (["--pairs", "resnet8:resnet9"], "unknown model 'resnet9'; did you mean resnet"),
    (["--pairs", "resnet8"], "--pairs resnet8: give each as TEACHER:STUDENT"),
    (["--dataset", "digit"], "unknown data set 'digit'; did you mean digits"),
    (["--recipe", "deit"], "--recipe deit augments as no plain loop does; choose repdistiller or light"),
    (["--recipe", "dite"], "unknown recipe 'dite'"),
    (["--device", "cuda:99"], "--device cuda:99 is not there"),
    (["--batch_size", "1298"], "--batch_size 1298 is more than the 1297 images"),
    (["--batch_size", "0"], "--batch_size is 0; it must be positive"),
    (["--steps", "0"], "--steps is 0; it must be 1 or more"),
    (["--threads", "0"], "--threads is 0; it must be 1 or more"),
    (["--workers", "-1"], "--workers is -1; it must be 0 or more"),
    (["--json", "."], "--json . is a folder"),
    (["--json", "nowhere/out.json"], "there is no folder nowhere"),
    (["--path_t", "a.pth", "b.pth"], "2 files in --path_t for 1 --pairs"),
    (["--path_t", "a.pth"], "a.pth"),
    (["--distill", "std"], "no method can serve resnet8:resnet8: std distils into MLPs"),
]


@pytest.mark.parametrize(("argv", "message"), WRONG, ids=lambda value: " ".join(value) if type(value) is list else "")
def test_wrong_requests_end_before_anything_is_measured(capsys, monkeypatch, tmp_path, argv, message):
    monkeypatch.chdir(tmp_path)
    base = ["--dataset", "digits", "--pairs", "resnet8:resnet8"]
    assert benchmark.main([*base, *argv]) == 2
    out, errors = capsys.readouterr()
    assert out == ""
    assert errors.startswith("error: ")
    assert message in errors
    assert 1 <= len(errors.splitlines()) <= 2
    assert list(tmp_path.iterdir()) == []


def test_one_of_several_processes_ends_with_a_line(capsys, monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    assert benchmark.main(["--dataset", "digits"]) == 2
    out, errors = capsys.readouterr()
    assert out == ""
    assert errors == "error: this measures one process, and torchrun started several; start it with python alone\n"


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
    steps = [(batch.epoch, batch.step) for batch in itertools.islice(over_and_over(stream), 5)]
    assert steps == [(1, 0), (1, 1), (1, 0), (1, 1), (1, 0)]


# --- the plain loop against the suite -------------------------------------------------------------


class GivenBatches:
    """Stands where PlainInput stands."""

    def __init__(self, batches):
        self.batches = iter(batches)

    def __next__(self):
        batch = next(self.batches)
        return batch.images.contiguous(), batch.labels, batch.index


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
        copy.deepcopy(member.method),
        copy.deepcopy(teacher) if member.plan.teachers else None,
        GivenBatches(batches),
        stream.labels,
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
        labels = torch.from_numpy(data.train_labels)
        loop = PlainLoop(member.plan, member.student, member.method, None, GivenBatches([]), labels, CPU)
        assert type(loop.optimizer) is kind
        assert not loop.optimizer.defaults["fused"]
        (group,) = loop.optimizer.param_groups
        assert (group["lr"], group["weight_decay"]) == (0.01, member.plan.recipe.weight_decay)


LABELS = torch.tensor([0, 1, 2, 1, 0, 2, 1, 1, 0, 1, 2, 0, 1, 2])


def make_crd(**options):
    """The suite's CRD for the 14 images of LABELS, in double precision, and the plain one with its weights."""
    torch.manual_seed(0)
    shapes = [FeatureShapes(3, width, (3, 4, 4), (), ()) for width in (5, 6)]
    pair = Pair(shapes[0], (shapes[1],), len(LABELS))
    crd = create_method("crd", pair, {"feat_dim": 4, "nce_m": 0.3, **options}).double()
    plain = PlainCrd(pair, crd, LABELS)
    crd.prepare(LABELS)
    return crd, plain


class FakeBatch:
    def __init__(self, seed, size=4):
        self.seed = seed
        self.index = torch.randperm(len(LABELS), generator=self.generator("index"))[:size]
        self.labels = LABELS[self.index]

    def generator(self, purpose):
        return torch.Generator().manual_seed(self.seed)

    def features(self, width):
        embedding = torch.randn(len(self.index), width, generator=self.generator("e"), dtype=torch.float64)
        return Features(torch.zeros(len(self.index), 3), embedding)


@pytest.mark.parametrize(("options", "k"), [({"nce_k": 5}, 5), ({}, 8)])
def test_plain_crd_is_the_suites_on_the_same_negatives(options, k):
    """Losses, gradients and memories over three steps; of 14 images 6 are of the largest class, so K is at most 8."""
    crd, plain = make_crd(**options)
    optimizers = [torch.optim.SGD(method.parameters(), lr=0.1) for method in (crd, plain)]
    assert plain.k == k
    for number in range(3):
        batch = FakeBatch(number)
        candidates, drawn = crd.sampler.negatives(batch.labels, batch.generator("crd"))
        chosen = torch.cat([batch.index[:, None], candidates[drawn].view(len(drawn), k)], dim=1)
        student, teacher = batch.features(5), batch.features(6)
        expected = crd.loss(student, teacher, batch)
        found = plain.contrast(student.embedding, teacher.embedding, chosen)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)
        for loss, method, optimizer in ((expected, crd, optimizers[0]), (found, plain, optimizers[1])):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            method.after_step()
        for layer in ("embed_s", "embed_t"):
            torch.testing.assert_close(getattr(plain, layer).weight, getattr(crd, layer).weight, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(plain.bank_s, crd.memory_s.bank, rtol=1e-9, atol=0)
        torch.testing.assert_close(plain.bank_t, crd.memory_t.bank, rtol=1e-9, atol=0)
        assert plain.z == pytest.approx([crd.memory_t.z.item(), crd.memory_s.z.item()])


def test_plain_crd_contrasts_each_sample_with_k_drawn_images(monkeypatch):
    _, plain = make_crd(nce_k=6)
    seen = []
    monkeypatch.setattr(plain, "contrast", lambda *arguments: seen.append(arguments[2]) or torch.zeros(()))
    batches = [FakeBatch(number) for number in range(200)]
    for batch in batches:
        plain.loss(batch.features(5), batch.features(6), batch)
    chosen = torch.stack(seen)
    assert chosen.shape == (200, 4, 7)
    assert torch.equal(chosen[..., 0], torch.stack([batch.index for batch in batches]))
    counts = torch.bincount(chosen[..., 1:].flatten(), minlength=14)
    assert (counts > 250).all()  # 343 expected of each


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
