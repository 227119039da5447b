"""scripts/analyse.py: its files as a user gets them, twice the same bytes, and what it refuses."""

import dataclasses
import io
import os
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from analysis import pictures
from analysis.cka import cka
from analysis.collect import collect, layers_of
from analysis.embedding import ShownImages
from analysis.learning_curves import Curve, CurvePicture, curve_pictures
from analysis.named_networks import load_named_network, load_students
from common.errors import RunError
from dataset import evaluation_batches, load_arrays
from engine.device.compute import resolve_compute
from engine.training.evaluation import evaluate
from reporting.records.runs import read_runs
from scripts import analyse
from tests.helpers import DIGITS, folder_of, read_json, run_script, save_network, train, train_alone
from tests.reporting.fake_runs import write_run

OF_A_STUDENT = ("correlation", "cka", "confusion", "classes")


@pytest.fixture(autouse=True)
def as_before():
    """The script asks torch for deterministic kernels, which the other tests of this process don't."""
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A teacher, and two trials of a student alone and of one taught by kd."""
    root = tmp_path_factory.mktemp("runs")
    assert train_alone(root, model="resnet8") == 0
    path = folder_of(root) / "resnet8_last.pth"
    for trial in ("1", "2"):
        assert train("none", "kd", output=root, teacher=path, student="resnet14", extra=("--trial", trial)) == 0
    return root


def weights(root, pattern):
    (path,) = Path(root).glob(f"*/{pattern}/*_last.pth")
    return path


@pytest.fixture(scope="module")
def written(runs, tmp_path_factory):
    """What the command writes as a user starts it, and once more in this process, which hashes strings otherwise."""
    one, two = (tmp_path_factory.mktemp("out") / name for name in ("one", "two"))
    argv = ["--dataset", "digits", "--teacher", weights(runs, "resnet8_*"), "--runs", runs, "--device", "cpu"]
    argv += ["--student", weights(runs, "*_kd_*_trial_1_*"), "--alone", weights(runs, "*_none_*_trial_1_*")]
    argv += ["--images", "40"]
    done = run_script("scripts/analyse.py", *argv, "--out", one)
    assert analyse.main([*map(str, argv), "--out", str(two)]) == 0
    return done, one, two


@pytest.mark.runs
def test_a_user_gets_every_picture_with_its_numbers(written, runs):
    done, out, _ = written
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    wanted = {f"{name}/{part}" for name in ("none", "kd") for part in OF_A_STUDENT} | {"tsne"}
    found = {str(path.relative_to(out).with_suffix("")) for path in out.rglob("*.svg")}
    curves = {name for name in found if name.startswith("curves_")}
    assert found == wanted | curves
    assert {name.rsplit("_", 1)[0] for name in curves} == {"curves_digits_networks", "curves_digits_resnet8_resnet14"}
    for name in found:
        assert Image.open(out / f"{name}.png").size > (300, 300)
        assert len(pd.read_csv(out / f"{name}.csv")) > 1
        svg = (out / f"{name}.svg").read_text()
        ElementTree.fromstring(svg)
        assert "dc:date" not in svg
    assert "t-SNE of embeddings: 40 test images, 10 classes" in (out / "tsne.svg").read_text()
    record = read_json(out / "analysis.json")
    assert [student["name"] for student in record["students"]] == ["none", "kd"]
    for student in record["students"]:
        assert f"| {student['name']} " in done.stdout
        assert student["path"] == str(weights(runs, f"*_{student['name']}_*_trial_1_*"))
    assert (record["test_images"], record["tsne_images"]) == (500, 40)


@pytest.mark.runs
def test_the_same_command_writes_the_same_bytes(written):
    _, one, two = written
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(two) for path in two.rglob("*") if path.is_file())
    assert len(files) == 1 + 3 * (4 + 4 + 1 + 2)
    for path in files:
        assert (one / path).read_bytes() == (two / path).read_bytes(), path


@pytest.mark.runs
def test_the_files_agree_with_each_other_and_with_the_runs(written, runs):
    _, out, _ = written
    record = read_json(out / "analysis.json")
    result = read_json(weights(runs, "resnet8_*").parent / "result.json")
    assert record["teacher"]["top1"] == pytest.approx(result["last"]["top1"])
    for student in record["students"]:
        folder = out / student["name"]
        result = read_json(Path(student["path"]).parent / "result.json")
        assert student["top1"] == pytest.approx(result["last"]["top1"])
        counts = pd.read_csv(folder / "confusion.csv")
        assert (counts[["teacher", "student", "student_by_teacher"]].sum() == 500).all()
        diagonal = counts[counts.row == counts.column]
        assert diagonal.student.sum() / 5 == pytest.approx(student["top1"])
        assert diagonal.student_by_teacher.sum() / 500 == pytest.approx(student["agreement"])
        classes = pd.read_csv(folder / "classes.csv")
        assert classes.images.sum() == 500
        assert (classes.student * classes.images).sum() / 500 == pytest.approx(student["top1"])
        assert np.allclose(classes.gain_over_teacher, classes.student - classes.teacher)
        correlation = pd.read_csv(folder / "correlation.csv")
        apart = correlation[correlation.row < correlation.column]
        assert (apart.teacher - apart.student).abs().mean() == pytest.approx(student["correlation_difference"])
        layers = pd.read_csv(folder / "cka.csv")
        assert layers.cka.iloc[-1] == student["cka_embedding"]
        assert list(layers.teacher.unique()) == ["stage 1", "stage 2", "stage 3", "embedding"]
    alone, taught = (pd.read_csv(out / name / "classes.csv") for name in ("none", "kd"))
    assert "gain_over_alone" not in alone
    assert np.allclose(taught.gain_over_alone, taught.student - alone.student)
    (path,) = out.glob("curves_digits_resnet8_resnet14_*.csv")
    curves = pd.read_csv(path).set_index(["label", "epoch"])
    assert (curves.trials == 2).all()
    for label, pattern in (("student alone", "*_none_*"), ("kd", "*_kd_*")):
        results = [read_json(f / "result.json")["last"] for f in runs.glob(f"*/{pattern}")]
        assert curves.loc[label, 2]["mean"] == pytest.approx(np.mean([last["top1"] for last in results]))


@pytest.mark.runs
def test_without_networks_it_draws_the_curves_alone(runs, tmp_path, capsys):
    code = analyse.main(["--runs", str(runs), "--band", "std", "--out", str(tmp_path / "new" / "out")])
    assert (code, capsys.readouterr().err) == (0, "")
    names = {path.name.rsplit("_", 1)[0] for path in (tmp_path / "new" / "out").iterdir()}
    assert names == {"curves_digits_networks", "curves_digits_resnet8_resnet14"}
    (svg,) = (tmp_path / "new" / "out").glob("curves_digits_resnet8_*.svg")
    for text in ("kd (2 trials)", "student alone (2 trials)", "± one standard deviation", "resnet8 → resnet14"):
        assert text in svg.read_text()


# --- one pass over the test images -----------------------------------------------------------------


def saved_networks(root, *archs):
    for number, arch in enumerate(archs):
        save_network(root / f"{arch}_{number}.pth", arch, seed=number)
    paths = [root / f"{arch}_{number}.pth" for number, arch in enumerate(archs)]
    return [load_named_network(paths[0], DIGITS, "teacher", None, False), *load_students(paths[1:], DIGITS, None)]


def test_predictions_are_those_of_the_networks_in_batches_of_any_size(tmp_path):
    data, compute = load_arrays("digits", tmp_path), resolve_compute("cpu", "fp32", "off")
    found = saved_networks(tmp_path, "resnet8", "mixer_pico")
    chosen = np.array([0, 7, 499])
    whole = collect(found, data, DIGITS, compute, chosen, batch_size=500)
    ((images, _),) = evaluation_batches(data.test_images, data.test_labels, DIGITS, 500, "cpu")
    features = [named.network.features(images) for named in found]
    teacher = layers_of(features[0])
    for predictions, own, named in zip(whole, features, found, strict=True):
        np.testing.assert_allclose(predictions.logits, own.logits.numpy(), atol=1e-5)
        np.testing.assert_allclose(predictions.embeddings, own.embedding[chosen].numpy(), atol=1e-5)
        assert predictions.layers == tuple(layers_of(own))
        expected = [[cka(t, s) for s in layers_of(own).values()] for t in teacher.values()]
        np.testing.assert_allclose(predictions.cka, expected, atol=1e-4)
        top1 = 100 * (predictions.logits.argmax(1) == data.test_labels).mean()
        assert top1 == pytest.approx(evaluate(named.network, data, DIGITS, compute)["top1"])
    np.testing.assert_allclose(np.diag(whole[0].cka), 1)
    parts = collect(found, data, DIGITS, compute, chosen, batch_size=83)  # the last batch has two images
    for predictions, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(other.logits, predictions.logits, atol=1e-4)
        np.testing.assert_allclose(other.embeddings, predictions.embeddings, atol=1e-4)
        np.testing.assert_allclose(other.cka, predictions.cka, atol=0.1)


def test_numbers_that_are_not_finite_are_a_failed_training(tmp_path):
    network = save_network(tmp_path / "resnet8.pth")
    state = torch.load(tmp_path / "resnet8.pth", weights_only=True)
    state["model"]["fc.bias"] = torch.full_like(network.fc.bias, torch.nan)
    torch.save(state, tmp_path / "resnet8.pth")
    found = load_students([tmp_path / "resnet8.pth"], DIGITS, None)
    data, compute = load_arrays("digits", tmp_path), resolve_compute("cpu", "fp32", "off")
    with pytest.raises(RunError, match=r"resnet8\.pth"):
        collect(found, data, DIGITS, compute, np.array([0]), 250)


def test_students_are_named_by_their_runs_or_files(tmp_path):
    for folder, label in (("a", "crd+kd"), ("b", "crd+kd"), ("c", None), ("d", "teacher")):
        (tmp_path / folder).mkdir()
        save_network(tmp_path / folder / "resnet8_best.pth")
        if label:
            (tmp_path / folder / "config.json").write_text(f'{{"label": "{label}"}}')
    found = load_students([tmp_path / folder / "resnet8_best.pth" for folder in "abcd"], DIGITS, ["resnet8"])
    assert [named.name for named in found] == ["crd+kd", "crd+kd-2", "resnet8_best", "teacher-2"]


# --- pictures --------------------------------------------------------------------------------------


def test_heat_maps_show_the_numbers():
    values = np.linspace(0, 1, 15).reshape(3, 5)
    figure = pictures.cka_picture(values, "teacher", ["a", "b", "c"], "kd", list("vwxyz"))
    axes = figure.axes[0]
    np.testing.assert_array_equal(axes.images[0].get_array(), values)
    assert axes.images[0].get_clim() == (0, 1)
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["a", "b", "c"]
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("teacher", "kd")
    assert [(t.get_position(), t.get_text()) for t in axes.texts][:2] == [((1, 0), "0.07"), ((2, 0), "0.14")]


def test_curves_have_a_band_where_there_are_several_trials():
    epochs, one = np.array([1, 2]), np.array([1.0, 2.0])
    several = Curve("kd", epochs, np.array([3, 3]), one, one - 0.5, one + 0.5)
    single = dataclasses.replace(several, label="std", n=np.array([1, 1]))
    figure = pictures.curves_picture(CurvePicture("name", "title", (several, single), teacher=3.0), "range")
    axes = figure.axes[0]
    assert len(axes.collections) == 1
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), [[1, 1], [2, 2]])
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["kd (3 trials)", "std (1 trial)", "teacher"]
    assert "least to greatest" in figure.legends[0].get_title().get_text()


def test_a_teacher_far_above_the_curves_is_named_and_does_not_press_them_together():
    top1 = np.array([10.0, 20.0])
    curve = Curve("kd", np.array([1, 2]), np.array([1, 1]), top1, top1, top1)
    near, far = (CurvePicture("name", "title", (curve,), teacher=taught) for taught in (30.0, 70.0))
    near, far = (pictures.curves_picture(picture, "range") for picture in (near, far))
    assert near.axes[0].get_ylim()[1] > 30
    assert far.axes[0].get_ylim()[1] < 25
    (legend,) = far.legends
    assert [text.get_text() for text in legend.get_texts()] == ["kd (1 trial)", "teacher: 70.00, far above"]


def test_tsne_says_how_many_classes_of_how_many():
    labels = np.array([0, 3, 3])
    figure = pictures.tsne_picture([np.ones((3, 2))] * 4, list("abcd"), ShownImages(np.arange(3), labels, [0, 3], 100))
    assert figure.get_suptitle() == "t-SNE of embeddings: 3 test images, 2 of 100 classes"
    assert [axes.get_title() for axes in figure.axes if axes.axison] == list("abcd")
    assert [len(line.get_xdata()) for line in figure.axes[0].lines] == [1, 2]


def test_the_users_settings_change_nothing(tmp_path):
    made = []
    for size in (9, 30):
        with pictures.matplotlib.rc_context({"font.size": size, "svg.fonttype": "path"}), pictures.style():
            figure = pictures.correlation_picture(np.eye(3), 0.5, "teacher", "kd")
            buffer = io.BytesIO()
            figure.savefig(buffer, format="svg", metadata={"Date": None})
            made.append(buffer.getvalue())
    assert made[0] == made[1]


@pytest.mark.runs
def test_unfinished_runs_have_no_curve(runs, tmp_path):
    folder = tmp_path / "cut"
    folder.mkdir()
    (folder / "config.json").write_bytes((weights(runs, "*_kd_*_trial_1_*").parent / "config.json").read_bytes())
    found, skipped = read_runs([tmp_path])
    assert [one.state for one in skipped] == ["unfinished"]
    assert curve_pictures(found, "range")[0] == []


def test_runs_in_folders_of_any_name_have_curves(tmp_path):
    write_run(tmp_path, "a\nb", 60.0)
    write_run(tmp_path, os.fsdecode(b"not-utf8-\xff"), 61.0, method="std")
    (picture,) = curve_pictures(read_runs([tmp_path])[0], "range")[0]
    assert {curve.label: curve.mean[-1] for curve in picture.curves} == {"kd": 60.0, "std": 61.0}


# --- wrong requests --------------------------------------------------------------------------------

NETWORKS = ["--teacher", "T", "--student", "T"]
WRONG = [
    ([], "--runs"),
    (["--teacher", "T"], "--student"),
    (["--student", "T"], "--teacher"),
    (["--alone", "T", "--runs", "."], "--alone"),
    ([*NETWORKS, "--images", "9"], "--images is 9"),
    ([*NETWORKS, "--batch_size", "3"], "--batch_size is 3"),
    ([*NETWORKS, "--classes", "1", "10"], "--classes 10"),
    ([*NETWORKS, "--classes", "1", "1"], "--classes"),
    ([*NETWORKS, "--dataset", "mnist"], "'mnist'"),
    ([*NETWORKS, "--dataset", "cifar100"], "teacher.pth"),
    ([*NETWORKS, "--device", "tpu"], "tpu"),
    ([*NETWORKS, "--model_s", "resnet8", "resnet8"], "--model_s"),
    ([*NETWORKS, "--model_t", "resnet14"], "resnet14"),
    (["--teacher", "T", "--student", "nowhere.pth"], "nowhere.pth"),
    ([*NETWORKS, "--runs", "nowhere"], "--runs nowhere"),
    ([*NETWORKS, "--runs", "."], "--runs ."),
    ([*NETWORKS, "--out", "T"], "--out"),
]


@pytest.mark.parametrize(("argv", "named"), WRONG, ids=[" ".join(argv) or "nothing" for argv, _ in WRONG])
def test_wrong_requests_are_refused_before_anything_is_read_or_written(
    teacher, argv, named, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    argv = [str(teacher) if word == "T" else word for word in argv]
    base = ["--dataset", "digits", "--out", "out"]
    code = analyse.main([*base, *argv])
    out, errors = capsys.readouterr()
    assert (code, out) == (2, "")
    assert errors.startswith("error: ")
    assert named in errors
    assert len(errors.splitlines()) <= 2
    assert list(tmp_path.iterdir()) == []
