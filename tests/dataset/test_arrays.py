"""Data sets on disk: conversion from archives, what is refused, and the real CIFAR-100 where it is at hand."""

import hashlib
import io
import os
import pickle
import tarfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from common.errors import RequestError
from dataset import DATASETS, load_arrays
from dataset.arrays import read_arrays, write_arrays
from dataset.cifar import CIFAR10, CIFAR100, CifarSource, load_cifar, raw_digest
from dataset.image_files import ImageFiles
from dataset.registry import Arrays

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data" / "cifar100"


def md5(content):
    return hashlib.md5(content).hexdigest()


def fake_split(seed, size, protocol):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (size, 32, 32, 3), dtype=np.uint8)
    labels = rng.integers(0, 10, size)
    rows = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(size, -1)
    record = {"data": rows, "labels": labels.tolist(), "filenames": ["x.png"] * size}
    return images, labels, pickle.dumps(record, protocol)


class Fake:
    """A small CIFAR of two training files and one test file, and the source that describes it."""

    def __init__(self, protocol=4, payload=None):
        splits = [fake_split(seed, size, protocol) for seed, size in ((0, 7), (1, 5), (2, 4))]
        self.arrays = Arrays(
            np.concatenate([splits[0][0], splits[1][0]]),
            np.concatenate([splits[0][1], splits[1][1]]),
            splits[2][0],
            splits[2][1],
        )
        self.contents = {"part_1": splits[0][2], "part_2": splits[1][2], "held_out": payload or splits[2][2]}
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as tar:
            for name, content in self.contents.items():
                member = tarfile.TarInfo(f"inner/{name}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        self.archive = packed.getvalue()
        digests = {name: md5(content) for name, content in self.contents.items()}
        self.source = CifarSource(
            name="fake",
            num_classes=10,
            image_size=32,
            train_size=12,
            test_size=4,
            archive="fake.tar.gz",
            archive_md5=md5(self.archive),
            inner_folder="inner",
            urls=(),
            train_files={name: digests[name] for name in ("part_1", "part_2")},
            test_files={"held_out": digests["held_out"]},
            label_key="labels",
            raw_sha256={field: raw_digest(array) for field, array in self.arrays._asdict().items()},
        )

    def extract(self, folder):
        (folder / "inner").mkdir()
        for name, content in self.contents.items():
            (folder / "inner" / name).write_bytes(content)


def assert_same(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert [array.dtype for array in found] == [np.uint8, np.int64, np.uint8, np.int64]


@pytest.mark.parametrize("protocol", [3, 4])
def test_archive_at_hand(tmp_path, protocol):
    fake = Fake(protocol)
    (tmp_path / "fake.tar.gz").write_bytes(fake.archive)
    assert_same(load_cifar(tmp_path, fake.source), fake.arrays)
    (tmp_path / "fake.tar.gz").unlink()
    found = load_cifar(tmp_path, fake.source)  # from the .npy files alone
    assert_same(found, fake.arrays)
    assert all(isinstance(array, np.memmap) for array in found)


def test_extracted_folder_at_hand(tmp_path):
    fake = Fake()
    fake.extract(tmp_path)
    (tmp_path / "fake.tar.gz").write_bytes(fake.archive[:100])  # a download that was cut is passed over
    assert_same(load_cifar(tmp_path, fake.source), fake.arrays)


def test_changed_extracted_folder_is_not_trusted(tmp_path, capsys):
    fake = Fake()
    fake.extract(tmp_path)
    (tmp_path / "inner" / "part_2").write_bytes(b"x")
    with pytest.raises(RequestError, match=r"fake\.tar\.gz"):
        load_cifar(tmp_path, fake.source)
    assert "part_2" in capsys.readouterr().err


def test_nothing_at_hand_says_what_to_do(tmp_path):
    with pytest.raises(RequestError) as caught:
        load_cifar(tmp_path, Fake().source)
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert str(tmp_path) in lines[1]
    assert "--data_folder" in lines[1]


def test_half_written_set_is_made_anew(tmp_path):
    fake = Fake()
    (tmp_path / "fake.tar.gz").write_bytes(fake.archive)
    load_cifar(tmp_path, fake.source)
    (tmp_path / "fake" / "test_labels.npy").unlink()
    (tmp_path / "fake" / "train_images.npy").write_bytes(b"an older, broken writer's half")
    assert_same(load_cifar(tmp_path, fake.source), fake.arrays)


def test_other_pixels_than_the_official_are_refused(tmp_path):
    fake = Fake()
    (tmp_path / "fake.tar.gz").write_bytes(fake.archive)
    with pytest.raises(RequestError, match=r"fake: .*test images"):
        load_cifar(tmp_path, replace(fake.source, raw_sha256={"test_images": "0" * 64}))
    assert not (tmp_path / "fake").exists()


class Evil:
    def __reduce__(self):
        return os.mkdir, (self.target,)


@pytest.mark.parametrize("place", ["archive", "other archive", "extracted"])
def test_only_official_pickles_are_read(tmp_path, place):
    """A pickle that runs something: in an archive of the right MD5 even, in another one, in the extracted folder."""
    evil = Evil()
    evil.target = str(tmp_path / "owned")
    content = pickle.dumps({"data": evil})
    foreign, official = Fake(payload=content), Fake().source
    if place == "extracted":
        foreign.extract(tmp_path)
    else:
        (tmp_path / "fake.tar.gz").write_bytes(foreign.archive)
    if place == "archive":
        official = replace(official, archive_md5=foreign.source.archive_md5)
    with pytest.raises(RequestError, match="held_out" if place == "archive" else r"fake\.tar\.gz"):
        load_cifar(tmp_path, official)
    assert not (tmp_path / "owned").exists()
    pickle.loads(content)
    assert (tmp_path / "owned").exists()


def test_pickle_as_python_2_wrote_it(tmp_path):
    """The official archives are of 2009: byte strings for keys, type codes and pixels. Written here by opcode."""
    images, labels, _ = fake_split(2, 4, protocol=2)
    pixels = images.transpose(0, 3, 1, 2).tobytes()
    dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    shell = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    state = b"(K\x01K\x04M\x00\x0c\x86" + dtype + b"\x89T" + len(pixels).to_bytes(4, "little") + pixels + b"tb"
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels.tolist()) + b"e"
    fake = Fake(payload=b"\x80\x02}(U\x04data" + shell + state + b"U\x06labels" + numbers + b"u.")
    (tmp_path / "fake.tar.gz").write_bytes(fake.archive)
    assert_same(load_cifar(tmp_path, fake.source), fake.arrays)


SIZES = SimpleNamespace(train_size=12, test_size=4, image_size=32, num_classes=10)


def cut(path):
    path.write_bytes(path.read_bytes()[:-10])


def empty(path):
    path.write_bytes(b"")


def garble(path):
    path.write_bytes(b"\x93NUMPY\x01\x00" + b"}{" * 40)


def not_numpy(path):
    path.write_bytes(pickle.dumps({"a": 1}))


def other_type(path):
    np.save(path, np.load(path).astype(np.float32))


class Trap:
    """Pickles as a call that makes a file."""

    def __reduce__(self):
        return open, ("created", "w")


def objects(path):
    np.save(path, np.array([Trap()], dtype=object), allow_pickle=True)


def several(path):
    with open(path, "wb") as file:
        np.savez(file, a=np.zeros(3))


def with_header(text):
    """A file whose header is this text."""

    def write(path):
        path.write_bytes(b"\x93NUMPY\x02\x00" + len(text).to_bytes(4, "little") + text.encode() + bytes(64))

    return write


SHAPED = "{{'descr': '|u1', 'fortran_order': False, 'shape': {}}}"
HEADERS = [
    SHAPED.format("(10**30,)"),
    SHAPED.format("(1000000000000000000000,)"),
    SHAPED.format("(-1, 32)"),
    SHAPED.format("(12, 32, 32, 3)"),  # more than the file holds
    "(" * 9000,
    "{'descr': '|u1'}" + " " * 10**6,
    "{'descr': [('a', '|u1')], 'fortran_order': False, 'shape': (1,)}",
    "{'descr': '|O', 'fortran_order': True, 'shape': ()}",
    "{'descr': '|u1', 'a': \"\"\"",
    "open('created', 'w')",
]


@pytest.mark.parametrize("field", Arrays._fields)
@pytest.mark.parametrize(
    "damage", [cut, empty, garble, not_numpy, other_type, objects, several, *map(with_header, HEADERS)]
)
def test_damaged_file_is_named(tmp_path, field, damage):
    write_arrays(tmp_path, Fake().arrays)
    damage(tmp_path / f"{field}.npy")
    with pytest.raises(RequestError, match=rf"{field}\.npy") as refusal:
        read_arrays(tmp_path, SIZES)
    assert len(str(refusal.value).splitlines()) == 2
    assert "allow_pickle" not in str(refusal.value)  # which would run what a stranger wrote
    assert not os.path.exists("created")


def test_arrays_column_by_column_are_read_as_any_others(tmp_path):
    arrays = Fake().arrays
    write_arrays(tmp_path, arrays)
    np.save(tmp_path / "train_images.npy", np.asfortranarray(arrays.train_images))
    assert_same(read_arrays(tmp_path, SIZES), arrays)


@pytest.mark.parametrize(
    "make",
    [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("missing"), lambda path: path.symlink_to("/dev/zero")],
    ids=["pipe", "folder", "dangling", "device"],
)
def test_what_lies_in_the_place_of_an_array_is_not_replaced(make, tmp_path):
    fake = Fake()
    (tmp_path / "fake.tar.gz").write_bytes(fake.archive)
    load_cifar(tmp_path, fake.source)
    path = tmp_path / "fake" / "test_labels.npy"
    path.unlink()
    make(path)
    before = os.lstat(path)
    with pytest.raises(RequestError, match=r"test_labels\.npy"):
        load_cifar(tmp_path, fake.source)
    assert os.lstat(path).st_ino == before.st_ino


def test_labels_out_of_range(tmp_path):
    write_arrays(tmp_path, Fake().arrays._replace(test_labels=np.array([0, 1, 10, 2])))
    with pytest.raises(RequestError, match=r"test_labels\.npy .*10"):
        read_arrays(tmp_path, SIZES)


# --- a data set of the user's own --------------------------------------------------------------------


@pytest.fixture
def load_own():
    """Loads the small arrays as a registered data set, some fields of them or of the entry changed."""

    def load(changed=None, **stated):
        arrays = Fake().arrays._replace(**changed or {})
        entry = replace(DATASETS["cifar10"], name="own", load=lambda folder: arrays, train_size=12, test_size=4)
        with DATASETS.temporarily({"own": replace(entry, **stated)}):
            return load_arrays("own", "data")

    return load


def test_sound_arrays_are_passed_on(load_own):
    assert_same(load_own(), Fake().arrays)


WHOLE = Fake().arrays


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"train_images": WHOLE.train_images / 255}, "float64"),
        ({"train_images": WHOLE.train_images.transpose(0, 3, 1, 2)}, "(12, 3, 32, 32)"),
        ({"test_images": WHOLE.test_images[..., 0]}, "(4, 32, 32)"),
        ({"test_images": WHOLE.test_images[:, :28, :28]}, "(4, 28, 28, 3)"),
        ({"train_images": WHOLE.train_images[:11]}, "(11, 32, 32, 3)"),
        ({"train_images": ImageFiles(Path("none"), np.array([b"x.png"]), 32)}, "(1, 32, 32, 3)"),
        ({"train_images": ImageFiles(Path("none"), np.array([b"x.png"] * 12), 64)}, "(12, 64, 64, 3)"),
        ({"train_labels": WHOLE.train_labels[:11]}, "(11,)"),
        ({"train_labels": WHOLE.train_labels.astype(np.uint8)}, "uint8"),
        ({"test_labels": WHOLE.test_labels.astype(np.int32)}, "int32"),
        ({"test_labels": WHOLE.test_labels.tolist()}, "list"),
        ({"test_labels": np.array([1, 2, 3, 10])}, "1 to 10"),
        ({"test_labels": np.array([0, -1, 3, 9])}, "-1 to 9"),
    ],
)
def test_arrays_of_another_form_are_refused(load_own, changed, found):
    assert_refused(lambda: load_own(changed), *changed, found)


def assert_refused(load, *named):
    """Two lines that name the data set, the field, and what it holds."""
    with pytest.raises(RequestError) as refusal:
        load()
    assert len(str(refusal.value).splitlines()) == 2
    for name in ("own", *named):
        assert name in str(refusal.value)


@pytest.mark.parametrize(
    ("stated", "field"),
    [
        ({"train_size": 13}, "train_images"),
        ({"test_size": 3}, "test_images"),
        ({"image_size": 28}, "train_images"),
        ({"num_classes": 5}, "train_labels"),
    ],
)
def test_an_entry_that_states_other_sizes_is_refused(load_own, stated, field):
    assert_refused(lambda: load_own(**stated), field, "DatasetEntry")


def test_files_are_not_opened(load_own):
    files = ImageFiles(Path("none"), np.array([b"x.png"] * 12), 32)
    assert load_own({"train_images": files}).train_images is files


# --- names and sources -------------------------------------------------------------------------------


def test_unknown_name_suggests():
    with pytest.raises(RequestError, match=r"cifar100\b"):
        load_arrays("cifar1000", "data")


def test_entries_agree_with_their_sources():
    for source in (CIFAR10, CIFAR100):
        entry = DATASETS[source.name]
        assert (entry.num_classes, entry.train_size) == (source.num_classes, source.train_size)
        assert entry.test_size == source.test_size


@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [
        ("cifar100", (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
        ("cifar10", (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    ],
)
def test_published_protocol_of_cifar(name, mean, std):
    """What published checkpoints and tables are made with: pixels by these, crops out of 40×40, mirror images."""
    entry = DATASETS[name]
    assert (entry.mean, entry.std, entry.crop_padding, entry.horizontal_flip) == (mean, std, 4, True)


def read_sheet(path):
    from PIL import Image

    sheet = np.asarray(Image.open(path).convert("RGB"))
    return sheet.reshape(50, 32, 100, 32, 3).transpose(0, 2, 1, 3, 4).reshape(-1, 32, 32, 3)


def test_real_cifar100_bytes():
    """The loader's own files in ./data where they exist, and one sheet of the shared copy against them."""
    if not SHARED.is_dir():
        pytest.skip("no real CIFAR-100 here: ../shared/data/cifar100 does not exist")
    train_labels = np.load(SHARED / "train_labels.npy").astype(np.int64)
    test_labels = np.load(SHARED / "test_labels.npy").astype(np.int64)
    test_images = np.concatenate([read_sheet(SHARED / f"test_{k:02d}.webp") for k in range(2)])
    found = {"train_labels": train_labels, "test_labels": test_labels, "test_images": test_images}
    if (ROOT / "data" / "cifar100" / "train_images.npy").exists():
        arrays = load_arrays("cifar100", ROOT / "data")
        np.testing.assert_array_equal(arrays.test_images, test_images)
        found |= arrays._asdict()
    for name, array in found.items():
        assert raw_digest(array) == CIFAR100.raw_sha256[name], name


def test_disk_errors_leave_no_half_set(tmp_path):
    fake = Fake()
    (tmp_path / "fake.tar.gz").write_bytes(fake.archive)
    (tmp_path / "fake").write_bytes(b"a file where the folder should be")
    with pytest.raises(RequestError, match="fake"):
        load_cifar(tmp_path, fake.source)
    (tmp_path / "fake").unlink()
    assert_same(load_cifar(tmp_path, fake.source), fake.arrays)
