"""Tables of what runs have reached: `python compare.py [ROOT ...] [--format FORMAT] [--out FILE]`."""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from common.errors import RequestError, RunError
from reporting.render import DATA_FORMATS, FORMATS, SUFFIXES, Report
from reporting.runs import read_runs
from reporting.table import tabulate


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        usage="compare.py [ROOT ...] [--format FORMAT] [--out FILE]",
        description="Compare runs: one table for each data set, protocol and teacher → student pair.",
    )
    parser.add_argument("roots", nargs="*", metavar="ROOT", help="folders that hold runs at any depth (default: save)")
    parser.add_argument("--format", choices=FORMATS, help="default: by the suffix of --out, else markdown")
    parser.add_argument("--out", metavar="FILE", help="write the report there and print the path")
    args = parser.parse_intermixed_args(argv)
    args.roots = args.roots or ["save"]
    return args


def chosen_format(name: str | None, out: str | None) -> str:
    """The format that was asked for, in words or by the file's suffix."""
    if name or out is None:
        return name or "markdown"
    suffix = Path(out).suffix.lower()
    if suffix not in SUFFIXES:
        raise RequestError(
            f"--out {out}: no format goes with this name; end it in {' '.join(SUFFIXES)} or add --format"
        )
    return SUFFIXES[suffix]


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


def write(out: str, text: str) -> None:
    """Write `text` whole or not at all."""
    target = os.path.realpath(out)
    try:
        if os.path.exists(target) and not os.path.isfile(target):  # a device must be written to, never replaced
            Path(target).write_text(text, encoding="utf-8")
            return
        mode = os.stat(target).st_mode & 0o777 if os.path.exists(target) else 0o666 & ~_umask()
        if os.path.exists(target) and not os.access(target, os.W_OK):  # renaming would override a write protection
            raise PermissionError(13, "Permission denied")
        descriptor, temporary = tempfile.mkstemp(prefix=".compare-", dir=os.path.dirname(target))
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, mode)
            os.replace(temporary, target)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise RequestError(f"--out {out} cannot be written: {error.strerror}") from error


def show(text: str) -> None:
    """Print UTF-8 wherever it goes; a reader that stops early (`| head`) is no error."""
    try:
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
        print(text, end="", flush=True)
    except BrokenPipeError:
        _drop_output()
    except OSError as error:
        _drop_output()
        raise RunError(f"the output cannot be written: {error.strerror}") from error


def _drop_output() -> None:
    """Keep the interpreter from trying once more, and failing aloud, when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    try:
        name = chosen_format(args.format, args.out)
        report = build_report(args.roots)
        text = FORMATS[name](report)
        if args.out is not None:
            write(args.out, text)
        show(text if args.out is None else f"{args.out}\n")
    except (RequestError, RunError) as error:
        print(f"compare.py: {error}", file=sys.stderr)
        return error.exit_code
    if name in DATA_FORMATS and report.remarks():
        print(*report.remarks(), sep="\n", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
