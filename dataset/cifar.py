"""CIFAR-10 and CIFAR-100 (Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009).

The arrays are made once from the official archive, wherever it can be had; no pickle but the official ones is read.
"""

import hashlib
import pickle
import sys
import tarfile
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from common.download import download
from common.errors import RequestError
from common.files import digest_of, only_one_process
from dataset.arrays import all_there, array_paths, read_arrays, write_arrays
from dataset.registry import Arrays, DatasetEntry, register_dataset

IMAGE_SIZE = 32


@dataclass(frozen=True)
class CifarSource:
    """Where one CIFAR comes from and how its bytes are known.

    Attributes:
        archive: file name of the archive; `inner_folder` is the folder inside, which torchvision leaves extracted.
        train_files, test_files: pickles of a split, in order, each with its MD5.
        label_key: under which name a pickle keeps the labels.
        raw_sha256: what `raw_digest` gives of the converted arrays, by field of `Arrays`.
    """

    name: str
    num_classes: int
    train_size: int
    test_size: int
    archive: str
    archive_md5: str
    inner_folder: str
    urls: tuple[str, ...]
    train_files: dict[str, str]
    test_files: dict[str, str]
    label_key: str
    raw_sha256: dict[str, str] = field(default_factory=dict)


CIFAR100 = CifarSource(
    name="cifar100",
    num_classes=100,
    train_size=50_000,
    test_size=10_000,
    archive="cifar-100-python.tar.gz",
    archive_md5="eb9058c3a382ffc7106e4002c42a8d85",
    inner_folder="cifar-100-python",
    urls=(
        "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        "https://dataset.bj.bcebos.com/cifar/cifar-100-python.tar.gz",
    ),
    train_files={"train": "16019d7e3df5f24257cddd939b257f8d"},
    test_files={"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
    label_key="fine_labels",
    raw_sha256={
        "train_images": "4e457917601a66aed021f5fa37957b56c6319557c0a8ed5484de3c390af45430",
        "train_labels": "9f11b9f97aad759ba6df0a33e3218b01d8deaf4ed3a14aa1185d69b9ad7ebcb3",
        "test_images": "4cb8e5d9309da489bf6b19cc10cd96c3ae6f8daf225380b605aaee4c0d6aee19",
        "test_labels": "4dad7d09c7c97d33f6cb928d705cf4196221316fd6e31bdd978a08ed9103ee0b",
    },
)

CIFAR10 = CifarSource(
    name="cifar10",
    num_classes=10,
    train_size=50_000,
    test_size=10_000,
    archive="cifar-10-python.tar.gz",
    archive_md5="c58f30108f718f92721af3b95e74349a",
    inner_folder="cifar-10-batches-py",
    urls=(
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        "https://dataset.bj.bcebos.com/cifar/cifar-10-python.tar.gz",
    ),
    train_files={
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    },
    test_files={"test_batch": "40351d587109b95175f43aff81a1287e"},
    label_key="labels",
)


def load_cifar(data_folder: Path | str, source: CifarSource) -> Arrays:
    """The arrays in `data_folder`/NAME; where they are missing, made from the archive (at hand, extracted, fetched).

    Raises:
        RequestError: damaged files, or nothing at hand and nothing to be fetched.
        RunError: the folder cannot be written to.
    """
    data_folder = Path(data_folder)
    folder = data_folder / source.name
    if not all_there(folder):
        with only_one_process(data_folder / f".{source.name}.lock"):
            if not all_there(folder):  # another process may have made them while this one waited
                write_arrays(folder, convert(data_folder, source))
    arrays = read_arrays(
        folder,
        train_size=source.train_size,
        test_size=source.test_size,
        image_size=IMAGE_SIZE,
        num_classes=source.num_classes,
    )
    # A tenth of a second, against results on other data under the same name.
    if foreign := _unofficial(arrays, source):
        raise RequestError(
            f"{array_paths(folder)[foreign]} is not the official data of {source.name};\n"
            f"delete it, and it is made anew from the archive"
        )
    return arrays


def at_hand(data_folder: Path | str, source: CifarSource) -> bool:
    """Whether `load_cifar` would find the arrays in `data_folder`."""
    return all_there(Path(data_folder) / source.name)


def _unofficial(arrays: Arrays, source: CifarSource) -> str | None:
    """The first field of `Arrays` that does not hold the official bytes; None where all known ones do."""
    for name, expected in source.raw_sha256.items():
        if raw_digest(getattr(arrays, name)) != expected:
            return name
    return None


def convert(data_folder: Path, source: CifarSource) -> Arrays:
    """Decode the pickles of one CIFAR and check the result; takes the archive, the extracted folder, or the network."""
    archive = data_folder / source.archive
    if archive.is_file() and digest_of(archive, "md5") == source.archive_md5:
        contents = _read_archive(archive, source)
    elif (extracted := _read_extracted(data_folder / source.inner_folder, source)) is not None:
        contents = extracted
    else:
        mend = (
            f"put {source.archive} (md5 {source.archive_md5}) into {data_folder}, "
            f"or give the folder that holds it with --data_folder"
        )
        contents = _read_archive(download(source.urls, archive, md5=source.archive_md5, mend=mend), source)
    train = _decode(contents, source.train_files, source)
    test = _decode(contents, source.test_files, source)
    arrays = Arrays(*train, *test)
    if foreign := _unofficial(arrays, source):
        raise RequestError(
            f"{source.name}: the {foreign.replace('_', ' ')} are not the official ones (their SHA-256 differs);\n"
            f"delete {archive} and {data_folder / source.inner_folder} and run again to fetch them anew"
        )
    return arrays


def raw_digest(array: np.ndarray) -> str:
    """SHA-256 of images or labels as the archive keeps them: a byte per value, so labels count as uint8 here."""
    return hashlib.sha256(np.ascontiguousarray(array, dtype=np.uint8).data).hexdigest()


def _read_archive(archive: Path, source: CifarSource) -> dict[str, bytes]:
    """The official pickles by name, read in memory: nothing in the archive can write anywhere."""
    contents = {}
    try:
        with tarfile.open(archive) as tar:
            for name, md5 in (source.train_files | source.test_files).items():
                member = tar.extractfile(f"{source.inner_folder}/{name}")
                contents[name] = member.read() if member else b""
                if not _is_official(contents[name], md5):
                    raise tarfile.ReadError(f"{name} is not the official file: its md5 differs")
    except (tarfile.TarError, KeyError, EOFError, OSError) as error:
        raise RequestError(f"{archive} cannot be read ({error});\ndelete it, and it is fetched anew") from error
    return contents


def _read_extracted(folder: Path, source: CifarSource) -> dict[str, bytes] | None:
    """The official pickles from an extracted folder; None where one is missing or another: then the archive is used."""
    contents = {}
    for name, md5 in (source.train_files | source.test_files).items():
        path = folder / name
        if not path.is_file():
            return None
        contents[name] = path.read_bytes()
        if not _is_official(contents[name], md5):
            print(f"{path} is not the official file (its md5 differs); passing over {folder}", file=sys.stderr)
            return None
    return contents


def _is_official(content: bytes, md5: str) -> bool:
    return hashlib.md5(content, usedforsecurity=False).hexdigest() == md5


def _decode(contents: dict[str, bytes], files: dict[str, str], source: CifarSource) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 N×32×32×3 and labels int64 N of one split."""
    images, labels = [], []
    for name in files:
        # A pickle can have anything run. These bytes have the MD5 of the authors' file, and while two files with one
        # MD5 can be made, no way is known to make another file with that of a given one.
        record = pickle.loads(contents[name], encoding="latin1")  # written by Python 2
        rows = record["data"].reshape(-1, 3, IMAGE_SIZE, IMAGE_SIZE)
        images.append(rows.transpose(0, 2, 3, 1))
        labels.append(np.array(record[source.label_key], dtype=np.int64))
    return np.ascontiguousarray(np.concatenate(images)), np.concatenate(labels)


register_dataset(
    DatasetEntry(
        name="cifar100",
        num_classes=100,
        image_size=IMAGE_SIZE,
        train_size=50_000,
        test_size=10_000,
        mean=(0.5071, 0.4867, 0.4408),
        std=(0.2675, 0.2565, 0.2761),
        crop_padding=4,
        horizontal_flip=True,
        summary="CIFAR-100: 50,000 + 10,000 photographs of 32×32 pixels in 100 classes",
        load=partial(load_cifar, source=CIFAR100),
        at_hand=partial(at_hand, source=CIFAR100),
    )
)

register_dataset(
    DatasetEntry(
        name="cifar10",
        num_classes=10,
        image_size=IMAGE_SIZE,
        train_size=50_000,
        test_size=10_000,
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
        crop_padding=4,
        horizontal_flip=True,
        summary="CIFAR-10: 50,000 + 10,000 photographs of 32×32 pixels in 10 classes",
        load=partial(load_cifar, source=CIFAR10),
        at_hand=partial(at_hand, source=CIFAR10),
    )
)
