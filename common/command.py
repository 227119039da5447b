"""Command lines: strict parsing, exit codes, and errors in one or two lines instead of a traceback."""

import argparse
import contextlib
import difflib
import errno
import functools
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from common.console import make_consoles_safe, write_as_file
from common.errors import Interrupted, RequestError, RunError
from common.flag_names import flags_meant_by
from common.help_pages import PagedParser
from common.messages import cut, with_long_words_cut
from common.signals import INTERRUPTED, signals_interrupt
from common.torch_state import restored_torch_state
from common.user_paths import reachable_path, shown_path

T = TypeVar("T")

DONE, FAILED, WRONG_REQUEST = 0, 1, 2  # and INTERRUPTED, 130
OUTPUT_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # of prints that nobody watches
SAVED = "the state is saved, the same command continues"
INTEGER = re.compile(r"[+-]?[0-9]+")
NUMBER = re.compile(r"[+-]?(([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|inf|nan)")
MOST_DIGITS = 40  # of an integer: seeds of other tools have as many


class Parser(PagedParser):
    """A strict parser whose errors are one line on stderr and exit code 2.

    For an unknown flag the error names the flags that mean the same here, or the nearest ones.
    """

    def __init__(self, description: str | None, examples: Sequence[str] = ()):
        super().__init__(description, examples)
        self.register("type", int, integer)
        self.register("type", float, number)
        self.register("type", Path, reachable_path)
        for kind in (None, str):  # an empty value is no name or text
            self.register("type", kind, partial(_not_empty, kind or str))

    # The overloads of argparse, for namespaces of other types, are not needed here.
    def parse_args(self, args: Iterable[str] | None = None, namespace: None = None) -> argparse.Namespace:  # type: ignore[override]
        return self._complete(*self.parse_known_args(args), args)

    def parse_intermixed_args(self, args: Iterable[str] | None = None, namespace: None = None) -> argparse.Namespace:  # type: ignore[override]
        return self._complete(*self.parse_known_intermixed_args(args), args)

    def print_pages(self, names: Sequence[str]) -> None:
        show(self.pages(names))

    def _complete(
        self, parsed: argparse.Namespace, unknown: Sequence[str], args: Iterable[str] | None
    ) -> argparse.Namespace:
        if unknown:
            self.error(self._describe(unknown, list(sys.argv[1:] if args is None else args)))
        return parsed

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """As argparse does; several choices in one word get an advice of their own."""
        several = re.split(r"[,;]", value) if isinstance(value, str) else []
        if action.choices is not None and len(several) > 1 and all(part in action.choices for part in several):
            advice = f"separate several by spaces: {' '.join(several)}" if action.nargs else "give one of them"
            raise argparse.ArgumentError(action, f"{value!r} is no choice; {advice}")
        super()._check_value(action, value)

    def error(self, message: str) -> NoReturn:
        self.exit(WRONG_REQUEST, f"error: {with_long_words_cut(message)} (see --help)\n")

    def _takes(self, flag: str) -> str:
        nargs = self._option_string_actions[flag].nargs
        return "no value" if nargs == 0 else f"{nargs} values" if isinstance(nargs, int) else "one value"

    def _describe(self, unknown: Sequence[str], args: Sequence[str]) -> str:
        """The message for words among the arguments that belong to no flag."""
        flag = next((word.split("=")[0] for word in unknown if word.startswith("-")), None)
        if flag is None:
            before = args[: args.index(unknown[0])] if unknown[0] in args else []
            flags = [text for text in before if text in self._option_string_actions]
            after = f" after {flags[-1]}, which takes {self._takes(flags[-1])}" if flags else ""
            return f"unexpected {' '.join(unknown)!r}{after}"
        shown = [action for action in self._actions if action.help != argparse.SUPPRESS]
        known = [text[2:] for action in shown for text in action.option_strings if text.startswith("--")]
        name = flag.lstrip("-").replace("-", "_")
        near = [text for text in known if text.lower() == name.lower() or text in flags_meant_by(name)]
        if not near:
            begun = [text for text in known if name and text.startswith(name)]
            near = list(dict.fromkeys([*difflib.get_close_matches(name, known, n=2), *begun[:2]]))
        offered = " or ".join(f"--{text}" for text in near)
        return f"unknown flag {flag}" + (f", did you mean {offered}?" if offered else "")


def one_of_several_paths(text: str) -> Path:
    """A type for argparse: a path of a flag that takes several, which spaces separate."""
    parts = text.split(",")
    if len(parts) > 1 and all(map(os.path.isfile, parts)) and not os.path.isfile(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no file; separate several by spaces: {' '.join(parts)}")
    return _not_empty(Path, text)


def integer(text: str) -> int:
    """A type for argparse: integers in ASCII digits, of at most `MOST_DIGITS`."""
    if not INTEGER.fullmatch(text.strip()):
        whole = float(text) if NUMBER.fullmatch(text.strip()) else math.nan  # in another notation: 1e3, 240.0
        advice = f"; give {int(whole)}" if whole.is_integer() and abs(whole) < 1e15 else _separated(text, INTEGER)
        raise argparse.ArgumentTypeError(f"{cut(text)!r} is not an integer{advice}")
    if len(text.strip(" +-0")) > MOST_DIGITS:
        raise argparse.ArgumentTypeError(f"{cut(text)} is too large")
    return int(text)


def number(text: str) -> float:
    """A type for argparse: numbers in ASCII digits, "inf" and "nan"."""
    if not NUMBER.fullmatch(text.strip()):
        comma = re.fullmatch(r"[+-]?0,[0-9]+", text)
        advice = f"; give {text.replace(',', '.')}" if comma else _separated(text, NUMBER)
        raise argparse.ArgumentTypeError(f"{cut(text)!r} is not a number{advice}")
    return float(text)


def _separated(text: str, kind: re.Pattern[str]) -> str:
    """Advice for several values with commas between them, if these are of the wanted kind."""
    parts = [part for part in re.split(r"[,;\s]+", text) if part]
    if len(parts) > 1 and all(kind.fullmatch(part) for part in parts):
        return f"; separate several by spaces: {cut(' '.join(parts))}"
    return ""


def _not_empty(kind: Callable[[str], T], text: str) -> T:
    if not text.strip():
        raise argparse.ArgumentTypeError("the value is empty; give one, or leave the flag out")
    if "\0" in text:
        raise argparse.ArgumentTypeError("the value holds a NUL character; leave it out")
    return kind(text)


def at_least(least: int, most: int | None = None) -> Callable[[str], int]:
    """A type for argparse: integers from `least` to `most`."""

    def read(text: str) -> int:
        given = integer(text)
        if given < least:
            raise argparse.ArgumentTypeError(f"{cut(given)} is too small; give {least} or more")
        if most is not None and given > most:
            raise argparse.ArgumentTypeError(f"{cut(given)} is too large; give {most} or less")
        return given

    return read


def make_parser(description: str | None, examples: Sequence[str] = ()) -> Parser:
    """A parser that has only --help, which ends with the examples."""
    return Parser(description, examples)


def say(text: str) -> None:
    """Print a line. Of the processes that torchrun started on a machine only the first prints."""
    if os.environ.get("LOCAL_RANK", "0") == "0":
        with explained_output_errors():
            print(text, flush=True)


def show(text: str) -> None:
    """Print a long text and flush. A reader that stops early (`| head`) is no error.

    Raises:
        RunError: there is no standard output, or it cannot be written to.
    """
    if sys.stdout is None:  # closed by the caller of the script
        raise RunError("there is no standard output to print to")
    make_consoles_safe()
    try:
        with explained_output_errors():
            print(text, end="", flush=True)
    except BrokenPipeError:
        _discard_output()


def show_file(text: str) -> None:
    """Print what is a file for other programs: `show`, in UTF-8 but on a terminal or where PYTHONIOENCODING is set."""
    write_as_file()
    show(text)


def guard(main: Callable[..., int]) -> Callable[..., int]:
    """Wrap a script's main: it returns an exit code of the suite, and errors become one or two lines on stderr.

    Nothing but the code says how it went, also where the parser refuses the command line or prints a help text; only
    mistakes in the code raise. Signals, handlers and the settings of torch are the caller's again afterwards, so
    that main can be called again and again, from notebooks and threads too.
    """

    @functools.wraps(main)
    def guarded(argv: list[str] | None = None) -> int:
        make_consoles_safe()
        with signals_interrupt(), restored_torch_state():
            try:
                status = main(argv)
                if sys.stdout is not None:
                    show("")  # flush: what a full disk refuses has to show here, not when the interpreter exits
                return status
            except SystemExit as stop:  # of argparse
                return _status_of(stop)
            except RequestError as error:
                return _failed(f"error: {error}", WRONG_REQUEST)
            except RunError as error:
                return _failed(f"error: {error}", FAILED)
            except Interrupted as stop:
                return _failed(f"interrupted; {str(stop) or SAVED}", INTERRUPTED)
            except KeyboardInterrupt as stop:
                return _failed(f"interrupted; {stop}" if str(stop) else "interrupted", INTERRUPTED)
            except BrokenPipeError:
                _discard_output()
                return _failed("error: broken pipe: nobody reads the output any more, or a helper process died", FAILED)
            except OSError as error:
                if error.filename is not None and error.strerror is not None:
                    return _failed(f"error: {shown_path(os.fsdecode(error.filename))}: {error.strerror}", FAILED)
                if error.errno not in OUTPUT_ERRORS:
                    raise
                _discard_output()
                return _failed(f"error: the output cannot be written: {error.strerror}", FAILED)

    return guarded


def _status_of(stop: SystemExit) -> int:
    """The exit code that the interpreter would make of a SystemExit."""
    if stop.code is None:
        return DONE
    return stop.code if isinstance(stop.code, int) else _failed(str(stop.code), FAILED)


def _failed(message: str, code: int) -> int:
    """Print a message on a line of its own, over the ^C of a terminal; returns the code."""
    with contextlib.suppress(OSError, ValueError):  # the terminal is closed
        begin = "\r" if sys.stderr is not None and sys.stderr.isatty() else ""
        print(f"{begin}{with_long_words_cut(message)}", file=sys.stderr, flush=True)
    return code


@contextlib.contextmanager
def explained_output_errors() -> Iterator[None]:
    """Turn an OSError raised while printing on stdout into a RunError of one line. A broken pipe remains one.

    A terminal that is closed is none: what is left of the output goes nowhere, and SIGHUP says whether to go on.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        _discard_output()
        if error.errno == errno.EIO:
            return
        raise RunError(f"the output cannot be written: {error.strerror}") from None


def _discard_output() -> None:
    """Keep the interpreter from writing the rest of the output, and failing aloud, when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
