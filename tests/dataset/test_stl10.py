"""STL-10 from small archives in its true format: pixels, labels, memory, what is refused, and a probe on it."""

import hashlib
import http.server
import io
import tarfile
import threading
import tracemalloc
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from torchvision import datasets, transforms

import transfer_student
from common.errors import RequestError
from dataset import DATASETS, Arrays, load_arrays
from dataset.archives import at_hand
from dataset.stl10 import STL10, load_stl10
from tests.helpers import folder_of, load, read_json, save_network

TRAIN, TEST = 20, 30


def md5(content):
    return hashlib.md5(content).hexdigest()


def photographs(seed, size):
    """Smooth colours and a little noise, uint8 N×96×96×3; rows, columns and channels all differ."""
    rng = np.random.default_rng(seed)
    waves = rng.uniform(0, 6, (2, size, 1, 1, 3))
    place = np.linspace(0, 6, 96)
    light = np.sin(place[:, None, None] + waves[0]) + np.cos(2 * place[:, None] + waves[1])
    return np.uint8(np.clip(128 + 50 * light + rng.normal(0, 8, (size, 96, 96, 3)), 0, 255))


class Fake:
    """Few images laid out as in stl10_binary.tar.gz; `unlabelled` comes between the labelled files."""

    def __init__(self, folder, unlabelled=bytes(3 * 96 * 96)):
        rng = np.random.default_rng(7)
        self.arrays = Arrays(
            photographs(1, TRAIN), rng.permutation(np.arange(TRAIN) % 10),
            photographs(2, TEST), rng.permutation(np.arange(TEST) % 10),
        )  # fmt: skip
        train, test = (images.transpose(0, 3, 2, 1).tobytes() for images in self.arrays[::2])
        self.contents = {
            "test_X.bin": test,
            "test_y.bin": np.uint8(self.arrays.test_labels + 1).tobytes(),
            "unlabeled_X.bin": unlabelled,
            "train_X.bin": train,
            "train_y.bin": np.uint8(self.arrays.train_labels + 1).tobytes(),
            "class_names.txt": b"airplane\n",
        }
        self.folder = folder
        self.archive = folder / STL10.archive
        self.pack()

    def pack(self, names=None):
        with tarfile.open(self.archive, "w:gz", compresslevel=1) as tar:
            for name in self.contents if names is None else names:
                member = tarfile.TarInfo(f"stl10_binary/{name}")
                member.size = len(self.contents[name])
                tar.addfile(member, io.BytesIO(self.contents[name]))

    @property
    def source(self):
        """What the archive, as it is now, is described by."""
        return replace(
            STL10,
            train_size=TRAIN,
            test_size=TEST,
            archive_md5=md5(self.archive.read_bytes()),
            urls=(),
            files={name: md5(self.contents[name]) for name in STL10.files},
        )

    def extract(self):
        (self.folder / "stl10_binary").mkdir()
        for name, content in self.contents.items():
            (self.folder / "stl10_binary" / name).write_bytes(content)


@pytest.fixture
def fake(tmp_path):
    return Fake(tmp_path)


def scaled_by_hand(images):
    """Each third of the pixels: the weighted mean of their neighbourhood by a triangle of three pixels to each side."""
    centres = 3 * np.arange(32) + 1
    weights = np.maximum(0, 1 - np.abs(np.arange(96) - centres[:, None]) / 3)
    weights /= weights.sum(axis=1, keepdims=True)
    return np.einsum("yi,xj,nijc->nyxc", weights, weights, images.astype(float), optimize=True)


def assert_right(found, fake):
    assert [array.dtype for array in found] == [np.uint8, np.int64, np.uint8, np.int64]
    np.testing.assert_array_equal(found.train_labels, fake.arrays.train_labels)
    np.testing.assert_array_equal(found.test_labels, fake.arrays.test_labels)
    for ours, originals in zip(found[::2], fake.arrays[::2], strict=True):
        assert ours.shape == (len(originals), 32, 32, 3)
        np.testing.assert_allclose(ours, scaled_by_hand(originals), atol=1.01)  # rounded after each direction


# --- what comes out --------------------------------------------------------------------------------


def test_archive_at_hand(fake):
    before = {path.name for path in fake.folder.iterdir()}
    assert not at_hand(fake.folder, fake.source)
    source = fake.source
    assert_right(load_stl10(fake.folder, source), fake)
    assert {path.name for path in fake.folder.iterdir()} == before | {"stl10", ".stl10.lock"}
    fake.archive.unlink()
    assert at_hand(fake.folder, source)
    found = load_stl10(fake.folder, source)  # from the arrays alone
    assert_right(found, fake)
    assert all(isinstance(array, np.memmap) for array in found)


def test_extracted_folder_at_hand(fake):
    source = fake.source
    fake.extract()
    fake.archive.write_bytes(fake.archive.read_bytes()[:100])  # a download that was cut is passed over
    assert_right(load_stl10(fake.folder, source), fake)


def test_labelled_files_are_enough(fake):
    """torchvision insists on the unlabelled images."""
    source = fake.source
    fake.extract()
    fake.archive.unlink()
    (fake.folder / "stl10_binary" / "unlabeled_X.bin").unlink()
    assert_right(load_stl10(fake.folder, source), fake)


def test_equal_to_torchvision(fake):
    """Bit for bit what its STL10 and Resize give, which the published figures were made with."""

    def digested(*names):
        return [[name, md5(fake.contents[name])] for name in names]

    class Known(datasets.STL10):
        train_list = digested("train_X.bin", "train_y.bin", "unlabeled_X.bin")
        test_list = digested("test_X.bin", "test_y.bin")

    fake.extract()
    found = load_stl10(fake.folder, fake.source)
    for split, images, labels in (("train", *found[:2]), ("test", *found[2:])):
        theirs = Known(fake.folder, split, transform=transforms.Resize((32, 32)))
        np.testing.assert_array_equal(images, [np.asarray(image) for image, _ in theirs])
        np.testing.assert_array_equal(labels, theirs.labels)


def test_unlabelled_images_stay_out_of_memory(tmp_path):
    noise = np.random.default_rng(3).bytes(1_000_000)  # photographs can hardly be compressed either
    source = Fake(tmp_path, unlabelled=20 * noise).source
    tracemalloc.start()
    try:
        load_stl10(tmp_path, source)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_archive_is_fetched_where_it_is_missing(fake, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=fake.folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        source = replace(fake.source, urls=(f"http://127.0.0.1:{server.server_port}/{STL10.archive}",))
        assert_right(load_stl10(tmp_path / "data", source), fake)
        server.shutdown()
        thread.join()
    assert (tmp_path / "data" / STL10.archive).read_bytes() == fake.archive.read_bytes()


def test_facts_agree_with_torchvision():
    theirs = datasets.STL10
    assert (theirs.filename, theirs.tgz_md5, theirs.base_folder) == (
        STL10.archive,
        STL10.archive_md5,
        STL10.inner_folder,
    )
    assert theirs.url in STL10.urls
    assert dict(theirs.train_list + theirs.test_list) == STL10.files | {
        "unlabeled_X.bin": "5242ba1fed5e4be9e1e742405eb56ca4"
    }


# --- what is refused -------------------------------------------------------------------------------


def test_nothing_at_hand_says_what_to_do(fake, tmp_path):
    empty = tmp_path / "empty"
    with pytest.raises(RequestError) as caught:
        load_stl10(empty, fake.source)
    first, second = str(caught.value).splitlines()
    assert first.startswith("cannot fetch stl10_binary.tar.gz")
    assert f"put stl10_binary.tar.gz (md5 {fake.source.archive_md5}) into {empty}" in second
    assert "--data_folder" in second
    assert not (empty / "stl10").exists()


def test_archive_of_another_checksum(fake, capsys):
    with pytest.raises(RequestError, match=r"put stl10_binary\.tar\.gz"):
        load_stl10(fake.folder, replace(fake.source, archive_md5="0" * 32))
    assert "is not the expected file (md5 is" in capsys.readouterr().err
    assert not (fake.folder / "stl10").exists()


def test_changed_extracted_folder_is_not_trusted(fake, capsys):
    source = fake.source
    fake.extract()
    fake.archive.unlink()
    (fake.folder / "stl10_binary" / "test_y.bin").write_bytes(b"\1" * TEST)
    with pytest.raises(RequestError, match=r"put stl10_binary\.tar\.gz"):
        load_stl10(fake.folder, source)
    assert "test_y.bin is not the official file" in capsys.readouterr().err


@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.6, 0.9])
def test_cut_archive(fake, share):
    """Even where its checksum were right."""
    whole = fake.archive.read_bytes()
    fake.archive.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(RequestError, match=r"cannot be read \(.+\);\ndelete it"):
        load_stl10(fake.folder, fake.source)
    assert not (fake.folder / "stl10").exists()


def test_archive_without_a_file(fake):
    fake.pack(["test_X.bin", "train_X.bin", "train_y.bin"])
    with pytest.raises(RequestError, match=r"it holds no test_y\.bin"):
        load_stl10(fake.folder, fake.source)


def test_file_of_another_length(fake):
    fake.contents["train_X.bin"] = fake.contents["train_X.bin"][:-1]
    fake.pack()
    with pytest.raises(RequestError, match="cannot be read"):
        load_stl10(fake.folder, fake.source)


# --- where it is used ------------------------------------------------------------------------------


def test_entry():
    entry = DATASETS["stl10"]
    assert (entry.num_classes, entry.image_size, entry.train_size, entry.test_size) == (10, 32, 5_000, 8_000)
    assert (entry.mean, entry.std) == ((0.4467, 0.4398, 0.4066), (0.2603, 0.2566, 0.2712))
    assert (entry.crop_padding, entry.horizontal_flip) == (4, True)


def test_probe(fake, monkeypatch):
    """transfer_student.py on the data set by its name: it converts the archive and normalises by its statistics."""
    source = fake.source
    small = replace(DATASETS["stl10"], train_size=TRAIN, test_size=TEST, load=lambda folder: load_stl10(folder, source))
    monkeypatch.setitem(DATASETS._entries, "stl10", small)
    save_network(fake.folder / "net.pth", "resnet8", DATASETS["cifar100"], seed=3)
    argv = ["--path_s", fake.folder / "net.pth", "--dataset", "stl10", "--data_folder", fake.folder]
    argv += ["--epochs", "1", "--batch_size", "10", "--device", "cpu", "--output", fake.folder / "out"]
    assert transfer_student.main([str(part) for part in argv]) == 0
    folder = folder_of(fake.folder / "out")
    assert read_json(folder / "config.json")["dataset"] == "stl10"
    saved = load(folder / "resnet8_last.pth")
    assert (saved["num_classes"], saved["image_size"], saved["dataset"]) == (10, 32, "stl10")
    assert (saved["mean"], saved["std"]) == (small.mean, small.std)
    assert_right(load_arrays("stl10", fake.folder), fake)


def test_probe_without_the_data(fake, monkeypatch, capsys):
    source = fake.source
    fake.archive.unlink()
    missing = replace(DATASETS["stl10"], load=lambda folder: load_stl10(folder, source))
    monkeypatch.setitem(DATASETS._entries, "stl10", missing)
    save_network(fake.folder / "net.pth", "resnet8", DATASETS["cifar100"])
    argv = ["--path_s", fake.folder / "net.pth", "--dataset", "stl10", "--data_folder", fake.folder]
    assert transfer_student.main([str(part) for part in [*argv, "--output", fake.folder / "out"]]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: cannot fetch stl10_binary.tar.gz")
    assert len(errors.splitlines()) == 2
