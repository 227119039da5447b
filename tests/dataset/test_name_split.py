"""Folders without a test part: each image's side follows from its name."""

import shutil
import unicodedata

import pytest

from common.errors import RequestError
from dataset import DATASETS, digest
from dataset.name_split import TEST_SHARE, is_test_image
from tests.dataset.photographs import NAME

NAMES = [f"cats/{number}.jpg" for number in range(2000)]


def parts(folder):
    data = DATASETS.find(NAME, folder).load(folder)
    return tuple(
        {images.names[row].decode() for row in range(len(images))} for images in (data.train_images, data.test_images)
    )


@pytest.fixture
def flat(pictures):
    """24 pictures as pets/CLASS/IMAGE."""
    shutil.rmtree(pictures / "pets/val")
    for folder in (pictures / "pets/train").iterdir():
        folder.rename(pictures / "pets" / folder.name)
    (pictures / "pets/train").rmdir()
    return pictures


def test_the_share_of_test_images():
    flags, moved = is_test_image(NAMES)
    assert sum(flags) / len(NAMES) == pytest.approx(TEST_SHARE, abs=0.03)
    assert not moved


def test_the_known_side_of_some_names():
    """Runs of today must find their parts tomorrow."""
    flags, _ = is_test_image(NAMES[:20])
    assert [name for name, test in zip(NAMES, flags, strict=False) if test] == ["cats/4.jpg", "cats/12.jpg"]


def test_a_side_depends_on_no_other_name():
    whole = dict(zip(NAMES, is_test_image(NAMES)[0], strict=True))
    assert dict(zip(NAMES[::7], is_test_image(NAMES[::7])[0], strict=True)) == {
        name: whole[name] for name in NAMES[::7]
    }


def test_unicode_forms_are_one_name():
    composed = [f"caf\u00e9/{number}.png" for number in range(50)]
    assert is_test_image(composed) == is_test_image([unicodedata.normalize("NFD", name) for name in composed])


@pytest.mark.parametrize("count", range(2, 6))
def test_small_classes_have_both(count):
    for start in range(0, 100, count):
        flags, _ = is_test_image(NAMES[start : start + count])
        assert 0 < sum(flags) < count


def test_an_image_that_changed_sides_is_told():
    told = {is_test_image(NAMES[start : start + 2])[1] for start in range(0, 100, 2)}
    assert told == {True, False}


def test_classes_alone(flat):
    train, test = parts(flat)
    assert len(train) + len(test) == 24
    assert not train & test
    entry = DATASETS.find(NAME, flat)
    assert entry.classes == ("cats", "dogs", "eels")
    assert f"{len(train)} training" in entry.notes[0]
    assert f"{len(test)} test" in entry.notes[0]
    assert all({name.split("/")[0] for name in part} == set(entry.classes) for part in (train, test))


def test_train_without_val_has_the_same_sides(flat, tmp_path):
    shutil.copytree(flat / "pets", tmp_path / "other/pets/train")
    assert parts(tmp_path / "other") == parts(flat)


def test_an_added_image_moves_no_other(flat):
    before = parts(flat)
    shutil.copy(flat / "pets/cats/0.png", flat / "pets/cats/new.png")
    for old, new in zip(before, parts(flat), strict=True):
        assert new - old <= {"cats/new.png"}
        assert old <= new


def test_a_class_named_train(flat):
    (flat / "pets/cats").rename(flat / "pets/train")
    assert DATASETS.find(NAME, flat).classes == ("dogs", "eels", "train")


def test_a_single_image_trains_only(flat):
    for path in sorted((flat / "pets/cats").glob("*.*"))[1:]:
        path.unlink()
    entry = DATASETS.find(NAME, flat)
    assert 0 not in entry.load(flat).test_labels
    assert any("cats" in note for note in entry.notes)


def test_nothing_to_test_on_is_refused(flat):
    for folder in (flat / "pets").iterdir():
        for path in sorted(folder.glob("*.*"))[1:] if folder.is_dir() else ():
            path.unlink()
    with pytest.raises(RequestError, match="pets"):
        DATASETS.find(NAME, flat)


def test_a_folder_with_val_has_its_own_parts(pictures):
    entry = DATASETS.find(NAME, pictures)
    assert (entry.train_size, entry.test_size) == (24, 9)
    assert not any("split" in note for note in entry.notes)


def test_a_former_set_is_other_data_than_its_split(pictures):
    before = digest(DATASETS.find(NAME, pictures).load(pictures))
    shutil.rmtree(pictures / "pets/val")
    assert digest(DATASETS.find(NAME, pictures).load(pictures)) != before
