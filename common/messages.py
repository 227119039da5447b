"""Parts of messages: counts, near names, and what an exception says and where it was raised."""

import difflib
import re
import traceback
from collections.abc import Collection, Iterator
from pathlib import Path

SHOWN = 6  # names at most, where none is near
LONGEST_VALUE = 60  # characters of a value; of a path: as many as file systems take
LONGEST_WORD = 100
LONGEST_PART = 255
LONGEST_LINE = 580


def cut(value: object, longest: int = LONGEST_VALUE) -> str:
    """The text of a value as messages show it: a long one is cut in the middle, with its length."""
    try:
        text = str(value)
    except ValueError:  # Python writes no integers of more than 4300 digits
        return "an integer of thousands of digits"
    if len(text) <= longest:
        return text
    return f"{text[: longest // 3]}…{text[-longest // 6 :]} ({len(text)} characters)"


def with_long_words_cut(message: str) -> str:
    """A message whose words are cut where they are longer than any name or path can be."""
    lines = (re.sub(rf"[^\s'\":;,]{{{LONGEST_WORD},}}", _word, line) for line in message.split("\n"))
    return "\n".join(cut(line, LONGEST_LINE) for line in lines)


def _word(match: re.Match[str]) -> str:
    text = match[0]
    is_path = "/" in text and all(len(part) <= LONGEST_PART for part in text.split("/"))
    return text if is_path and len(text) < LONGEST_LINE else cut(text)


def counted(number: int, noun: str) -> str:
    """The number with its noun in singular or plural: 1 epoch, 2 epochs."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def did_you_mean(name: str, known: Collection[str], also: Collection[str] = ()) -> str:
    """Suggest names for an unknown one: "did you mean a, b?", or "available: a, b, … (3 more)" if none is near.

    Of several known names with commas between them it says that spaces separate them.

    Args:
        known: all names.
        also: aliases, which are suggested but not listed.
    """
    by_lower = {key.lower(): key for key in (*also, *known)}
    parts = [part for part in re.split(r"[,;\s]+", name) if part]
    if parts != [name] and parts and all(part.lower() in by_lower for part in parts):
        return f"separate several by spaces: {' '.join(parts)}"
    if near := difflib.get_close_matches(name.lower(), by_lower, n=3):
        return f"did you mean {', '.join(by_lower[key] for key in near)}?"
    names = sorted(known)
    more = f", … ({len(names) - SHOWN} more)" if len(names) > SHOWN else ""
    return f"available: {', '.join(names[:SHOWN])}{more}"


def words_of(error: Exception) -> str:
    """The type of an exception and the first line of its message."""
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return ": ".join([type(error).__name__, *text.splitlines()[:1]])


def place_raised(error: Exception, folder: Path, own: Collection[str] = ()) -> str | None:
    """FILE:LINE of the innermost code below `folder` that the exception passed through; None if there is none.

    Args:
        own: files that are named rather than the helpers they call, if the exception passed through any of them.
    """
    places = [(file, line) for file, line, _ in _frames(error, folder)]
    places = [place for place in places if place[0] in own] or places
    return _written(*places[-1], folder) if places else None


def place_imported(error: Exception, folder: Path) -> str | None:
    """FILE:LINE of the innermost module below `folder` whose import failed; None if there is none.

    An exception that a decorator raises is located at the decorated class, not in the decorator.
    """
    if isinstance(error, SyntaxError) and error.filename and Path(error.filename).is_relative_to(folder):
        return _written(error.filename, error.lineno, folder)
    frames = list(_frames(error, folder))
    modules = [file for file, _, name in frames if name == "<module>"]
    lines = [line for file, line, _ in frames if file in modules[-1:]]
    return _written(modules[-1], lines[-1], folder) if lines else None


def _frames(error: Exception, folder: Path) -> Iterator[tuple[str, int, str]]:
    """File, line and function name of the code below `folder`, outermost first."""
    for frame, line in traceback.walk_tb(error.__traceback__):
        code = frame.f_code
        if Path(code.co_filename).is_relative_to(folder):
            yield code.co_filename, line, code.co_name


def _written(file: str, line: int | None, folder: Path) -> str:
    return f"{Path(file).relative_to(folder.parent).as_posix()}:{line or 1}"
