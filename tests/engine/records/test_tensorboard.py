"""TensorBoard events hold what the metrics files hold, also after an interruption."""

import itertools

import pytest

from engine.records.tensorboard import TensorBoard
from tests.engine.records.events import events_of, expected_events
from tests.helpers import folder_of, stop_at_step, train

pytestmark = pytest.mark.runs


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
