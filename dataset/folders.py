"""Any folder of photographs as a data set, such as ImageNet: `--dataset folder:NAME[@SIZE]`.

    DATA_FOLDER/NAME/train/CLASS/IMAGE ...        DATA_FOLDER/NAME/val/CLASS/IMAGE ...
    DATA_FOLDER/NAME/train/CLASS/IMAGE ...        or DATA_FOLDER/NAME/CLASS/IMAGE ...: split by names (`name_split`)
    DATA_FOLDER/NAME/labels.csv                   beside images in any folders: classes of a table (`label_table`)

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
from dataset.label_table import FILE_NAME, TRAINING, LabelTable, read_label_table
from dataset.left_out import printable
from dataset.name_split import is_test_image
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
    if not os.path.isdir(folder):
        raise RequestError(
            f"the folder {_shown(folder)} is missing; put images into {_shown(folder / 'CLASS')}, or into "
            f"{_shown(folder / TRAIN[0] / 'CLASS')} and {_shown(folder / TEST[0] / 'CLASS')}"
        )
    train, test, table = _part(folder, TRAIN), _part(folder, TEST), folder / FILE_NAME
    if table.exists() and not (train and test and _contents(train, Counter())[0]):
        return _of_table(folder, size)
    if test is None:
        return _split(folder, train if train and _holds_classes(folder, train) else folder, size)
    if train is None:
        raise RequestError(
            f"the folder {_shown(folder / TRAIN[0])} is missing, beside {_shown(test)};\n"
            f"put images into DATA_FOLDER/NAME/train/CLASS/ and DATA_FOLDER/NAME/val/CLASS/"
        )
    return _of_parts(folder, train, test, size)


def _part(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if os.path.isdir(folder / name)), None)


def _holds_classes(folder: Path, train: Path) -> bool:
    """False where the folder train is a class itself, beside bus and car."""
    others = [name for name in _contents(folder, Counter())[0] if name != train.name]
    return bool(_contents(train, Counter())[0]) or not others


def _of_parts(folder: Path, train: Path, test: Path, size: int) -> tuple[Arrays, list[str], tuple[str, ...]]:
    passed = Counter[str]()
    (classes, loose), (tested, loose_tested) = _contents(train, passed), _contents(test, passed)
    _check_several(train, classes)
    if others := set(tested) - set(classes):
        raise RequestError(_unknown_class(min(others), classes, train, test))
    arrays = Arrays(
        *_files(train, _images(train, classes, passed, every=True), size),
        *_files(test, _images(test, classes, passed, every=False), size),
    )
    notes = [*_notes(folder, classes, arrays, len(loose) + len(loose_tested), passed)]
    if (folder / FILE_NAME).exists():
        notes.append(f"{_shown(folder)}: {FILE_NAME} is not read, as {train.name}/ and {test.name}/ have the classes")
    return arrays, classes, tuple(notes)


def _split(folder: Path, root: Path, size: int) -> tuple[Arrays, list[str], tuple[str, ...]]:
    """The classes in `root`, split into training and test images by their names."""
    passed = Counter[str]()
    classes, loose = _contents(root, passed)
    _check_several(root, classes)
    arrays, note = _by_names(folder, root, _images(root, classes, passed, every=True), size)
    return arrays, classes, (note, *_notes(folder, classes, arrays, len(loose), passed))


def _of_table(folder: Path, size: int) -> tuple[Arrays, list[str], tuple[str, ...]]:
    """The classes that a table gives, and the parts if it has a column for them."""
    names, passed = images_below(folder)
    table = read_label_table(folder / FILE_NAME, names)
    classes = table.classes
    if len(classes) < 2:
        raise RequestError(f"{_shown(folder / FILE_NAME)} has {len(classes)} class; it needs 2 or more")
    if unknown := set(table.splits.values()) - {*TRAINING, *TEST}:
        raise RequestError(
            f"{_shown(folder / FILE_NAME)}: {min(unknown)!r} names no part of the images; write train, val or test"
        )
    listed: list[list[str]] = [[] for _ in classes]
    numbers = {name: number for number, name in enumerate(classes)}
    for name in names:
        if name in table.labels:
            listed[numbers[table.labels[name]]].append(name)
    passed[".csv"] -= 1
    test = next((word for word in TEST if word in table.splits.values()), None)
    if test is None:
        arrays, note = _by_names(folder, folder, listed, size, of_table=True)
    else:
        arrays = _by_column(folder, listed, table, test, size)
        note = f"{_shown(folder)}: training and test images as {FILE_NAME} says ({_sizes(arrays)})"
    unlisted = len(names) - len(table.labels)
    notes = [note, *_notes(folder, classes, arrays, 0, +passed)]
    if unlisted:
        notes.append(f"{_shown(folder)}: passed over {counted(unlisted, 'image')} that {FILE_NAME} does not list")
    return arrays, classes, tuple(notes)


def _by_column(folder: Path, listed: list[list[str]], table: LabelTable, test: str, size: int) -> Arrays:
    parts = [
        [[name for name in names if table.splits[name] in words] for names in listed] for words in (TRAINING, (test,))
    ]
    if not all(parts[0]):
        raise RequestError(
            f"{_shown(folder / FILE_NAME)}: {table.classes[parts[0].index([])]!r} has no training image; add some, or "
            f"remove the column to split by names"
        )
    return Arrays(*_files(folder, parts[0], size, of_table=True), *_files(folder, parts[1], size, of_table=True))


def _by_names(
    folder: Path, root: Path, images: list[list[str]], size: int, of_table: bool = False
) -> tuple[Arrays, str]:
    """Split the images of each class by their names; returns a line that says so, too."""
    flags = [is_test_image(names) for names in images]
    trained, tested = (
        [
            [name for name, test in zip(names, of_class, strict=True) if test == wanted]
            for names, (of_class, _) in zip(images, flags, strict=True)
        ]
        for wanted in (False, True)
    )
    if not any(tested):
        raise RequestError(f"{_shown(root)}: each class has a single image; add some to test on")
    arrays = Arrays(*_files(root, trained, size, of_table), *_files(root, tested, size, of_table))
    small = sum(moved for _, moved in flags)
    why = f"; so that both have every class, {counted(small, 'image')} changed sides" if small else ""
    return arrays, f"{_shown(folder)}: no val/ there, split by the names of files: {_sizes(arrays)}{why}"


def _sizes(arrays: Arrays) -> str:
    return f"{len(arrays.train_labels):,} training and {len(arrays.test_labels):,} test images"


def _check_several(root: Path, classes: Sequence[str]) -> None:
    if len(classes) < 2:
        raise RequestError(
            f"{_shown(root)} holds {counted(len(classes), 'folder')} of images; it needs 2 or more, one a class"
        )


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


def _images(part: Path, classes: list[str], passed: Counter[str], every: bool) -> list[list[str]]:
    """The names of the images of each class; with `every`, each must have one."""
    images = []
    for name in classes:
        found = _names(part, name, passed) if os.path.isdir(part / name) else []
        if every and not found:
            raise RequestError(
                f"{_shown(part / name)} holds no image ({', '.join(ENDINGS)}); add some or remove the folder"
            )
        images.append(found)
    if not any(images):
        shown = ", ".join(map(printable, classes[:3]))
        raise RequestError(f"{_shown(part)} holds no image of the classes {shown}, ...; add some")
    return images


def _files(root: Path, images: list[list[str]], size: int, of_table: bool = False) -> tuple[ImageFiles, np.ndarray]:
    """Images class by class, and their labels.

    Args:
        of_table: the class of an image is not the first part of its name.
    """
    names = np.array([os.fsencode(name) for of_class in images for name in of_class])
    labels = np.repeat(np.arange(len(images), dtype=np.int64), [len(of_class) for of_class in images])
    return ImageFiles(root, names, size, classes=labels if of_table else None), labels


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
