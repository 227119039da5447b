"""Augmentation of batches against plain loops."""

import math

import numpy as np
import pytest
import torch

from common.errors import RequestError
from common.seeds import make_generator
from dataset import DATASETS, UNLABELLED, Augmentation
from dataset.augment import (
    augment,
    crop,
    cutmix_box,
    mix,
    normalise,
    random_crop,
    random_erase,
    random_flip,
)

ENTRY = DATASETS["cifar100"]
DEIT = {"rand_augment": "rand-m9-mstd0.5-inc1", "erasing": 0.25, "mixup": 0.8, "cutmix": 1.0}


def random_images(*shape, seed=0):
    return torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("size", "height", "width", "padding"), [(81, 32, 32, 4), (9, 8, 8, 1), (5, 6, 9, 2)])
def test_crop_equals_a_loop(size, height, width, padding):
    images = random_images(size, height, width, 3)
    places = torch.arange(size) % (2 * padding + 1) ** 2  # every place there is, as far as the batch reaches
    offsets = torch.stack([places // (2 * padding + 1), places % (2 * padding + 1)])
    found = crop(images, padding, offsets).numpy()
    for i in range(size):
        framed = np.pad(images[i].numpy(), ((padding, padding), (padding, padding), (0, 0)))
        top, left = offsets[:, i]
        np.testing.assert_array_equal(found[i], framed[top : top + height, left : left + width])


def test_random_crop_reaches_every_place():
    image = torch.arange(1, 65, dtype=torch.uint8).view(1, 8, 8, 1).expand(2000, 8, 8, 3)
    corners = random_crop(image, 1, generator())[:, 4, 4, 0]  # the middle pixel tells the offset
    assert len(corners.unique()) == 9
    assert corners.unique(return_counts=True)[1].min() > 2000 / 9 * 0.7


def test_flip_is_all_or_nothing_and_fair():
    images = random_images(1000, 3, 4, 5)
    flipped = random_flip(images, generator())
    same = (flipped == images).flatten(1).all(1)
    mirrored = (flipped == images.flip(3)).flatten(1).all(1)
    assert (same | mirrored).all()
    assert 430 < mirrored.sum() < 570


def test_normalise():
    images = random_images(4, 3, 5, 5)
    found = normalise(images, ENTRY.mean, ENTRY.std)
    expected = (images.numpy() / 255 - np.reshape(ENTRY.mean, (3, 1, 1))) / np.reshape(ENTRY.std, (3, 1, 1))
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-6)


def test_erasing_fills_one_box_with_noise():
    images = torch.full((4000, 3, 32, 32), 50.0)
    erased = random_erase(images, 0.25, generator())
    touched = (erased != 50).any(1)
    hit = touched.flatten(1).any(1)
    assert 0.22 < hit.float().mean() < 0.28
    boxes = touched[hit]
    rows, columns = boxes.any(2), boxes.any(1)
    assert torch.equal(boxes, rows[:, :, None] & columns[:, None, :])  # full rectangles
    for line in (rows.int(), columns.int()):
        assert ((line.diff(dim=1) == 1).sum(1) + line[:, 0] == 1).all()  # in one piece
    area = boxes.flatten(1).sum(1) / 1024
    assert area.min() > 0.01
    assert area.max() < 0.36
    assert abs(area.mean() - 0.176) < 0.01
    aspect = rows.sum(1) / columns.sum(1)
    assert aspect.min() > 0.25
    assert aspect.max() < 4
    noise = erased.permute(0, 2, 3, 1)[touched]
    assert abs(noise.mean()) < 0.01
    assert abs(noise.std() - 1) < 0.01


def test_erasing_leaves_its_input_alone_and_can_do_nothing():
    images = torch.zeros(8, 3, 16, 16)
    random_erase(images, 1.0, generator())
    assert not images.any()
    assert random_erase(images, 0.0, generator()) is images


def mixing(**options):
    return Augmentation(crop=False, flip=False, **options)


@pytest.mark.parametrize("size", [1, 7, 16])
@pytest.mark.parametrize("seed", range(4))
def test_mixup_weighs_images_and_targets_alike(size, seed):
    labels = torch.arange(size)
    images = torch.zeros(size, 3, 4, 4)
    images[:, 0] = labels.float()[:, None, None]
    mixed, targets = mix(images, labels, 20, mixing(mixup=0.8), generator(seed))
    torch.testing.assert_close(targets.sum(1), torch.ones(size))
    expected = targets @ torch.arange(20.0)  # the mean label under the target is the mixed pixel
    torch.testing.assert_close(mixed[:, 0, 0, 0], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("seed", range(8))
def test_cutmix_targets_match_the_area(seed):
    size = 8
    labels = torch.arange(size)
    images = labels.float().view(-1, 1, 1, 1).expand(size, 3, 32, 32)
    mixed, targets = mix(images, labels, size, mixing(cutmix=1.0), generator(seed))
    torch.testing.assert_close(targets.sum(1), torch.ones(size))
    for i in range(size):
        for label in range(size):
            area = (mixed[i, 0] == label).float().mean()
            torch.testing.assert_close(targets[i, label], area, atol=1e-6, rtol=0)


def test_cutmix_box_is_cut_at_the_edges():
    assert cutmix_box(32, 32, 0.75, 16, 16) == (8, 24, 8, 24)
    assert cutmix_box(32, 32, 0.75, 0, 31) == (0, 8, 23, 32)
    assert cutmix_box(32, 32, 1.0, 5, 5) == (5, 5, 5, 5)
    assert cutmix_box(8, 16, 0.0, 4, 8) == (0, 8, 0, 16)


def test_switch_between_mixup_and_cutmix_and_how_often():
    labels = torch.arange(4)
    images = labels.float().view(-1, 1, 1, 1).expand(4, 3, 8, 8)
    kinds = {"none": 0, "mixup": 0, "cutmix": 0}
    for seed in range(400):
        mixed, targets = mix(images, labels, 4, mixing(mixup=1.0, cutmix=1.0, mix_probability=0.8), generator(seed))
        if targets is None:
            assert torch.equal(mixed, images)
        whole = bool((mixed == mixed.round()).all())
        kinds["none" if targets is None else "cutmix" if whole else "mixup"] += 1
    assert 50 < kinds["none"] < 115
    assert 120 < kinds["mixup"] < 200
    assert 120 < kinds["cutmix"] < 200


def test_share_follows_its_beta_distribution():
    labels = torch.tensor([0, 1])
    images = torch.zeros(2, 3, 2, 2)
    shares = torch.stack([mix(images, labels, 2, mixing(mixup=0.8), generator(s))[1][0, 0] for s in range(1500)])
    assert abs(shares.mean() - 0.5) < 0.03
    assert abs(shares.var() - 1 / (4 * (2 * 0.8 + 1))) < 0.01


def test_augment_with_nothing_on_is_normalisation():
    images = random_images(5, 32, 32, 3)
    found, targets = augment(images, torch.arange(5), ENTRY, Augmentation(crop=False, flip=False), generator())
    assert targets is None
    assert torch.equal(found, normalise(images.permute(0, 3, 1, 2), ENTRY.mean, ENTRY.std))


def test_digits_are_never_mirrored():
    images = random_images(50, 8, 8, 3)
    entry = DATASETS["digits"]
    found, _ = augment(images, torch.zeros(50, dtype=torch.int64), entry, Augmentation(crop=False), generator())
    assert torch.equal(found, normalise(images.permute(0, 3, 1, 2), entry.mean, entry.std))


def test_everything_at_once_is_repeatable_and_leaves_its_input_alone():
    images, labels = random_images(32, 32, 32, 3), torch.arange(32)
    before = images.clone()
    results = [
        augment(images, labels, ENTRY, Augmentation(**DEIT), make_generator(0, "augment", 1, k)) for k in (1, 1, 2)
    ]
    assert torch.equal(images, before)
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    assert not torch.equal(results[0][0], results[2][0])
    assert results[0][0].shape == (32, 3, 32, 32)
    assert results[0][0].is_contiguous()
    assert results[0][0].isfinite().all()


def test_global_generator_is_left_alone():
    state = torch.get_rng_state()
    augment(random_images(8, 32, 32, 3), torch.arange(8), ENTRY, Augmentation(**DEIT), generator())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    "options", [{"erasing": 1.5}, {"mixup": -1}, {"cutmix": math.inf}, {"mix_probability": 2}, {"rand_augment": "auto"}]
)
def test_impossible_options_are_refused(options):
    with pytest.raises(RequestError):
        Augmentation(**options)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_same_on_a_gpu_and_no_waiting():
    images, labels = random_images(64, 32, 32, 3), torch.arange(64)
    here, targets = augment(images, labels, ENTRY, Augmentation(**DEIT), generator())
    images, labels = images.cuda(), labels.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        there, there_targets = augment(images, labels, ENTRY, Augmentation(**DEIT), generator())
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(there_targets.cpu(), targets)
    step = 1.01 / 255 / min(ENTRY.std)  # a grey level may round the other way
    assert ((there.cpu() - here).abs() > step).float().mean() < 0.001


@pytest.mark.parametrize("mixing", [{"mixup": 0.8}, {"cutmix": 1.0}])
def test_targets_of_mixed_images_lack_the_share_without_a_label(mixing):
    """The first and the last image are mixed with each other, as are the others."""
    images, augmentation = torch.rand(4, 3, 8, 8), Augmentation(**mixing)
    all_labels, some = torch.tensor([4, 1, 2, 3]), torch.tensor([4, UNLABELLED, UNLABELLED, UNLABELLED])
    (one, whole), (other, part) = (
        mix(images, labels, 5, augmentation, torch.Generator().manual_seed(2)) for labels in (all_labels, some)
    )
    assert torch.equal(one, other)
    share = whole[0, 4].item()
    assert 0 < share < 1
    expected = torch.zeros(4, 5)
    expected[0, 4], expected[3, 4] = share, 1 - share
    torch.testing.assert_close(part, expected)
