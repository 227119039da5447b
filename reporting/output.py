"""Where a report is written: whole or not at all, and in the place of nothing but an earlier report."""

import os
from pathlib import Path

from common.errors import RequestError, RunError
from common.files import write_text

SIGNATURE = "written by compare.py"
# Text formats end in a comment that says whose they are; files for programs can have none, and begin like this.
COMMENTS = {"markdown": f"<!-- {SIGNATURE} -->\n", "html": f"<!-- {SIGNATURE} -->\n", "latex": f"% {SIGNATURE}\n"}
OPENINGS = ("dataset,", '[\n  {\n    "dataset": ', "[]\n")


def check_out(out: Path, overwrite: bool = False) -> None:
    """Raises RequestError where a file that is no report lies at `out`, unless it may be overwritten."""
    if overwrite or not out.is_file() or is_report(out):
        return
    raise RequestError(f"--out {out} exists and is no report of this command; choose another name or add --overwrite")


def is_report(path: Path) -> bool:
    """Whether an earlier call may have written the file: it is signed, begins as such files do, or is empty."""
    try:
        with path.open("rb") as file:
            opening = file.read(80).decode("utf-8", errors="replace")
            file.seek(max(0, path.stat().st_size - 80))
            return not opening or opening.startswith(OPENINGS) or SIGNATURE.encode() in file.read()
    except OSError:
        return True  # what keeps it from being read keeps it from being written, and says so better


def signed(text: str, form: str) -> str:
    """`text` with the comment that tells a report in this format from a file of the user's."""
    return text + COMMENTS.get(form, "")


def write(out: Path, text: str) -> None:
    """Write `text` whole or not at all; raises RequestError."""
    target = out.resolve()
    try:
        if target.exists() and not target.is_file():  # a device must be written to, never replaced
            target.write_text(text, encoding="utf-8")
        elif target.exists() and not os.access(target, os.W_OK):  # renaming would override a write protection
            raise PermissionError(13, "Permission denied")
        elif not target.parent.is_dir():
            raise FileNotFoundError(2, "No such file or directory")
        else:
            write_text(target, text)
    except (OSError, RunError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise RequestError(f"--out {out} cannot be written: {reason}") from None
