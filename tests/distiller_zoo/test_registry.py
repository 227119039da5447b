"""What a method declares is checked where it is registered, and what it returns at its first step."""

from __future__ import annotations  # as an author may have it: annotations of options are texts then

from dataclasses import dataclass
from typing import Literal

import pytest
from torch import nn

import evaluate
from common.errors import RequestError
from distiller_zoo import METHODS, Epochs, Method, Weights, register_method
from distiller_zoo.registry import constructor_arguments, declared_options
from tests.helpers import folder_of, load, read_metrics, train


@pytest.fixture
def register():
    """Registers for the length of a test."""
    with METHODS.temporarily():
        yield lambda cls: register_method("made")(cls)


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
    ("cls", "mentions"),
    [
        (Wanting, ["'embeddings'", "embedding"]),
        (Text, ['("embedding",)']),
        (Positional, ["power"]),
        (Bare, ["power", "bool", "int"]),
        (Optional, ["power", "bool", "int"]),
        (Undecided, ["power", "default"]),
        (Clash, ["correlation", "feat_dim"]),
    ],
)
def test_a_wrong_declaration_is_refused_and_leaves_nothing_behind(register, cls, mentions):
    with pytest.raises(TypeError) as refusal:
        register(cls)
    assert all(word in str(refusal.value) for word in [cls.__name__, *mentions])
    assert "made" not in METHODS


@pytest.mark.parametrize(("name", "aliases"), [("kd", ()), ("at", ()), ("new", ("fitnet",)), ("new", ("rkd",))])
def test_a_name_taken_twice_is_an_error(name, aliases):
    """The message has the file that has it."""
    with METHODS.temporarily():
        with pytest.raises(ValueError, match=r"distiller_zoo/\w+\.py"):
            register_method(name, aliases=aliases)(type("Other", (Method,), {}))
        assert "new" not in METHODS


@pytest.mark.parametrize("name", list(METHODS))
def test_aliases(name):
    for alias in METHODS.aliases_of(name):
        assert METHODS[alias] is METHODS[name]
        assert METHODS.canonical(alias) == name
        assert alias not in list(METHODS)


@pytest.mark.parametrize(("typed", "meant"), [("fitnets", "fitnet"), ("simlarity", "similarity"), ("crdd", "crd")])
def test_an_unknown_name_suggests_its_neighbours(typed, meant):
    with pytest.raises(RequestError, match=rf"'{typed}'.*\b{meant}\b"):
        METHODS[typed]


def test_a_name_like_no_other_gets_a_few_and_where_to_find_all():
    with pytest.raises(RequestError, match="--list") as refusal:
        METHODS["qqqqqq"]
    assert next(iter(METHODS)) in str(refusal.value)
    assert len(str(refusal.value)) < 200


def test_annotations_may_be_texts(register):
    class Written(Method):
        def __init__(self, pair, *, a: bool = True, b: Literal["x", "y"] = "x", c: Epochs = 3):
            super().__init__(pair)

    kinds = {name: parameter.annotation for name, parameter in declared_options(register(Written)).items()}
    assert kinds == {"a": bool, "b": Literal["x", "y"], "c": Epochs}


@dataclass(frozen=True)
class Grouped:
    made_depth: int = 2
    made_kind: Literal["x", "y"] = "x"


@dataclass(frozen=True)
class Bare:
    made_depth: int


def test_fields_of_a_dataclass_are_options(register):
    class Written(Method):
        def __init__(self, pair, *, made_width: int = 1, sizes: Grouped):
            super().__init__(pair)
            self.given = (made_width, sizes)

    cls = register(Written)
    options = declared_options(cls)
    assert {name: option.default for name, option in options.items()} == {
        "made_width": 1,
        "made_depth": 2,
        "made_kind": "x",
    }
    assert options["made_kind"].annotation == Literal["x", "y"]
    assert constructor_arguments(cls, {}) == {"sizes": Grouped()}
    assert constructor_arguments(cls, {"made_depth": 5, "made_width": 3}) == {"made_width": 3, "sizes": Grouped(5)}


def test_a_field_of_a_group_needs_a_default(register):
    class Written(Method):
        def __init__(self, pair, *, sizes: Bare):
            super().__init__(pair)

    with pytest.raises(TypeError, match="made_depth"):
        register(Written)


@pytest.mark.runs
@pytest.mark.parametrize(
    ("found", "mentions"),
    [(lambda rows: {"ce": rows.mean()}, ["made", "'ce'"]), (lambda rows: {"made": rows}, ["made", "shape", "(130,)"])],
    ids=["a name of the run's own", "no scalar"],
)
def test_losses_that_cannot_be_weighed_and_recorded_end_the_run(register, teacher, tmp_path, capsys, found, mentions):
    class Returning(Method):
        def losses(self, student, teachers, batch):
            return found((student.logits - teachers[0].logits).square().mean(dim=1))

    register(Returning)
    assert train("made", output=tmp_path, teacher=teacher) == 1
    message = capsys.readouterr().err
    assert message.count("\n") <= 3
    assert all(word in message for word in mentions)
    assert not list(folder_of(tmp_path).glob("result.json"))


@pytest.mark.runs
def test_a_student_that_predicts_otherwise_does_so_from_its_file(register, teacher, tmp_path, capsys):
    """A learned layer in `predict` alone, without `attach`."""

    class Predicting(Method):
        weights = Weights(gamma=1, alpha=0, beta=1)

        def __init__(self, pair):
            super().__init__(pair)
            self.layer = nn.Linear(pair.student.num_classes, pair.student.num_classes)

        def loss(self, student, teacher, batch):
            return nn.functional.cross_entropy(self.layer(student.logits), batch.labels)

        changes_predictions = True

        def predict(self, features):
            return self.layer(features.logits)

    register(Predicting)
    assert train("made", output=tmp_path, teacher=teacher, extra=["--epochs", "1"]) == 0
    (weights,) = folder_of(tmp_path).glob("*_last.pth")
    assert load(weights)["method"]["name"] == "made"
    capsys.readouterr()
    assert evaluate.main(["--path", str(weights), "--dataset", "digits", "--device", "cpu"]) == 0
    test = read_metrics(folder_of(tmp_path))[-1]["test"]
    assert f"Acc@1 {test['top1']:.2f} " in capsys.readouterr().out


@pytest.mark.parametrize("former", ["meet", "survey", "answers", "readings"])
def test_a_hook_by_its_former_name_is_refused(former):
    with pytest.raises(TypeError, match=former):
        register_method("old")(type("Old", (Method,), {former: lambda self: None}))


@pytest.mark.parametrize("hook", ["attach", "predict", "predictions_by_head", "fit_on_training_set", "extra_step"])
def test_a_hook_that_is_not_declared_is_refused(hook):
    with pytest.raises(TypeError, match=hook):
        register_method("silent")(type("Silent", (Method,), {hook: lambda self, *given: None}))


@pytest.mark.runs
def test_two_losses_of_one_name_in_a_combination_are_refused(register, teacher, tmp_path, capsys):
    class Twin(Method):
        def losses(self, student, teachers, batch):
            return {"hint": (student.logits - teachers[0].logits).square().mean()}

    register(Twin)
    assert train("hint+made", output=tmp_path, teacher=teacher) == 1
    assert "'hint'" in capsys.readouterr().err
