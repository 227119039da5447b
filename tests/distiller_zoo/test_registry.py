"""What a method declares is checked where it is registered, and what it returns at its first step."""

from __future__ import annotations  # as an author may have it: annotations of options are texts then

from typing import Literal

import pytest
from torch import nn

import evaluate
from distiller_zoo import METHODS, Epochs, Method, Weights, method_class, register_method
from distiller_zoo.registry import declared_options
from tests.helpers import folder_of, load, read_metrics, train


@pytest.fixture
def register():
    """Registers for the length of a test."""
    before = dict(METHODS._entries)
    yield lambda cls: register_method("made")(cls)
    METHODS._entries = before


class Wanting(Method):
    needs = ("embeddings",)


class Text(Method):
    student_needs = "embedding"


class Positional(Method):
    def __init__(self, pair, power: float = 1.0):
        super().__init__(pair)


class Bare(Method):
    def __init__(self, pair, *, power=1.0):
        super().__init__(pair)


class Optional(Method):
    def __init__(self, pair, *, power: int | None = None):
        super().__init__(pair)


class Undecided(Method):
    def __init__(self, pair, *, power: float):
        super().__init__(pair)


class Clash(Method):
    def __init__(self, pair, *, feat_dim: float = 0.5):
        super().__init__(pair)


@pytest.mark.parametrize(
    ("cls", "sentence"),
    [
        (Wanting, "needs 'embeddings', which no network has; there is logits, embedding"),
        (Text, r"make it a tuple, \(\"embedding\",\)"),
        (Positional, "the option power becomes a flag only behind a \\*"),
        (Bare, "annotate the option power by one of bool, int"),
        (Optional, "annotate the option power by one of bool, int"),
        (Undecided, "the option power has no default"),
        (Clash, "correlation has an option feat_dim of another type"),
    ],
)
def test_a_wrong_declaration_is_refused_and_leaves_nothing_behind(register, cls, sentence):
    with pytest.raises(TypeError, match=sentence):
        register(cls)
    assert "made" not in METHODS


def test_annotations_may_be_texts(register):
    class Written(Method):
        def __init__(self, pair, *, a: bool = True, b: Literal["x", "y"] = "x", c: Epochs = 3):
            super().__init__(pair)

    kinds = {name: parameter.annotation for name, parameter in declared_options(register(Written)).items()}
    assert kinds == {"a": bool, "b": Literal["x", "y"], "c": Epochs}


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (lambda rows: {"ce": rows.mean()}, "made: the run itself records 'ce'"),
        (lambda rows: {"made": rows}, r"made: the loss 'made' has shape \(\d+,\); return a scalar"),
    ],
)
def test_losses_that_cannot_be_weighed_and_recorded_end_the_run(register, teacher, tmp_path, capsys, found, sentence):
    class Returning(Method):
        def losses(self, student, teachers, batch):
            return found((student.logits - teachers[0].logits).square().mean(dim=1))

    register(Returning)
    assert train("made", output=tmp_path, teacher=teacher) == 1
    assert capsys.readouterr().err.count("\n") <= 3
    assert not list(folder_of(tmp_path).glob("result.json"))


def test_a_student_that_answers_otherwise_does_so_from_its_file(register, teacher, tmp_path, capsys):
    """A learned layer in `predict` alone, without `attach`."""

    class Answering(Method):
        weights = Weights(gamma=1, alpha=0, beta=1)

        def __init__(self, pair):
            super().__init__(pair)
            self.layer = nn.Linear(pair.student.num_classes, pair.student.num_classes)

        def loss(self, student, teacher, batch):
            return nn.functional.cross_entropy(self.layer(student.logits), batch.labels)

        changes_predictions = True

        def predict(self, features):
            return self.layer(features.logits)

    register(Answering)
    assert train("made", output=tmp_path, teacher=teacher) == 0
    (weights,) = folder_of(tmp_path).glob("*_last.pth")
    assert load(weights)["method"]["name"] == "made"
    capsys.readouterr()
    assert evaluate.main(["--path", str(weights), "--dataset", "digits", "--device", "cpu"]) == 0
    test = read_metrics(folder_of(tmp_path))[-1]["test"]
    assert f"Acc@1 {test['top1']:.2f} " in capsys.readouterr().out


def test_a_combination_declares_the_hooks_of_its_parts_and_no_others():
    flags = ("attaches", "changes_predictions", "needs_training_set_pass", "takes_extra_step")
    declared = {name: [flag for flag in flags if getattr(method_class(name), flag)] for name in ("crd+kd", "std+kd")}
    assert declared == {"crd+kd": [], "std+kd": [flag for flag in flags if getattr(METHODS["std"], flag)]}
    assert declared["std+kd"]
    assert [flag for flag in flags if getattr(method_class("nd+kd"), flag)] == ["needs_training_set_pass"]


@pytest.mark.parametrize("former", ["meet", "survey", "answers", "readings"])
def test_a_hook_by_its_former_name_is_refused(former):
    method = type("Old", (Method,), {former: lambda self: None})
    with pytest.raises(TypeError, match=former):
        register_method("old")(method)


@pytest.mark.parametrize("hook", ["attach", "predict", "fit_on_training_set", "extra_step"])
def test_a_hook_that_is_not_declared_is_refused(hook):
    with pytest.raises(TypeError, match=hook):
        register_method("silent")(type("Silent", (Method,), {hook: lambda self, *given: None}))


def test_two_losses_of_one_name_in_a_combination_are_refused(register, teacher, tmp_path, capsys):
    class Twin(Method):
        def losses(self, student, teachers, batch):
            return {"hint": (student.logits - teachers[0].logits).square().mean()}

    register(Twin)
    assert train("hint+made", output=tmp_path, teacher=teacher) == 1
    assert "two of its methods call a loss 'hint'" in capsys.readouterr().err
