"""Writes a report to a file: whole or not at all, and in place of another file only if asked to."""

import os
from pathlib import Path

from common.errors import RequestError, RunError
from common.files import write_text


def check_out(out: Path, advice: str | None) -> None:
    """Checks a place before there is something to write.

    Args:
        advice: what to do where the file exists; None where it may be replaced.

    Raises:
        RequestError: the folder of `out` does not exist, or `out` exists and may not be replaced.
    """
    if not out.resolve().parent.is_dir():
        raise RequestError(f"--out {out}: the folder {out.parent} does not exist; create it or choose another name")
    if advice is not None and out.is_file():
        raise RequestError(f"--out {out} exists; {advice}")


def write_report(out: Path, text: str) -> None:
    """Writes `text` whole or not at all. Raises RequestError where it cannot be written."""
    target = out.resolve()
    try:
        if target.exists() and not target.is_file():  # a device must be written to, never replaced
            target.write_text(text, encoding="utf-8")
        elif target.exists() and not os.access(target, os.W_OK):  # renaming would override a write protection
            raise PermissionError(13, "Permission denied")
        else:
            write_text(target, text)
    except (OSError, RunError) as error:
        # The text of a RunError names flags of the training scripts; its cause has the reason.
        reason = getattr(error.__cause__ if isinstance(error, RunError) else error, "strerror", None) or error
        raise RequestError(f"--out {out} cannot be written: {reason}; choose another name") from None
