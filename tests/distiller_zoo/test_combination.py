"""Several methods in one run: weights, views, what each part sees, and what does not go together."""

import argparse

import pytest

import evaluate
from common.errors import RequestError
from distiller_zoo import METHODS, Method, Weights, canonical_method, method_class, register_method
from engine.cli import given_method_options
from engine.protocol.options import resolve_options
from engine.protocol.recipes import RECIPES
from tests.helpers import assert_same, folder_of, load, outcome_of, read_json, read_metrics, stop_at_step, train

ONE_EPOCH = ["--epochs", "1"]


class Left(Method):
    weights, needs = Weights(1, 0, 2), ("embedding",)

    def __init__(self, pair, *, power: float = 2.0, left_only: int = 3):
        super().__init__(pair)
        self.power, self.rows = power, None

    def loss(self, student, teacher, batch):
        self.rows = (len(student.logits), len(teacher.logits), len(batch.labels), len(batch.images))
        return (student.logits - teacher.logits).abs().pow(self.power).mean()


class Right(Left):
    """Another default for one option, and two views."""

    weights, views = Weights(0.5, 0, 10), 2

    def __init__(self, pair, *, power: float = 1.0):
        super().__init__(pair, power=power)


class Staged(Left):
    initial_epochs = 2

    def __init__(self, pair):
        super().__init__(pair)


class Restaged(Staged):
    pass


class Predicting(Left):
    changes_predictions = True

    def predict(self, features):
        return features.logits


@pytest.fixture
def extra_methods():
    """All of these, registered while a test runs."""
    with METHODS.temporarily():
        for cls in (Left, Right, Staged, Restaged, Predicting):
            register_method(cls.__name__.lower())(cls)
        yield


def test_two_that_predict_for_the_student_do_not_go_together(extra_methods):
    with pytest.raises(RequestError) as refusal:
        canonical_method("predicting+std")
    assert all(name in str(refusal.value) for name in ("predicting", "std"))


def test_a_combination_declares_the_hooks_of_its_parts_and_no_others():
    flags = ("attaches", "changes_predictions", "needs_training_set_pass", "takes_extra_step")
    declared = {name: [flag for flag in flags if getattr(method_class(name), flag)] for name in ("crd+kd", "std+kd")}
    assert declared == {"crd+kd": [], "std+kd": [flag for flag in flags if getattr(METHODS["std"], flag)]}
    assert declared["std+kd"]
    assert [flag for flag in flags if getattr(method_class("nd+kd"), flag)] == ["needs_training_set_pass"]


def test_a_combination_reads_a_teachers_logits_if_a_part_does():
    reads = {name: method_class(name).reads_teacher_logits for name in ("crd+hint", "crd+kd", "crd+dkd", "nd+pkt")}
    assert reads == {"crd+hint": False, "crd+kd": True, "crd+dkd": True, "nd+pkt": False}
    assert method_class("nd+pkt").weights.alpha == 0  # so it takes any teacher


def test_an_option_of_several_parts_is_given_to_each(extra_methods):
    given = given_method_options(argparse.Namespace(power=4.0), ["left+right"])
    assert resolve_options("left+right", RECIPES["repdistiller"], given) == {
        "left.power": 4.0, "left_only": 3, "right.power": 4.0,
    }  # fmt: skip


# --- whole runs -----------------------------------------------------------------------------------


@pytest.mark.runs
def test_kd_beside_crd_is_alpha_beside_crd(teacher, tmp_path):
    """`crd+kd` is what `crd -a 1` is, to the last bit, in a run of its own name."""
    assert train("crd", output=tmp_path, teacher=teacher, extra=[*ONE_EPOCH, "-a", "1"]) == 0
    assert train("crd+kd", output=tmp_path / "both", teacher=teacher, extra=ONE_EPOCH) == 0
    alone, both = folder_of(tmp_path, "crd"), folder_of(tmp_path / "both")
    first, second = outcome_of(alone), outcome_of(both)
    assert both.name.startswith("S_resnet8_T_resnet8_digits_crd+kd_r_1_a_1_b_1_")
    assert read_json(both / "config.json")["label"] == "crd+kd nce_k=64"
    assert_same(second["weights"], first["weights"])
    assert_same(second["metrics"], first["metrics"])


@pytest.mark.runs
def test_each_part_counts_with_its_own_weight(extra_methods, teacher, tmp_path):
    extra = [*ONE_EPOCH, "--learning_rate", "0.001", "-b", "3"]
    assert train("left+hint*7+kd", output=tmp_path, teacher=teacher, extra=extra) == 0
    folder = folder_of(tmp_path)
    (record,) = read_metrics(folder)
    found = record["train"]
    expected = found["ce"] + found["kl"] + 3 * (2 * found["left"] + 7 * found["hint"])
    assert found["loss"] == pytest.approx(expected, rel=1e-5)
    assert read_json(folder / "config.json")["label"] == "hint*7+kd+left beta=3"
    assert "hintx7+kd+left" in folder.name


@pytest.mark.runs
def test_cut_and_continued(teacher, tmp_path, monkeypatch):
    options = {"teacher": teacher, "extra": ONE_EPOCH}
    assert train("crd+hint+kd", output=tmp_path / "whole", **options) == 0
    with monkeypatch.context() as patch:
        stop_at_step(patch, 1, 3)
        assert train("crd+hint+kd", output=tmp_path / "cut", **options) == 130
    state = load(folder_of(tmp_path / "cut") / "checkpoint.pth")["method"]
    assert any(key.endswith("bank") for key in state)
    assert train("crd+hint+kd", output=tmp_path / "cut", **options) == 0
    assert_same(outcome_of(folder_of(tmp_path / "cut")), outcome_of(folder_of(tmp_path / "whole")))


@pytest.mark.runs
def test_heads_of_a_part_are_kept_for_deployment(teacher, tmp_path):
    assert train("std+kd", output=tmp_path, teacher=teacher, student="mixer_pico", extra=ONE_EPOCH) == 0
    (weights,) = folder_of(tmp_path).glob("*_last.pth")
    assert load(weights)["method"]["name"] == "kd+std"
    assert evaluate.main(["--path", str(weights), "--dataset", "digits", "--device", "cpu"]) == 0


@pytest.mark.runs
def test_a_part_that_wants_one_view_sees_the_first(extra_methods, teacher, tmp_path, monkeypatch):
    seen, original = [], Left.loss

    def loss(self, student, teacher, batch):
        value = original(self, student, teacher, batch)
        seen.append((self.name, *self.rows))
        return value

    monkeypatch.setattr(Left, "loss", loss)
    assert train("left+right", output=tmp_path, teacher=teacher, extra=ONE_EPOCH) == 0
    assert seen[:2] == [("left", 130, 130, 130, 130), ("right", 260, 260, 260, 260)]


@pytest.mark.runs
def test_methods_with_other_views_form_a_group_of_their_own(extra_methods, teacher, tmp_path):
    """And each run is what it is alone; the first view is the one that methods with one view see."""
    options = {"teacher": teacher, "extra": ONE_EPOCH}
    assert train("left", "right", "none", output=tmp_path / "together", **options) == 0
    for method in ("left", "right"):
        assert train(method, output=tmp_path / method, **options) == 0
        alone, together = folder_of(tmp_path / method), folder_of(tmp_path / "together", method)
        assert_same(outcome_of(together), outcome_of(alone))


@pytest.mark.runs
def test_two_initial_stages_do_not_go_together(extra_methods, teacher, tmp_path, capsys):
    assert train("staged+restaged", output=tmp_path, teacher=teacher) == 2
    message = capsys.readouterr().err
    assert all(name in message for name in ("restaged", "staged"))
