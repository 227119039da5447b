"""What every script here does the same way: parse strictly, end with the right exit code, show no traceback."""

import argparse
import difflib
import functools
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from common.errors import Interrupted, RequestError, RunError
from common.flag_names import flags_meant_by

DONE, FAILED, WRONG_REQUEST, INTERRUPTED = 0, 1, 2, 130


class Parser(argparse.ArgumentParser):
    """A strict parser whose errors are one line on stderr and exit code 2.

    An unknown flag is answered with those that mean it here, or the nearest ones. The usage shows what must be given,
    not the many flags that may.
    """

    def __init__(self, description: str):
        # Abbreviations would turn a mistyped flag into another one in silence.
        super().__init__(description=description, allow_abbrev=False)
        self.register("type", int, _integer)
        self.register("type", float, _number)

    def parse_args(self, args: Sequence[str] | None = None, namespace=None):
        return self._complete(*self.parse_known_args(args, namespace))

    def parse_intermixed_args(self, args: Sequence[str] | None = None, namespace=None):
        return self._complete(*self.parse_known_intermixed_args(args, namespace))

    def _complete(self, parsed: argparse.Namespace, unknown: Sequence[str]) -> argparse.Namespace:
        if unknown:
            self.error(self._say_of(unknown))
        return parsed

    def error(self, message: str) -> NoReturn:
        self.exit(WRONG_REQUEST, f"error: {message} (see --help)\n")

    def format_help(self) -> str:
        if self.usage is None:
            words = {True: [], False: []}
            for action in self._actions:
                name = action.metavar or action.dest.upper()
                if action.option_strings and action.required:
                    words[True].append(f"{action.option_strings[-1]} {name}")
                elif not action.option_strings:
                    words[False].append(f"[{name} ...]" if action.nargs == "*" else name)
            self.usage = " ".join(["%(prog)s", *words[True], "[FLAGS]", *words[False]])
        return super().format_help()

    def _say_of(self, unknown: Sequence[str]) -> str:
        """What is wrong with words that no flag takes."""
        flag = next((word.split("=")[0] for word in unknown if word.startswith("-")), None)
        if flag is None:
            return f"unexpected {' '.join(unknown)!r}"
        shown = [action for action in self._actions if action.help != argparse.SUPPRESS]
        known = [text[2:] for action in shown for text in action.option_strings if text.startswith("--")]
        name = flag.lstrip("-").replace("-", "_")
        near = [text for text in known if text.lower() == name.lower() or text in flags_meant_by(name)]
        if not near:
            begun = [text for text in known if name and text.startswith(name)]
            near = dict.fromkeys([*difflib.get_close_matches(name, known, n=2), *begun[:2]])
        offered = " or ".join(f"--{text}" for text in near)
        return f"unknown flag {flag}" + (f", did you mean {offered}?" if offered else "")


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def at_least(least: int) -> Callable[[str], int]:
    """The type of a flag that takes whole numbers from `least` on."""

    def read(text: str) -> int:
        number = _integer(text)
        if number < least:
            raise argparse.ArgumentTypeError(f"{number} is too small; give {least} or more")
        return number

    return read


def make_parser(description: str) -> Parser:
    """A parser without flags but --help."""
    return Parser(description)


def say(text: str) -> None:
    """Print a line, of the processes that torchrun started on a machine by the first alone."""
    if os.environ.get("LOCAL_RANK", "0") == "0":
        print(text, flush=True)


def show(text: str) -> None:
    """Print UTF-8 wherever it goes; a reader that stops early (`| head`) is no error.

    Raises:
        RunError: there is no standard output, or it takes nothing.
    """
    if sys.stdout is None:  # closed by whoever started this
        raise RunError("there is no standard output to print to")
    try:
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
        print(text, end="", flush=True)
    except OSError as error:
        _forget_output()
        if not isinstance(error, BrokenPipeError):
            raise RunError(f"the output cannot be written: {error.strerror}") from None


def guard(main: Callable[..., int]) -> Callable[..., int]:
    """Wrap a script's main: errors become one or two lines on stderr and the exit codes of the suite."""

    @functools.wraps(main)
    def guarded(argv: list[str] | None = None) -> int:
        try:
            status = _status_of(main, argv)
        except SystemExit as stop:  # argparse has shown its help, or said what is wrong
            raise SystemExit(_flushed(stop.code)) from None
        except BrokenPipeError:
            if _is_read():  # it was another pipe, a data loader's say
                raise
            _forget_output()
            print("error: nobody reads the output any more, so the command has stopped", file=sys.stderr)
            return FAILED
        return _flushed(status)

    return guarded


def _status_of(main: Callable[..., int], argv: list[str] | None) -> int:
    try:
        return main(argv)
    except (RequestError, RunError) as error:
        return _ended_by(error)
    except Interrupted as stop:
        what = str(stop) or "the state is saved, the same command continues"
        print(f"interrupted; {what}", file=sys.stderr)
        return INTERRUPTED
    except KeyboardInterrupt:
        return INTERRUPTED


def _flushed(status: int) -> int:
    """The exit code, once what is printed is out: what a pipe or a disk refuses shows here, not in the interpreter."""
    try:
        print(end="", flush=True)
    except BrokenPipeError:
        _forget_output()
    except OSError as error:
        _forget_output()
        print(f"error: the output cannot be written: {error.strerror}", file=sys.stderr)
        return status or FAILED
    return status


def _forget_output() -> None:
    """Keep the interpreter from trying once more, and failing aloud, when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _is_read() -> bool:
    """Whether stdout takes a line; a pipe does not when its reader (`| head`) has seen enough."""
    try:
        print(flush=True)
    except BrokenPipeError:
        return False
    return True


def end_in_short(problem: RequestError) -> None:
    """Have the script end by `problem` as `guard` lets it end, should nothing catch it: it was met in an import.

    Where no script runs, as in `python -c`, the traceback is shown as ever.
    """

    def hook(kind, error, trace) -> None:
        if error is not problem:
            return sys.__excepthook__(kind, error, trace)
        raise SystemExit(_ended_by(error))

    if hasattr(sys.modules["__main__"], "__file__"):
        sys.excepthook = hook


def _ended_by(error: RequestError | RunError) -> int:
    """Say what ended a script; returns its exit code."""
    print(f"error: {error}", file=sys.stderr)
    return WRONG_REQUEST if isinstance(error, RequestError) else FAILED
