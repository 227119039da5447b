"""RandAugment's operations against Pillow, and the draws against their distribution."""

import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from scipy import stats

from common.errors import RequestError
from dataset.randaugment import (
    AFFINE,
    OPERATIONS,
    Draws,
    RandAugment,
    affine_matrices,
    apply_operations,
    draw_operations,
    parse_rand_augment,
    rand_augment,
)

FILL = (129, 124, 112)
LEVELS = (0.0, 1.3, 4.0, 7.77, 9.0, 9.6, 10.0)


def sample_images():
    """Noise, smooth pictures, narrow ranges and single colours: uint8 n×3×32×32."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (4, 32, 32, 3))
    y, x = np.mgrid[:32, :32]
    waves = [np.stack([127 + 120 * np.sin(x / f + c) * np.cos(y / (f + c)) for c in range(3)], -1) for f in (3, 6, 11)]
    narrow = rng.integers(90, 110, (2, 32, 32, 3))
    flat = np.broadcast_to(rng.integers(0, 256, (2, 1, 1, 3)), (2, 32, 32, 3))
    two = np.where(rng.random((1, 32, 32, 3)) < 0.02, 200, 7)
    images = np.concatenate([noise, np.stack(waves), narrow, flat, two]).astype(np.uint8)
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


def with_pillow(name, image, level, sign, resample):
    """What timm's rand-…-inc1 does with one picture, at a given level and direction."""
    strength = level / 10
    factor = max(0.1, 1 + sign * strength * 0.9)
    bits = 4 - int(strength * 4)
    added = min(128, int(strength * 110))

    def moved(*matrix):
        return image.transform(image.size, Image.Transform.AFFINE, matrix, resample=resample, fillcolor=FILL)

    signed = sign * strength
    return {
        "AutoContrast": lambda: ImageOps.autocontrast(image),
        "Equalize": lambda: ImageOps.equalize(image),
        "Invert": lambda: ImageOps.invert(image),
        "PosterizeIncreasing": lambda: ImageOps.posterize(image, bits) if bits else Image.new("RGB", image.size),
        "SolarizeIncreasing": lambda: ImageOps.solarize(image, 256 - min(256, int(strength * 256))),
        "SolarizeAdd": lambda: image.point([min(255, i + added) if i < 128 else i for i in range(256)] * 3),
        "ColorIncreasing": lambda: ImageEnhance.Color(image).enhance(factor),
        "ContrastIncreasing": lambda: ImageEnhance.Contrast(image).enhance(factor),
        "BrightnessIncreasing": lambda: ImageEnhance.Brightness(image).enhance(factor),
        "SharpnessIncreasing": lambda: ImageEnhance.Sharpness(image).enhance(factor),
        "Rotate": lambda: image.rotate(30 * signed, resample=resample, fillcolor=FILL),
        "ShearX": lambda: moved(1, 0.3 * signed, 0, 0, 1, 0),
        "ShearY": lambda: moved(1, 0, 0, 0.3 * signed, 1, 0),
        "TranslateXRel": lambda: moved(1, 0, 0.45 * signed * image.size[0], 0, 1, 0),
        "TranslateYRel": lambda: moved(1, 0, 0, 0, 1, 0.45 * signed * image.size[1]),
    }[name]()


def both(name, level, sign, interpolation="bilinear", images=None):
    """Our result and Pillow's, as int arrays n×H×W×3."""
    images = sample_images() if images is None else images
    size = len(images)
    rows = np.arange(size)
    operation = np.full(size, OPERATIONS.index(name))
    draws = Draws(rows, operation, np.full(size, level), np.full(size, sign))
    ours = apply_operations(images, draws, FILL, interpolation)
    resample = getattr(Image.Resampling, interpolation.upper())
    theirs = [with_pillow(name, Image.fromarray(image), level, sign, resample) for image in as_rows(images)]
    return as_rows(ours).astype(int), np.stack([np.asarray(image) for image in theirs]).astype(int)


def as_rows(images):
    return images.permute(0, 2, 3, 1).contiguous().numpy()


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("name", [name for name in OPERATIONS if name not in AFFINE])
def test_grey_levels_are_pillow_s(name, sign):
    """Exact in whole-number operations; blends may round one level away in a few pixels."""
    blends = name in ("ColorIncreasing", "ContrastIncreasing", "SharpnessIncreasing", "BrightnessIncreasing")
    for level in LEVELS:
        ours, theirs = both(name, level, sign)
        difference = np.abs(ours - theirs)
        assert difference.max() <= 1, level
        assert (difference > 0).mean() <= (0.02 if blends or name == "AutoContrast" else 0), level


def on_an_edge(name, level, sign, height, width):
    """Output pixels whose source lies within 0.001 of a border between two pixels; bool H×W."""
    matrix = affine_matrices(np.array([OPERATIONS.index(name)]), np.array([level]), np.array([sign]), (height, width))
    y, x = np.mgrid[:height, :width] + 0.5
    source = np.einsum("ij,jhw->ihw", matrix[0].astype(float), np.stack([x, y, np.ones_like(x)]))
    return (np.abs(source - np.rint(source)) < 1e-3).any(0)


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("name", AFFINE)
def test_geometry_is_pillow_s(name, sign):
    """Nearest: equal. Bilinear: within one grey level. Points on the very edge of a pixel may go either way."""
    for level in LEVELS:
        for interpolation, tolerance in (("nearest", 0), ("bilinear", 1)):
            ours, theirs = both(name, level, sign, interpolation)
            clear = ~on_an_edge(name, level, sign, 32, 32)
            assert clear.mean() > 0.85
            assert np.abs(ours - theirs)[:, clear].max() <= tolerance, (level, interpolation)


def test_geometry_of_oblong_images():
    images = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (3, 3, 20, 34)).astype(np.uint8))
    for name in AFFINE:
        ours, theirs = both(name, 6.3, 1, "nearest", images)
        clear = ~on_an_edge(name, 6.3, 1, 20, 34)
        np.testing.assert_array_equal(ours[:, clear], theirs[:, clear], err_msg=name)


def test_a_mixed_round_equals_one_at_a_time():
    rng = np.random.default_rng(2)
    images = torch.from_numpy(rng.integers(0, 256, (60, 3, 32, 32)).astype(np.uint8))
    rows = rng.permutation(60)[:45]
    operations = rng.integers(0, len(OPERATIONS), 45)
    levels, signs = rng.uniform(0, 10, 45), rng.choice([-1, 1], 45)
    found = apply_operations(images, Draws(rows, operations, levels, signs), FILL)
    expected = images.clone()
    for i, row in enumerate(rows):
        one = slice(i, i + 1)
        draws = Draws(np.array([0]), operations[one], levels[one], signs[one])
        expected[row] = apply_operations(images[row : row + 1], draws, FILL)[0]
    assert (found.int() - expected.int()).abs().max() <= 1
    untouched = np.setdiff1d(np.arange(60), rows)
    assert torch.equal(found[untouched], images[untouched])


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_works_alone_and_on_nothing(name):
    images = sample_images()[:1]
    operation = np.array([OPERATIONS.index(name)])
    found = apply_operations(images, Draws(np.array([0]), operation, np.array([9.0]), np.array([1])), FILL)
    assert found.shape == images.shape
    assert found.dtype == torch.uint8
    none = np.array([], dtype=int)
    assert torch.equal(apply_operations(images, Draws(none, none, none, none), FILL), images)


def test_how_many_images_are_touched():
    """Two layers of probability 1/2 leave a quarter alone, and some more that an operation does not change."""
    images = sample_images()[:1].expand(2000, -1, -1, -1).contiguous()
    found = rand_augment(images, parse_rand_augment("rand-m9-mstd0.5-inc1"), FILL, torch.Generator().manual_seed(0))
    alone = (found == images).flatten(1).all(1).float().mean()
    assert 0.22 < alone < 0.36
    nothing = rand_augment(images, RandAugment(9, probability=0.0), FILL, torch.Generator().manual_seed(0))
    assert torch.equal(nothing, images)


def test_notation():
    assert parse_rand_augment("rand-m9-mstd0.5-inc1") == RandAugment(9, 0.5, 2, 0.5)
    assert parse_rand_augment("rand-inc1-n3-m7-p0.8") == RandAugment(7, 0.0, 3, 0.8)
    assert parse_rand_augment("rand-m6-mstd101-inc1").magnitude_std == math.inf


@pytest.mark.parametrize(
    "notation",
    [
        "augmix-m3",
        "rand",
        "rand-m9",
        "rand-m9-inc0",
        "rand-m9-inc1-w0",
        "rand-m12-inc1",
        "rand-m9-m8-inc1",
        "rand-n1.5-inc1",
    ],
)
def test_unknown_notation_is_refused(notation):
    with pytest.raises(RequestError, match=notation):
        parse_rand_augment(notation)


# --- the draws ------------------------------------------------------------------------------------

SURE = 1e-3  # the draws are the same in every run: what passes once with this probability passes always


def drawn(notation):
    return draw_operations(4000, parse_rand_augment(notation), torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("notation", "chance", "law"),
    [
        ("rand-m6-mstd0.5-inc1", 0.5, stats.norm(6, 0.5)),
        ("rand-m6-mstd101-inc1", 0.5, stats.uniform(0, 6)),
        ("rand-m4-p0.8-mstd1-inc1", 0.8, stats.norm(4, 1)),
    ],
)
def test_what_is_drawn(notation, chance, law):
    layers = drawn(notation)
    assert len(layers) == 2
    for rows, operations, levels, signs in layers:
        assert (np.diff(rows) > 0).all()
        assert stats.binomtest(len(rows), 4000, chance).pvalue > SURE
        assert stats.chisquare(np.bincount(operations, minlength=len(OPERATIONS))).pvalue > SURE
        assert stats.kstest(levels, law.cdf).pvalue > SURE
        assert set(signs) == {-1, 1}
        assert stats.binomtest(int((signs > 0).sum()), len(signs)).pvalue > SURE
    # One layer tells nothing of the other.
    both, first, second = np.intersect1d(layers[0][0], layers[1][0], return_indices=True)
    assert stats.binomtest(len(both), 4000, chance**2).pvalue > SURE
    for values, others in zip(layers[0][1:], layers[1][1:], strict=True):
        assert stats.pearsonr(values[first], others[second]).pvalue > SURE


def test_levels_end_at_the_strongest():
    levels = np.concatenate([levels for _, _, levels, _ in drawn("rand-m9-mstd2-inc1")])
    assert levels.max() == 10
    assert stats.binomtest(int((levels == 10).sum()), len(levels), stats.norm(9, 2).sf(10)).pvalue > SURE
