"""The mistakes that networks are surest of, which scripts/analyse.py wrote, with small pictures inside the page."""

import base64
import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from common.json_files import BrokenError, printable, regular_file_size
from reporting.formats.html.class_names import ClassNames

TABLE = "mistakes.csv"
PICTURE = re.compile(r"mistakes/\d\d\.(png|jpg)")
TYPES = {"png": "image/png", "jpg": "image/jpeg"}
LARGEST_PICTURE = 32 << 10  # bytes
LARGEST_TABLE = 1 << 20
LEAST, MOST, ALL = 8, 24, 120  # pictures of a network, and about as many of all networks: 3 KB each


@dataclass(frozen=True)
class Mistake:
    """A mistake on the page; a picture of few pixels is enlarged without smoothing."""

    address: str
    true: str
    predicted: str
    probability: str
    file: str
    few_pixels: bool

    @property
    def alt(self) -> str:
        """The picture in words."""
        return f"an image of {self.true}, taken for {self.predicted}"


@dataclass(frozen=True)
class Gallery:
    """The surest mistakes of a network, the surest first."""

    network: str
    mistakes: tuple[Mistake, ...]


def read_gallery(folder: Path, network: str, names: ClassNames, galleries: int) -> Gallery | None:
    """Reads the gallery in a network's folder; None where it has none, as earlier versions wrote.

    Args:
        network: its name.
        galleries: how many the page has: the more, the fewer pictures each.

    Raises:
        BrokenError: it cannot be read.
    """
    where = f"{folder.name}/{TABLE}"
    if not (folder / TABLE).exists():
        return None
    try:
        if regular_file_size(folder / TABLE) > LARGEST_TABLE:
            raise BrokenError(f"{where} is too large")
        rows = list(csv.DictReader(io.StringIO((folder / TABLE).read_text(encoding="utf-8"))))
        shown = max(LEAST, min(MOST, ALL // galleries))
        return Gallery(network, tuple(_mistakes(folder, rows[:shown], names)))
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise BrokenError(f"{where} has no such columns ({printable(str(error)):.80})") from None


def _mistakes(folder: Path, rows: list[dict[str, str]], names: ClassNames) -> Iterator[Mistake]:
    for row in rows:
        found = PICTURE.fullmatch(row["picture"])
        if found is None:  # it is a path
            raise ValueError(f"{row['picture']:.40}")
        path = folder / row["picture"]
        if regular_file_size(path) > LARGEST_PICTURE:
            raise BrokenError(f"{folder.name}/{row['picture']} is too large")
        content = base64.b64encode(path.read_bytes()).decode()
        yield Mistake(
            address=f"data:{TYPES[found[1]]};base64,{content}",
            true=names.name(int(row["true"])) or row["true"],
            predicted=names.name(int(row["predicted"])) or row["predicted"],
            probability=f"{100 * float(row['probability']):.1f} %",
            file=printable(row["file"]),
            few_pixels=found[1] == "png",
        )
