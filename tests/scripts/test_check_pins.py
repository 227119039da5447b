"""Tests of the search for the pinned packages in a python: names, versions, files that name others."""

import importlib.metadata

import pytest

from scripts.check_pins import main, pins, unmet
from tests.helpers import ROOT

NUMPY, TORCH = (importlib.metadata.version(name) for name in ("numpy", "torch"))


def test_pins_are_those_of_all_files():
    found = dict(pins(ROOT / "requirements-dev.txt"))
    assert {"torch", "numpy", "pytest"} <= found.keys()
    assert all(version[0].isdigit() for version in found.values())


@pytest.mark.parametrize(
    ("line", "word"),
    [
        (f"numpy=={NUMPY}  # a comment", ""),
        ("# numpy==0.1", ""),
        (f"torch=={TORCH.partition('+')[0]}", ""),  # 2.11.0+cpu is 2.11.0
        ("numpy==0.1", "numpy"),
        ("no-such-package==1.0", "no-such-package"),
        ("-r missing.txt", "missing.txt"),
    ],
)
def test_what_is_missing_is_named(tmp_path, capsys, line, word):
    file = tmp_path / "requirements.txt"
    file.write_text(f"{line}\n")
    if word == "missing.txt":
        with pytest.raises(FileNotFoundError):
            unmet(file)
        return
    assert word in unmet(file)
    assert main([str(file)]) == bool(word)
    assert bool(capsys.readouterr().out) == bool(word)
