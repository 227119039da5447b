"""Any folder of photographs as a data set, such as ImageNet: `--dataset folder:NAME[@SIZE]`.

    DATA_FOLDER/NAME/train/CLASS/IMAGE ...        DATA_FOLDER/NAME/val/CLASS/IMAGE ...

The images of a class may lie in sub-folders. Names that begin with a dot are skipped: macOS, notebooks and editors
leave such files beside images. So is __MACOSX, which zip archives of macOS leave. What else is passed over is counted,
by the endings of names, for a line that a run prints.

Files are decoded during training (see `dataset.image_files`): nothing is converted or copied, and nothing has to fit
into memory.
"""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from common.errors import RequestError
from common.messages import counted
from common.user_paths import shown_path, why_unreachable
from dataset.image_files import ImageFiles
from dataset.image_reading import ENDINGS
from dataset.left_out import printable
from dataset.registry import DATASETS, Arrays, DatasetEntry

PREFIX = "folder"
DEFAULT_SIZE = 224
TRAIN, TEST = ("train",), ("val", "validation", "valid", "test")
OF_MACOS = "__MACOSX"
Place = tuple[int, int]  # the device and the number of a folder on it
SHOWN = 6  # kinds of files, or names, in one line
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
    arrays, classes, notes = _read(folder, size)
    return DatasetEntry(
        name=f"{PREFIX}:{name}@{size}",
        num_classes=len(classes),
        image_size=size,
        train_size=len(arrays.train_labels),
        test_size=len(arrays.test_labels),
        mean=MEAN,
        std=STD,
        crop_padding=0,
        horizontal_flip=True,
        summary=f"{folder}: {len(arrays.train_labels)} + {len(arrays.test_labels)} images in {len(classes)} classes",
        load=partial(_again, arrays),
        classes=tuple(classes),
        framing="middle",
        notes=notes,
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


def _read(folder: Path, size: int) -> tuple[Arrays, list[str], tuple[str, ...]]:
    """The images and labels, the names of the classes, and what a user should know of the folder."""
    train, test, passed = _part(folder, TRAIN), _part(folder, TEST), Counter[str]()
    (classes, loose), (tested, loose_tested) = _contents(train, passed), _contents(test, passed)
    if len(classes) < 2:
        raise RequestError(
            f"{_shown(train)} holds {counted(len(classes), 'folder')} of images; it needs 2 or more, one a class"
        )
    if others := set(tested) - set(classes):
        raise RequestError(_unknown_class(min(others), classes, train, test))
    arrays = Arrays(
        *_images(train, classes, size, passed, every=True), *_images(test, classes, size, passed, every=False)
    )
    return arrays, classes, tuple(_notes(folder, classes, arrays, len(loose) + len(loose_tested), passed))


def _unknown_class(name: str, classes: Sequence[str], train: Path, test: Path) -> str:
    for known in classes:
        if _alike(name) == _alike(known):
            return (
                f"{_shown(test / name)} and {_shown(train / known)} differ in case or in the Unicode form of their "
                f"names ({name!a}, {known!a}); rename one like the other"
            )
    return f"{_shown(test / name)} is a class without a folder in {_shown(train)}; add or remove it"


def _alike(name: str) -> str:
    """What names share that look the same, or differ in case alone."""
    return unicodedata.normalize("NFC", name).casefold()


def _notes(folder: Path, classes: Sequence[str], arrays: Arrays, loose: int, passed: Counter[str]) -> Iterator[str]:
    if passed:
        yield passed_over(folder, passed)
    if loose:
        yield f"{_shown(folder)}: passed over {counted(loose, 'image')} outside the folders of the classes"
    if untested := sorted(set(range(len(classes))) - set(arrays.test_labels.tolist())):
        names = [printable(classes[label]) for label in untested[:SHOWN]] + ["..."] * (len(untested) > SHOWN)
        yield f"{_shown(folder)}: no test image of {', '.join(names)}"
    first: dict[str, str] = {}
    for name in classes:
        other = first.setdefault(_alike(name), name)
        if other != name:
            yield f"{_shown(folder)}: {other!a} and {name!a} are two classes whose names look alike"


def passed_over(folder: Path, passed: Counter[str]) -> str:
    """A line that counts the files of a folder which are no images, by the endings of their names."""
    kinds = [f"{number:,} {kind}" for kind, number in passed.most_common(SHOWN)]
    more = [f"{len(passed) - SHOWN} kinds more"] * (len(passed) > SHOWN)
    return f"{_shown(folder)}: passed over {', '.join(kinds + more)}; convert images among them to JPEG or PNG"


def images_below(folder: Path) -> tuple[list[str], Counter[str]]:
    """The names of all images in and below a folder, relative to it, and how many other files of each kind there are.

    Raises:
        RequestError: a folder cannot be read, or a link leads nowhere or to a folder that it lies in.
    """
    passed = Counter[str]()
    return _names(folder, "", passed), passed


def _shown(path: Path) -> str:
    return printable(str(path))


def _part(folder: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        if os.path.isdir(folder / name):
            return folder / name
    raise RequestError(
        f"the folder {_shown(folder / names[0])} is missing;\n"
        f"put images into DATA_FOLDER/NAME/train/CLASS/ and DATA_FOLDER/NAME/val/CLASS/"
    )


def _images(
    part: Path, classes: list[str], size: int, passed: Counter[str], every: bool
) -> tuple[ImageFiles, np.ndarray]:
    """Names class by class, and labels; with `every`, each class must have an image."""
    names: list[bytes] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = _names(part, name, passed) if os.path.isdir(part / name) else []
        if every and not found:
            raise RequestError(
                f"{_shown(part / name)} holds no image ({', '.join(ENDINGS)}); add some or remove the folder"
            )
        names += map(os.fsencode, found)
        labels += [label] * len(found)
    if not names:
        shown = ", ".join(map(printable, classes[:3]))
        raise RequestError(f"{_shown(part)} holds no image of the classes {shown}, ...; add some")
    return ImageFiles(part, np.array(names), size), np.array(labels, dtype=np.int64)


def _names(part: Path, name: str, passed: Counter[str]) -> list[str]:
    """The images in and below the folder `name`, relative to `part`, in the order of torchvision's ImageFolder."""
    found: dict[str, list[str]] = {}
    to_do: list[tuple[str, frozenset[Place]]] = [(name, frozenset())]  # folders, and the places that they lie in
    while to_do:
        folder, above = to_do.pop()
        folders, found[folder] = _contents(part / folder, passed)
        status = os.stat(part / folder)
        place = status.st_dev, status.st_ino
        if place in above:
            raise RequestError(f"{_shown(part / folder)} is a link to a folder that it lies in; remove it")
        to_do += [(os.path.join(folder, inner), above | {place}) for inner in folders]
    return [os.path.join(folder, image) for folder in sorted(found) for image in found[folder]]


def _contents(folder: Path, passed: Counter[str]) -> tuple[list[str], list[str]]:
    """The sorted names of the folders and of the images in a folder; links count as what they lead to.

    Args:
        passed: counts the other files by the endings of their names.

    Raises:
        RequestError: it cannot be read, or an image is a link that leads nowhere.
    """
    folders, images = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name == OF_MACOS:
                    passed["hidden"] += 1
                elif entry.is_dir():
                    folders.append(entry.name)
                elif not entry.name.lower().endswith(ENDINGS):
                    passed[printable(os.path.splitext(entry.name)[1].lower()) or "without an ending"] += 1
                else:
                    if entry.is_symlink():
                        entry.stat()  # raises where it leads nowhere; for plain files it would cost time
                    if entry.is_file():
                        images.append(entry.name)
                    else:
                        passed["that are no files"] += 1
    except OSError as error:
        path = printable(str(error.filename))
        raise RequestError(f"{path} cannot be read ({error.strerror}); repair or remove it") from error
    return sorted(folders), sorted(images)


DATASETS.add_library(PREFIX, open_folder)
