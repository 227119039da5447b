"""TinyImageNet from small archives in its true format: pixels, class order, shades of grey, what is refused."""

import hashlib
import io
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from torchvision import datasets, transforms

from common.errors import RequestError
from dataset.tinyimagenet import TINYIMAGENET, load_tinyimagenet
from tests.dataset.conversions import ConversionTests

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
        self.classes = [CLASSES[rng.integers(3)] for _ in range(TEST)]
        lines = [f"val_{number}.JPEG\t{name}\t0\t32\t44\t62\n" for number, name in enumerate(self.classes)]
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

    def assert_right(self, found):
        assert [array.dtype for array in found] == [np.uint8, np.int64, np.uint8, np.int64]
        assert found.train_labels.tolist() == [0] * EACH + [1] * EACH + [2] * EACH
        assert found.test_labels.tolist() == [NUMBERS[name] for name in self.classes]
        test_names = [f"val/images/val_{number}.JPEG" for number in range(TEST)]
        for images, names in ((found.train_images, train_names()), (found.test_images, test_names)):
            assert images.shape == (len(names), 32, 32, 3)
            for image, name in zip(images, names, strict=True):
                np.testing.assert_allclose(image, scaled_by_hand(self.contents[name]), atol=1.01, err_msg=name)
                assert (np.ptp(image, axis=-1) == 0).all() == (name in GREY)

    def rearrange(self):
        """The extracted folder as for torchvision's ImageFolder: train/CLASS/FILE and val/CLASS/FILE."""
        source, tree = self.extract(), self.folder / TREE
        for path in tree.glob("train/*/images/*"):
            path.rename(path.parents[1] / path.name)
        for number, name in enumerate(self.classes):
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


class TestConversion(ConversionTests):
    name = "tinyimagenet"
    load = staticmethod(load_tinyimagenet)
    sizes = (200, 100_000, 10_000)
    constants = ((0.4802, 0.4481, 0.3975), (0.2770, 0.2691, 0.2821))


# --- what comes out --------------------------------------------------------------------------------


def test_rearranged_folder_equals_torchvision(fake):
    """Images moved into a folder per class, as for the published figures: bit for bit ImageFolder's and Resize's."""
    source = fake.rearrange()
    found = load_tinyimagenet(fake.folder, source)
    fake.assert_right(found)
    train, test = (
        datasets.ImageFolder(fake.folder / TREE / part, transforms.Resize((32, 32))) for part in ("train", "val")
    )
    np.testing.assert_array_equal(found.train_images, [np.asarray(image) for image, _ in train])
    np.testing.assert_array_equal(found.train_labels, train.targets)
    rows = [int(path.rpartition("_")[2].removesuffix(".JPEG")) for path, _ in test.samples]
    np.testing.assert_array_equal(found.test_images[rows], [np.asarray(image) for image, _ in test])


# --- what is refused -------------------------------------------------------------------------------


def test_changed_byte_in_the_archive(fake):
    content = bytearray(fake.archive.read_bytes())
    content[len(content) // 2] ^= 1
    fake.archive.write_bytes(content)
    with pytest.raises(RequestError, match=TINYIMAGENET.archive):
        load_tinyimagenet(fake.folder, fake.source)


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("train/n01443537/images/n01443537_3.JPEG", "35"),  # training images
        ("val/images/val_4.JPEG", "val_4.JPEG"),
        ("val/val_annotations.txt", "val_annotations.txt"),
    ],
)
def test_missing_file(fake, name, named, capsys):
    """An extracted folder that is not whole is skipped; an archive is refused."""
    del fake.contents[name]
    fake.pack()
    with pytest.raises(RequestError, match=named):
        load_tinyimagenet(fake.folder, fake.source)
    source = fake.extract()
    with pytest.raises(RequestError, match=TINYIMAGENET.archive):
        load_tinyimagenet(fake.folder, source)
    assert str(fake.folder / TREE) in capsys.readouterr().err


@pytest.mark.parametrize("damage", [lambda jpeg: jpeg[:-200], lambda jpeg: b"", lambda jpeg: b"not a picture"])
def test_damaged_image_is_named(fake, damage):
    path = fake.folder / TREE / "val" / "images" / "val_2.JPEG"
    source = fake.extract()
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(RequestError, match=r"val/images/val_2\.JPEG"):
        load_tinyimagenet(fake.folder, source)
    assert not (fake.folder / "tinyimagenet").exists()


def test_image_of_another_size(fake):
    source = fake.extract()
    Image.new("RGB", (32, 32)).save(fake.folder / TREE / "train" / CLASSES[0] / "images" / f"{CLASSES[0]}_0.JPEG")
    with pytest.raises(RequestError, match=r"n02124075_0\.JPEG"):
        load_tinyimagenet(fake.folder, source)
