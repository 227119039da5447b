"""TensorBoard events hold what the metrics files hold, also after an interruption."""

import itertools

import pytest

from engine.records.tensorboard import TensorBoard
from tests.helpers import folder_of, read_metrics, stop_at_step, train

pytestmark = pytest.mark.runs


def events_of(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    import engine  # noqa: F401  chooses the protobuf that tensorboard_logger can work with

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def expected_events(folder):
    found = {}
    for record in read_metrics(folder):
        train, test = record["train"], record["test"]
        values = {"train_loss": train["loss"], "train_acc": train["top1"], "learning_rate": record["learning_rate"]}
        values |= {"test_loss": test["loss"], "test_acc": test["top1"], "test_acc_top5": test["top5"]}
        values |= {f"loss/{name}": train[name] for name in train.keys() - {"loss", "top1"}}
        for tag, value in values.items():
            found.setdefault(tag, []).append((record["epoch"], pytest.approx(value, rel=1e-6)))
    return found


def test_every_loss_is_a_curve(teacher, tmp_path):
    assert train("hint", output=tmp_path, teacher=teacher, extra=["--alpha", "0.5"]) == 0
    events = events_of(folder_of(tmp_path))
    assert events == expected_events(folder_of(tmp_path))
    assert {"loss/ce", "loss/kl", "loss/hint"} < events.keys()


def test_a_process_that_trains_along_writes_no_events(tmp_path):
    board = TensorBoard(tmp_path / "events", writes=False)
    board.log(1, {"loss": 1.0})
    board.clear()
    assert not (tmp_path / "events").exists()


@pytest.mark.parametrize("pause", [0, 5])
def test_tensorboard_is_whole_after_a_cut(tmp_path, monkeypatch, pause):
    """Cut twice, also within a second: the name of an event file tells seconds only."""
    clock = itertools.count(1e9, pause)
    monkeypatch.setattr("tensorboard_logger.Logger._time", lambda self: next(clock))
    for step in (1, 3):
        with monkeypatch.context() as patch:
            stop_at_step(patch, 2, step)
            assert train("none", output=tmp_path) == 130
    assert train("none", output=tmp_path) == 0
    folder = folder_of(tmp_path)
    events = events_of(folder)
    assert events == expected_events(folder)
    assert len(events["test_acc"]) == 2
    assert len(list((folder / "tensorboard").iterdir())) == 1
