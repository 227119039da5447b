"""scripts/analyse.py: its files as a user gets them, twice the same bytes, and what it refuses."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from scripts import analyse
from tests.helpers import folder_of, read_json, run_script, train, train_alone

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
    wanted = {f"{name}/{part}" for name in ("student alone", "kd") for part in OF_A_STUDENT} | {"tsne"}
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
    assert [student["name"] for student in record["students"]] == ["student alone", "kd"]
    for student in record["students"]:
        assert f"| {student['name']} " in done.stdout
        assert student["path"] == str(weights(runs, f"*_{'kd' if student['name'] == 'kd' else 'none'}_*_trial_1_*"))
    assert (record["test_images"], record["tsne_images"]) == (500, 40)


@pytest.mark.runs
def test_the_same_command_writes_the_same_bytes(written):
    _, one, two = written
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(two) for path in two.rglob("*") if path.is_file())
    thumbnails = [path for path in files if path.parent.name == "mistakes"]
    assert len(files) - len(thumbnails) == 1 + 3 * (4 + 4 + 1 + 2) + len(("teacher", "student alone", "kd"))
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
        assert (student["top1"], student["balanced"]) == pytest.approx(
            (result["last"]["top1"], result["last"]["balanced"])
        )
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
    for name in ("teacher", "student alone", "kd"):
        mistakes = pd.read_csv(out / name / "mistakes.csv")
        assert (mistakes.true != mistakes.predicted).all()
        assert mistakes.probability.is_monotonic_decreasing
        assert sorted(path.name for path in (out / name / "mistakes").iterdir()) == sorted(
            Path(picture).name for picture in mistakes.picture
        )
    assert record["classes"] == list("0123456789")
    alone, taught = (pd.read_csv(out / name / "classes.csv") for name in ("student alone", "kd"))
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
    ([*NETWORKS, "--weights_key", "a", "b", "c"], "--weights_key"),
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
