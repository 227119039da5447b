"""The lock files hold what the requirements ask for, with hashes and without any host."""

import re
from itertools import pairwise

import pytest

from tests.helpers import ROOT

SETS = ["requirements", "requirements-photographs", "requirements-dev"]


def pins(name):
    """Versions by package; those of other Pythons or systems share a name."""
    found = {}
    for package, version in re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / name).read_text(), re.MULTILINE):
        found.setdefault(re.sub(r"[-_.]+", "-", package.lower()), set()).add(version)
    return found


@pytest.mark.parametrize("name", SETS)
def test_a_lock_has_every_pin_with_hashes_and_names_no_host(name):
    asked, locked = pins(f"{name}.txt"), pins(f"{name}.lock")
    assert len(asked) > 1
    for package, versions in asked.items():
        assert locked[package] == versions
    text = (ROOT / f"{name}.lock").read_text()
    assert "://" not in text
    blocks = re.split(r"^(?=[\w.-]+==)", text, flags=re.MULTILINE)[1:]
    assert all("--hash=sha256:" in block for block in blocks)


@pytest.mark.parametrize(("small", "large"), list(pairwise(SETS)))
def test_a_larger_lock_contains_the_smaller(small, large):
    """For a .venv made from it serves both."""
    smaller, larger = pins(f"{small}.lock"), pins(f"{large}.lock")
    assert smaller
    assert {package: larger.get(package) for package in smaller} == smaller
