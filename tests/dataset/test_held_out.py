"""A part of the training set held out: a fixed, fair share, trained on by nobody, measured on by every epoch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import RequestError
from dataset import Arrays, hold_out, load_arrays, without_held_out
from engine.checkpoints.weights import load_network
from engine.protocol.plan import RunPlan
from tests.helpers import DIGITS, assert_same, folder_of, outcome_of, read_json, read_metrics, stop_at_step, train

HELD = 100


def arrays(labels):
    """Images that tell their own number by their first two bytes."""
    images = np.zeros((len(labels), 1, 1, 3), np.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = np.arange(len(labels)) % 256, np.arange(len(labels)) // 256
    return Arrays(images, np.asarray(labels, np.int64), images[:3], np.zeros(3, np.int64))


def numbers(images):
    return (images[:, 0, 0, :2].astype(int) @ [1, 256]).tolist()


@given(st.integers(2, 6), st.integers(5, 40), st.data())
@settings(max_examples=40, deadline=None)
def test_split_is_a_partition_in_equal_shares(classes, each, data):
    labels = np.random.default_rng(classes * each).permutation(np.repeat(np.arange(classes), each))
    held = data.draw(st.integers(1, each - 1)) * classes
    whole = arrays(labels)
    rest, part = hold_out(whole, held)
    kept, taken = numbers(rest.train_images), numbers(part.test_images)
    assert sorted(kept + taken) == list(range(len(labels)))
    assert kept == sorted(kept)
    assert np.array_equal(rest.train_labels, labels[kept])
    assert np.array_equal(part.test_labels, labels[taken])
    assert np.bincount(part.test_labels).tolist() == [held // classes] * classes
    assert rest.test_images is whole.test_images
    assert numbers(hold_out(whole, held)[1].test_images) == taken  # the same each time


def test_the_data_set_says_what_is_left():
    assert without_held_out(DIGITS, 0) is DIGITS
    assert without_held_out(DIGITS, HELD).train_size == DIGITS.train_size - HELD


@pytest.mark.parametrize("images", [-1, 9, DIGITS.train_size - 9, DIGITS.train_size])
def test_wrong_sizes(images):
    with pytest.raises(RequestError, match=rf"--validation {images}\b.*1287"):
        without_held_out(DIGITS, images)


def test_a_class_with_a_single_image():
    with pytest.raises(RequestError, match="--validation 6: class 1 "):
        hold_out(arrays([0] * 9 + [1] + [2] * 9), 6)


@pytest.fixture(scope="module")
def run(teacher, tmp_path_factory):
    output = tmp_path_factory.mktemp("held")
    assert train("crd", output=output, teacher=teacher, extra=["--validation", str(HELD)]) == 0
    return folder_of(output)


@pytest.mark.runs
def test_recorded(run):
    config, result, metrics = read_json(run / "config.json"), read_json(run / "result.json"), read_metrics(run)
    assert config["validation"] == HELD
    assert config["protocol"].endswith(f", {HELD} images held out")
    for record in metrics:
        # Of so many images every accuracy is a whole number of images.
        right = record["validation"]["top1"] * HELD / 100
        assert right == pytest.approx(round(right), abs=1e-9)
    chosen = max(metrics, key=lambda record: record["validation"]["top1"])
    assert result["by_validation"] == {"epoch": chosen["epoch"], **chosen["test"]}


@pytest.mark.runs
def test_what_is_held_out_is_what_is_measured(run):
    """The last record's accuracy, by the network that it was of."""
    network = load_network(next(run.glob("*_last.pth")), DIGITS).network.eval()
    part = hold_out(load_arrays("digits", run), HELD)[1]
    pixels = torch.from_numpy(part.test_images).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (DIGITS.mean, DIGITS.std))
    with torch.no_grad():
        right = (network((pixels - mean) / std).argmax(dim=1).numpy() == part.test_labels).mean()
    assert 100 * right == pytest.approx(read_metrics(run)[-1]["validation"]["top1"])


@pytest.mark.runs
def test_a_cut_changes_nothing(run, teacher, tmp_path, monkeypatch):
    options = {"output": tmp_path, "teacher": teacher, "extra": ["--validation", str(HELD)]}
    with monkeypatch.context() as patch:
        stop_at_step(patch, 2, 3)
        assert train("crd", **options) == 130
    assert train("crd", **options) == 0
    assert_same(outcome_of(folder_of(tmp_path)), outcome_of(run))


@pytest.mark.runs
def test_another_protocol_and_another_run(run, teacher, tmp_path):
    assert train("crd", output=tmp_path, teacher=teacher) == 0
    whole = folder_of(tmp_path)
    config, held = (read_json(folder / "config.json") for folder in (whole, run))
    assert config["protocol_id"] != held["protocol_id"]
    assert config["run_id"] != held["run_id"]
    assert "validation" not in read_metrics(whole)[0]
    assert "by_validation" not in read_json(whole / "result.json")
    assert RunPlan.__dataclass_fields__["validation"].default == 0
