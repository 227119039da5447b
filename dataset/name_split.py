"""Training and test images of a folder without a test part, told apart by their names.

The part of an image depends on its own name alone, so images that are added or removed move no other one, and every
command finds the same parts.
"""

import hashlib
import os
import unicodedata
from collections.abc import Sequence
from pathlib import PurePath

TEST_SHARE = 0.2  # of all images, in the mean


def is_test_image(names: Sequence[str]) -> tuple[list[bool], bool]:
    """Tell which images of one class are for testing.

    A class of two or more images has one at least in each part: where the names give none, the image nearest to the
    border is taken. A single image is for training.

    Args:
        names: paths below the folder of the classes, such as cats/1.jpg.

    Returns:
        A flag for each name, and whether an image was moved so that no part is empty.
    """
    places = [_place(name) for name in names]
    tested = [place < TEST_SHARE for place in places]
    if len(names) == 1:
        return [False], False
    if all(tested) or not any(tested):
        nearest = max(places) if all(tested) else min(places)
        return [test != (place == nearest) for test, place in zip(tested, places, strict=True)], True
    return tested, False


def _place(name: str) -> float:
    """A number in [0, 1) that looks random; equal for names that differ in their Unicode form or separator alone."""
    text = unicodedata.normalize("NFC", PurePath(name).as_posix())
    return int.from_bytes(hashlib.blake2b(os.fsencode(text), digest_size=8).digest(), "big") / 2**64
