"""A look at all photographs of a data set before training: damaged files show now and not in the middle of a night."""

import filecmp
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
from torch.utils.data import Dataset
from tqdm import tqdm

from common.errors import RequestError
from dataset.image_files import ImageFiles
from dataset.image_reading import UnreadableImage, highest_value, inspect, read_rgb
from dataset.image_workers import from_workers
from dataset.left_out import in_one_line
from dataset.registry import Arrays

CHUNK = 256  # images that a worker looks at in one go; as many need no worker
MOST_COMPARED = 1000  # test images that are compared with training images byte by byte
MOST_SAMPLED = 32  # images with 16 bits a pixel whose values are looked at
VALUES_OF_12_BITS = 4096


@dataclass(frozen=True)
class ImageCheck:
    """What a look at the photographs of a data set has found.

    Attributes:
        images: number of all images.
        damaged: the reason for each file that cannot be decoded.
        empty_class: a damaged file in whose place no image of its class can be shown; "" if there is none.
        hints: what a user should know, a line each.
    """

    images: int = 0
    damaged: Mapping[str, str] = field(default_factory=dict)
    empty_class: str = ""
    hints: tuple[str, ...] = ()

    def beside(self, other: "ImageCheck") -> "ImageCheck":
        """What this look and another one have found."""
        damaged, empty = {**self.damaged, **other.damaged}, self.empty_class or other.empty_class
        return ImageCheck(self.images + other.images, damaged, empty, self.hints + other.hints)

    def raise_damage(self, allowed: bool) -> None:
        """Raise RequestError if files are damaged, unless that is `allowed` and others can take their places."""
        if self.damaged and not allowed:
            raise RequestError(
                f"{in_one_line(self.damaged, self.images)};\n"
                f"replace or remove them (unfinished runs then start anew, with --overwrite), or train without them: "
                f"--skip_bad_images"
            )
        if self.empty_class:
            raise RequestError(
                f"{self.empty_class} cannot be decoded ({self.damaged[self.empty_class]}), nor can any image that "
                f"might take its place; replace them, or remove the folder"
            )


def check_images(arrays: Arrays) -> tuple[Arrays, ImageCheck]:
    """Look at the first and last bytes of all files; those that look cut off or unusual are decoded.

    Returns:
        The data set with marks for images that are turned by their EXIF orientation, and what was found. A data set in
        memory comes back as it is.

    Raises:
        DataError: a process that looks at files has died.
    """
    train, test = arrays.train_images, arrays.test_images
    if not (isinstance(train, ImageFiles) and isinstance(test, ImageFiles)):
        return arrays, ImageCheck()
    looks = _look_at(train, False), _look_at(test, False)
    damaged, empty = _damage(train, looks[0].problems) | _damage(test, looks[1].problems), ""
    for files, look in zip((train, test), looks, strict=True):
        empty = empty or _empty_class(files, look.problems)
    hints = [*_of_few_values(train, looks[0].deep), *_in_both(train, test, looks[0].keys, looks[1].keys)]
    marked = arrays._replace(train_images=train.marked(looks[0].marks), test_images=test.marked(looks[1].marks))
    return marked, ImageCheck(len(train) + len(test), damaged, empty, tuple(hints))


def check_unlabelled(files: ImageFiles, test: np.ndarray | ImageFiles) -> ImageCheck:
    """Look at images without labels as `check_images` does at others; test images among them are found in files alone.

    Raises:
        DataError: a process that looks at files has died.
    """
    look = _look_at(files, False)
    hints = list(_of_few_values(files, look.deep))
    if isinstance(test, ImageFiles):
        hints += _in_both(files, test, look.keys, _look_at(test, False).keys)
    damaged = _damage(files, look.problems)
    return ImageCheck(len(files), damaged, _empty_class(files, look.problems), tuple(hints))


def decode_all(files: ImageFiles) -> dict[str, str]:
    """Decode all images as training does; returns the reason for each file that fails."""
    return _damage(files, _look_at(files, True).problems)


@dataclass
class _Look:
    """What was seen of files; rows that need no word are left out.

    Attributes:
        problems, marks: by row.
        deep: rows of grey images with 16 bits a pixel.
        keys: int64 N, equal for equal files; 0 for damaged ones.
    """

    problems: dict[int, str]
    marks: dict[int, str]
    deep: list[int]
    keys: np.ndarray


@dataclass
class _Chunks(Dataset):
    files: ImageFiles
    decode: bool

    def __getitem__(self, number: int) -> tuple[dict[int, str], dict[int, str], list[int], np.ndarray]:
        problems: dict[int, str] = {}
        marks: dict[int, str] = {}
        deep, keys = [], []
        for row in range(number * CHUNK, min(len(self.files), (number + 1) * CHUNK)):
            seen = inspect(self.files.path(row))
            problem = seen.problem or (_decoding_problem(self.files, row) if self.decode else "")
            if problem:
                problems[row] = problem
            if seen.mark:
                marks[row] = seen.mark
            if seen.deep:
                deep.append(row)
            keys.append(seen.key)
        return problems, marks, deep, np.array(keys, dtype=np.int64)  # by a pipe: it needs no shared memory


def _decoding_problem(files: ImageFiles, row: int) -> str:
    try:
        read_rgb(files.path(row))
    except UnreadableImage as error:
        return error.reason
    return ""


def _look_at(files: ImageFiles, decode: bool) -> _Look:
    work, chunks = _Chunks(files, decode), -(-len(files) // CHUNK)
    found = from_workers(work, chunks) if chunks > 1 else iter([work[0]])
    shown = tqdm(found, desc=f"checking {files.folder}", total=chunks, unit="x", leave=False, disable=None)
    problems, marks, deep, keys = zip(*shown, strict=True)
    joined_problems, joined_marks = (dict(chain.from_iterable(d.items() for d in part)) for part in (problems, marks))
    return _Look(joined_problems, joined_marks, list(chain.from_iterable(deep)), np.concatenate(keys))


def _damage(files: ImageFiles, problems: Mapping[int, str]) -> dict[str, str]:
    return {files.label(row): reason for row, reason in problems.items()}


def _empty_class(files: ImageFiles, problems: Mapping[int, str]) -> str:
    """The first damaged file of the first class of which nothing else is left; "" if there is none."""
    seen: set[int] = set()
    for row in problems:
        if row not in seen:
            own = list(files.rows_of_class(row))
            if all(other in problems for other in own):
                return files.label(row)
            seen.update(own)
    return ""


def _of_few_values(files: ImageFiles, deep: list[int]) -> Iterator[str]:
    sample = deep[:: -(-len(deep) // MOST_SAMPLED)] if deep else []
    highest = max((highest_value(files.path(row)) for row in sample), default=VALUES_OF_12_BITS)
    if highest < VALUES_OF_12_BITS:
        yield (
            f"{files.folder}: the grey images of 16 bits hold values up to {highest} only, and are seen nearly black; "
            f"scale them to 0..65535, or convert them to 8 bits"
        )


def _in_both(train: ImageFiles, test: ImageFiles, train_keys: np.ndarray, test_keys: np.ndarray) -> Iterator[str]:
    """Say how many test images are training images too, byte for byte."""
    rows = np.flatnonzero(np.isin(test_keys, train_keys) & (test_keys != 0))
    order = np.argsort(train_keys, kind="stable")
    pairs = []
    for row in rows[:MOST_COMPARED]:
        first, end = (np.searchsorted(train_keys, test_keys[row], side, order) for side in ("left", "right"))
        for other in order[first : min(end, first + 10)]:
            if filecmp.cmp(train.path(other), test.path(row), shallow=False):
                pairs.append((test.label(row), train.label(other)))
                break
    if pairs:
        more = "at least " if len(rows) > MOST_COMPARED else ""
        yield f"{more}{len(pairs)} of {len(test):,} test images are training images too ({' = '.join(pairs[0])})"
