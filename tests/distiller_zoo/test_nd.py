"""ND: its loss by plain loops, the class means by a pass of our own over the data, and when that pass is taken."""

import math
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset import hold_out, load_arrays
from distiller_zoo import Weights
from distiller_zoo.nd import ND, direction_and_norm_loss
from engine.checkpoints.weights import load_network
from models import Features
from tests.distiller_zoo.cases import (
    CNN,
    assert_published,
    embedding_of,
    losses_of_embeddings,
    make,
)
from tests.distiller_zoo.odd_inputs import assert_finite_for_odd_inputs
from tests.helpers import DIGITS, folder_of, load, outcome_of, stop_at_step, train
from tests.numerics import arrays, assert_gradient, assert_near, every_dtype, normal, seeds


def naive_loss(e_s, e_t, centres):
    total = 0.0
    for s, t, c in zip(e_s, e_t, centres, strict=True):
        direction = [x / math.hypot(*c) for x in c]
        total += 1 - sum(a * b for a, b in zip(s, direction, strict=True)) / max(math.hypot(*s), math.hypot(*t))
    return total / len(e_s)


@every_dtype
@settings(max_examples=30, deadline=None)
@given(seed=seeds, rows=st.integers(1, 6), width=st.integers(1, 9), scale=st.sampled_from([0.1, 1.0, 10.0]))
def test_formula(dtype, seed, rows, width, scale):
    e_s, e_t, centres = normal(3, rows, width, seed=seed % 10_000, dtype=dtype)
    e_s = scale * e_s
    assert_near(direction_and_norm_loss(e_s, e_t, centres), naive_loss(*arrays(e_s, e_t, centres)))


def test_gradient():
    e_s, e_t, centres = normal(3, 4, 7)
    lengths = torch.tensor([[0.2], [5.0], [0.5], [3.0]])  # shorter and longer than the teacher's
    assert_gradient(lambda e: direction_and_norm_loss(e, e_t, centres), lengths * e_s)


def test_a_short_embedding_is_drawn_out_and_a_long_one_only_turned():
    e_t, centre = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 3.0]])
    for length, pull in ((1.0, True), (5.0, False)):
        e_s = torch.tensor([[length, length]], requires_grad=True)
        direction_and_norm_loss(e_s, e_t, centre).backward()
        along = (e_s.grad @ e_s.detach().T).item()  # of a longer one the norm has no gradient
        assert along < -0.1 if pull else along == pytest.approx(0, abs=1e-7)
        assert e_s.grad[0, 1] < 0


def test_embeddings_of_zero_and_a_class_without_images_give_a_finite_loss_and_no_gradient():
    e_s = torch.tensor([[0.0, 0.0], [1.0, 2.0]], requires_grad=True)
    loss = direction_and_norm_loss(e_s, torch.tensor([[0.0, 0.0], [1.0, 1.0]]), torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    loss.backward()
    assert loss.item() == 1
    assert e_s.grad.isfinite().all()
    assert e_s.grad[1].tolist() == [0, 0]


def test_odd_embeddings():
    centres = normal(4, 6, seed=3, dtype=torch.float32)
    s, t = normal(4, 6), normal(4, 6, seed=1)
    assert_finite_for_odd_inputs(lambda s, t: direction_and_norm_loss(s, t, centres[: len(s)]), s, t)


# --- the method -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("student", "trained"), [(8, 0), (6, 2 * 6 + 6 * 8 + 8)])
def test_a_connector_only_between_different_widths(student, trained):
    """Batch norm, dropout and a linear layer, as published."""
    method = make("nd", embedding_of(student), embedding_of(8), torch.float32)
    assert sum(p.numel() for p in method.parameters()) == trained
    assert method.connector(torch.randn(4, student)).shape == (4, 8)


@settings(max_examples=20, deadline=None)
@given(seed=seeds, cut=st.integers(1, 11))
def test_centres_point_where_the_class_means_do(seed, cut):
    """However the images come in batches; a class without images has none."""
    embeddings, labels = normal(12, 8, seed=seed % 10_000), torch.arange(12) % 4
    method = make("nd", embedding_of(8), embedding_of(8))
    for part, names in ((embeddings[:cut], labels[:cut]), (embeddings[cut:], labels[cut:])):
        method.fit_on_training_set((Features(torch.zeros(len(part), 5), part),), names)
    found = torch.nn.functional.normalize(method.centres, dim=1).numpy()
    for k in range(4):
        mean = embeddings[labels == k].mean(dim=0).numpy()
        np.testing.assert_allclose(found[k], mean / np.linalg.norm(mean), atol=1e-9)
    assert found[4].tolist() == [0] * 8


def test_losses():
    """In evaluation mode, without dropout; each sample has the centre of its class."""
    method, labels = make("nd", CNN, CNN).eval(), torch.tensor([0, 3, 2])
    method.fit_on_training_set((Features(torch.zeros(20, 5), normal(20, 6, seed=9)),), torch.arange(20) % 5)
    e_s, e_t = normal(3, 6, seed=1), normal(3, 6, seed=2)
    losses = losses_of_embeddings(method, e_s, e_t)
    assert list(losses) == ["nd"]
    assert_near(losses["nd"], naive_loss(*arrays(e_s, e_t, method.centres[labels])))


def test_published():
    assert_published("nd", Weights(1, 1, 2))


# --- whole runs -----------------------------------------------------------------------------------


def state_of(folder):
    return load(folder / "checkpoint.pth")["method"]


def naive_sums(teacher, data):
    """Sums over the classes of the teacher's embeddings of raw digits."""
    network = load_network(teacher, DIGITS).network.eval()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (DIGITS.mean, DIGITS.std))
    images = (torch.from_numpy(np.array(data.train_images)).permute(0, 3, 1, 2).float() / 255 - mean) / std
    labels = torch.from_numpy(np.array(data.train_labels))
    with torch.no_grad():
        embeddings = network.features(images).embedding
    return torch.stack([embeddings[labels == k].sum(dim=0) for k in range(10)])


@pytest.fixture(scope="module")
def digits():
    return load_arrays("digits", Path())


@pytest.mark.runs
def test_a_run_passes_once_over_all_training_images(teacher, digits, tmp_path, monkeypatch):
    """A continued run reads what it learned from its checkpoint."""
    passes, real = [], ND.fit_on_training_set

    def counted(self, teachers, labels):
        passes.append(len(labels))
        real(self, teachers, labels)

    monkeypatch.setattr(ND, "fit_on_training_set", counted)
    with monkeypatch.context() as patch:
        stop_at_step(patch, 1, 3)
        assert train("nd", output=tmp_path, teacher=teacher) == 130
    assert sum(passes) == len(digits.train_labels)
    folder = folder_of(tmp_path)
    torch.testing.assert_close(state_of(folder)["centres"], naive_sums(teacher, digits), rtol=1e-4, atol=1e-2)
    assert train("nd", output=tmp_path, teacher=teacher) == 0
    assert sum(passes) == len(digits.train_labels)
    assert train("nd", output=tmp_path / "whole", teacher=teacher) == 0
    assert outcome_of(folder)["last"] == outcome_of(folder_of(tmp_path / "whole"))["last"]


@pytest.mark.runs
def test_a_stop_during_the_pass(teacher, digits, tmp_path, monkeypatch):
    """Nothing is written but what the run is; the same command takes the pass again."""
    real, passes = ND.fit_on_training_set, []

    def interrupted(self, teachers, labels):
        signal.raise_signal(signal.SIGINT)
        real(self, teachers, labels)

    def counted(self, teachers, labels):
        passes.append(len(labels))
        real(self, teachers, labels)

    extra = ["--epochs", "1"]
    with monkeypatch.context() as patch:
        patch.setattr(ND, "fit_on_training_set", interrupted)
        assert train("nd", "kd", output=tmp_path, teacher=teacher, extra=extra) == 130
    assert not list(tmp_path.rglob("checkpoint.pth"))
    monkeypatch.setattr(ND, "fit_on_training_set", counted)
    assert train("nd", "kd", output=tmp_path, teacher=teacher, extra=extra) == 0
    assert sum(passes) == len(digits.train_labels)


@pytest.mark.runs
def test_a_failed_pass_ends_its_run_alone(teacher, tmp_path, monkeypatch, capsys):
    def broken(self, teachers, labels):
        raise ValueError("out of order")

    monkeypatch.setattr(ND, "fit_on_training_set", broken)
    assert train("nd", "kd", output=tmp_path, teacher=teacher, extra=["--epochs", "1"]) == 1
    assert "ValueError: out of order" in capsys.readouterr().err
    assert (folder_of(tmp_path, "kd") / "result.json").is_file()
    assert not (folder_of(tmp_path, "nd") / "result.json").exists()


@pytest.mark.runs
def test_one_pass_serves_all_and_parts_of_combinations_too(teacher, digits, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at_step(patch, 1, 2)
        assert train("nd+dkd", "kd", "nd", output=tmp_path, teacher=teacher) == 130
    expected = naive_sums(teacher, digits)
    for method in ("dkd+nd", "nd"):
        (centres,) = [v for key, v in state_of(folder_of(tmp_path, method)).items() if key.endswith("centres")]
        torch.testing.assert_close(centres, expected, rtol=1e-4, atol=1e-2)


@pytest.mark.runs
def test_no_pass_without_its_loss(teacher, tmp_path, monkeypatch):
    monkeypatch.setattr(ND, "fit_on_training_set", lambda self, teachers, labels: pytest.fail("a pass was taken"))
    assert train("nd", output=tmp_path, teacher=teacher, extra=["-b", "0", "--epochs", "1"]) == 0


@pytest.mark.runs
def test_the_pass_leaves_out_held_out_images(teacher, digits, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at_step(patch, 1, 2)
        assert train("nd", output=tmp_path, teacher=teacher, extra=["--validation", "500"]) == 130
    kept, _ = hold_out(digits, 500)
    seen = state_of(folder_of(tmp_path))["centres"]
    torch.testing.assert_close(seen, naive_sums(teacher, kept), rtol=1e-4, atol=1e-2)
