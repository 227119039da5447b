"""scripts/check_images.py lists the images that training could not decode."""

import pytest
from PIL import Image

from scripts import check_images


@pytest.fixture
def pets(tmp_path):
    for part in ("train", "val"):
        for name in ("cats", "dogs"):
            (tmp_path / "pets" / part / name).mkdir(parents=True)
            Image.new("RGB", (20, 20)).save(tmp_path / "pets" / part / name / "0.png")
    return tmp_path


def test_all_are_well(pets, capsys):
    assert check_images.main(["--dataset", "folder:pets", "--data_folder", str(pets)]) == 0
    assert "0 of 4" in capsys.readouterr().out


def test_damaged_files_are_listed_by_path(pets, capsys):
    damaged = pets / "pets/val/dogs/0.png"
    damaged.write_bytes(b"")
    assert check_images.main(["--dataset", "folder:pets", "--data_folder", str(pets)]) == 1
    assert str(damaged) in [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("name", ["digits", "folder:lions", "folders:pets"])
def test_a_wrong_name_is_refused(pets, name, capsys):
    assert check_images.main(["--dataset", name, "--data_folder", str(pets)]) == 2
    assert name.split(":")[-1] in capsys.readouterr().err
