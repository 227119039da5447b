"""What tests look at in the documents: code blocks, commands, links, paths and tables."""

import re
import shlex

from tests.helpers import ROOT

PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("results/**/README.md"),
        ROOT / "save/README.md",
    ]
)


def text_of(page):
    return (ROOT / page).read_text()


def prose_of(page):
    """The text without its fenced code blocks."""
    return re.sub(r"^```.*?^```", "", text_of(page), flags=re.MULTILINE | re.DOTALL)


def code_of(page, language="python"):
    """The fenced code blocks of a page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text_of(page), re.MULTILINE | re.DOTALL)


def section_of(page, heading):
    """The text below a heading of the second level."""
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", text_of(page), re.MULTILINE | re.DOTALL)
    return section


def commands_of(page):
    """Script or module, and arguments, of each Python command of a page, in code blocks and between backticks."""
    text = text_of(page).replace("\\\n", " ")
    lines = re.findall(r"^ *((?:[A-Z]+=\S+ )*(?:python|torchrun) .*)$", text, re.MULTILINE)
    lines += re.findall(r"`((?:python|torchrun) [^`]+)`", re.sub(r"\n *", " ", prose_of(page)))
    for line in lines:
        if "[" in line or " -c " in line:  # a synopsis, or Python in a word
            continue
        words = shlex.split(line.replace("|", ";"), comments=True)
        words = words[: words.index(">")] if ">" in words else words
        if "-m" in words:
            module, *rest = words[words.index("-m") + 1 :]
            yield module, rest
        else:
            start = next(i for i, word in enumerate(words) if word.endswith(".py"))
            yield words[start].removesuffix(".py").replace("/", "."), words[start + 1 :]


def tables_of(text):
    """Each Markdown table as a list of rows, the header first; cells without emphasis."""
    found = []
    for block in re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE):
        rows = [[cell.strip().strip("*") for cell in line[1:-1].split("|")] for line in block.splitlines()]
        found.append([rows[0], *rows[2:]])
    return found
