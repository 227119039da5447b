"""ND: its loss by plain loops, the class means by a pass of our own over the data, and when that look is taken."""

import math
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset import hold_out, load_arrays
from distiller_zoo import Pair, create_method
from distiller_zoo.nd import ND, direction_and_norm_loss
from models import FeatureShapes
from tests.helpers import DIGITS, folder_of, load, outcome_of, stop_at_step, train
from tests.numerics import arrays, assert_near, every_dtype, normal, seeds

SHAPES = {width: FeatureShapes(5, width, (3, 4, 4), ((width, 4, 4),), ()) for width in (6, 8)}
LOOK = "nd: a look at all training images before the first step"


def method_of(student, teacher, name="nd"):
    torch.manual_seed(0)
    return create_method(name, Pair(SHAPES[student], (SHAPES[teacher],), 50))


def naive_loss(e_s, e_t, centres):
    total = 0.0
    for s, t, c in zip(e_s, e_t, centres, strict=True):
        direction = [x / math.hypot(*c) for x in c]
        total += 1 - sum(a * b for a, b in zip(s, direction, strict=True)) / max(math.hypot(*s), math.hypot(*t))
    return total / len(e_s)


@every_dtype
@settings(max_examples=30, deadline=None)
@given(seed=seeds, rows=st.integers(1, 6), width=st.integers(1, 9), scale=st.sampled_from([0.1, 1.0, 10.0]))
def test_loss_by_loops(dtype, seed, rows, width, scale):
    e_s, e_t, centres = normal(3, rows, width, seed=seed % 10_000, dtype=dtype)
    e_s = scale * e_s
    assert_near(direction_and_norm_loss(e_s, e_t, centres), naive_loss(*arrays(e_s, e_t, centres)))


def test_gradient():
    e_s, e_t, centres = normal(3, 4, 7)
    lengths = torch.tensor([[0.2], [5.0], [0.5], [3.0]])  # shorter and longer than the teacher's
    scaled = (lengths * e_s).requires_grad_()
    assert torch.autograd.gradcheck(lambda e: direction_and_norm_loss(e, e_t, centres), scaled)


def test_a_short_embedding_is_drawn_out_and_a_long_one_only_turned():
    e_t, centre = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 3.0]])
    for length, pull in ((1.0, True), (5.0, False)):
        e_s = torch.tensor([[length, length]], requires_grad=True)
        direction_and_norm_loss(e_s, e_t, centre).backward()
        along = (e_s.grad @ e_s.detach().T).item()  # of a longer one the norm has no gradient
        assert along < -0.1 if pull else along == pytest.approx(0, abs=1e-7)
        assert e_s.grad[0, 1] < 0


def test_nothing_to_go_by_gives_a_finite_loss_and_no_gradient():
    """An embedding of zero beside one of zero; a class without images."""
    e_s = torch.tensor([[0.0, 0.0], [1.0, 2.0]], requires_grad=True)
    loss = direction_and_norm_loss(e_s, torch.tensor([[0.0, 0.0], [1.0, 1.0]]), torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    loss.backward()
    assert loss.item() == 1
    assert e_s.grad.isfinite().all()
    assert e_s.grad[1].tolist() == [0, 0]


@pytest.mark.parametrize(("student", "trained"), [(8, 0), (6, 2 * 6 + 6 * 8 + 8)])
def test_a_connector_only_between_different_widths(student, trained):
    """Batch norm, dropout and a linear layer, as published."""
    method = method_of(student, 8)
    assert sum(p.numel() for p in method.parameters()) == trained
    assert method.connector(torch.randn(4, student)).shape == (4, 8)


@settings(max_examples=20, deadline=None)
@given(seed=seeds, cut=st.integers(1, 11))
def test_centres_point_where_the_class_means_do(seed, cut):
    """However the images come in batches; a class without images has none."""
    embeddings, labels = normal(12, 8, seed=seed % 10_000), torch.arange(12) % 4
    method = method_of(8, 8).double()

    class Seen:
        def __init__(self, embedding):
            self.embedding = embedding

    for part, names in ((embeddings[:cut], labels[:cut]), (embeddings[cut:], labels[cut:])):
        method.fit_on_training_set((Seen(part),), names)
    found = torch.nn.functional.normalize(method.centres, dim=1).numpy()
    for k in range(4):
        mean = embeddings[labels == k].mean(dim=0).numpy()
        np.testing.assert_allclose(found[k], mean / np.linalg.norm(mean), atol=1e-9)
    assert found[4].tolist() == [0] * 8


def state_of(folder):
    return load(folder / "checkpoint.pth")["method"]


def naive_sums(teacher, data=None):
    """Of the teacher's embeddings of raw digits, one image at a time."""
    from engine.checkpoints.weights import load_network

    network = load_network(teacher, DIGITS).network
    data = data or load_arrays("digits", Path())
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (DIGITS.mean, DIGITS.std))
    sums = torch.zeros(10, network.feature_shapes().embedding)
    with torch.no_grad():
        for image, label in zip(data.train_images, data.train_labels, strict=True):
            x = (torch.from_numpy(image).permute(2, 0, 1).float() / 255 - mean) / std
            sums[int(label)] += network.features(x[None]).embedding[0]
    return sums


def test_a_run_looks_once_at_all_training_images(teacher, tmp_path, monkeypatch, capsys):
    """And a continued one goes by what it has seen."""
    with monkeypatch.context() as patch:
        stop_at_step(patch, 1, 3)
        assert train("nd", output=tmp_path, teacher=teacher) == 130
    assert capsys.readouterr().out.count(LOOK) == 1
    folder = folder_of(tmp_path)
    torch.testing.assert_close(state_of(folder)["centres"], naive_sums(teacher), rtol=1e-4, atol=1e-2)
    assert train("nd", output=tmp_path, teacher=teacher) == 0
    assert LOOK not in capsys.readouterr().out
    assert train("nd", output=tmp_path / "whole", teacher=teacher) == 0
    assert outcome_of(folder)["last"] == outcome_of(folder_of(tmp_path / "whole"))["last"]


def test_a_stop_amid_the_look(teacher, tmp_path, monkeypatch, capsys):
    """Nothing is written but what the run is; the same command looks again."""
    real = ND.fit_on_training_set

    def interrupted(self, teachers, labels):
        signal.raise_signal(signal.SIGINT)
        real(self, teachers, labels)

    with monkeypatch.context() as patch:
        patch.setattr(ND, "fit_on_training_set", interrupted)
        assert train("nd", "kd", output=tmp_path, teacher=teacher) == 130
    assert not list(tmp_path.rglob("checkpoint.pth"))
    capsys.readouterr()
    assert train("nd", "kd", output=tmp_path, teacher=teacher) == 0
    assert capsys.readouterr().out.count(LOOK) == 1


def test_a_failed_look_ends_its_run_alone(teacher, tmp_path, monkeypatch, capsys):
    def broken(self, teachers, labels):
        raise ValueError("out of order")

    monkeypatch.setattr(ND, "fit_on_training_set", broken)
    assert train("nd", "kd", output=tmp_path, teacher=teacher) == 1
    assert "nd, epoch 1, step 0: ValueError: out of order" in capsys.readouterr().err
    assert (folder_of(tmp_path, "kd") / "result.json").is_file()
    assert not (folder_of(tmp_path, "nd") / "result.json").exists()


def test_one_look_serves_all_and_parts_of_combinations_too(teacher, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        stop_at_step(patch, 1, 2)
        assert train("nd+dkd", "kd", "nd", output=tmp_path, teacher=teacher) == 130
    assert "\ndkd+nd, nd: a look at all training images before the first step\n" in capsys.readouterr().out
    expected = naive_sums(teacher)
    for method in ("dkd+nd", "nd"):
        (centres,) = [v for key, v in state_of(folder_of(tmp_path, method)).items() if key.endswith("centres")]
        torch.testing.assert_close(centres, expected, rtol=1e-4, atol=1e-2)


def test_no_look_without_its_loss(teacher, tmp_path, capsys):
    assert train("nd", output=tmp_path, teacher=teacher, extra=["-b", "0"]) == 0
    assert "a look" not in capsys.readouterr().out


def test_held_out_images_are_not_looked_at(teacher, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at_step(patch, 1, 2)
        assert train("nd", output=tmp_path, teacher=teacher, extra=["--validation", "500"]) == 130
    kept, _ = hold_out(load_arrays("digits", Path()), 500)
    seen = state_of(folder_of(tmp_path))["centres"]
    torch.testing.assert_close(seen, naive_sums(teacher, kept), rtol=1e-4, atol=1e-2)
