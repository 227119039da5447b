"""STL-10 from small archives in its true format: pixels, labels, memory, what is refused."""

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

from common.errors import RequestError
from dataset import Arrays
from dataset.stl10 import STL10, load_stl10
from tests.dataset.conversions import ConversionTests

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
        """Leave the extracted folder and no archive; returns the source of the archive."""
        source = self.source
        self.archive.unlink()
        (self.folder / "stl10_binary").mkdir()
        for name, content in self.contents.items():
            (self.folder / "stl10_binary" / name).write_bytes(content)
        return source

    def assert_right(self, found):
        assert [array.dtype for array in found] == [np.uint8, np.int64, np.uint8, np.int64]
        np.testing.assert_array_equal(found.train_labels, self.arrays.train_labels)
        np.testing.assert_array_equal(found.test_labels, self.arrays.test_labels)
        for ours, originals in zip(found[::2], self.arrays[::2], strict=True):
            assert ours.shape == (len(originals), 32, 32, 3)
            np.testing.assert_allclose(ours, scaled_by_hand(originals), atol=1.01)  # rounded after each direction


@pytest.fixture
def fake(tmp_path):
    return Fake(tmp_path)


def scaled_by_hand(images):
    """Each third of the pixels: the weighted mean of their neighbourhood by a triangle of three pixels to each side."""
    centres = 3 * np.arange(32) + 1
    weights = np.maximum(0, 1 - np.abs(np.arange(96) - centres[:, None]) / 3)
    weights /= weights.sum(axis=1, keepdims=True)
    return np.einsum("yi,xj,nijc->nyxc", weights, weights, images.astype(float), optimize=True)


class TestConversion(ConversionTests):
    name = "stl10"
    load = staticmethod(load_stl10)
    sizes = (10, 5_000, 8_000)
    constants = ((0.4467, 0.4398, 0.4066), (0.2603, 0.2566, 0.2712))


# --- what comes out --------------------------------------------------------------------------------


def test_labelled_files_are_enough(fake):
    """torchvision insists on the unlabelled images."""
    source = fake.extract()
    (fake.folder / "stl10_binary" / "unlabeled_X.bin").unlink()
    fake.assert_right(load_stl10(fake.folder, source))


def test_equal_to_torchvision(fake):
    """Bit for bit what its STL10 and Resize give, which the published figures were made with."""

    def digested(*names):
        return [[name, md5(fake.contents[name])] for name in names]

    class Known(datasets.STL10):
        train_list = digested("train_X.bin", "train_y.bin", "unlabeled_X.bin")
        test_list = digested("test_X.bin", "test_y.bin")

    found = load_stl10(fake.folder, fake.extract())
    for split, images, labels in (("train", *found[:2]), ("test", *found[2:])):
        theirs = Known(fake.folder, split, transform=transforms.Resize((32, 32)))
        np.testing.assert_array_equal(images, [np.asarray(image) for image, _ in theirs])
        np.testing.assert_array_equal(labels, theirs.labels)


def test_unlabelled_images_stay_out_of_memory(tmp_path):
    noise = np.random.default_rng(3).bytes(1_000_000)  # photographs can hardly be compressed either
    source = Fake(tmp_path, unlabelled=10 * noise).source
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
        fake.assert_right(load_stl10(tmp_path / "data", source))
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


def test_changed_extracted_folder_is_not_trusted(fake, capsys):
    source = fake.extract()
    (fake.folder / "stl10_binary" / "test_y.bin").write_bytes(b"\1" * TEST)
    with pytest.raises(RequestError):
        load_stl10(fake.folder, source)
    assert "test_y.bin" in capsys.readouterr().err


def test_archive_without_a_file(fake):
    fake.pack(["test_X.bin", "train_X.bin", "train_y.bin"])
    with pytest.raises(RequestError, match=r"test_y\.bin"):
        load_stl10(fake.folder, fake.source)


def test_file_of_another_length(fake):
    fake.contents["train_X.bin"] = fake.contents["train_X.bin"][:-1]
    fake.pack()
    with pytest.raises(RequestError, match=STL10.archive):
        load_stl10(fake.folder, fake.source)
