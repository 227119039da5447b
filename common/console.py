"""Text on consoles of any encoding: a character that the console lacks becomes a close ASCII form, or its escape."""

import codecs
import io
import os
import sys
import unicodedata
from functools import cache
from typing import TextIO

DEGRADE = "ascii_forms"  # the name of the error handler of this file
# Characters of messages, tables and help texts whose ASCII form follows from no rule.
ASCII_FORMS = {
    **dict.fromkeys("−–—‐‑", "-"),
    **dict.fromkeys("‘’‚", "'"),
    **dict.fromkeys("“”„", '"'),
    **dict.fromkeys("·•†⊙", "*"),
    **{"×": "x", "⊗": "x", "÷": "/", "⁄": "/", "±": "+-", "°": " deg", "§": "section ", "∘": "o", "µ": "u"},
    **{"≤": "<=", "≥": ">=", "≠": "!=", "≈": "~", "∼": "~", "≡": "==", "⟨": "<", "⟩": ">"},
    **{"←": "<-", "→": "->", "↔": "<->", "⇒": "=>", "↦": "->", "↑": "^", "↓": "v"},
    **{
        "∠": "angle ",
        "∞": "inf",
        "√": "sqrt",
        "∂": "d",
        "∇": "grad ",
        "∑": "sum ",
        "Σ": "sum ",
        "∏": "prod ",
        "∈": " in ",
    },
    **{"‖": "||", "∥": "||", "⌊": "[", "⌋": "]", "⌈": "[", "⌉": "]", "ℓ": "l", "✓": "yes", "✗": "no", "€": "EUR"},
    **dict.fromkeys("\u00ad\u200b\u200d\ufeff\ufe0f", ""),
}


@cache
def ascii_form(character: str) -> str:
    """A close ASCII form of a character where one is known, else its escape, such as \\xe9.

    Known are `ASCII_FORMS`, the names of Greek letters, boxes and blocks, and what Unicode calls a variant of ASCII
    (², ½, …). Letters with accents are escaped: they are in names of files, and another letter would be another file.
    """
    if character in ASCII_FORMS:
        return ASCII_FORMS[character]
    words = unicodedata.name(character, "").split()
    if words[:1] == ["GREEK"] and "LETTER" in words:
        letter = words[words.index("LETTER") + 1]
        return letter.capitalize() if "CAPITAL" in words else letter.lower()
    if words[:2] == ["BOX", "DRAWINGS"]:
        across, down = {"LEFT", "RIGHT", "HORIZONTAL"} & set(words), {"UP", "DOWN", "VERTICAL"} & set(words)
        return "+" if across and down else "-" if across else "|"
    if {"BLOCK", "SHADE"} & set(words):
        return "#"
    variant = unicodedata.decomposition(character)
    if variant.startswith("<"):
        parts = unicodedata.normalize("NFKD", character)
        raised = "^" if variant.startswith("<super>") else ""
        return raised + "".join(part if part.isascii() else ascii_form(part) for part in parts)
    return character.encode("ascii", "backslashreplace").decode()


def _degrade(error: UnicodeError) -> tuple[str, int]:
    """Error handler of codecs: the ASCII forms of what cannot be encoded."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(ascii_form, error.object[error.start : error.end])), error.end


codecs.register_error(DEGRADE, _degrade)


def make_consoles_safe() -> None:
    """From now on standard output and standard error degrade what they cannot encode; nothing that is printed fails."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors != DEGRADE:
            stream.reconfigure(errors=DEGRADE)


def write_as_file() -> None:
    """Give standard output UTF-8, as files have, unless it is a terminal or PYTHONIOENCODING names an encoding."""
    if isinstance(sys.stdout, io.TextIOWrapper) and not sys.stdout.isatty() and not os.environ.get("PYTHONIOENCODING"):
        sys.stdout.reconfigure(encoding="utf-8")


def on_console(text: str, stream: TextIO | None) -> str:
    """The text as a stream shows it, to be laid out: a table of degraded texts still has straight columns."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, DEGRADE).decode(encoding)
