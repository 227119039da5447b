"""CIFAR-10 and CIFAR-100 (Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009).

The arrays are made once from the official archive; no pickle but the official ones is read.
"""

import hashlib
import pickle
import tarfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from common.errors import RequestError
from dataset import cifar_classes
from dataset.archives import ArchiveSource, archive_or_folder, at_hand, files_are_official, load_converted, unreadable
from dataset.arrays import array_paths
from dataset.registry import Arrays, DatasetEntry, register_dataset

IMAGE_SIZE = 32


@dataclass(frozen=True)
class CifarSource(ArchiveSource):
    """The archive of one CIFAR, and the checksums of its content.

    Attributes:
        label_key: name under which a pickle keeps the labels.
        train_files, test_files: pickles of a split, in order, each with its MD5.
        raw_sha256: `raw_digest` of the converted arrays, by field of `Arrays`.
    """

    label_key: str
    train_files: dict[str, str]
    test_files: dict[str, str]
    raw_sha256: dict[str, str] = field(default_factory=dict)

    @property
    def files(self) -> dict[str, str]:
        """All pickles, each with its MD5."""
        return self.train_files | self.test_files


CIFAR100 = CifarSource(
    name="cifar100",
    num_classes=100,
    image_size=IMAGE_SIZE,
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
    image_size=IMAGE_SIZE,
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
    """The arrays in `data_folder`/NAME; if they are missing, they are made from the archive (present or fetched).

    Raises:
        RequestError: damaged files, or missing files that cannot be fetched.
        RunError: the folder cannot be written to.
    """
    arrays = load_converted(data_folder, source, partial(convert, source=source))
    # A tenth of a second, against results on other data under the same name.
    if foreign := _unofficial(arrays, source):
        raise RequestError(
            f"{array_paths(Path(data_folder) / source.name)[foreign]} is not the official data of {source.name};\n"
            f"delete it to have it made again from the archive"
        )
    return arrays


def _unofficial(arrays: Arrays, source: CifarSource) -> str | None:
    """The first field of `Arrays` that does not hold the official bytes; None if all with a known checksum do."""
    for name, expected in source.raw_sha256.items():
        if raw_digest(getattr(arrays, name)) != expected:
            return name
    return None


def convert(data_folder: Path, source: CifarSource) -> Arrays:
    """Decode the pickles of one CIFAR from its archive or extracted folder, and check the result.

    Raises:
        RequestError: damaged files, or missing files that cannot be fetched.
    """
    contents = _read(archive_or_folder(data_folder, source, partial(files_are_official, md5s=source.files)), source)
    train = _decode(contents, source.train_files, source)
    test = _decode(contents, source.test_files, source)
    arrays = Arrays(*train, *test)
    if foreign := _unofficial(arrays, source):
        raise RequestError(
            f"{source.name}: the {foreign.replace('_', ' ')} are not the official ones (their SHA-256 differs);\n"
            f"delete {source.archive} and {source.inner_folder}/ in {data_folder} to have them fetched again"
        )
    return arrays


def raw_digest(array: np.ndarray) -> str:
    """SHA-256 of images or labels as the archive keeps them: a byte per value, so labels count as uint8 here."""
    return hashlib.sha256(np.ascontiguousarray(array, dtype=np.uint8).data).hexdigest()


def _read(place: Path, source: CifarSource) -> dict[str, bytes]:
    """The official pickles by name, read in memory: nothing in an archive can write anywhere."""
    contents = {}
    try:
        with ExitStack() as opened:
            tar = None if place.is_dir() else opened.enter_context(tarfile.open(place))
            for name, md5 in source.files.items():
                if tar is None:
                    contents[name] = (place / name).read_bytes()
                else:
                    member = tar.extractfile(f"{source.inner_folder}/{name}")
                    contents[name] = member.read() if member else b""
                if hashlib.md5(contents[name], usedforsecurity=False).hexdigest() != md5:
                    raise tarfile.ReadError(f"{name} is not the official file: its md5 differs")
    except (tarfile.TarError, KeyError, EOFError, OSError) as error:
        raise unreadable(place, error) from error
    return contents


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
        name=CIFAR100.name,
        num_classes=CIFAR100.num_classes,
        image_size=CIFAR100.image_size,
        train_size=CIFAR100.train_size,
        test_size=CIFAR100.test_size,
        mean=(0.5071, 0.4867, 0.4408),
        std=(0.2675, 0.2565, 0.2761),
        crop_padding=4,
        horizontal_flip=True,
        summary="CIFAR-100: 50,000 + 10,000 photographs of 32×32 pixels in 100 classes",
        load=partial(load_cifar, source=CIFAR100),
        at_hand=partial(at_hand, source=CIFAR100),
        classes=cifar_classes.CIFAR100,
    )
)

register_dataset(
    DatasetEntry(
        name=CIFAR10.name,
        num_classes=CIFAR10.num_classes,
        image_size=CIFAR10.image_size,
        train_size=CIFAR10.train_size,
        test_size=CIFAR10.test_size,
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
        crop_padding=4,
        horizontal_flip=True,
        summary="CIFAR-10: 50,000 + 10,000 photographs of 32×32 pixels in 10 classes",
        load=partial(load_cifar, source=CIFAR10),
        at_hand=partial(at_hand, source=CIFAR10),
        classes=cifar_classes.CIFAR10,
    )
)
