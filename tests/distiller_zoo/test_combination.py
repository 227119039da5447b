"""Several methods in one run: names, weights, options, and what each part sees."""

import argparse

import pytest
import torch

from common.errors import RequestError
from distiller_zoo import METHODS, Method, Weights, canonical_method, method_class, options_of, register_method
from engine.cli import given_method_options
from engine.protocol.options import resolve_options
from engine.protocol.recipes import RECIPES
from tests.helpers import assert_same, folder_of, load, outcome_of, read_json, read_metrics, stop_at_step, train


@pytest.fixture
def extra_methods():
    """Two with an option of one name and different defaults, one with two views, two with a stage of their own."""

    class Left(Method):
        weights, needs = Weights(1, 0, 2), ("embedding",)

        def __init__(self, pair, *, power: float = 2.0, left_only: int = 3):
            super().__init__(pair)
            self.power, self.rows = power, None

        def loss(self, student, teacher, batch):
            self.rows = (len(student.logits), len(teacher.logits), len(batch.labels), len(batch.images))
            return (student.logits - teacher.logits).abs().pow(self.power).mean()

    class Right(Left):
        weights, views = Weights(0.5, 0, 10), 2

        def __init__(self, pair, *, power: float = 1.0):
            super().__init__(pair, power=power)

    class Staged(Left):
        initial_epochs = 2

        def __init__(self, pair):
            super().__init__(pair)

    class Restaged(Staged):
        pass

    made = {"left": Left, "right": Right, "staged": Staged, "restaged": Restaged}
    for name, cls in made.items():
        register_method(name)(cls)
    yield made
    for name in made:
        del METHODS._entries[name]


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("kd+crd", "crd+kd"),
        ("crd+kd", "crd+kd"),
        ("at*500+kd", "attention*500+kd"),
        ("crd*0.8+kd*1", "crd+kd"),  # what is published anyway
        ("kd*0.5+fitnet+sp", "hint+kd*0.5+similarity"),
        ("crd", "crd"),
    ],
)  # fmt: skip
def test_one_name_for_all_ways_to_write_it(written, name):
    assert canonical_method(written) == name


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ("crd+crd", "names crd twice"),
        ("none+kd", "none has no teacher"),
        ("crd*0+kd", "is no weight"),
        ("crd*x+kd", "'x' is no weight"),
        ("crd*inf+kd", "is no weight"),
        ("crd*0.5", "given by --beta"),
        ("crd+kp", "unknown method 'kp'"),
        ("+kd", r"--distill \+kd has an empty part; name a method on each side of \+, as in crd\+kd"),
        ("kd+", r"--distill kd\+ has an empty part"),
        ("*2+kd", "has an empty part"),
    ],
)
def test_refused(written, sentence):
    with pytest.raises(RequestError, match=sentence.replace("*", r"\*")):
        canonical_method(written)


def test_weights_of_the_published_rows():
    assert method_class("crd+kd").weights == Weights(1, 1, 1)
    assert method_class("crd+kd*0.9").weights == Weights(1, 0.9, 1)
    assert method_class("hint+attention").weights == Weights(1, 0, 1)
    assert set(method_class("hint+crd+kd").reads_of_student()) == {"stem", "stages", "embedding"}


def test_kd_beside_crd_is_alpha_beside_crd(teacher, tmp_path):
    """`crd+kd` is what `crd -a 1` is, to the last bit, in a run of its own name."""
    assert train("crd", output=tmp_path, teacher=teacher, extra=["-a", "1"]) == 0
    assert train("crd+kd", output=tmp_path / "both", teacher=teacher) == 0
    alone, both = folder_of(tmp_path, "crd"), folder_of(tmp_path / "both")
    first, second = outcome_of(alone), outcome_of(both)
    assert both.name.startswith("S_resnet8_T_resnet8_digits_crd+kd_r_1_a_1_b_1_")
    assert read_json(both / "config.json")["label"] == "crd+kd nce_k=64"
    assert_same(second["weights"], first["weights"])
    assert_same(second["metrics"], first["metrics"])


def test_each_part_counts_with_its_own_weight(extra_methods, teacher, tmp_path):
    extra = ["--epochs", "1", "--learning_rate", "0.001", "-b", "3"]
    assert train("left+hint*7+kd", output=tmp_path, teacher=teacher, extra=extra) == 0
    folder = folder_of(tmp_path)
    (record,) = read_metrics(folder)
    found = record["train"]
    expected = found["ce"] + found["kl"] + 3 * (2 * found["left"] + 7 * found["hint"])
    assert found["loss"] == pytest.approx(expected, rel=1e-5)
    assert read_json(folder / "config.json")["label"] == "hint*7+kd+left beta=3"
    assert "hintx7+kd+left" in folder.name


def test_cut_and_continued(teacher, tmp_path, monkeypatch):
    options = {"teacher": teacher}
    assert train("crd+hint+kd", output=tmp_path / "whole", **options) == 0
    with monkeypatch.context() as patch:
        stop_at_step(patch, 2, 3)
        assert train("crd+hint+kd", output=tmp_path / "cut", **options) == 130
    state = load(folder_of(tmp_path / "cut") / "checkpoint.pth")["method"]
    assert any(key.endswith("bank") for key in state)
    assert train("crd+hint+kd", output=tmp_path / "cut", **options) == 0
    assert_same(outcome_of(folder_of(tmp_path / "cut")), outcome_of(folder_of(tmp_path / "whole")))


def test_heads_of_a_part_are_kept_for_deployment(teacher, tmp_path):
    import evaluate as evaluate_script

    assert train("std+kd", output=tmp_path, teacher=teacher, student="mixer_pico") == 0
    (weights,) = folder_of(tmp_path).glob("*_last.pth")
    assert load(weights)["method"]["name"] == "kd+std"
    assert evaluate_script.main(["--path", str(weights), "--dataset", "digits", "--device", "cpu"]) == 0


def test_two_that_answer_for_the_student_do_not_go_together(extra_methods):
    class Answering(extra_methods["left"]):
        changes_predictions = True

        def predict(self, features):
            return features.logits

    register_method("answering")(Answering)
    try:
        with pytest.raises(RequestError, match="answering and std each have the student answer"):
            canonical_method("answering+std")
    finally:
        del METHODS._entries["answering"]


def test_options_of_one_name_with_different_defaults(extra_methods, teacher, tmp_path):
    options = {name: parameter.default for name, parameter in options_of("left+right").items()}
    assert options == {"left.power": 2.0, "left_only": 3, "right.power": 1.0}
    given = given_method_options(argparse.Namespace(power=4.0), ["left+right"])
    assert resolve_options("left+right", RECIPES["repdistiller"], given) == {
        "left.power": 4.0, "left_only": 3, "right.power": 4.0,
    }  # fmt: skip


def test_a_part_that_wants_one_view_sees_the_first(extra_methods, teacher, tmp_path, monkeypatch):
    seen = []
    original = extra_methods["left"].loss

    def loss(self, student, teacher, batch):
        value = original(self, student, teacher, batch)
        seen.append((self.name, *self.rows))
        return value

    monkeypatch.setattr(extra_methods["left"], "loss", loss)
    assert train("left+right", output=tmp_path, teacher=teacher, extra=["--epochs", "1"]) == 0
    assert seen[:2] == [("left", 130, 130, 130, 130), ("right", 260, 260, 260, 260)]


def test_methods_with_other_views_form_a_group_of_their_own(extra_methods, teacher, tmp_path):
    """And each run is what it is alone; the first view is the one that methods with one view see."""
    assert train("left", "right", "none", output=tmp_path / "together", teacher=teacher) == 0
    for method in ("left", "right"):
        assert train(method, output=tmp_path / method, teacher=teacher) == 0
        alone, together = folder_of(tmp_path / method), folder_of(tmp_path / "together", method)
        assert_same(outcome_of(together), outcome_of(alone))


def test_two_initial_stages_do_not_go_together(extra_methods, teacher, tmp_path, capsys):
    assert train("staged+restaged", output=tmp_path, teacher=teacher) == 2
    assert "restaged and staged each begin with a stage of their own" in capsys.readouterr().err


def test_second_view_is_another_augmentation_of_the_same_images():
    from dataset import DATASETS, Augmentation, Batching, BatchStream, load_arrays

    data = load_arrays("digits", ".")
    streams = [
        BatchStream(data.train_images, data.train_labels, DATASETS["digits"],
                    Batching(Augmentation(mixup=0.8), 16, 1, True, views=views), "cpu")
        for views in (1, 2)
    ]  # fmt: skip
    one, two = (next(stream.epoch(1)) for stream in streams)
    assert torch.equal(two.images[:16], one.images)
    assert not torch.equal(two.images[16:], one.images)
    assert torch.equal(two.labels, one.labels.repeat(2))
    assert torch.equal(two.index, one.index.repeat(2))
    assert torch.equal(two.targets[:16], one.targets)
    assert torch.allclose(two.targets.sum(dim=1), torch.ones(32))
    first = two.first(16)
    assert torch.equal(first.images, one.images)
    assert len(first.targets) == len(first.index) == 16
