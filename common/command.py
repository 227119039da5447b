"""What every script here does the same way: parse strictly, end with the right exit code, show no traceback."""

import argparse
import functools
import sys
from collections.abc import Callable

from common.errors import Interrupted, RequestError, RunError

DONE, FAILED, WRONG_REQUEST, INTERRUPTED = 0, 1, 2, 130


def make_parser(description: str) -> argparse.ArgumentParser:
    # Abbreviations would turn a mistyped flag into another one in silence.
    return argparse.ArgumentParser(description=description, allow_abbrev=False)


def guard(main: Callable[..., int]) -> Callable[..., int]:
    """Wrap a script's main: errors become one or two lines on stderr and the exit codes of the suite."""

    @functools.wraps(main)
    def guarded(argv: list[str] | None = None) -> int:
        try:
            return main(argv)
        except RequestError as error:
            print(f"error: {error}", file=sys.stderr)
            return WRONG_REQUEST
        except RunError as error:
            print(f"error: {error}", file=sys.stderr)
            return FAILED
        except Interrupted:
            print("interrupted; the state is saved, the same command continues", file=sys.stderr)
            return INTERRUPTED
        except KeyboardInterrupt:
            return INTERRUPTED

    return guarded
