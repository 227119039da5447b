"""Data sets that are converted once from an official archive, which lies in the data folder or is fetched."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from common.download import download
from common.errors import RequestError
from common.files import digest_of
from common.lock import only_one_process
from common.output_places import check_output_folder
from common.user_paths import file_is_there, why_no_file
from dataset.arrays import all_there, read_arrays, write_arrays
from dataset.registry import Arrays


@dataclass(frozen=True)
class ArchiveSource:
    """One data set and the origin of its bytes.

    Attributes:
        image_size: pixels of the converted images.
        archive: file name of the archive.
        inner_folder: the folder inside it, which it leaves when it is extracted.
        urls: addresses of the archive, the best first.
    """

    name: str
    num_classes: int
    image_size: int
    train_size: int
    test_size: int
    archive: str
    archive_md5: str
    inner_folder: str
    urls: tuple[str, ...]


def load_converted(data_folder: Path | str, source: ArchiveSource, convert: Callable[[Path], Arrays]) -> Arrays:
    """The arrays in `data_folder`/NAME; if they are missing, `convert(data_folder)` makes them.

    Raises:
        RequestError: damaged files, or what `convert` raises.
        RunError: the folder cannot be written to.
    """
    data_folder = Path(data_folder)
    folder = data_folder / source.name
    if not all_there(folder):
        check_output_folder("--data_folder", folder)
        with only_one_process(data_folder / f".{source.name}.lock"):
            if not all_there(folder):  # another process may have made them while this one waited
                write_arrays(folder, convert(data_folder))
    return read_arrays(folder, source)


def at_hand(data_folder: Path | str, source: ArchiveSource) -> bool:
    """True if `load_converted` finds the arrays in `data_folder`."""
    try:
        return all_there(Path(data_folder) / source.name)
    except RequestError:
        return False


def archive_or_folder(data_folder: Path, source: ArchiveSource, usable: Callable[[Path], bool]) -> Path:
    """The archive if it lies in the data folder and is right; else its extracted folder if `usable`; else fetched.

    Raises:
        RequestError: both are missing, and no address serves the archive.
    """
    archive, extracted = data_folder / source.archive, data_folder / source.inner_folder
    if file_is_there(archive, "move it away") and digest_of(archive, "md5") == source.archive_md5:
        return archive
    if os.path.isdir(extracted) and usable(extracted):
        return extracted
    advice = (
        f"put {source.archive} (md5 {source.archive_md5}) into {data_folder}, "
        f"or give the folder that holds it with --data_folder"
    )
    return download(source.urls, archive, md5=source.archive_md5, advice=advice)


def files_are_official(folder: Path, md5s: dict[str, str]) -> bool:
    """True if an extracted folder holds these files as they were published; prints why it does not.

    Args:
        md5s: MD5 of each file, by name.
    """
    for name, md5 in md5s.items():
        path = folder / name
        if (problem := why_no_file(path)) is not None:
            print(f"{path} {problem}; skipping {folder}", file=sys.stderr)
            return False
        if digest_of(path, "md5") != md5:
            print(f"{path} is not the official file (its md5 differs); skipping {folder}", file=sys.stderr)
            return False
    return True


def unreadable(place: Path, error: Exception | str) -> RequestError:
    """The error for an archive, or an extracted folder, that does not hold what it should."""
    reason = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
    return RequestError(f"{place} cannot be read ({reason});\ndelete it to have the archive fetched again")
