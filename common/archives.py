"""Archives from strangers: one that says it unpacks to far more than it holds is refused before it is unpacked."""

import stat
import tarfile
import zipfile
from collections.abc import Iterable

MOST_EXPANSION = 10  # times the size of the archive; weights hardly shrink, and PyTorch does not compress at all
HARMLESS = 64 << 20  # bytes that any archive may unpack to


def zip_bomb(records: Iterable[zipfile.ZipInfo], size: int) -> str | None:
    """What a zip archive of `size` bytes claims that no honest one does, as the end of a sentence; None if nothing."""
    records = list(records)
    unpacked, packed = (sum(getattr(record, name) for record in records) for name in ("file_size", "compress_size"))
    if unpacked > max(HARMLESS, MOST_EXPANSION * size):
        return f"would unpack from {size >> 10} KiB to {unpacked >> 20} MiB"
    if packed > size:
        return "has records that lie over each other"
    if any(stat.S_ISLNK(record.external_attr >> 16) for record in records):
        return "holds a link"
    return None


def tar_content(tar: tarfile.TarFile, name: str, largest: int) -> bytes:
    """The content of a member of a tar archive, read in memory: nothing in it can write anywhere.

    Raises:
        tarfile.TarError: the member is missing, a link, a device or a folder, or larger than `largest` bytes.
    """
    try:
        member = tar.getmember(name)
    except KeyError:
        raise tarfile.ReadError(f"it has no {name}") from None
    file = tar.extractfile(member) if member.isreg() else None
    if file is None:
        raise tarfile.ReadError(f"{name} is no file")
    if member.size > largest:
        raise tarfile.ReadError(f"{name} has {member.size >> 20} MiB, more than {largest >> 20}")
    return file.read()
