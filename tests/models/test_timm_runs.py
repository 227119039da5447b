"""Runs with networks of timm as teacher and student: recorded, resumed, evaluated, refused."""

import re

import numpy as np
import pytest
import torch

import evaluate as evaluate_script
import train_student
from tests.helpers import (
    arguments,
    assert_same,
    folder_of,
    folders_of,
    load,
    outcome_of,
    read_json,
    read_metrics,
    stop_at_step,
    train,
)

timm = pytest.importorskip("timm")
pytestmark = pytest.mark.runs

TEACHER, STUDENT = "timm:test_vit@32", "timm:test_efficientnet"
ONE_EPOCH = ["--epochs", "1"]


@pytest.fixture(scope="module")
def state_dict(tmp_path_factory):
    """A plain state dict as timm's users save it, in a file whose name says nothing."""
    torch.manual_seed(3)
    network = timm.create_model("test_vit", img_size=32, num_classes=10)
    torch.nn.init.normal_(network.head.weight)
    path = tmp_path_factory.mktemp("timm") / "weights.pth"
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def runs(state_dict, tmp_path_factory):
    """Methods that read logits, maps and embeddings."""
    output = tmp_path_factory.mktemp("runs")
    extra = ["--model_t", TEACHER, *ONE_EPOCH]
    assert train("kd", "hint", "simkd", output=output, teacher=state_dict, student=STUDENT, extra=extra) == 0
    return output


@pytest.mark.parametrize("method", ["kd", "hint", "simkd"])
def test_a_run_with_both_from_timm(method, runs):
    folder = folder_of(runs, method)
    assert re.fullmatch(rf"S_timm_test_efficientnet_T_timm_test_vit_32_digits_{method}_[\w.]+", folder.name)
    config = read_json(folder / "config.json")
    assert (config["model"], config["teachers"][0]["model"]) == (STUDENT, TEACHER)
    assert np.isfinite(list(read_metrics(folder)[0]["train"].values())).all()


def test_a_tag_is_another_teacher_of_the_same_name(runs, state_dict):
    """Published weights of test_vit were trained with mean and deviation 0.5, which the digits have not."""
    extra = ["--model_t", "timm:test_vit.r160_in1k@32", *ONE_EPOCH]
    assert train("kd", output=runs / "tagged", teacher=state_dict, student=STUDENT, extra=extra) == 0
    folders = folder_of(runs, "kd"), folder_of(runs / "tagged")
    plain, tagged = (read_json(folder / "config.json")["teachers"][0] for folder in folders)
    assert plain["model"] == tagged["model"] == TEACHER
    assert plain["sha256"] == tagged["sha256"]
    assert (plain["normalisation"], tagged["normalisation"]) == (None, [[0.5] * 3, [0.5] * 3])
    assert plain["loss"] != tagged["loss"]
    assert folders[0].name != folders[1].name


def last_weights(folder):
    (path,) = folder.glob("*_last.pth")
    return path


def test_what_is_saved_is_read_by_us_and_by_timm(runs, capsys):
    """Our evaluation gives the recorded figure; in timm's network the weights fit as they are."""
    folder = folder_of(runs, "kd")
    path = last_weights(folder)
    capsys.readouterr()
    argv = ["--path", str(path), "--dataset", "digits", "--device", "cpu", "--precision", "fp32"]
    assert evaluate_script.main(argv) == 0
    last = read_json(folder / "result.json")["last"]
    assert f"{last['top1']:.2f}" in capsys.readouterr().out
    timm.create_model("test_efficientnet", num_classes=10).load_state_dict(load(path)["model"], strict=True)


def test_std_takes_a_student_of_blocks(teacher, tmp_path):
    extra = [*ONE_EPOCH, "--recipe", "light", "--batch_size", "260"]
    assert train("std", output=tmp_path, teacher=teacher, student="timm:test_vit@32", extra=extra) == 0
    assert set(read_metrics(folder_of(tmp_path))[0]["train"]) == {"loss", "ce", "std", "top1"}


def test_a_stopped_run_ends_as_if_it_had_not_been(tmp_path, teacher, monkeypatch):
    assert train("kd", output=tmp_path / "whole", teacher=teacher, student=STUDENT) == 0
    with monkeypatch.context() as patch:
        stop_at_step(patch, 2, 3)
        assert train("kd", output=tmp_path / "cut", teacher=teacher, student=STUDENT) == 130
    assert train("kd", output=tmp_path / "cut", teacher=teacher, student=STUDENT) == 0
    assert_same(outcome_of(folder_of(tmp_path / "cut")), outcome_of(folder_of(tmp_path / "whole")))


def test_a_wrong_name_is_refused_before_anything_is_written(tmp_path, capsys):
    assert train_student.main(arguments("none", output=tmp_path, student="timm:resnet81")) == 2
    assert "timm:resnet18" in capsys.readouterr().err
    assert folders_of(tmp_path) == []


def test_weights_of_another_network_are_refused(state_dict, tmp_path, capsys):
    argv = arguments("kd", output=tmp_path, teacher=state_dict, extra=["--model_t", "timm:test_resnet"])
    assert train_student.main(argv) == 2
    assert "timm:test_resnet" in capsys.readouterr().err
