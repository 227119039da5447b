"""TinyImageNet from small archives in its true format: pixels, class order, shades of grey, what is refused."""

import hashlib
import io
import shutil
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from torchvision import datasets, transforms

import transfer_student
from common.errors import RequestError
from dataset import DATASETS
from dataset.archives import at_hand
from dataset.tinyimagenet import TINYIMAGENET, load_tinyimagenet
from tests.helpers import folder_of, load, read_json, save_network

CLASSES = ("n02124075", "n01443537", "n07583066")  # the archive's wnids.txt is not in alphabetical order either
NUMBERS = {"n01443537": 0, "n02124075": 1, "n07583066": 2}
EACH = 12  # training images of a class: "_10" comes before "_2"
TEST = 9
GREY = {"train/n01443537/images/n01443537_3.JPEG", "val/images/val_4.JPEG"}
TREE = "tiny-imagenet-200"


def photograph(rng, grey):
    """A JPEG of 64×64 pixels, smooth enough to survive compression."""
    place = np.linspace(0, 5, 64)
    wave = rng.uniform(0, 6, (2, 3))
    light = np.sin(place[:, None, None] + wave[0]) + np.cos(2 * place[:, None] + wave[1])
    pixels = np.uint8(128 + 60 * light)
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if grey else pixels).save(file, "JPEG", quality=90)
    return file.getvalue()


class Fake:
    """The files of a small tiny-imagenet-200.zip by their names in it."""

    def __init__(self, folder):
        rng = np.random.default_rng(5)
        names = [f"train/{name}/images/{name}_{number}.JPEG" for name in CLASSES for number in range(EACH)]
        names += [f"val/images/val_{number}.JPEG" for number in range(TEST)]
        names += ["test/images/test_0.JPEG"]
        self.contents = {name: photograph(rng, name in GREY) for name in names}
        self.answers = [CLASSES[rng.integers(3)] for _ in range(TEST)]
        lines = [f"val_{number}.JPEG\t{name}\t0\t32\t44\t62\n" for number, name in enumerate(self.answers)]
        self.contents["val/val_annotations.txt"] = "".join(lines).encode()
        self.contents["wnids.txt"] = "\n".join(CLASSES).encode()
        for name in CLASSES:
            self.contents[f"train/{name}/{name}_boxes.txt"] = f"{name}_0.JPEG\t0\t10\t63\t58\n".encode()
        self.folder = folder
        self.archive = folder / TINYIMAGENET.archive
        self.pack()

    def pack(self):
        with zipfile.ZipFile(self.archive, "w", zipfile.ZIP_DEFLATED) as archive:
            for folder in ("", "train/", "val/", "val/images/"):
                archive.writestr(f"{TREE}/{folder}", b"")
            for name, content in self.contents.items():
                archive.writestr(f"{TREE}/{name}", content)

    @property
    def source(self):
        """What the archive, as it is now, is described by."""
        return replace(
            TINYIMAGENET,
            num_classes=3,
            train_size=3 * EACH,
            test_size=TEST,
            archive_md5=hashlib.md5(self.archive.read_bytes()).hexdigest(),
            urls=(),
        )

    def extract(self):
        """The folder that unzip leaves, and no archive."""
        for name, content in self.contents.items():
            path = self.folder / TREE / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        source = self.source
        self.archive.unlink()
        return source

    def rearrange(self):
        """The extracted folder as for torchvision's ImageFolder: train/CLASS/FILE and val/CLASS/FILE."""
        source, tree = self.extract(), self.folder / TREE
        for path in tree.glob("train/*/images/*"):
            path.rename(path.parents[1] / path.name)
        for number, name in enumerate(self.answers):
            (tree / "val" / name).mkdir(exist_ok=True)
            (tree / "val" / "images" / f"val_{number}.JPEG").rename(tree / "val" / name / f"val_{number}.JPEG")
        for path in [*tree.glob("train/*/images"), tree / "val" / "images"]:
            path.rmdir()
        return source


@pytest.fixture
def fake(tmp_path):
    return Fake(tmp_path)


def scaled_by_hand(content):
    """Each second of the pixels: the weighted mean of their neighbourhood by a triangle of two pixels to each side."""
    pixels = np.asarray(Image.open(io.BytesIO(content)), dtype=float)
    if pixels.ndim == 2:
        pixels = np.stack([pixels] * 3, axis=-1)
    centres = 2 * np.arange(32) + 0.5
    weights = np.maximum(0, 1 - np.abs(np.arange(64) - centres[:, None]) / 2)
    weights /= weights.sum(axis=1, keepdims=True)
    return np.einsum("yi,xj,ijc->yxc", weights, weights, pixels, optimize=True)


def train_names():
    numbers = sorted(range(EACH), key=str)
    return [f"train/{name}/images/{name}_{number}.JPEG" for name in sorted(CLASSES) for number in numbers]


def assert_right(found, fake):
    assert [array.dtype for array in found] == [np.uint8, np.int64, np.uint8, np.int64]
    assert found.train_labels.tolist() == [0] * EACH + [1] * EACH + [2] * EACH
    assert found.test_labels.tolist() == [NUMBERS[name] for name in fake.answers]
    test_names = [f"val/images/val_{number}.JPEG" for number in range(TEST)]
    for images, names in ((found.train_images, train_names()), (found.test_images, test_names)):
        assert images.shape == (len(names), 32, 32, 3)
        for image, name in zip(images, names, strict=True):
            np.testing.assert_allclose(image, scaled_by_hand(fake.contents[name]), atol=1.01, err_msg=name)
            assert (np.ptp(image, axis=-1) == 0).all() == (name in GREY)


# --- what comes out --------------------------------------------------------------------------------


def test_archive_at_hand(fake):
    source = fake.source
    assert not at_hand(fake.folder, source)
    assert_right(load_tinyimagenet(fake.folder, source), fake)
    names = {path.name for path in fake.folder.iterdir()}
    assert names == {"tiny-imagenet-200.zip", "tinyimagenet", ".tinyimagenet.lock"}  # nothing is extracted
    fake.archive.unlink()
    assert at_hand(fake.folder, source)
    found = load_tinyimagenet(fake.folder, source)  # from the arrays alone
    assert_right(found, fake)
    assert all(isinstance(array, np.memmap) for array in found)


def test_extracted_folder_at_hand(fake):
    source = fake.extract()
    fake.archive.write_bytes(b"PK, and then the line was cut")
    before = sorted((fake.folder / TREE).rglob("*"))
    assert_right(load_tinyimagenet(fake.folder, source), fake)
    assert sorted((fake.folder / TREE).rglob("*")) == before


def test_rearranged_folder_equals_torchvision(fake):
    """Images moved into a folder per class, as for the published figures: bit for bit ImageFolder's and Resize's."""
    source = fake.rearrange()
    found = load_tinyimagenet(fake.folder, source)
    assert_right(found, fake)
    train, test = (
        datasets.ImageFolder(fake.folder / TREE / part, transforms.Resize((32, 32))) for part in ("train", "val")
    )
    np.testing.assert_array_equal(found.train_images, [np.asarray(image) for image, _ in train])
    np.testing.assert_array_equal(found.train_labels, train.targets)
    rows = [int(path.rpartition("_")[2].removesuffix(".JPEG")) for path, _ in test.samples]
    np.testing.assert_array_equal(found.test_images[rows], [np.asarray(image) for image, _ in test])


# --- what is refused -------------------------------------------------------------------------------


def test_nothing_at_hand_says_what_to_do(fake, tmp_path):
    with pytest.raises(RequestError) as caught:
        load_tinyimagenet(tmp_path / "empty", fake.source)
    first, second = str(caught.value).splitlines()
    assert first.startswith("cannot fetch tiny-imagenet-200.zip")
    assert f"put tiny-imagenet-200.zip (md5 {fake.source.archive_md5}) into {tmp_path / 'empty'}" in second
    assert not (tmp_path / "empty" / "tinyimagenet").exists()


def test_archive_of_another_checksum(fake, capsys):
    with pytest.raises(RequestError, match=r"put tiny-imagenet-200\.zip"):
        load_tinyimagenet(fake.folder, replace(fake.source, archive_md5="0" * 32))
    assert "is not the expected file (md5 is" in capsys.readouterr().err


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_cut_archive(fake, share):
    """Even where its checksum were right."""
    whole = fake.archive.read_bytes()
    fake.archive.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(RequestError, match=r"cannot be read \(.+\);\ndelete it"):
        load_tinyimagenet(fake.folder, fake.source)
    assert not (fake.folder / "tinyimagenet").exists()


def test_changed_byte_in_the_archive(fake):
    content = bytearray(fake.archive.read_bytes())
    content[len(content) // 2] ^= 1
    fake.archive.write_bytes(content)
    with pytest.raises(RequestError, match="cannot be read"):
        load_tinyimagenet(fake.folder, fake.source)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("train/n01443537/images/n01443537_3.JPEG", r"it holds 3 classes, 35 \+ 9 images, not 3, 36 \+ 9"),
        ("val/images/val_4.JPEG", r"val_annotations\.txt names 'val_4\.JPEG', which is not there"),
        ("val/val_annotations.txt", r"val_annotations\.txt"),
    ],
)
def test_missing_file(fake, name, reason, capsys):
    """An extracted folder that is not whole is passed over; an archive is refused."""
    del fake.contents[name]
    fake.pack()
    with pytest.raises(RequestError, match=rf"tiny-imagenet-200\.zip cannot be read \((.*){reason}"):
        load_tinyimagenet(fake.folder, fake.source)
    source = fake.extract()
    with pytest.raises(RequestError, match=r"put tiny-imagenet-200\.zip"):
        load_tinyimagenet(fake.folder, source)
    assert "is not the whole data set" in capsys.readouterr().err


@pytest.mark.parametrize("damage", [lambda jpeg: jpeg[:-200], lambda jpeg: b"", lambda jpeg: b"not a picture"])
def test_damaged_image_is_named(fake, damage):
    path = fake.folder / TREE / "val" / "images" / "val_2.JPEG"
    source = fake.extract()
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(RequestError, match=r"tiny-imagenet-200 cannot be read \(val/images/val_2\.JPEG: .+\);\ndelete"):
        load_tinyimagenet(fake.folder, source)
    assert not (fake.folder / "tinyimagenet").exists()


def test_image_of_another_size(fake):
    source = fake.extract()
    Image.new("RGB", (32, 32)).save(fake.folder / TREE / "train" / CLASSES[0] / "images" / f"{CLASSES[0]}_0.JPEG")
    with pytest.raises(RequestError, match=r"n02124075_0\.JPEG is not of 64×64 pixels"):
        load_tinyimagenet(fake.folder, source)


# --- where it is used ------------------------------------------------------------------------------


def test_entry():
    entry = DATASETS["tinyimagenet"]
    assert (entry.num_classes, entry.image_size, entry.train_size, entry.test_size) == (200, 32, 100_000, 10_000)
    assert (entry.mean, entry.std) == ((0.4802, 0.4481, 0.3975), (0.2770, 0.2691, 0.2821))
    assert (entry.crop_padding, entry.horizontal_flip) == (4, True)


def test_probe(fake, monkeypatch):
    """transfer_student.py on the data set by its name converts the archive."""
    source = fake.source
    sizes = {"num_classes": 3, "train_size": source.train_size, "test_size": TEST}
    small = replace(DATASETS["tinyimagenet"], **sizes, load=lambda folder: load_tinyimagenet(folder, source))
    monkeypatch.setitem(DATASETS._entries, "tinyimagenet", small)
    save_network(fake.folder / "net.pth", "resnet8", DATASETS["cifar100"], seed=3)
    argv = ["--path_s", fake.folder / "net.pth", "--dataset", "tinyimagenet", "--data_folder", fake.folder]
    argv += ["--epochs", "1", "--batch_size", "12", "--device", "cpu", "--output", fake.folder / "out"]
    assert transfer_student.main([str(part) for part in argv]) == 0
    folder = folder_of(fake.folder / "out")
    assert read_json(folder / "config.json")["dataset"] == "tinyimagenet"
    saved = load(folder / "resnet8_last.pth")
    assert (saved["num_classes"], saved["dataset"], saved["mean"]) == (3, "tinyimagenet", small.mean)
    shutil.rmtree(fake.folder / "out")
    fake.archive.unlink()
    assert transfer_student.main([str(part) for part in argv]) == 0  # from the arrays
