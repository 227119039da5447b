"""Where a report is written: whole or not at all, and in the place of nothing but an earlier report."""

import csv
import json
import os
from pathlib import Path

from common.errors import RequestError, RunError
from common.files import write_text

SIGNATURE = "a generated report"
# What ends a report for people. Files for programs can have no such line and are known by their columns.
SIGNED = {
    "terminal": f"({SIGNATURE})\n",
    "markdown": f"<!-- {SIGNATURE} -->\n",
    "html": f"<!-- {SIGNATURE} -->\n",
    "latex": f"% {SIGNATURE}\n",
}
COLUMNS = {"dataset", "teacher", "student"}  # of every table, beside one that says which epoch was selected


def check_out(out: Path, mend: str = "choose another name") -> None:
    """Raises RequestError, which ends in `mend`, where a file that is no report lies at `out`."""
    if out.is_file() and not is_report(out):
        raise RequestError(f"--out {out} exists and is no report of this command; {mend}")


def check_folder_of(out: Path) -> None:
    """Raises RequestError where `out` lies in no folder."""
    if not out.resolve().parent.is_dir():
        raise RequestError(f"--out {out}: the folder {out.parent} does not exist; make it, or choose another name")


def is_report(path: Path) -> bool:
    """Whether the file is one that an earlier call may have written, or empty."""
    try:
        if not path.stat().st_size or SIGNATURE.encode() in _end(path):
            return True
        with path.open(encoding="utf-8", newline="") as file:
            if file.read(1) == "[":
                file.seek(0)
                records = json.load(file)
                return all(_is_row(record) for record in records[:1])
            file.seek(0)
            return _is_row(next(csv.reader(file)))
    except (ValueError, csv.Error, RecursionError):
        return False
    except OSError:
        return True  # what keeps it from being read keeps it from being written, and says so better


def _end(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 80))
        return file.read()


def _is_row(names: object) -> bool:
    """Whether these are the names of our columns."""
    if not isinstance(names, dict | list) or not all(isinstance(name, str) for name in names):
        return False
    return set(names) >= COLUMNS and any(name.endswith("selection") for name in names)


def signed(text: str, form: str) -> str:
    """`text` with the line that tells a report in this format from a file of the user's."""
    return text + SIGNED.get(form, "")


def write(out: Path, text: str) -> None:
    """Write `text` whole or not at all; raises RequestError."""
    target = out.resolve()
    try:
        if target.exists() and not target.is_file():  # a device must be written to, never replaced
            target.write_text(text, encoding="utf-8")
        elif target.exists() and not os.access(target, os.W_OK):  # renaming would override a write protection
            raise PermissionError(13, "Permission denied")
        else:
            check_folder_of(out)
            write_text(target, text)
    except (OSError, RunError) as error:
        # A RunError's own words name flags of the training scripts; its cause has the reason.
        reason = getattr(error.__cause__ if isinstance(error, RunError) else error, "strerror", None) or error
        raise RequestError(f"--out {out} cannot be written: {reason}; choose another name") from None
