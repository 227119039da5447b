"""docs/methods.md is what the methods say of themselves."""

import re

from distiller_zoo import METHODS
from engine.catalogue import PAIRS, methods_page
from tests.helpers import ROOT


def test_the_page_is_up_to_date():
    page = methods_page()
    written = (ROOT / "docs" / "methods.md").read_text()
    assert page == written, "write it anew: python -m engine.catalogue > docs/methods.md"
    assert re.findall(r"^## (\S+)$", page, flags=re.M) == sorted(METHODS)
    assert "| [std](#std) | Li et al." in page
    assert f"| {len(PAIRS) - 3} of {len(PAIRS)} |" in page  # std refuses all but the three whose student has blocks
