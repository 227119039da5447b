"""DeiT's two losses against loops, who answers, what is saved, and what other methods make of a second token."""

import json
import math

import pytest
import torch

import evaluate as evaluate_script
from common.errors import RequestError
from common.seeds import derive_seed, isolated_seed
from distiller_zoo import METHODS, Pair, Weights, create_method
from models import Features, create_model
from tests.helpers import DIGITS, folder_of, load, read_json, read_metrics, save_network, train

STUDENT = "deit_pico_distilled"
BATCH, CLASSES = 5, 10


@pytest.fixture(scope="module")
def shapes():
    return create_model(STUDENT, CLASSES, 8).feature_shapes()


def draw(seed, *sizes):
    return 3 * torch.randn(*sizes, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def student_features():
    return Features(draw(1, BATCH, CLASSES), heads=(draw(2, BATCH, CLASSES),))


def method_of(shapes, options=None, teachers=1):
    return create_method("deit", Pair(shapes, (shapes,) * teachers, 100), options)


def log_softmax(row, temperature):
    row = [value / temperature for value in row]
    total = math.log(sum(math.exp(value - max(row)) for value in row)) + max(row)
    return [value - total for value in row]


def naive_hard(logits_s, logits_t):
    """Mean over samples of −log p_s of the class that the teacher prefers."""
    total = 0.0
    for row_s, row_t in zip(logits_s.tolist(), logits_t.tolist(), strict=True):
        total -= log_softmax(row_s, 1)[row_t.index(max(row_t))]
    return total / len(logits_s)


def naive_soft(logits_s, logits_t, temperature):
    """T² times the mean over samples of Σ_k p_t·(log p_t − log p_s); not divided by the number of classes."""
    total = 0.0
    for row_s, row_t in zip(logits_s.tolist(), logits_t.tolist(), strict=True):
        log_s, log_t = log_softmax(row_s, temperature), log_softmax(row_t, temperature)
        total += sum(math.exp(t) * (t - s) for s, t in zip(log_s, log_t, strict=True))
    return temperature**2 * total / len(logits_s)


# --- the loss --------------------------------------------------------------------------------------


def test_defaults_are_the_papers(shapes):
    assert METHODS["deit"].weights == Weights(0.5, 0, 0.5)
    method = method_of(shapes)
    assert method.hard
    assert method.temperature == 3.0
    assert list(method.parameters()) == []


@pytest.mark.parametrize("seed", [3, 4])
def test_hard_labels_against_loops(shapes, seed):
    student, teacher = student_features(), Features(draw(seed, BATCH, CLASSES))
    losses = method_of(shapes).own_losses(student, (teacher,), None)
    assert list(losses) == ["deit"]
    assert losses["deit"].item() == pytest.approx(naive_hard(student.heads[0], teacher.logits), rel=1e-9)


@pytest.mark.parametrize("options", [{}, {"deit_T": 1.0}, {"deit_T": 5.0}])
def test_soft_labels_against_loops(shapes, options):
    student, teacher = student_features(), Features(draw(3, BATCH, CLASSES))
    loss = method_of(shapes, options | {"deit_labels": "soft"}).loss(student, teacher, None)
    expected = naive_soft(student.heads[0], teacher.logits, options.get("deit_T", 3.0))
    assert loss.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("labels", ["hard", "soft"])
def test_soft_labels_are_standardised_on_both_sides(shapes, labels):
    student, teacher = student_features(), Features(draw(3, BATCH, CLASSES))
    method = method_of(shapes, {"deit_labels": labels})
    method.logit_standardization = True
    found = method.own_losses(student, (teacher,), None)["deit"].item()

    def z_scored(logits):
        return (logits - logits.mean(1, keepdim=True)) / (logits.var(1, keepdim=True).sqrt() + 1e-7)

    if labels == "soft":
        expected = naive_soft(z_scored(student.heads[0]), z_scored(teacher.logits), 3.0)
    else:
        expected = naive_hard(student.heads[0], teacher.logits)
    assert found == pytest.approx(expected, rel=1e-6)


def test_several_teachers_are_their_mixture(shapes):
    """Each is sure of a class of its own; the surer one decides."""
    sure, less_sure = torch.zeros(1, 3), torch.zeros(1, 3)
    sure[0, 2], less_sure[0, 1] = 9, 2
    student = Features(torch.zeros(1, 3), heads=(torch.tensor([[1.0, 0, 2]]),))
    losses = method_of(shapes, teachers=2).own_losses(student, (Features(less_sure), Features(sure)), None)
    assert losses["deit"].item() == pytest.approx(-log_softmax([1, 0, 2], 1)[2], rel=1e-6)


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_temperatures_that_make_no_sense(shapes, temperature):
    with pytest.raises(RequestError, match=f"--deit_T is {temperature}; it must be positive"):
        method_of(shapes, {"deit_T": temperature})


# --- who answers -----------------------------------------------------------------------------------


def test_the_answer_is_the_mean_of_both_heads(shapes):
    method, features = method_of(shapes), student_features()
    (distilled,) = features.heads
    answers = method.predictions_by_head(method.attach(features))
    torch.testing.assert_close(method.predict(features), (features.logits + distilled) / 2)
    assert torch.equal(answers["average"], method.predict(features))
    assert torch.equal(answers["class"], features.logits)
    assert torch.equal(answers["distillation"], distilled)


@pytest.mark.parametrize("student", ["resnet8", "mixer_pico", "vit_pico"])
def test_students_without_the_token_are_refused(student, teacher, tmp_path, capsys):
    assert train("deit", output=tmp_path, teacher=teacher, student=student) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("choose one that does, for instance --model_s deit_nano_distilled")
    assert not list(tmp_path.rglob("*.pth"))


# --- whole runs ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(teacher, tmp_path_factory):
    """DeiT, a combination, and methods that know nothing of the second head, on one student."""
    output = tmp_path_factory.mktemp("runs")
    methods = ("deit", "deit+hint", "kd", "std")
    assert train(*methods, output=output, teacher=teacher, student=STUDENT, extra=["--epochs", "1"]) == 0
    return output


@pytest.mark.parametrize(("method", "label"), [("deit", {"deit"}), ("deit+hint", {"deit", "hint"})])
def test_it_trains_both_heads(method, label, runs):
    folder = folder_of(runs, method)
    (record,) = read_metrics(folder)
    assert set(record["train"]) == {"loss", "ce", "top1"} | label
    trained, fresh = weights_of(folder), fresh_student()
    for key in ("head.weight", "head_dist.weight", "dist_token"):
        assert not torch.equal(trained[key], fresh[key]), key


def weights_of(folder):
    return load(folder / f"{STUDENT}_last.pth")["model"]


def fresh_student():
    """The student as runs of trial 1 begin."""
    with isolated_seed(derive_seed(1, "student")):
        return create_model(STUDENT, 10, 8).state_dict()


def test_the_recorded_loss_is_the_weighted_sum(runs):
    train_losses = read_metrics(folder_of(runs, "deit"))[0]["train"]
    assert train_losses["loss"] == pytest.approx((train_losses["ce"] + train_losses["deit"]) / 2, rel=1e-5)


@pytest.mark.parametrize("method", ["deit", "deit+hint"])
def test_a_saved_student_answers_with_both_heads(method, runs, capsys):
    """The file alone says so: its accuracy is the recorded one, and not that of the class head."""
    folder = folder_of(runs, method)
    argv = ["--path", str(folder / f"{STUDENT}_last.pth"), "--dataset", "digits", "--device", "cpu", "--json"]
    capsys.readouterr()
    assert evaluate_script.main([*argv, "--precision", "fp32"]) == 0
    measured = json_of(capsys)
    last = read_json(folder / "result.json")["last"]
    assert measured["loss"] == pytest.approx(last["loss"], rel=1e-5)
    answers = read_json(folder / "result.json")["answers"]
    assert answers["average"]["loss"] == pytest.approx(last["loss"], rel=1e-5)
    assert answers["class"]["loss"] != pytest.approx(last["loss"], rel=1e-5)


def json_of(capsys):
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("method", ["kd", "std"])
def test_other_methods_leave_the_second_head_as_it_was(method, runs):
    trained, fresh = weights_of(folder_of(runs, method)), fresh_student()
    changed = {key for key in fresh if not torch.equal(trained[key], fresh[key])}
    assert {"head.weight", "dist_token", "pos_embed"} <= changed
    assert not {"head_dist.weight", "head_dist.bias"} & changed


def test_of_another_method_the_class_head_answers(tmp_path):
    network = save_network(tmp_path / "student.pth", STUDENT)
    x = torch.randn(4, 3, DIGITS.image_size, DIGITS.image_size)
    features = network.features(x)
    method = create_method("kd", Pair(network.feature_shapes(), (network.feature_shapes(),), 100))
    assert torch.equal(method.predict(method.attach(features)), network.last_linear(features.embedding))
