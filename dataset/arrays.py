"""Data sets on disk: DATA_FOLDER/NAME/{train,test}_{images,labels}.npy, memory-mapped when read."""

from functools import partial
from pathlib import Path

import numpy as np

from common.errors import RequestError
from common.files import write_atomically
from common.user_paths import file_is_there
from dataset.registry import Arrays, Sizes, find_flaw

MAGIC = b"\x93NUMPY"  # at the beginning of each .npy file
ADVICE = "move it away to have it made again from the archive"


def array_paths(folder: Path) -> dict[str, Path]:
    """The file of each field of `Arrays`."""
    return {field: folder / f"{field}.npy" for field in Arrays._fields}


def all_there(folder: Path) -> bool:
    """True if all four files exist. Each is written whole or not at all, so four files are a whole set.

    Raises:
        RequestError: something else lies in the place of one of them, or it cannot be read.
    """
    there = [file_is_there(path, ADVICE) for path in array_paths(folder).values()]  # all are looked at
    return all(there)


def write_arrays(folder: Path, arrays: Arrays) -> None:
    """Write the four files, each atomically."""
    for path, array in zip(array_paths(folder).values(), arrays, strict=True):
        assert isinstance(array, np.ndarray)  # photographs stay in their files
        write_atomically(path, partial(np.save, arr=array))


def read_arrays(folder: Path, sizes: Sizes) -> Arrays:
    """Memory-map the four files (copy on write: the files are never changed) and check them.

    Raises:
        RequestError: a file is damaged, or holds other shapes, types or labels than the data set has.
    """
    found, paths = {}, array_paths(folder)
    for field, path in paths.items():
        try:
            with open(path, "rb") as file:
                if file.read(len(MAGIC)) != MAGIC:  # numpy would take it for a pickle, and advise to load that
                    raise ValueError("it is no .npy file")
            found[field] = np.load(path, mmap_mode="c", allow_pickle=False)
        except Exception as error:  # a stranger's file can make the reading fail in any way; no pickle is read
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise _unusable(path, f"cannot be read ({reason[:100]})") from error
    arrays = Arrays(**found)
    flaw = find_flaw(arrays, sizes)
    if flaw is not None:
        field, reason = flaw
        raise _unusable(paths[field], reason)
    return arrays


def _unusable(path: Path, reason: str) -> RequestError:
    return RequestError(f"{path} {reason};\ndelete it to have it made again from the archive")
