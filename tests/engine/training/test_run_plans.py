"""What a command says of all its runs together."""

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from common.errors import RequestError
from engine.device.compute import resolve_compute
from engine.records.time_left import TimeLeft
from engine.training.run_plans import check_same_request
from engine.training.session import RunSettings
from tests.engine.protocol.plans import plan_alone
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


SETTINGS = RunSettings(Path("save"), Path("data"), resolve_compute("cpu", "fp32"))
OTHERS = {
    "another run": ({"trial": 2}, {}),
    "other steps": ({"validation": 100}, {}),
    "another start": ({}, {"overwrite": "all"}),
    "other groups": ({}, {"group_size": 1}),
}


@pytest.mark.parametrize("case", OTHERS)
def test_processes_with_other_flags_are_refused(case):
    """Where a run is written, and where its data lies, is each machine's own."""
    said = []
    world = SimpleNamespace(rank=1, size=2, agree=lambda text: said.append(text) or text == said[0])
    plan = plan_alone("resnet8")
    check_same_request([plan], SETTINGS, world)
    check_same_request([plan], replace(SETTINGS, output=Path("/elsewhere")), world)
    of_plan, of_settings = OTHERS[case]
    with pytest.raises(RequestError, match="rank 1"):
        check_same_request([replace(plan, **of_plan)], replace(SETTINGS, **of_settings), world)
