"""Runs keep the names and identities that commit d84c5ec gave them: else finished ones are repeated, others lost."""

import json
import re

import pytest

from tests.engine.planned import described, make_place, plans_of
from tests.helpers import ROOT

ENTRIES = json.loads((ROOT / "tests" / "fixtures" / "run_ids.json").read_text())


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place")
    make_place(folder)
    return folder


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: re.sub(r"\W+", "_", entry["command"])[:80])
def test_runs_are_called_as_ever(entry, place, monkeypatch):
    if "timm:" in entry["command"]:
        pytest.importorskip("timm")
    monkeypatch.chdir(place)
    assert [described(plan) for plan in plans_of(entry["command"])] == entry["runs"]


def test_no_two_runs_share_an_identity():
    """Commands that ask for the same run in other words stand side by side in the file, and are the only exceptions."""
    seen = {}
    for entry in ENTRIES:
        for folder, run_id, *_ in entry["runs"]:
            assert folder.endswith(run_id)
            seen.setdefault(run_id, folder)
            assert seen[run_id] == folder
    assert len(seen) >= 40
