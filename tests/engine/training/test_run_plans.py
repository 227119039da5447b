"""What a command says of all its runs together."""

import re

import pytest

from engine.records.time_left import TimeLeft
from tests.engine.training.few import STEPS, train_few

pytestmark = pytest.mark.runs


def test_all_groups_and_initial_stages_are_counted(teacher, tmp_path, monkeypatch, capsys):
    """Of three runs one is finished."""
    assert train_few("none", output=tmp_path) == 0
    taken = []
    monkeypatch.setattr(TimeLeft, "short", lambda clock: f"{taken.append(clock._steps_left()) or taken[-1]} steps")
    capsys.readouterr()
    options = {"output": tmp_path, "teacher": teacher, "extra": ["--group_size", "1"]}
    assert train_few("none", "kd", "factor", **options) == 0
    assert taken == [STEPS * epochs for epochs in (4, 3, 2, 1, 0)]  # kd twice, factor once before and twice
    out = capsys.readouterr().out
    assert re.findall(r"^run .*", out, re.MULTILINE) == ["run 2 of 3", "run 3 of 3"]
