"""Any folder of photographs as a data set, such as ImageNet: `--dataset folder:NAME[@SIZE]`.

    DATA_FOLDER/NAME/train/CLASS/IMAGE ...        DATA_FOLDER/NAME/val/CLASS/IMAGE ...

The images of a class may lie in sub-folders. Names that begin with a dot are skipped: macOS, notebooks and editors
leave such files beside images.

Files are decoded during training (see `dataset.image_files`): nothing is converted or copied, and nothing has to fit
into memory.
"""

import os
from functools import partial
from pathlib import Path

import numpy as np

from common.errors import RequestError
from common.user_paths import shown_path, why_unreachable
from dataset.image_files import ImageFiles
from dataset.registry import DATASETS, Arrays, DatasetEntry

PREFIX = "folder"
DEFAULT_SIZE = 224
TRAIN, TEST = ("train",), ("val", "validation", "valid", "test")
ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
# Of ImageNet, with which most networks for photographs are trained.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def open_folder(name: str, data_folder: Path) -> DatasetEntry:
    """The data set in DATA_FOLDER/NAME, for NAME or NAME@SIZE; reads file names, not files.

    Raises:
        RequestError: the folder is missing or has another layout.
    """
    name, size = _parse(name)
    folder = data_folder / name
    if (problem := why_unreachable(folder)) is not None:
        raise RequestError(f"--dataset {PREFIX}: {shown_path(folder)} {problem}")
    arrays = _read(folder, size)
    classes = int(arrays.train_labels.max()) + 1
    return DatasetEntry(
        name=f"{PREFIX}:{name}@{size}",
        num_classes=classes,
        image_size=size,
        train_size=len(arrays.train_labels),
        test_size=len(arrays.test_labels),
        mean=MEAN,
        std=STD,
        crop_padding=0,
        horizontal_flip=True,
        summary=f"{folder}: {len(arrays.train_labels)} + {len(arrays.test_labels)} images in {classes} classes",
        load=partial(_again, arrays),
    )


def _parse(name: str) -> tuple[str, int]:
    name, at, size = name.partition("@")
    if at and not (size.isascii() and size.isdigit() and int(size)):
        raise RequestError(f"--dataset {PREFIX}:{name}@{size}: give the size in pixels, as in {name}@224")
    if not name or name != Path(name).name:
        raise RequestError(f"--dataset {PREFIX}:{name}: give the name of a folder in the data folder (--data_folder)")
    return name, int(size) if at else DEFAULT_SIZE


def _again(arrays: Arrays, data_folder: Path) -> Arrays:
    return arrays  # the names were read where the classes were counted


def _read(folder: Path, size: int) -> Arrays:
    train, test = _part(folder, TRAIN), _part(folder, TEST)
    classes, _ = _contents(train)
    if len(classes) < 2:
        raise RequestError(f"{train} holds {len(classes)} folders of images; it needs 2 or more, one a class")
    others = set(_contents(test)[0]) - set(classes)
    if others:
        raise RequestError(f"{test / min(others)} is a class without a folder in {train}; add or remove it")
    return Arrays(*_images(train, classes, size, every=True), *_images(test, classes, size, every=False))


def _part(folder: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        if os.path.isdir(folder / name):
            return folder / name
    raise RequestError(
        f"the folder {folder / names[0]} is missing;\n"
        f"put images into DATA_FOLDER/NAME/train/CLASS/ and DATA_FOLDER/NAME/val/CLASS/"
    )


def _images(part: Path, classes: list[str], size: int, every: bool) -> tuple[ImageFiles, np.ndarray]:
    """Names class by class, and labels; with `every`, each class must have an image."""
    names: list[bytes] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = _names(part, name) if os.path.isdir(part / name) else []
        if every and not found:
            raise RequestError(f"{part / name} holds no image ({', '.join(ENDINGS)}); add some or remove the folder")
        names += map(os.fsencode, found)
        labels += [label] * len(found)
    if not names:
        raise RequestError(f"{part} holds no image of the classes {', '.join(classes[:3])}, ...; add some")
    return ImageFiles(part, np.array(names), size), np.array(labels, dtype=np.int64)


def _names(part: Path, name: str) -> list[str]:
    """The images in and below the folder `name`, relative to `part`, in the order of torchvision's ImageFolder."""
    found = {}

    def walk(folder: str, above: frozenset[str]) -> None:
        place = os.path.realpath(part / folder)
        if place in above:
            raise RequestError(f"{part / folder} is a link to a folder that it lies in; remove it")
        folders, found[folder] = _contents(part / folder)
        for inner in folders:
            walk(os.path.join(folder, inner), above | {place})

    walk(name, frozenset())
    return [os.path.join(folder, image) for folder in sorted(found) for image in found[folder]]


def _contents(folder: Path) -> tuple[list[str], list[str]]:
    """The sorted names of the folders and of the images in a folder; links count as what they lead to.

    Raises:
        RequestError: it cannot be read, or an image is a link that leads nowhere.
    """
    folders, images = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    folders.append(entry.name)
                elif entry.name.lower().endswith(ENDINGS):
                    if entry.is_symlink():
                        entry.stat()  # raises where it leads nowhere; for plain files it would cost time
                    if entry.is_file():
                        images.append(entry.name)
    except OSError as error:
        raise RequestError(f"{error.filename} cannot be read ({error.strerror}); repair or remove it") from error
    return sorted(folders), sorted(images)


DATASETS.add_library(PREFIX, open_folder)
