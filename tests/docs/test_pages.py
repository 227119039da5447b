"""All documents: links and paths exist, commands are understood, and tables have the numbers of the records."""

import importlib
import re

import pytest

import compare
from tests.docs.pages import PAGES, commands_of, prose_of, section_of, tables_of, text_of
from tests.helpers import ROOT

MADE_BY_RUNS = ("save/", "data/", "data_folder/")
TO_WRITE = {"distiller_zoo/logits.py", "logits.py", "my.toml"}
COMMANDS = [(page, module, words) for page in PAGES for module, words in commands_of(page)]


def anchors_of(page):
    """Names of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose_of(page)):
        target, _, anchor = link.partition("#")
        if "://" in link:
            continue
        path = (ROOT / page).parent / target if target else ROOT / page
        assert path.exists(), link
        if anchor:
            assert anchor in anchors_of(path.resolve().relative_to(ROOT)), link


@pytest.mark.parametrize("page", PAGES)
def test_paths_exist(page):
    """Whatever looks like a file or folder of the repository, in a command or between backticks."""
    text = text_of(page)
    folders = "|".join(path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith("."))
    named = set(re.findall(rf"(?<![\w/.~-])(?:{folders})/[\w./]*\w(?!\*)", text))
    named |= set(re.findall(r"(?<![\w/-])\w+\.(?:sh|py|toml|lock)\b", text))
    for name in named - TO_WRITE:
        if not name.startswith(MADE_BY_RUNS) and "NAME" not in name:
            assert list(ROOT.glob(name)) or list(ROOT.glob(f"*/{name}")), name


@pytest.mark.parametrize(("page", "module", "words"), COMMANDS, ids=lambda value: str(value)[:60])
def test_commands_are_understood(page, module, words):
    if module == "pytest":
        assert all((ROOT / word).exists() for word in words if word.startswith("tests/"))
        return
    script = importlib.import_module(module)
    if hasattr(script, "parse"):
        script.parse(words)


def test_commands_are_found():
    assert len(COMMANDS) > 60


@pytest.mark.runs
@pytest.mark.parametrize("page", ["README.md", "docs/results.md", "docs/std.md"])
def test_tables_are_those_of_the_records(page, capsys):
    """A table that begins with a column `method` has rows and columns of what the page's commands print."""
    words = [words for module, words in commands_of(page) if module == "compare" and words[0].startswith("results/")]
    printed = []
    for argv in words:
        assert compare.main([*argv, "--format", "markdown"]) == 0
        printed += tables_of(capsys.readouterr().out)
    for header, *rows in tables_of(text_of(page)):
        if header[0] == "method":
            assert any(is_part(header, rows, *other) for other in printed), (header, rows[0])


def is_part(header, rows, other_header, *other_rows):
    """Whether the columns of `header` of the other table have these rows, in this order and without a gap."""
    if not set(header) <= set(other_header):
        return False
    picked = [[row[other_header.index(name)] for name in header] for row in other_rows]
    return any(picked[i : i + len(rows)] == rows for i in range(len(picked)))


def test_readme_is_short():
    assert len(text_of("README.md").splitlines()) <= 100
    ((_, *rows),) = tables_of(section_of("README.md", "What the table looks like"))
    assert len(rows) <= 6
