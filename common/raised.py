"""What an exception says and where it was raised, in a few words: for errors that are told without a traceback."""

import traceback
from collections.abc import Iterator
from pathlib import Path


def words_of(error: Exception) -> str:
    """The kind of an exception and the first line of what it says."""
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return ": ".join([type(error).__name__, *text.splitlines()[:1]])


def place_raised(error: Exception, folder: Path) -> str | None:
    """FILE:LINE of the innermost code below `folder` that the exception came through; None where there is none."""
    places = [(file, line) for file, line, _ in _frames(error, folder)]
    return _written(*places[-1], folder) if places else None


def place_imported(error: Exception, folder: Path) -> str | None:
    """The same of an import that failed: in the innermost file below `folder` whose code was being run as a module.

    What a decorator raises of a class is so said of the class, not of the decorator.
    """
    if isinstance(error, SyntaxError) and error.filename and Path(error.filename).is_relative_to(folder):
        return _written(error.filename, error.lineno, folder)
    frames = list(_frames(error, folder))
    modules = [file for file, _, name in frames if name == "<module>"]
    lines = [line for file, line, _ in frames if file in modules[-1:]]
    return _written(modules[-1], lines[-1], folder) if lines else None


def _frames(error: Exception, folder: Path) -> Iterator[tuple[str, int, str]]:
    """File, line and name of the code below `folder`, outermost first."""
    for frame, line in traceback.walk_tb(error.__traceback__):
        code = frame.f_code
        if Path(code.co_filename).is_relative_to(folder):
            yield code.co_filename, line, code.co_name


def _written(file: str, line: int | None, folder: Path) -> str:
    return f"{Path(file).relative_to(folder.parent).as_posix()}:{line or 1}"
