"""A table beside images that says the class of each: labels.csv, as spreadsheets and Kaggle write it."""

import csv
import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath

from common.errors import RequestError
from common.messages import cut
from dataset.left_out import printable

FILE_NAME = "labels.csv"
# What columns may be called, in lower case with _ for blanks. Of several for the file the first in this list counts.
FILE_COLUMNS = (
    *("file", "filename", "file_name", "path", "filepath", "file_path", "image_path"),
    *("image", "image_name", "img", "image_id", "id"),
)
LABEL_COLUMNS = ("label", "labels", "class", "class_name", "target", "species", "category", "breed")
SPLIT_COLUMNS = ("split", "set", "subset", "partition")
TRAINING = ("train", "training")
SEPARATORS = ",;\t"
SHOWN = 3  # names in one message


@dataclass(frozen=True)
class LabelTable:
    """What a table says of the images that it lists.

    Attributes:
        labels: the class of each image, by its name below the folder.
        splits: what the table's column for the part says of each, in lower case; empty without such a column.
    """

    labels: Mapping[str, str]
    splits: Mapping[str, str]

    @property
    def classes(self) -> list[str]:
        """The names of the classes: in the order of their values if all are numbers, else sorted as text."""
        return sorted(set(self.labels.values()), key=_order(set(self.labels.values())))


def read_label_table(path: Path, images: Sequence[str]) -> LabelTable:
    """Read a table whose first line names the columns, separated by commas, semicolons or tabs, in UTF-8.

    A cell names an image by its path below the folder of the table. Folders and the ending may be left out where that
    leaves one image.

    Args:
        images: names of all images below that folder.

    Raises:
        RequestError: it cannot be read, has no column for the file or for the class, lists images that are not there,
            or says two things of one image.
    """
    header, rows = _read(path)
    index = _Index(images)
    file, label, split = _columns(path, header, rows, index)
    seen: dict[str, tuple[str, str]] = {}
    missing = []
    for line, cells in rows:
        name = index.find(path, line, cells[file])
        if name is None:
            missing.append(cells[file])
            continue
        said = cells[label], "" if split is None else cells[split].lower()
        if not said[0]:
            raise RequestError(f"{_shown(path)}, line {line}: {_quoted(cells[file])} has no class; add it")
        if seen.setdefault(name, said) != said:
            first, second = (" ".join(filter(None, each)) for each in (seen[name], said))
            raise RequestError(
                f"{_shown(path)}, line {line}: {_quoted(cells[file])} is {_quoted(second)} here and {_quoted(first)} "
                f"above; keep one of the two"
            )
    if missing:
        shown = ", ".join([*map(_quoted, missing[:SHOWN]), *["..."] * (len(missing) > SHOWN)])
        raise RequestError(
            f"{_shown(path)}: {len(missing):,} of {len(rows):,} listed images are missing: {shown}\n"
            f"give paths below the folder of the table; add these images, or remove their lines"
        )
    splits = {name: said[1] for name, said in seen.items()} if split is not None else {}
    return LabelTable({name: said[0] for name, said in seen.items()}, splits)


def _read(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The names of the columns, and for each line that is not empty its number and cells, without outer blanks."""
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError(f"{_shown(path)} is no text in UTF-8; save it as CSV in UTF-8") from error
    except OSError as error:
        raise RequestError(f"{_shown(path)} cannot be read ({error.strerror}); repair or remove it") from error
    first = text.lstrip().partition("\n")[0]
    reader = csv.reader(text.splitlines(keepends=True), delimiter=max(SEPARATORS, key=first.count), strict=True)
    try:
        lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except csv.Error as error:
        raise RequestError(f"{_shown(path)}, line {reader.line_num}: {error}; correct it") from error
    lines = [(number, cells) for number, cells in lines if any(cells)]
    if len(lines) < 2:
        raise RequestError(f"{_shown(path)} lists no image; its first line must name the columns: file,label")
    (_, header), *rows = lines
    for number, cells in rows:
        if len(cells) != len(header):
            raise RequestError(
                f"{_shown(path)}, line {number} has {len(cells)} cells and the first line {len(header)}; correct it, "
                f'with "..." about a name that holds the separator'
            )
    return header, rows


def _columns(
    path: Path, header: Sequence[str], rows: Sequence[tuple[int, list[str]]], index: "_Index"
) -> tuple[int, int, int | None]:
    """The numbers of the columns for the file, the class and the part (None if there is none)."""
    names = ["_".join(name.lower().replace("-", " ").split()) for name in header]
    splits = [number for number, name in enumerate(names) if name in SPLIT_COLUMNS]
    labels = [number for number, name in enumerate(names) if name in LABEL_COLUMNS]
    files = sorted((FILE_COLUMNS.index(name), number) for number, name in enumerate(names) if name in FILE_COLUMNS)
    file = files[0][1] if files else None
    others = [number for number in range(len(names)) if number not in splits]
    if len(others) == 2:  # one of them tells the other
        if file is None and len(labels) == 1:
            file = next(number for number in others if number not in labels)
        if file is None:
            hits = [sum(index.knows(cells[number]) for _, cells in rows) for number in others]
            file = None if hits[0] == hits[1] else others[hits.index(max(hits))]
        if file is not None and not labels:
            labels = [number for number in others if number != file]
    if file is None or len(labels) != 1 or len(splits) > 1 or file in labels:
        found = ", ".join(_quoted(name) for name in header[: SHOWN * 2])
        raise RequestError(
            f"{_shown(path)}: which columns hold the file and the class is not clear ({found});\n"
            f"call one column file and one label, and rename others of such names"
        )
    return file, labels[0], splits[0] if splits else None


class _Index:
    """Images by the ways to name them."""

    def __init__(self, images: Sequence[str]):
        self._exact = {_plain(name): name for name in images}
        self._loose: dict[str, list[str]] = defaultdict(list)
        for name in images:
            path = PurePosixPath(_plain(name))
            for way in {str(path.with_suffix("")), path.name, path.stem}:
                self._loose[way].append(name)

    def knows(self, cell: str) -> bool:
        return _plain(cell) in self._exact or _plain(cell) in self._loose

    def find(self, path: Path, line: int, cell: str) -> str | None:
        """The image that a cell names; None if there is none. Raises RequestError if there are several."""
        name = _plain(cell)
        if name in self._exact:
            return self._exact[name]
        found = self._loose.get(name, [])
        if len(found) > 1:
            shown = " and ".join(map(_quoted, found[:2]))
            raise RequestError(f"{_shown(path)}, line {line}: {_quoted(cell)} may be {shown}; give the whole path")
        return found[0] if found else None


def _plain(name: str) -> str:
    """A path with slashes, without ./ in front, in one Unicode form."""
    text = unicodedata.normalize("NFC", name.replace("\\", "/") if os.sep == "/" else PurePath(name).as_posix())
    return text.removeprefix("./")


def _order(names: set[str]) -> Callable[[str], tuple[float, str]]:
    for kind in (int, float):
        try:
            values = {name: kind(name) for name in names}
        except ValueError:
            continue
        return lambda name: (values[name], name)
    return lambda name: (0, name)


def _shown(path: Path) -> str:
    return printable(str(path))


def _quoted(text: str) -> str:
    return repr(cut(printable(text)))
