import numpy as np
import pytest
from PIL import Image

from common.errors import RunError
from dataset.image_files import middle
from dataset.one_image import read_square


def picture(width, height):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_an_image_of_the_right_size_stays_as_it_is(tmp_path):
    pixels = picture(8, 8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert (read_square(tmp_path / "a.png", 8, "whole").numpy() == pixels).all()


def test_other_images_are_framed_as_their_set_is_tested(tmp_path):
    image = Image.fromarray(picture(30, 20))
    image.save(tmp_path / "a.png")
    whole = image.resize((8, 8), Image.Resampling.BICUBIC)
    assert (read_square(tmp_path / "a.png", 8, "whole").numpy() == np.asarray(whole)).all()
    assert (read_square(tmp_path / "a.png", 8, "middle").numpy() == np.asarray(middle(image, 8))).all()


def test_a_file_that_is_no_image_is_named(tmp_path):
    (tmp_path / "a.png").write_text("no image")
    with pytest.raises(RunError, match=r"a\.png"):
        read_square(tmp_path / "a.png", 8, "whole")
