"""The shell scripts, run as a user runs them, on the digits."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT, environment, folders_of, train_alone

SCRIPTS = sorted(ROOT.glob("scripts/*.sh"))


def run(script, *arguments, cwd=ROOT, **variables):
    """A script with the packages of this interpreter."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    variables = {name: str(value) for name, value in variables.items()}
    env = environment() | {"SKIP_SETUP": "1", "PATH": path} | variables
    return subprocess.run(
        ["bash", str(ROOT / "scripts" / script), *arguments],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_parses(script):
    assert subprocess.run(["bash", "-n", str(script)]).returncode == 0


def test_distils_every_trial_from_any_folder_and_ends_with_the_table(tmp_path):
    assert train_alone(tmp_path / "save") == 0
    small = "--dataset digits --recipe repdistiller --epochs 1 --batch_size 130 --precision fp32"
    done = run(
        "run_cifar_distill.sh", "resnet8", "resnet14", cwd=tmp_path,
        METHODS="none kd std", TRIALS="1 2", ARGS=small, OUTPUT=tmp_path / "save",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(folders_of(tmp_path / "save")) == 5  # the teacher, and two methods twice
    assert "left out: resnet14, std: std distils into MLPs" in done.stdout
    table = done.stdout[done.stdout.index("### resnet8 → resnet14") :]
    assert "student alone" in table
    assert "(2)" in table


def test_a_method_that_fails_keeps_no_other_from_running(tmp_path):
    """At a rate of 1e30 no loss is a number; a wrong request ends all at once."""
    assert train_alone(tmp_path / "save") == 0
    words = "--dataset digits --recipe repdistiller --epochs 1 --batch_size 130 --precision fp32 --group_size 1"
    options = {"METHODS": "none kd", "OUTPUT": tmp_path / "save"}
    good = options | {"METHODS": "none"}
    assert run("run_cifar_distill.sh", "resnet8", "resnet14", ARGS=words, **good).returncode == 0
    done = run("run_cifar_distill.sh", "resnet8", "resnet14", ARGS=f"{words} --learning_rate 1e30", **options)
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("the run is stopped") == 2
    assert "### resnet14, no teacher" in done.stdout
    done = run("run_cifar_distill.sh", "resnet8", "resnet14", ARGS=f"{words} --epochs 0", **options)
    assert (done.returncode, done.stderr.count("--epochs is 0")) == (2, 1)


def test_trains_the_named_networks(tmp_path):
    """Below OUTPUT, which a script takes from the folder that it is started in."""
    done = run(
        "run_cifar_vanilla.sh", "resnet8", OUTPUT="kept", cwd=tmp_path,
        ARGS="--dataset digits --epochs 1 --batch_size 130 --precision fp32",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "networks trained alone" in done.stdout
    assert len(list((tmp_path / "kept" / "models").iterdir())) == 1


@pytest.mark.parametrize("script", ["run_cifar_distill.sh", "run_cifar_vanilla.sh"])
def test_where_to_write_is_said_in_one_place(script, tmp_path):
    done = run(script, "resnet8", ARGS=f"--epochs 1 --output {tmp_path}")
    assert (done.returncode, done.stdout) == (2, "")
    assert "OUTPUT=FOLDER" in done.stderr


def test_fetching_says_which_source_is_dead_and_how_to_train_instead(tmp_path):
    done = run("fetch_pretrained_teachers.sh", "--output", str(tmp_path), "resnet20", "vgg13")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    for source in ("pytorch-cifar-models", "mdistiller", "shape2prog"):
        assert source in done.stderr
    assert "bash scripts/run_cifar_vanilla.sh resnet20 vgg13" in done.stderr.splitlines()[-1]


def test_an_unknown_teacher_is_refused(tmp_path):
    done = run("fetch_pretrained_teachers.sh", "--output", str(tmp_path), "resnet21")
    assert done.returncode == 2
    assert done.stderr.startswith("error: no published teacher resnet21; did you mean resnet")
    assert "resnet20" in done.stderr


def test_keeps_the_records_of_finished_runs_and_no_weights(tmp_path):
    assert train_alone(tmp_path / "save") == 0
    (unfinished := tmp_path / "save" / "student_model" / "cut_off").mkdir(parents=True)
    (unfinished / "config.json").write_text("{}")
    for said in ("", "left as it is"):
        done = run("keep_records.sh", str(tmp_path / "save"), str(tmp_path / "kept"))
        assert (done.returncode, done.stderr) == (0, "")
        assert said in done.stdout
    (kept,) = (tmp_path / "kept").iterdir()
    assert sorted(path.name for path in kept.iterdir()) == ["config.json", "metrics.jsonl", "result.json"]
    failed = tmp_path / "kept" / "cut_off"
    for record in ("failure.json", "result.json"):  # it has failed, it has finished since
        (unfinished / "failure.json").unlink(missing_ok=True)
        (unfinished / record).write_text("{}")
        assert run("keep_records.sh", str(tmp_path / "save"), str(tmp_path / "kept")).returncode == 0
        assert sorted(path.name for path in failed.iterdir()) == ["config.json", record]
    (failed / "config.json").write_text("mine")
    assert "left as it is" in run("keep_records.sh", str(tmp_path / "save"), str(tmp_path / "kept")).stdout
    assert (failed / "config.json").read_text() == "mine"
    assert run("keep_records.sh", str(tmp_path / "nothing"), str(tmp_path / "kept")).returncode == 2
