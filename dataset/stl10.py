"""STL-10 (Coates, Ng, Lee, AISTATS 2011) at 32×32 pixels, to which the published transfer figures scale it.

The labelled images are scaled once, at conversion, as torchvision's Resize does with PIL images: what follows (crop,
flip, normalisation) gets the scaled image in the published experiments too. torchvision's own STL10 class does not
help: it needs the 100,000 unlabelled images (2.6 GB) extracted and reads them all to check them.
"""

import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from dataset.archives import ArchiveSource, archive_or_folder, at_hand, files_are_official, load_converted, unreadable
from dataset.registry import Arrays, DatasetEntry, register_dataset

ARCHIVE_SIZE = 96  # pixels of the archive's images
IMAGE_SIZE = 32
FIELDS = {
    "train_X.bin": "train_images",
    "train_y.bin": "train_labels",
    "test_X.bin": "test_images",
    "test_y.bin": "test_labels",
}


@dataclass(frozen=True)
class Stl10Source(ArchiveSource):
    """STL-10's archive, and the MD5 of each labelled file in it."""

    files: dict[str, str] = field(default_factory=dict)


# Addresses and checksums are torchvision's.
STL10 = Stl10Source(
    name="stl10",
    num_classes=10,
    image_size=IMAGE_SIZE,
    train_size=5_000,
    test_size=8_000,
    archive="stl10_binary.tar.gz",
    archive_md5="91f7769df0f17e558f3565bffb0c7dfb",
    inner_folder="stl10_binary",
    urls=("http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",),
    files={
        "train_X.bin": "918c2871b30a85fa023e0c44e0bee87f",
        "train_y.bin": "5a34089d4802c674881badbb80307741",
        "test_X.bin": "7f263ba9f9e0b06b93213547f721ac82",
        "test_y.bin": "36f9794fa4beb8a2c72628de14fa638e",
    },
)


def load_stl10(data_folder: Path | str, source: Stl10Source = STL10) -> Arrays:
    """5,000 training and 8,000 test images, uint8 N×32×32×3, in `data_folder`/stl10; converted if they are missing.

    They are converted from the archive or its extracted folder stl10_binary/ in `data_folder`, else fetched.

    Raises:
        RequestError: damaged files, or missing files that cannot be fetched.
        RunError: the folder cannot be written to.
    """
    return load_converted(data_folder, source, partial(convert, source=source))


def convert(data_folder: Path, source: Stl10Source) -> Arrays:
    """The labelled images, scaled; the unlabelled ones in the archive are skipped and never in memory.

    Raises:
        RequestError: damaged files, or missing files that cannot be fetched.
    """
    place = archive_or_folder(data_folder, source, partial(files_are_official, md5s=source.files))
    found = {}
    try:
        for name, content in _labelled_files(place):
            found[FIELDS[name]] = _labels(content) if name.endswith("_y.bin") else _images(content, source.image_size)
    except (tarfile.TarError, EOFError, zlib.error, OSError, ValueError) as error:
        raise unreadable(place, error) from error
    if missing := [name for name, part in FIELDS.items() if part not in found]:
        raise unreadable(place, f"it holds no {missing[0]}")
    return Arrays(**found)


def _labelled_files(place: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of the labelled files, in the archive's order; nothing is read after the last of them."""
    if place.is_dir():
        yield from ((name, (place / name).read_bytes()) for name in FIELDS)
        return
    wanted = set(FIELDS)
    with tarfile.open(place, "r|*") as tar:
        for member in tar:
            name = PurePosixPath(member.name).name
            content = tar.extractfile(member) if name in wanted and member.isfile() else None
            if content is not None:
                yield name, content.read()
                wanted.remove(name)
                if not wanted:
                    return


def _labels(content: bytes) -> np.ndarray:
    return np.frombuffer(content, dtype=np.uint8).astype(np.int64) - 1  # the archive counts from 1


def _images(content: bytes, size: int) -> np.ndarray:
    """uint8 N×size×size×3 of the archive's bytes: an image's channels one after the other, each column by column."""
    columns = np.frombuffer(content, dtype=np.uint8).reshape(-1, 3, ARCHIVE_SIZE, ARCHIVE_SIZE)
    images = np.empty((len(columns), size, size, 3), dtype=np.uint8)
    for image, pixels in zip(images, columns.transpose(0, 3, 2, 1), strict=True):
        scaled = Image.fromarray(np.ascontiguousarray(pixels)).resize((size, size), Image.Resampling.BILINEAR)
        image[:] = np.asarray(scaled)
    return images


register_dataset(
    DatasetEntry(
        name=STL10.name,
        num_classes=STL10.num_classes,
        image_size=STL10.image_size,
        train_size=STL10.train_size,
        test_size=STL10.test_size,
        mean=(0.4467, 0.4398, 0.4066),
        std=(0.2603, 0.2566, 0.2712),
        crop_padding=4,
        horizontal_flip=True,
        summary="STL-10: 5,000 + 8,000 photographs in 10 classes, scaled from 96×96 to 32×32 pixels",
        load=load_stl10,
        at_hand=partial(at_hand, source=STL10),
        classes=("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"),
    )
)
