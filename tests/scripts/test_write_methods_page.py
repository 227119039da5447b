"""docs/methods.md is what the methods say of themselves."""

import re

from distiller_zoo import METHODS
from scripts.write_methods_page import PAIRS, methods_page
from tests.helpers import ROOT


def test_the_page_is_up_to_date():
    page = methods_page()
    written = (ROOT / "docs" / "methods.md").read_text()
    assert page == written, "write it anew: python -m scripts.write_methods_page > docs/methods.md"
    assert re.findall(r"^## (\S+)$", page, flags=re.M) == sorted(METHODS)
    assert "| [std](#std) | Li et al." in page
    assert f"| {len(PAIRS) - 3} of {len(PAIRS)} |" in page  # std refuses all but the three whose student has blocks
