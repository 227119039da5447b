"""What papers give for single pairs of networks: each row can be run, and `--paper_weights` takes it on request."""

import pytest

from distiller_zoo import METHODS, Pair, create_method, options_of
from distiller_zoo import published_settings as published
from distiller_zoo.published_settings import published_for, published_pairs
from models import MODELS, create_model
from tests.helpers import folder_of, read_json, train

every_row = pytest.mark.parametrize(
    "row", published_pairs(), ids=lambda row: f"{row.method}-{row.teacher}-{row.student}"
)


@every_row
def test_a_row_names_what_there_is(row):
    assert row.method in METHODS
    assert row.teacher in MODELS
    assert row.student in MODELS
    assert row.source
    # A run without KL has forgotten its --kd_T by the time that it is given the pair's weights.
    assert METHODS[row.method].weights.alpha or "alpha" not in row.weights
    options = options_of(row.method)
    for name, value in row.options.items():
        assert isinstance(value, type(options[name].default) | int)
    assert published_for(row.method, [row.teacher], row.student) == row


def test_rows_are_taken_by_their_methods():
    """With one network for both sides: what a row may get wrong is its options."""
    shapes = create_model("resnet8", 100, 32).feature_shapes()
    for row in published_pairs():
        create_method(row.method, Pair(shapes, (shapes,), 50_000), row.options)


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
    rows = [row for row in published_pairs() if "sdd_scales" in row.options]
    families = [MODELS[row.teacher].family == MODELS[row.student].family for row in rows]
    assert [row.options["sdd_scales"] for row in rows] == ["1,2" if same else "1,2,4" for same in families]


def test_no_row_twice():
    rows = [(row.method, row.teacher, row.student) for row in published_pairs()]
    assert len(rows) == len(set(rows))
    assert published_for("dkd", ["resnet56", "resnet56"], "resnet20") is None
    assert published_for("none", [], "resnet20") is None


# --- --paper_weights ------------------------------------------------------------------------------

EXTRA = ["--paper_weights", "--epochs", "1"]


@pytest.mark.runs
def test_taken_on_request_and_yield_to_the_user(teacher, tmp_path, monkeypatch, capsys):
    """A line says what each method got, with the source, and of which nothing is published."""
    monkeypatch.setattr("engine.protocol.published_weights.DATASET", "digits")
    row = published.PublishedPair(
        "crd", "resnet8", "resnet8", {"alpha": 1.5, "beta": 0.3}, {"nce_t": 0.1, "nce_k": 32}, "a paper"
    )
    monkeypatch.setattr(published, "published_pairs", lambda: (row,))
    assert train("crd", "none", "kd", "crd+kd", output=tmp_path / "paper", teacher=teacher, extra=EXTRA) == 0
    taken, nothing = [line for line in capsys.readouterr().out.splitlines() if line.startswith("--paper_weights: ")]
    assert all(word in taken for word in ("crd", "alpha=1.5", "beta=0.3", "nce_t=0.1", "a paper"))
    assert "nce_k" not in taken  # the helper gives --nce_k 64
    assert "defaults of kd are the published ones" in nothing
    assert "nothing is published for crd+kd" in nothing
    config = read_json(folder_of(tmp_path / "paper", "crd") / "config.json")
    assert config["weights"] == {"gamma": 1, "alpha": 1.5, "beta": 0.3}
    assert (config["options"]["nce_t"], config["options"]["nce_k"]) == (0.1, 64)
    assert config["label"] == "crd alpha=1.5 beta=0.3 nce_k=64 nce_t=0.1"
    assert train("crd", output=tmp_path / "user", teacher=teacher, extra=[*EXTRA, "-b", "2"]) == 0
    assert read_json(folder_of(tmp_path / "user") / "config.json")["weights"]["beta"] == 2
    assert train("crd", output=tmp_path / "plain", teacher=teacher, extra=EXTRA[1:]) == 0
    assert read_json(folder_of(tmp_path / "plain") / "config.json")["weights"]["beta"] == 0.8


@pytest.mark.runs
def test_they_are_of_one_data_set(teacher, tmp_path, monkeypatch, capsys):
    row = published.PublishedPair("crd", "resnet8", "resnet8", {"beta": 0.3}, {}, "a paper")
    monkeypatch.setattr(published, "published_pairs", lambda: (row,))
    assert train("crd", output=tmp_path, teacher=teacher, extra=EXTRA) == 0
    assert read_json(folder_of(tmp_path) / "config.json")["weights"]["beta"] == 0.8
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("--paper_weights: ")]
    assert all(word in line for word in ("cifar100", "digits"))
