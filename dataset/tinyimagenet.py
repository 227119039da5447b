"""TinyImageNet (Stanford's CS231n: 200 classes of ImageNet) at 32×32 pixels, for the published transfer figures.

The images are scaled once, at conversion, as torchvision's Resize does with PIL images: what follows (crop, flip,
normalisation) gets the scaled image in the published experiments too. The labels of the archive's test images were
never published; the validation images are the test set here, as in the literature.
"""

import io
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from common.user_paths import read_regular
from dataset.archives import ArchiveSource, archive_or_folder, at_hand, load_converted, unreadable
from dataset.registry import Arrays, DatasetEntry, register_dataset

ARCHIVE_SIZE = 64  # pixels of the archive's images
IMAGE_SIZE = 32
ENDING = ".JPEG"
ANNOTATIONS = "val/val_annotations.txt"  # a line is FILE, CLASS and a box, separated by tabs
# Raised when a damaged archive, folder or image is read.
_DAMAGED = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error)

TINYIMAGENET = ArchiveSource(
    name="tinyimagenet",
    num_classes=200,
    image_size=IMAGE_SIZE,
    train_size=100_000,
    test_size=10_000,
    archive="tiny-imagenet-200.zip",
    archive_md5="90528d7ca1a48142e341f4ef8d21d0de",
    inner_folder="tiny-imagenet-200",
    urls=("http://cs231n.stanford.edu/tiny-imagenet-200.zip",),
)


class Tree(NamedTuple):
    """The files of the archive or of its extracted folder: names relative to it, and a function that reads one."""

    names: Sequence[str]
    read: Callable[[str], bytes]


class Sample(NamedTuple):
    """The file of one image, and its class."""

    name: str
    label: int


def load_tinyimagenet(data_folder: Path | str, source: ArchiveSource = TINYIMAGENET) -> Arrays:
    """100,000 training and 10,000 test images, uint8 N×32×32×3, in `data_folder`/tinyimagenet; converted if missing.

    They are converted from the archive or its extracted folder tiny-imagenet-200/ in `data_folder`, else fetched.
    The extracted folder has no published checksums: classes and files are counted, and every image must be decodable.
    Classes are numbered by their WordNet names in alphabetical order. Training images come by class and name, test
    images in the order of val_annotations.txt.

    Raises:
        RequestError: damaged files, or missing files that cannot be fetched.
        RunError: the folder cannot be written to.
    """
    return load_converted(data_folder, source, partial(convert, source=source))


def convert(data_folder: Path, source: ArchiveSource) -> Arrays:
    """Decode and scale all images; takes about a minute.

    Raises:
        RequestError: damaged files, or missing files that cannot be fetched.
    """
    place = archive_or_folder(data_folder, source, partial(_is_whole, source=source))
    try:
        with _opened(place, source) as tree, tqdm(total=sum(_sizes(source)), desc=source.name, disable=None) as bar:
            splits = _samples(tree, source)
            images = [_images(tree, samples, source.image_size, bar) for samples in splits]
    except _DAMAGED as error:
        raise unreadable(place, error) from error
    train, test = (np.array([sample.label for sample in samples], dtype=np.int64) for samples in splits)
    return Arrays(images[0], train, images[1], test)


def _sizes(source: ArchiveSource) -> tuple[int, int]:
    return source.train_size, source.test_size


@contextmanager
def _opened(place: Path, source: ArchiveSource) -> Iterator[Tree]:
    if place.is_dir():
        names = [path.relative_to(place).as_posix() for path in place.rglob("*")]
        yield Tree(names, lambda name: read_regular(place / name))
        return
    with zipfile.ZipFile(place) as archive:
        prefix = f"{source.inner_folder}/"
        names = [name.removeprefix(prefix) for name in archive.namelist() if name.startswith(prefix)]
        yield Tree(names, lambda name: archive.read(prefix + name))


def _is_whole(folder: Path, source: ArchiveSource) -> bool:
    """True if all images and labels are in the extracted folder; prints why they are not."""
    try:
        with _opened(folder, source) as tree:
            _samples(tree, source)
    except _DAMAGED as error:
        print(f"{folder} is not the whole data set ({error}); skipping it", file=sys.stderr)
        return False
    return True


def _samples(tree: Tree, source: ArchiveSource) -> tuple[list[Sample], list[Sample]]:
    """Training and test samples.

    Test images are found by their names alone, because many programs move them into folders of their classes;
    val_annotations.txt stays.

    Raises:
        ValueError, KeyError, OSError: the files are not those of the data set; the text says why.
    """
    train = sorted(name for name in tree.names if name.startswith("train/") and name.endswith(ENDING))
    labels = {name: label for label, name in enumerate(sorted({name.split("/")[1] for name in train}))}
    below_val = (name for name in tree.names if name.startswith("val/"))
    places = {PurePosixPath(name).name: name for name in below_val}
    test = []
    for line in tree.read(ANNOTATIONS).decode().splitlines():
        file, wordnet_name = line.split("\t")[:2]
        try:
            test.append(Sample(places[file], labels[wordnet_name]))
        except KeyError as error:
            raise ValueError(f"{ANNOTATIONS} names {error}, which is missing") from error
    found, expected = (len(labels), len(train), len(test)), (source.num_classes, *_sizes(source))
    if found != expected:
        raise ValueError("it holds {} classes, {} + {} images, not {}, {} + {}".format(*found, *expected))
    return [Sample(name, labels[name.split("/")[1]]) for name in train], test


def _images(tree: Tree, samples: list[Sample], size: int, bar: tqdm) -> np.ndarray:
    """uint8 N×size×size×3; the few images in shades of grey become RGB."""
    images = np.empty((len(samples), size, size, 3), dtype=np.uint8)
    for image, sample in zip(images, samples, strict=True):
        try:
            with Image.open(io.BytesIO(tree.read(sample.name)), formats=["JPEG"]) as jpeg:
                pixels = jpeg.convert("RGB")
        except (OSError, Image.DecompressionBombError) as error:
            raise ValueError(f"{sample.name}: {error}") from error
        if pixels.size != (ARCHIVE_SIZE, ARCHIVE_SIZE):
            raise ValueError(f"{sample.name} does not have {ARCHIVE_SIZE}×{ARCHIVE_SIZE} pixels")
        image[:] = np.asarray(pixels.resize((size, size), Image.Resampling.BILINEAR))
        bar.update()
    return images


register_dataset(
    DatasetEntry(
        name=TINYIMAGENET.name,
        num_classes=TINYIMAGENET.num_classes,
        image_size=TINYIMAGENET.image_size,
        train_size=TINYIMAGENET.train_size,
        test_size=TINYIMAGENET.test_size,
        mean=(0.4802, 0.4481, 0.3975),
        std=(0.2770, 0.2691, 0.2821),
        crop_padding=4,
        horizontal_flip=True,
        summary="TinyImageNet: 100,000 + 10,000 photographs in 200 classes, scaled from 64×64 to 32×32 pixels",
        load=load_tinyimagenet,
        at_hand=partial(at_hand, source=TINYIMAGENET),
    )
)
