#!/usr/bin/env python3
"""Tables of what runs have reached: `python compare.py [ROOT ...] [--format FORMAT] [--out FILE]`."""

import argparse
import os
import sys
from pathlib import Path

from common.command import DONE, guard, make_parser
from common.errors import RequestError, RunError
from common.files import write_text
from reporting.render import DATA_FORMATS, FORMATS, SUFFIXES, Report
from reporting.runs import read_runs
from reporting.table import tabulate


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = make_parser("Compare runs: one table for each data set, protocol and teacher → student pair.")
    parser.add_argument("roots", nargs="*", metavar="ROOT", help="folders that hold runs at any depth (default: save)")
    parser.add_argument("--format", choices=FORMATS, help="default: by the suffix of --out, else markdown")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the report there and print the path")
    arguments = parser.parse_intermixed_args(argv)
    arguments.roots = arguments.roots or ["save"]
    return arguments


def chosen_format(name: str | None, out: Path | None) -> str:
    """The format that was asked for, in words or by the file's suffix."""
    if name or out is None:
        return name or "markdown"
    if out.suffix.lower() not in SUFFIXES:
        raise RequestError(
            f"--out {out}: no format goes with this name; end it in {' '.join(SUFFIXES)} or add --format"
        )
    return SUFFIXES[out.suffix.lower()]


def build_report(roots: list[str]) -> Report:
    """What lies below `roots`; raises RequestError where there is no run at all."""
    hint = "make one with `python train_student.py --distill std`"
    for root in roots:
        if not os.path.isdir(root):
            what = "is not a folder" if os.path.lexists(root) else "does not exist"
            raise RequestError(f"{root} {what}, so there are no runs to compare; name a folder of runs or {hint}")
    runs, skipped = read_runs(roots)
    if not runs and all(entry.state in ("foreign", "unreadable") for entry in skipped):
        others = f" ({len(skipped)} folders are foreign or unreadable, e.g. {skipped[0]})" if skipped else ""
        raise RequestError(f"no runs below {', '.join(roots)}{others}; name a folder of runs or {hint}")
    table, notes = tabulate(runs)
    return Report(table, notes, skipped)


def write(out: Path, text: str) -> None:
    """Write `text` whole or not at all."""
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


def show(text: str) -> None:
    """Print UTF-8 wherever it goes; a reader that stops early (`| head`) is no error."""
    try:
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
        print(text, end="", flush=True)
    except OSError as error:
        # Keep the interpreter from trying once more, and failing aloud, when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise RunError(f"the output cannot be written: {error.strerror}") from None


@guard
def main(argv: list[str] | None = None) -> int:
    arguments = parse(argv)
    name = chosen_format(arguments.format, arguments.out)
    report = build_report(arguments.roots)
    text = FORMATS[name](report)
    if arguments.out is None:
        show(text)
    else:
        write(arguments.out, text)
        print(arguments.out)
    if name in DATA_FORMATS and report.remarks():
        print(*report.remarks(), sep="\n", file=sys.stderr)
    return DONE


if __name__ == "__main__":
    sys.exit(main())
