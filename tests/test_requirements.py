"""The lock files hold what the requirements ask for, with hashes and without any host."""

import re

import pytest

from tests.helpers import ROOT


def pins(name):
    """Versions by package; those of other Pythons or systems share a name."""
    found = {}
    for package, version in re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / name).read_text(), re.MULTILINE):
        found.setdefault(re.sub(r"[-_.]+", "-", package.lower()), set()).add(version)
    return found


@pytest.mark.parametrize("name", ["requirements", "requirements-dev"])
def test_a_lock_has_every_pin_with_hashes_and_names_no_host(name):
    asked, locked = pins(f"{name}.txt"), pins(f"{name}.lock")
    assert len(asked) > 8
    for package, versions in asked.items():
        assert locked[package] == versions
    text = (ROOT / f"{name}.lock").read_text()
    assert "://" not in text
    blocks = re.split(r"^(?=[\w.-]+==)", text, flags=re.MULTILINE)[1:]
    assert all("--hash=sha256:" in block for block in blocks)


def test_the_larger_lock_contains_the_smaller():
    """For a .venv made from it serves both."""
    smaller, larger = pins("requirements.lock"), pins("requirements-dev.lock")
    assert {package: larger.get(package) for package in smaller} == smaller
