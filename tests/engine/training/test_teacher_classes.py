"""Runs whose teacher has other classes than the data set, or no classifier."""

from dataclasses import replace

import pytest
import torch

import compare
from dataset import DATASETS
from tests.engine.training.few import TWO_STEPS, train_few
from tests.helpers import DIGITS, folder_of, folders_of, read_json, read_metrics, save_network

pytestmark = pytest.mark.runs
ONE_EPOCH = ["--epochs", "1"]


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    """Files of one network: with seven classes, without a classifier, with other names, and in another order."""
    folder = tmp_path_factory.mktemp("teachers")
    network = save_network(folder / "seven.pth", "vit_pico", replace(DIGITS, num_classes=7, classes=()))
    body = {k: v for k, v in network.state_dict().items() if not k.startswith(f"{network.classifier_name}.")}
    torch.save(body, folder / "vit_pico_headless.pth")
    save_network(folder / "other.pth", "vit_pico", replace(DIGITS, classes=tuple("abcdefghij")))
    save_network(folder / "order.pth", "vit_pico", replace(DIGITS, classes=tuple("1023456789")))
    return {path.stem.removeprefix("vit_pico_"): path for path in folder.iterdir()}


def start(*methods, output, teacher, extra=()):
    return train_few(*methods, output=output, teacher=teacher, small=TWO_STEPS, extra=[*ONE_EPOCH, *extra])


@pytest.fixture(scope="module")
def taught(teachers, tmp_path_factory):
    """Output roots of three methods, by teacher."""
    outputs = {name: tmp_path_factory.mktemp(name) for name in ("seven", "headless", "order")}
    for name, output in outputs.items():
        assert start("hint", "crd", "pkt", "none", output=output, teacher=teachers[name]) == 0
    return outputs


def test_methods_that_read_no_logits_take_any_teacher(taught):
    losses = {}
    for name, output in taught.items():
        for method in ("hint", "crd", "pkt"):
            folder = folder_of(output, method)
            (record,) = read_json(folder / "config.json")["teachers"]
            assert [record[key] for key in ("top1", "top5", "loss", "balanced")] == [None] * 4
            assert record["model"] == "vit_pico"
            losses[name, method] = read_metrics(folder)[0]["train"]["loss"]
    for method in ("hint", "crd", "pkt"):  # two files with one body
        assert losses["seven", method] == losses["headless", method]


@pytest.mark.parametrize("form", ["markdown", "html"])
def test_such_a_teacher_has_no_accuracy_in_tables(form, taught, tmp_path):
    page = tmp_path / "page"
    assert compare.main([str(taught["seven"]), "--format", form, "--out", str(page)]) == 0
    assert "NaN" not in page.read_text()


@pytest.mark.parametrize("name", ["seven", "headless", "order"])
@pytest.mark.parametrize("method", ["kd", "crd+kd", "dkd", "srrl"])
def test_methods_that_read_logits_refuse_it(method, name, teachers, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(DATASETS._entries, "few", replace(DATASETS["few"], load=no_data))
    assert start(method, output=tmp_path, teacher=teachers[name]) == 2
    message = capsys.readouterr().err
    assert len(message.strip().splitlines()) <= 2
    for word in (method, f"--init {teachers[name]}", "--model vit_pico", "--dataset few"):
        assert word in message
    assert "--alpha 0" not in message
    assert not folders_of(tmp_path)


def no_data(folder=None):
    raise AssertionError("data is loaded before all else is known to be right")


def test_a_method_that_reads_logits_for_its_kl_alone_works_without_it(teachers, tmp_path, capsys):
    assert start("nd", output=tmp_path, teacher=teachers["headless"]) == 2
    message = capsys.readouterr().err
    assert all(word in message for word in ("nd", "--alpha 0", "--init"))
    assert start("nd", output=tmp_path, teacher=teachers["headless"], extra=["--alpha", "0"]) == 0
    assert start("pkt", output=tmp_path, teacher=teachers["headless"], extra=["--alpha", "0.5"]) == 2
    assert "--alpha 0" in capsys.readouterr().err


def test_it_is_refused_among_several_teachers(teachers, teacher, tmp_path, capsys):
    both = ["--path_t", str(teacher), str(teachers["seven"])]
    assert train_few("kd", output=tmp_path, small=TWO_STEPS, extra=[*ONE_EPOCH, *both]) == 2
    assert str(teachers["seven"]) in capsys.readouterr().err


def test_a_refused_method_is_left_out_on_request(teachers, tmp_path, capsys):
    assert start("kd", "pkt", output=tmp_path, teacher=teachers["seven"], extra=["--skip_refused"]) == 0
    assert [read_json(folder / "config.json")["method"] for folder in folders_of(tmp_path)] == ["pkt"]


def test_other_names_are_warned_of_where_logits_are_read(teachers, tmp_path, capsys):
    assert start("pkt", output=tmp_path, teacher=teachers["other"]) == 0
    assert "a, b, c" not in "".join(capsys.readouterr())
    assert start("kd", output=tmp_path, teacher=teachers["other"]) == 0
    assert "a, b, c" in "".join(capsys.readouterr())


def test_its_embedding_must_be_finite(teachers, tmp_path, capsys):
    state = torch.load(teachers["headless"], weights_only=True)
    path = tmp_path / "vit_pico.pth"
    torch.save({key: 1e30 * value if value.ndim == 2 else value for key, value in state.items()}, path)
    assert start("pkt", output=tmp_path / "save", teacher=path) == 2
    assert str(path) in capsys.readouterr().err
