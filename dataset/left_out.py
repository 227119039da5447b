"""The images that a command cannot decode and trains without, if it may (`--skip_bad_images`)."""

import os
import sys
from collections.abc import Mapping

from tqdm import tqdm

SHOWN = 3  # in one message
MOST_LISTED = 200  # lines before an error; scripts/check_images.py has no end
MOST_WARNINGS = 10  # of images that turn out to be damaged during training


class LeftOut:
    """Files that cannot be decoded, and whether others may take their places.

    Args:
        allowed: if False, a file that cannot be decoded is an error.

    Attributes:
        reasons: of each file met so far, by its name below the data set's folder.
    """

    def __init__(self, allowed: bool = False):
        self.allowed = allowed
        self.reasons: dict[str, str] = {}

    def add(self, failed: Mapping[str, str]) -> None:
        """Take down files that failed during training, and warn of each that is new."""
        for file, reason in failed.items():
            if file not in self.reasons:
                self.reasons[file] = reason
                if len(self.reasons) <= MOST_WARNINGS:
                    _warn(f"left out {file} ({reason}); another image takes its place")
                elif len(self.reasons) == MOST_WARNINGS + 1:
                    _warn("more images are left out; the records of the run name them all")

    def add_checked(self, failed: Mapping[str, str], images: int) -> None:
        """Take down what a check before training has found, and warn of it in one line.

        Args:
            images: number of all images.
        """
        if failed:
            _warn(f"{in_one_line(failed, images)}; others take their places")
        self.reasons.update(failed)


def in_one_line(failed: Mapping[str, str], images: int) -> str:
    """Describe damaged files: "2 of 33 images cannot be decoded: train/a/1.png (it is empty), ..."."""
    shown = [f"{file} ({reason})" for file, reason in list(failed.items())[:SHOWN]]
    more = ["..."] * (len(failed) > SHOWN)
    return f"{len(failed):,} of {images:,} images cannot be decoded: {', '.join([*shown, *more])}"


def list_all(failed: Mapping[str, str]) -> None:
    """Print damaged files on stderr, a line each, where they are more than one message shows."""
    if len(failed) > SHOWN and os.environ.get("LOCAL_RANK", "0") == "0":
        lines = [f"{file}: {reason}" for file, reason in list(failed.items())[:MOST_LISTED]]
        more = [f"{len(failed) - MOST_LISTED:,} more: see scripts/check_images.py"] * (len(failed) > MOST_LISTED)
        tqdm.write("\n".join([*lines, *more]), file=sys.stderr)


def printable(name: str) -> str:
    """A file name for messages and records: what no terminal or JSON file can show is escaped."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in name)


def _warn(text: str) -> None:
    if os.environ.get("LOCAL_RANK", "0") == "0":  # of torchrun's processes on a machine only the first prints
        tqdm.write(f"warning: {text}", file=sys.stderr)
