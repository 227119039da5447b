"""DeiT's two losses against loops, by which head it predicts, what is saved, and what other methods leave alone."""

import json

import pytest
import torch

import evaluate
from common.seeds import derive_seed, isolated_seed
from distiller_zoo import Pair, Weights, create_method
from models import Features, create_model
from tests import naive
from tests.distiller_zoo.cases import assert_published, assert_refused, logits_pair, make, shapes_of_model
from tests.distiller_zoo.odd_inputs import assert_finite_for_odd_logits
from tests.helpers import DIGITS, folder_of, load, read_json, read_metrics, save_network, train
from tests.numerics import arrays, assert_near, normal

STUDENT = "deit_pico_distilled"


def method_of(teachers=1, **options):
    shapes = shapes_of_model(STUDENT)
    return create_method("deit", Pair(shapes, (shapes,) * teachers, 100), options)


def student_features():
    """Logits of the class head and of the distillation head."""
    own, distilled = logits_pair((5, 10))
    return Features(own, heads=(distilled,))


def teacher_features(seed=3):
    return Features(3 * normal(5, 10, seed=seed))


def naive_hard(logits_s, logits_t):
    return naive.mean([naive.hard_label_loss(s, t) for s, t in zip(logits_s, logits_t, strict=True)])


# --- the loss --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [3, 4])
def test_hard_labels(seed):
    student, teacher = student_features(), teacher_features(seed)
    losses = method_of().own_losses(student, (teacher,), None)
    assert list(losses) == ["deit"]
    assert_near(losses["deit"], naive_hard(*arrays(student.heads[0], teacher.logits)))


@pytest.mark.parametrize("options", [{}, {"deit_T": 1.0}, {"deit_T": 5.0}])
def test_soft_labels(options):
    student, teacher = student_features(), teacher_features()
    loss = method_of(deit_labels="soft", **options).loss(student, teacher, None)
    assert_near(loss, naive.kd(*arrays(student.heads[0], teacher.logits), options.get("deit_T", 3.0)))


def test_soft_labels_are_standardised_on_both_sides():
    student, teacher = student_features(), teacher_features()
    method = method_of(deit_labels="soft")
    method.logit_standardization = True
    expected = naive.kd(*map(naive.z_scored, arrays(student.heads[0], teacher.logits)), 3.0)
    assert_near(method.own_losses(student, (teacher,), None)["deit"], expected)


def test_hard_labels_are_not_standardised():
    student, teacher = student_features(), teacher_features()
    method = method_of()
    method.logit_standardization = True
    expected = naive_hard(*arrays(student.heads[0], teacher.logits))
    assert_near(method.own_losses(student, (teacher,), None)["deit"], expected)


def test_several_teachers_are_their_mixture():
    """Each is sure of a class of its own; the surer one decides."""
    sure, less_sure = torch.zeros(1, 3), torch.zeros(1, 3)
    sure[0, 2], less_sure[0, 1] = 9, 2
    student = Features(torch.zeros(1, 3), heads=(torch.tensor([[1.0, 0, 2]]),))
    losses = method_of(teachers=2).own_losses(student, (Features(less_sure), Features(sure)), None)
    assert losses["deit"].item() == pytest.approx(-naive.log_softmax([1, 0, 2])[2], rel=1e-6)


@pytest.mark.parametrize("labels", ["hard", "soft"])
def test_odd_logits(labels):
    method = method_of(deit_labels=labels)
    assert_finite_for_odd_logits(
        lambda s, t: method.loss(Features(torch.zeros_like(s), heads=(s,)), Features(t), None), (3, 1)
    )


def test_published():
    assert_published("deit", Weights(0.5, 0, 0.5), {"deit_labels": "hard", "deit_T": 3.0})
    assert list(method_of().parameters()) == []


def test_refused_options():
    shapes = shapes_of_model(STUDENT)
    for temperature in (0.0, -1.0):
        assert_refused("deit", shapes, shapes, deit_T=temperature)


# --- predictions -----------------------------------------------------------------------------------


def test_it_predicts_by_the_mean_of_both_heads():
    method, features = method_of(), student_features()
    (distilled,) = features.heads
    found = method.predictions_by_head(method.attach(features))
    torch.testing.assert_close(method.predict(features), (features.logits + distilled) / 2)
    assert torch.equal(found["average"], method.predict(features))
    assert torch.equal(found["class"], features.logits)
    assert torch.equal(found["distillation"], distilled)


def test_with_another_method_the_class_head_predicts(tmp_path):
    network = save_network(tmp_path / "student.pth", STUDENT)
    features = network.features(normal(4, 3, DIGITS.image_size, DIGITS.image_size, dtype=torch.float32))
    shapes = network.feature_shapes()
    method = make("kd", shapes, shapes)
    assert torch.equal(method.predict(method.attach(features)), network.last_linear(features.embedding))


# --- whole runs ------------------------------------------------------------------------------------


@pytest.mark.runs
@pytest.mark.parametrize("student", ["resnet8", "mixer_pico", "vit_pico"])
def test_students_without_the_token_are_refused(student, teacher, tmp_path, capsys):
    assert train("deit", output=tmp_path, teacher=teacher, student=student) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "deit" in line
    assert "--model_s" in line
    assert not list(tmp_path.rglob("*.pth"))


@pytest.fixture(scope="module")
def runs(teacher, tmp_path_factory):
    """DeiT, a combination, and methods that know nothing of the second head, on one student."""
    output = tmp_path_factory.mktemp("runs")
    methods = ("deit", "deit+hint", "kd", "std")
    assert train(*methods, output=output, teacher=teacher, student=STUDENT, extra=["--epochs", "1"]) == 0
    return output


def weights_of(folder):
    return load(folder / f"{STUDENT}_last.pth")["model"]


def fresh_student():
    """The student as runs of trial 1 begin."""
    with isolated_seed(derive_seed(1, "student")):
        return create_model(STUDENT, 10, 8).state_dict()


@pytest.mark.runs
@pytest.mark.parametrize(("method", "label"), [("deit", {"deit"}), ("deit+hint", {"deit", "hint"})])
def test_it_trains_both_heads(method, label, runs):
    folder = folder_of(runs, method)
    (record,) = read_metrics(folder)
    assert set(record["train"]) == {"loss", "ce", "top1"} | label
    trained, fresh = weights_of(folder), fresh_student()
    for key in ("head.weight", "head_dist.weight", "dist_token"):
        assert not torch.equal(trained[key], fresh[key]), key


@pytest.mark.runs
def test_the_recorded_loss_is_the_weighted_sum(runs):
    train_losses = read_metrics(folder_of(runs, "deit"))[0]["train"]
    assert train_losses["loss"] == pytest.approx((train_losses["ce"] + train_losses["deit"]) / 2, rel=1e-5)


@pytest.mark.runs
@pytest.mark.parametrize("method", ["deit", "deit+hint"])
def test_a_saved_student_predicts_by_both_heads(method, runs, capsys):
    """The file alone says so: its accuracy is the recorded one, and not that of the class head."""
    folder = folder_of(runs, method)
    argv = ["--path", str(folder / f"{STUDENT}_last.pth"), "--dataset", "digits", "--device", "cpu", "--json"]
    capsys.readouterr()
    assert evaluate.main([*argv, "--precision", "fp32"]) == 0
    measured = json.loads(capsys.readouterr().out)
    result = read_json(folder / "result.json")
    last, by_head = result["last"], result["answers"]
    assert measured["loss"] == pytest.approx(last["loss"], rel=1e-5)
    assert by_head["average"]["loss"] == pytest.approx(last["loss"], rel=1e-5)
    assert by_head["class"]["loss"] != pytest.approx(last["loss"], rel=1e-5)


@pytest.mark.runs
@pytest.mark.parametrize("method", ["kd", "std"])
def test_other_methods_leave_the_second_head_as_it_was(method, runs):
    trained, fresh = weights_of(folder_of(runs, method)), fresh_student()
    changed = {key for key in fresh if not torch.equal(trained[key], fresh[key])}
    assert {"head.weight", "dist_token", "pos_embed"} <= changed
    assert not {"head_dist.weight", "head_dist.bias"} & changed
