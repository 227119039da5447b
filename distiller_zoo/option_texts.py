"""The texts of a method's options, from the block of its docstring that begins with `Options:`.

Options:
    dkd_alpha, dkd_beta: weights of the target class and of the others.
    dkd_T: temperature.
"""

import inspect
import re

from distiller_zoo.method import Method

_BEGIN = re.compile(r"^ *Options:(.*)$", re.MULTILINE)
_ENTRY = re.compile(r"^([A-Za-z]\w*(?:, *[A-Za-z]\w*)*): +(.+)", re.DOTALL)


def option_texts(cls: type[Method]) -> dict[str, str]:
    """The text of each option by name, in one line and without its full stop; options without a text are left out."""
    texts: dict[str, str] = {}
    for entry in _entries(inspect.getdoc(cls) or ""):
        if match := _ENTRY.match(entry):
            text = " ".join(match[2].split()).removesuffix(".")
            texts |= {name.strip(): text for name in match[1].split(",")}
    return texts


def _entries(doc: str) -> list[str]:
    """The entries of the block, each with the indented lines that continue it."""
    begin = _BEGIN.search(doc)
    if begin is None:
        return []
    block = (begin[1] + doc[begin.end() :]).split("\n\n")[0]
    return re.split(r"\n(?! )", inspect.cleandoc(block))
