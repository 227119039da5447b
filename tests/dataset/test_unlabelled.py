"""Images without labels: which files they are, how they are scaled, and how they join a data set."""

import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from common.errors import DataError, RequestError
from dataset import DATASETS, UNLABELLED, LeftOut, add_unlabelled, load_arrays, open_unlabelled, with_unlabelled
from dataset import unlabelled as module
from dataset.image_check import check_unlabelled
from dataset.to_device import resident_arrays
from dataset.unlabelled import also_tested, decode_squares
from tests.dataset.photographs import NAME, photograph


@pytest.fixture
def folder(tmp_path):
    """Seven pictures of many shapes at three depths, and files that are none."""
    place = tmp_path / "loose"
    for number, (name, size) in enumerate(
        {
            "a.png": (20, 30),
            "b.JPG": (31, 20),
            "deep/c.png": (16, 16),
            "deep/deeper/d.bmp": (40, 17),
            "deep/e.png": (8, 9),
            "f.png": (100, 16),
            "g.png": (16, 2000),
        }.items()
    ):
        photograph(place / name, number, size, (20 * number, 90, 0))
    (place / "notes.txt").write_text("no picture")
    (place / ".hidden.png").write_bytes(b"")
    return place


def test_images_of_any_depth_are_found_and_others_counted(folder):
    found = open_unlabelled(folder, 16)
    assert sorted(os.path.relpath(found.files.path(row), folder) for row in range(len(found.files))) == [
        "a.png",
        "b.JPG",
        "deep/c.png",
        "deep/deeper/d.bmp",
        "deep/e.png",
        "f.png",
        "g.png",
    ]
    (note,) = found.notes
    assert ".txt" in note


def test_a_folder_is_identified_by_names_and_sizes_and_not_by_its_place(folder, tmp_path, monkeypatch):
    before = open_unlabelled(folder, 16).sha256
    monkeypatch.chdir(tmp_path)
    assert open_unlabelled(folder.relative_to(tmp_path), 16).sha256 == before
    shutil.copytree(folder, tmp_path / "copy")
    assert open_unlabelled(tmp_path / "copy", 16).sha256 == before
    (tmp_path / "copy/a.png").rename(tmp_path / "copy/z.png")
    renamed = open_unlabelled(tmp_path / "copy", 16).sha256
    with (tmp_path / "copy/z.png").open("ab") as file:
        file.write(b"more")
    assert len({before, renamed, open_unlabelled(tmp_path / "copy", 16).sha256}) == 3


@pytest.mark.parametrize("kind", ["missing", "a file", "empty", "no image", "a dead link", "the root"])
def test_folders_without_images_are_refused(kind, tmp_path):
    place = tmp_path / "here"
    if kind == "a file":
        place.write_text("")
    elif kind != "missing":
        place.mkdir()
    if kind == "no image":
        (place / "notes.txt").write_text("")
    if kind == "a dead link":
        (place / "a.png").symlink_to("nowhere")
    if kind == "the root":
        place = tmp_path.__class__(tmp_path.anchor)
    with pytest.raises(RequestError) as refusal:
        open_unlabelled(place, 8)
    assert str(place) in str(refusal.value)
    assert len(str(refusal.value).splitlines()) <= 2


def naive_square(path, size):
    """The shorter side scaled to `size`, and the middle; of a very long image only a part about the middle is seen."""
    image = Image.open(path).convert("RGB")
    left = max(0, image.width - 100 * image.height) // 2
    top = max(0, image.height - 100 * image.width) // 2
    image = image.crop((left, top, image.width - left, image.height - top))
    factor = size / min(image.size)
    image = image.resize([int(round(side * factor, 6)) for side in image.size], Image.Resampling.BICUBIC)
    left, top = round((image.width - size) / 2), round((image.height - size) / 2)
    return np.asarray(image)[top : top + size, left : left + size]


@pytest.mark.parametrize("chunk", [256, 3])
def test_the_shorter_side_is_scaled_and_the_middle_taken(folder, monkeypatch, chunk):
    """In this process, or in their order by workers."""
    monkeypatch.setattr(module, "CHUNK", chunk)
    files = open_unlabelled(folder, 16).files
    pixels = decode_squares(files)
    assert (pixels.shape, pixels.dtype) == ((7, 16, 16, 3), np.uint8)
    for row, square in enumerate(pixels):
        np.testing.assert_array_equal(square, naive_square(files.path(row), 16))


def test_an_image_of_the_right_size_keeps_its_pixels(folder):
    files = open_unlabelled(folder, 16).files
    row = next(row for row in range(len(files)) if files.path(row).name == "c.png")
    np.testing.assert_array_equal(decode_squares(files)[row], np.asarray(Image.open(folder / "deep/c.png")))


def test_a_damaged_image_ends_it_or_gives_way_to_the_next_one(folder):
    """Whichever folder that is in: without labels there are no classes."""
    (folder / "f.png").write_bytes(b"no picture")
    unlabelled = open_unlabelled(folder, 8)
    names = [unlabelled.files.path(row).name for row in range(7)]
    found = check_unlabelled(unlabelled.files, np.zeros(0))
    assert (list(found.damaged), found.images, found.empty_class) == ([str(folder / "f.png")], 7, "")
    with pytest.raises(DataError, match=r"f\.png"):
        decode_squares(unlabelled.files)
    unlabelled.files.left_out = LeftOut(allowed=True)
    pixels, row = decode_squares(unlabelled.files), names.index("f.png")
    np.testing.assert_array_equal(pixels[row], pixels[row + 1])
    assert list(unlabelled.files.left_out.reasons) == [str(folder / "f.png")]


def test_a_folder_of_damaged_images_is_refused_anyway(tmp_path):
    for name in ("a.png", "b/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"no picture")
    found = check_unlabelled(open_unlabelled(tmp_path, 8).files, np.zeros(0))
    with pytest.raises(RequestError, match=r"a\.png"):
        found.raise_damage(allowed=True)


@pytest.mark.parametrize("only", [False, True])
def test_they_join_arrays(folder, only):
    entry, data = DATASETS["digits"], load_arrays("digits", ".")
    unlabelled = open_unlabelled(folder, entry.image_size, only)
    joined, size = add_unlabelled(data, unlabelled), with_unlabelled(entry, unlabelled).train_size
    own = 0 if only else entry.train_size
    assert len(joined.train_images) == len(joined.train_labels) == size == own + 7
    np.testing.assert_array_equal(joined.train_images[:own], data.train_images[:own])
    np.testing.assert_array_equal(joined.train_images[own:], decode_squares(unlabelled.files))
    np.testing.assert_array_equal(joined.train_labels, [*data.train_labels[:own], *[UNLABELLED] * 7])
    assert joined.test_images is data.test_images
    assert with_unlabelled(entry, unlabelled) == replace(entry, train_size=size)


@pytest.mark.parametrize("only", [False, True])
def test_they_join_files(folder, pictures, only):
    entry = DATASETS.find(NAME, pictures)
    data, unlabelled = entry.load(pictures), open_unlabelled(folder, entry.image_size, only)
    joined, own = add_unlabelled(data, unlabelled).train_images, 0 if only else entry.train_size
    assert len(joined) == with_unlabelled(entry, unlabelled).train_size == own + 7
    for row in range(own):
        assert joined.path(row) == data.train_images.path(row)
    for row in range(7):
        assert joined.path(own + row) == unlabelled.files.path(row)
        assert set(joined.rows_of_class(own + row)) == set(range(own, own + 7))
    if not only:
        assert set(joined.rows_of_class(0)) == set(range(8))  # its class, as before


def test_none_changes_nothing():
    entry, data = DATASETS["digits"], load_arrays("digits", ".")
    assert with_unlabelled(entry, None) is entry
    assert add_unlabelled(data, None) is data


def test_test_images_among_them_are_counted(folder, pictures):
    data = load_arrays("digits", ".")
    assert list(also_tested(resident_arrays(add_unlabelled(data, open_unlabelled(folder, 8)), "cpu"))) == []
    Image.fromarray(data.test_images[3]).save(folder / "known.png")
    (note,) = also_tested(resident_arrays(add_unlabelled(data, open_unlabelled(folder, 8)), "cpu"))
    assert note.startswith("1 ")

    entry = DATASETS.find(NAME, pictures)
    test = entry.load(pictures).test_images
    assert check_unlabelled(open_unlabelled(folder, 16).files, test).hints == ()
    shutil.copy(test.path(0), folder / f"known too{test.path(0).suffix}")
    (hint,) = check_unlabelled(open_unlabelled(folder, 16).files, test).hints
    assert "known too" in hint


def test_too_many_to_fit_in_memory(folder, monkeypatch):
    monkeypatch.setattr(module, "memory_bytes", lambda: 7 * 16 * 16 * 3)
    with pytest.raises(RequestError, match="7"):
        decode_squares(open_unlabelled(folder, 16).files)
