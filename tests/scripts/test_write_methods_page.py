"""docs/methods.md says what the methods say of themselves."""

import re

import pytest
import torch

from distiller_zoo import METHODS
from scripts.write_methods_page import methods_page
from tests.helpers import ROOT


def parts(page):
    """The row and the section of each method, and the other sections, by name."""
    found = {}
    for name, section in re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL):
        row = re.findall(rf"^\| \[{re.escape(name)}\]\(.*$", page, re.MULTILINE)
        found[name] = (row, section.strip())
    return found


@pytest.mark.runs
def test_what_the_page_lists_is_up_to_date():
    """A method that it does not list yet is no fault."""
    with torch.device("meta"):  # shapes are enough
        fresh = parts(methods_page())
    listed = parts((ROOT / "docs" / "methods.md").read_text())
    assert len(listed.keys() & set(METHODS)) > 40
    old = [name for name in listed if listed[name] != fresh.get(name)]
    assert old == [], "write the page anew: python scripts/write_methods_page.py > docs/methods.md"
