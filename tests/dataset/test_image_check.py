"""The look at all photographs before training: what it finds, refuses and says."""

import shutil

import numpy as np
import pytest
from PIL import Image

from common.errors import RequestError
from dataset import DATASETS, check_images, digest, load_arrays
from dataset import image_check as module
from dataset.image_check import decode_all
from tests.dataset.photographs import CLASSES, NAME


def checked(pictures):
    return check_images(DATASETS.find(NAME, pictures).load(pictures))


def damage(pictures, *names):
    for name in names:
        (pictures / "pets" / name).write_bytes(b"no picture")


@pytest.mark.parametrize("chunk", [256, 5])
def test_damaged_files_of_both_parts(pictures, monkeypatch, chunk):
    """In this process for small sets, by workers for large ones."""
    monkeypatch.setattr(module, "CHUNK", chunk)
    names = ["train/cats/1.JPEG", "train/eels/7.JPEG", "val/dogs/0.png"]
    damage(pictures, *names)
    arrays, found = checked(pictures)
    assert (list(found.damaged), found.images, found.empty_class) == (names, 33, "")
    found.raise_damage(allowed=True)
    with pytest.raises(RequestError) as refusal:
        found.raise_damage(allowed=False)
    assert all(word in str(refusal.value) for word in (*names, "3 of 33", "--skip_bad_images"))
    assert digest(arrays) == digest(DATASETS.find(NAME, pictures).load(pictures))


def test_a_class_of_damaged_files_is_refused_anyway(pictures):
    damage(pictures, *(f"val/dogs/{name}" for name in ("0.png", "1.JPEG", "2.jpg")))
    _, found = checked(pictures)
    with pytest.raises(RequestError, match="val/dogs/0"):
        found.raise_damage(allowed=True)


def test_a_data_set_in_memory_is_left_alone(tmp_path):
    arrays = load_arrays("digits", tmp_path)
    assert check_images(arrays) == (arrays, module.ImageCheck())


def test_the_digest_tells_turned_images_from_others(pictures):
    before = digest(checked(pictures)[0])
    assert before == digest(DATASETS.find(NAME, pictures).load(pictures))  # that of earlier versions
    path, turned = pictures / "pets/train/cats/0.png", Image.Exif()
    turned[274] = 3
    Image.open(path).save(path, exif=turned)
    arrays, _ = checked(pictures)
    assert arrays.train_images.marks == {0: "orientation 3"}
    assert digest(arrays) != digest(DATASETS.find(NAME, pictures).load(pictures))


def test_test_images_that_are_training_images_are_counted(pictures):
    assert checked(pictures)[1].hints == ()
    shutil.copy(pictures / "pets/train/cats/0.png", pictures / "pets/val/dogs/copy.png")
    shutil.copy(pictures / "pets/train/cats/1.JPEG", pictures / "pets/val/cats/copy.jpg")
    (hint,) = checked(pictures)[1].hints
    assert all(word in hint for word in ("2 of 11", "val/cats/copy.jpg", "train/cats/1.JPEG"))


@pytest.mark.parametrize(("highest", "hints"), [(65535, 0), (4096, 0), (4095, 1)])
def test_12_bits_in_files_of_16(pictures, highest, hints):
    values = np.linspace(0, highest, 900).astype(np.uint16).reshape(30, 30)
    for name in CLASSES:
        Image.fromarray(values).save(pictures / "pets/train" / name / "grey.tif")
    found = checked(pictures)[1].hints
    assert len(found) == hints
    assert all(str(highest) in hint for hint in found)


def test_all_decoded(pictures, monkeypatch):
    monkeypatch.setattr(module, "MOST_DECODED", 0)
    path = pictures / "pets/train/dogs/0.png"
    content = path.read_bytes()
    path.write_bytes(content[:200] + b"damage" + content[206:])
    files = DATASETS.find(NAME, pictures).load(pictures).train_images
    assert checked(pictures)[1].damaged == {}
    assert list(decode_all(files)) == ["train/dogs/0.png"]


def spoil_the_middle(path):
    """Damage the inside of a file, whose header and end stay as they are."""
    content = bytearray(path.read_bytes())
    half = len(content) // 2
    content[half : half + 40] = b"\xff\xd0" * 20
    path.write_bytes(content)


@pytest.mark.parametrize(("most", "found"), [(33, ["train/cats/0.png"]), (32, [])])
def test_a_damage_in_the_middle_is_found_by_decoding(pictures, monkeypatch, most, found):
    """In sets of up to so many images all are decoded."""
    monkeypatch.setattr(module, "MOST_DECODED", most)
    spoil_the_middle(pictures / "pets/train/cats/0.png")
    _, check = check_images(DATASETS.find(NAME, pictures).load(pictures))
    assert list(check.damaged) == found


def test_all_damaged_files_are_printed(pictures, capsys):
    for number in range(1, 8):
        next((pictures / "pets/train/cats").glob(f"{number}.*")).write_bytes(b"")
    _, check = check_images(DATASETS.find(NAME, pictures).load(pictures))
    with pytest.raises(RequestError):
        check.raise_damage(allowed=False)
    printed = capsys.readouterr().err
    assert all(f"train/cats/{number}." in printed for number in range(1, 8))
