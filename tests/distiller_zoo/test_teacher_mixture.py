"""Several teachers, and what papers give for single pairs of networks."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from distiller_zoo import METHODS, Method, Weights, create_method, method_class, options_of, register_method
from distiller_zoo.published_settings import published_for, published_pairs
from distiller_zoo.teacher_mixture import MANY, confidence_weights, mixture
from models import MODELS, Features
from tests.helpers import folder_of, folders_of, read_json, save_network, train


def random(*shape, seed=0, scale=3.0):
    return scale * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("weighting", ["average", "confidence"])
@pytest.mark.parametrize(("count", "batch", "classes"), [(2, 5, 7), (3, 1, 2), (1, 4, 10)])
def test_mixture_against_numpy(weighting, count, batch, classes):
    logits = [random(batch, classes, seed=seed) for seed in range(count)]
    found = softmax(mixture(tuple(Features(z) for z in logits), weighting).logits.numpy(), 1)
    p = np.stack([softmax(z.numpy(), 1) for z in logits])
    entropy = -(p * np.log(p)).sum(2)
    weights = softmax(-entropy, 0) if weighting == "confidence" else np.full((count, batch), 1 / count)
    np.testing.assert_allclose(found, (weights[:, :, None] * p).sum(0), rtol=1e-10)
    np.testing.assert_allclose(confidence_weights(logits).numpy(), softmax(-entropy, 0), rtol=1e-10)


def test_mixture_of_certain_teachers_is_finite():
    certain = Features(torch.tensor([[500.0, -500.0, 0.0]]))
    logits = mixture((certain, Features(torch.zeros(1, 3))), "confidence").logits
    assert logits.isfinite().all()
    assert logits.argmax() == 0


@pytest.fixture
def two_teachers(tmp_path):
    paths = [tmp_path / f"{seed}.pth" for seed in (1, 2)]
    for seed, path in enumerate(paths):
        save_network(path, "resnet8", seed=seed)
    return [str(path) for path in paths]


def test_methods_on_predictions_take_several(two_teachers, tmp_path):
    """KL by mean or by confidence, and a loss of one teacher with their mixture; each a run of its own."""

    class Mimic(Method):
        weights = Weights(1, 0, 1)

        def loss(self, student, teacher, batch):
            return (student.logits.log_softmax(1) - teacher.logits.log_softmax(1)).square().mean()

    register_method("mimic")(Mimic)
    try:
        assert method_class("mimic").most_teachers() == MANY
        for weighting in ("average", "confidence"):
            extra = ["--path_t", *two_teachers, "--teacher_weighting", weighting, "--epochs", "1"]
            assert train("kd", "mimic", "kd+mimic", "none", output=tmp_path / "save", extra=extra) == 0
    finally:
        del METHODS._entries["mimic"]
    labels = sorted(read_json(folder / "config.json")["label"] for folder in folders_of(tmp_path / "save"))
    by = "teachers by confidence"
    assert labels == ["kd", f"kd {by}", "kd+mimic", f"kd+mimic {by}", "mimic", f"mimic {by}", "none"]
    last = {
        read_json(folder / "config.json")["label"]: read_json(folder / "result.json")["last"]["loss"]
        for folder in folders_of(tmp_path / "save")
    }
    assert last["kd"] != last[f"kd {by}"]
    assert last["mimic"] != last[f"mimic {by}"]


def test_mean_of_the_divergences(two_teachers):
    """γ·CE + α·mean_i KL_i, against NumPy."""
    from engine.training.loss import kl_to_teachers

    z = random(4, 5)
    teachers = tuple(Features(random(4, 5, seed=seed)) for seed in (1, 2))

    class Plan:
        kd_T, teacher_weighting, logit_standardization = 2.0, "average", False

    def kl(t):
        p = softmax(t / 2, 1)
        return 4 * (p * (np.log(p) - log_softmax(z.numpy() / 2, 1))).sum(1).mean()

    mean = np.mean([kl(t.logits.numpy()) for t in teachers])
    assert kl_to_teachers(Plan, Features(z), teachers).item() == pytest.approx(mean)
    Plan.teacher_weighting = "confidence"
    mixed = kl(mixture(teachers, "confidence").logits.numpy())
    assert kl_to_teachers(Plan, Features(z), teachers).item() == pytest.approx(mixed)


def test_methods_on_features_take_one(two_teachers, tmp_path, capsys):
    assert train("hint", output=tmp_path / "save", extra=["--path_t", *two_teachers]) == 2
    assert "hint learns from 1 teacher(s), but 2 were given" in capsys.readouterr().err


# --- what papers give ---------------------------------------------------------------------------------


@pytest.mark.parametrize("pair", published_pairs(), ids=lambda pair: f"{pair.method}-{pair.teacher}-{pair.student}")
def test_every_row_can_be_run(pair):
    assert pair.method in METHODS
    assert pair.teacher in MODELS
    assert pair.student in MODELS
    assert pair.source
    # A run without KL has forgotten its --kd_T by the time that it is given the pair's weights.
    assert METHODS[pair.method].weights.alpha or "alpha" not in pair.weights
    options = options_of(pair.method)
    for name, value in pair.options.items():
        assert isinstance(value, type(options[name].default) | int)
    assert published_for(pair.method, [pair.teacher], pair.student) == pair
    from distiller_zoo import Pair
    from models import create_model

    shapes = (create_model(model, 100, 32).feature_shapes() for model in (pair.student, pair.teacher))
    student, teacher = shapes
    create_method(pair.method, Pair(student, (teacher,), 50_000), pair.options)


@pytest.mark.parametrize(
    ("method", "teacher", "student", "options"),
    [
        ("sdd_dkd", "resnet110", "resnet32", {"dkd_beta": 2}),
        ("sdd_dkd", "wrn_40_2", "wrn_40_1", {"dkd_beta": 6}),
        ("sdd_dkd", "vgg13", "MobileNetV2", {"dkd_beta": 6, "sdd_scales": "1,2,4"}),
        ("sdd", "ResNet50", "vgg8", {"sdd_scales": "1,2,4"}),
        ("itrd", "wrn_40_2", "wrn_16_2", {"itrd_mutual": 1, "itrd_alpha": 1.01}),
    ],
)
def test_what_some_rows_say(method, teacher, student, options):
    row = published_for(method, [teacher], student)
    assert (row.weights, row.options) == ({}, options)


def test_sdd_takes_three_scales_across_families_and_two_within():
    rows = [pair for pair in published_pairs() if "sdd_scales" in pair.options]
    families = [MODELS[pair.teacher].family == MODELS[pair.student].family for pair in rows]
    assert [pair.options["sdd_scales"] for pair in rows] == ["1,2" if same else "1,2,4" for same in families]


def test_no_row_twice():
    rows = [(pair.method, pair.teacher, pair.student) for pair in published_pairs()]
    assert len(rows) == len(set(rows))
    assert published_for("dkd", ["resnet56", "resnet56"], "resnet20") is None
    assert published_for("none", [], "resnet20") is None


def test_paper_weights_are_taken_on_request_and_yield_to_the_user(teacher, tmp_path, monkeypatch, capsys):
    from distiller_zoo import published_settings as published

    monkeypatch.setattr("engine.protocol.published_weights.DATASET", "digits")
    row = published.PublishedPair(
        "crd", "resnet8", "resnet8", {"alpha": 1.5, "beta": 0.3}, {"nce_t": 0.1, "nce_k": 32}, "a paper"
    )
    monkeypatch.setattr(published, "published_pairs", lambda: (row,))
    extra = ["--paper_weights", "--epochs", "1"]
    assert train("crd", "none", "kd", "crd+kd", output=tmp_path / "paper", teacher=teacher, extra=extra) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("--paper_weights: ")]
    assert said == [
        "--paper_weights: crd, resnet8 → resnet8: alpha=1.5, beta=0.3, nce_t=0.1 (a paper)",
        "--paper_weights: kd, crd+kd, resnet8 → resnet8: nothing is published; the defaults stay",
    ]
    config = read_json(folder_of(tmp_path / "paper", "crd") / "config.json")
    assert config["weights"] == {"gamma": 1, "alpha": 1.5, "beta": 0.3}
    assert (config["options"]["nce_t"], config["options"]["nce_k"]) == (0.1, 64)  # the helper gives --nce_k 64
    assert config["label"] == "crd alpha=1.5 beta=0.3 nce_k=64 nce_t=0.1"
    assert train("crd", output=tmp_path / "user", teacher=teacher, extra=[*extra, "-b", "2"]) == 0
    assert read_json(folder_of(tmp_path / "user") / "config.json")["weights"]["beta"] == 2
    assert train("crd", output=tmp_path / "plain", teacher=teacher, extra=extra[1:]) == 0
    assert read_json(folder_of(tmp_path / "plain") / "config.json")["weights"]["beta"] == 0.8


def test_paper_weights_are_of_one_data_set(teacher, tmp_path, monkeypatch, capsys):
    from distiller_zoo import published_settings as published

    row = published.PublishedPair("crd", "resnet8", "resnet8", {"beta": 0.3}, {}, "a paper")
    monkeypatch.setattr(published, "published_pairs", lambda: (row,))
    assert train("crd", output=tmp_path, teacher=teacher, extra=["--paper_weights", "--epochs", "1"]) == 0
    assert read_json(folder_of(tmp_path) / "config.json")["weights"]["beta"] == 0.8
    said = "--paper_weights: papers give them for cifar100; on digits nothing is changed"
    assert said in capsys.readouterr().out.splitlines()
