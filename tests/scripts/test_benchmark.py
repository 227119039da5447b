"""scripts/benchmark.py: what it prints and writes, and what it refuses. No times."""

import contextlib
import io

import pytest
import torch

from benchmarking.tables import cell
from scripts import benchmark
from tests.helpers import read_json, save_network

FIGURES = {"ms", "rounds_ms", "images_per_second", "seconds_per_epoch", "peak_memory_mib"}


PARTS = ["input", "teacher", "student", "losses"]


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
