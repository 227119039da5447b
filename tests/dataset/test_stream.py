"""What a run relies on: every sample once an epoch, and each batch a function of (seed, epoch, step) alone."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import RequestError, RunError
from dataset import (
    DATASETS,
    UNLABELLED,
    Augmentation,
    Batch,
    Batching,
    BatchStream,
    WithoutLabels,
    evaluation_batches,
)
from dataset.augment import normalise

ENTRY = DATASETS["digits"]
PLAIN = Augmentation(crop=False, flip=False)
EVERYTHING = Augmentation(rand_augment="rand-m9-mstd0.5-inc1", erasing=0.5, mixup=0.8, cutmix=1.0, mix_probability=0.7)


def samples(size):
    rng = np.random.default_rng(size)
    return rng.integers(0, 256, (size, 8, 8, 3), dtype=np.uint8), rng.integers(0, 10, size)


def stream(size=23, batch_size=4, seed=0, drop_last=False, augmentation=PLAIN, **options):
    batching = Batching(augmentation, batch_size, seed, drop_last, **options)
    return BatchStream(*samples(size), ENTRY, batching, "cpu")


def order_of(batches):
    return torch.cat([batch.index for batch in batches])


sizes = st.integers(1, 60)
small = partial(settings, deadline=None, max_examples=40)


@small()
@given(size=sizes, batch_size=sizes, seed=st.integers(0, 2**40), epoch=st.integers(1, 300))
def test_every_sample_once(size, batch_size, seed, epoch):
    source = stream(size, batch_size, seed)
    batches = list(source.epoch(epoch))
    assert sorted(order_of(batches).tolist()) == list(range(size))
    assert len(batches) == source.steps_per_epoch == -(-size // batch_size)
    assert [batch.step for batch in batches] == list(range(len(batches)))
    assert all(len(batch.index) == batch_size for batch in batches[:-1])
    images, labels = samples(size)
    for batch in batches:
        assert torch.equal(batch.labels, torch.from_numpy(labels)[batch.index])
        expected = torch.from_numpy(images)[batch.index].permute(0, 3, 1, 2)
        assert torch.equal(batch.images, normalise(expected, ENTRY.mean, ENTRY.std))
        assert (batch.epoch, batch.seed, batch.targets) == (epoch, seed, None)


@small()
@given(size=sizes, batch_size=sizes, seed=st.integers(0, 99))
def test_incomplete_batch_is_dropped(size, batch_size, seed):
    if size < batch_size:
        with pytest.raises(RequestError, match="--batch_size"):
            stream(size, batch_size, seed, drop_last=True)
        return
    batches = list(stream(size, batch_size, seed, drop_last=True).epoch(1))
    assert [len(batch.index) for batch in batches] == [batch_size] * (size // batch_size)
    whole = order_of(stream(size, batch_size, seed).epoch(1))
    assert torch.equal(order_of(batches), whole[: len(batches) * batch_size])


def test_order_depends_on_seed_and_epoch_alone():
    orders = {(seed, epoch): order_of(stream(seed=seed).epoch(epoch)) for seed in (0, 1) for epoch in (1, 2, 3)}
    assert len({tuple(order.tolist()) for order in orders.values()}) == 6
    other = stream(batch_size=7, augmentation=EVERYTHING)
    list(other.epoch(1))
    assert torch.equal(order_of(other.epoch(2)), orders[0, 2])


@small(max_examples=15)
@given(size=sizes, batch_size=st.integers(1, 20), epoch=st.integers(1, 9), data=st.data())
def test_starting_in_the_middle_changes_nothing(size, batch_size, epoch, data):
    source = stream(size, batch_size, augmentation=EVERYTHING)
    first = data.draw(st.integers(0, source.steps_per_epoch))
    whole = list(source.epoch(epoch))[first:]
    torch.rand(3)  # the global generator has no say
    rest = list(stream(size, batch_size, augmentation=EVERYTHING).epoch(epoch, first_step=first))
    assert len(rest) == len(whole)
    for ours, theirs in zip(rest, whole, strict=True):
        assert (ours.epoch, ours.step) == (theirs.epoch, theirs.step)
        for name in ("images", "labels", "index"):
            assert torch.equal(getattr(ours, name), getattr(theirs, name))
        assert (ours.targets is None) == (theirs.targets is None)
        assert ours.targets is None or torch.equal(ours.targets, theirs.targets)


def test_generators_of_a_batch():
    first, second = list(stream().epoch(3))[:2]
    draw = torch.rand(4, generator=first.generator("negatives"))
    assert torch.equal(torch.rand(4, generator=first.generator("negatives")), draw)
    assert not torch.equal(torch.rand(4, generator=first.generator("dropout")), draw)
    assert not torch.equal(torch.rand(4, generator=second.generator("negatives")), draw)


def test_views_are_mixed_each_by_itself():
    """How far each view is mixed with its own reverse is seen in its pixels; its targets say the same."""
    mixing = Augmentation(crop=False, flip=False, mixup=1.0, mix_probability=0.5)
    images, kinds = torch.from_numpy(samples(48)[0]).permute(0, 3, 1, 2), set()
    for batch in stream(48, augmentation=mixing, views=2).epoch(1):
        kind, expected = (), []
        for view, index, labels in zip(*(x.split(4) for x in (batch.images, batch.index, batch.labels)), strict=True):
            plain = normalise(images[index], ENTRY.mean, ENTRY.std)
            way = plain - plain.flip(0)
            share = ((view - plain.flip(0)) * way).sum() / way.square().sum()
            own = torch.eye(10)[labels]
            expected.append(share * own + (1 - share) * own.flip(0))
            kind += (not torch.equal(view, plain),)
        kinds.add(kind)
        if any(kind):
            torch.testing.assert_close(batch.targets, torch.cat(expected), rtol=0, atol=1e-5)
        else:
            assert batch.targets is None
    assert kinds == {(False, False), (False, True), (True, False), (True, True)}


def test_the_second_view_is_another_augmentation_of_the_same_images():
    mixing = Augmentation(mixup=0.8)
    one, two = (next(stream(48, 16, augmentation=mixing, views=views).epoch(1)) for views in (1, 2))
    assert torch.equal(two.images[:16], one.images)
    assert not torch.equal(two.images[16:], one.images)
    assert torch.equal(two.labels, one.labels.repeat(2))
    assert torch.equal(two.index, one.index.repeat(2))
    assert torch.equal(two.targets[:16], one.targets)
    assert torch.allclose(two.targets.sum(dim=1), torch.ones(32))
    first = two.first(16)
    assert torch.equal(first.images, one.images)
    assert len(first.targets) == len(first.index) == 16


@pytest.mark.parametrize(
    ("share", "expected"), [(0.3, [4, 1, 2]), (0.7, [0, 3, 2]), (0.5, [0, 3, 2]), (0.0, [4, 1, 2]), (1.0, [0, 3, 2])]
)
def test_the_main_label_is_that_of_the_larger_part(share, expected):
    """Both parts of the third image are of one class; at equal shares the label stays that of the image itself."""
    labels, others = torch.tensor([0, 3, 2]), torch.tensor([4, 1, 2])
    targets = share * torch.eye(5)[labels] + (1 - share) * torch.eye(5)[others]
    batch = Batch(torch.zeros(3, 3, 1, 1), labels, torch.arange(3), targets, 1, 0, 1)
    assert batch.main_labels.tolist() == expected
    assert batch.first(2).main_labels.tolist() == expected[:2]
    assert replace(batch, targets=0.9 * targets + 0.02).main_labels.tolist() == expected  # smoothed labels
    assert replace(batch, targets=None).main_labels is labels


@pytest.mark.parametrize("mixing", [{"mixup": 0.8}, {"cutmix": 1.0}])
def test_main_labels_of_a_stream(mixing):
    """In some batches the image before mixing is the smaller part, and then every label is another's."""
    source, swapped = stream(24, 6, seed=1, drop_last=True, augmentation=Augmentation(**mixing)), 0
    for epoch in range(1, 6):
        for batch in source.epoch(epoch):
            share = [target[label].item() for target, label in zip(batch.targets, batch.labels, strict=True)]
            expected = [
                own.item() if part >= 0.5 or own == mixed else mixed.item()
                for part, own, mixed in zip(share, batch.labels, batch.labels.flip(0), strict=True)
            ]
            assert batch.main_labels.tolist() == expected
            swapped += expected != batch.labels.tolist()
    assert 1 < swapped < 20


def test_memory_formats():
    plain = next(stream().epoch(1)).images
    last = next(stream(channels_last=True).epoch(1)).images
    assert plain.is_contiguous()
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(plain, last)


def test_arrays_are_shared_and_never_changed(tmp_path):
    images, labels = samples(20)
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="c")
    source = BatchStream(mapped, labels, ENTRY, Batching(EVERYTHING, 8, 0, False), "cpu")
    assert source.images.data_ptr() == mapped.ctypes.data
    list(source.epoch(1))
    np.testing.assert_array_equal(mapped, images)
    again = BatchStream(source.images, source.labels, ENTRY, Batching(PLAIN, 8, 0, False), "cpu")
    assert again.images.data_ptr() == source.images.data_ptr()
    images.flags.writeable = False
    BatchStream(images, labels, ENTRY, Batching(PLAIN, 8, 0, False), "cpu")  # copied, without a warning


@pytest.mark.parametrize("batch_size", [0, -3])
def test_impossible_batch_size(batch_size):
    with pytest.raises(RequestError, match="--batch_size"):
        stream(batch_size=batch_size)


def test_evaluation_in_order():
    images, labels = samples(23)
    batches = list(evaluation_batches(images, labels, ENTRY, 10, "cpu"))
    assert [len(part) for _, part in batches] == [10, 10, 3]
    assert torch.cat([part for _, part in batches]).tolist() == labels.tolist()
    expected = normalise(torch.from_numpy(images).permute(0, 3, 1, 2), ENTRY.mean, ENTRY.std)
    assert torch.equal(torch.cat([part for part, _ in batches]), expected)


# --- images without labels -------------------------------------------------------------------------


def half_labelled(size=23, every=2, **options):
    """A stream in which of every so many images one has a label."""
    images, labels = samples(size)
    labels = np.where(np.arange(size) % every == 0, labels, UNLABELLED) if every else np.full(size, UNLABELLED)
    return BatchStream(
        images, labels, ENTRY, Batching(options.pop("augmentation", PLAIN), 4, 0, False, **options), "cpu"
    )


@pytest.mark.parametrize(("every", "labelled"), [(1, "all"), (2, "some"), (0, "no")])
def test_a_batch_says_how_many_images_of_the_set_have_labels(every, labelled):
    for batch in half_labelled(every=every).epoch(1):
        assert batch.labelled == batch.first(2).labelled == labelled
        assert batch.labelled_images == (batch.labels >= 0).sum()


@pytest.mark.parametrize("augmentation", [PLAIN, EVERYTHING])
def test_missing_labels_change_no_image(augmentation):
    whole, half = (half_labelled(every=every, augmentation=augmentation, views=2) for every in (1, 2))
    for one, other in zip(whole.epoch(3), half.epoch(3), strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.index, other.index)
        assert torch.equal(other.labels, torch.where(other.index % 2 == 0, one.labels, UNLABELLED))


def test_the_main_label_is_missing_where_the_largest_share_has_none():
    """Shares of three classes; the rest of each row has no label. At equal shares it is the image's own."""
    rows = [
        (0, [0.7, 0.0, 0.0], 0),
        (0, [0.3, 0.0, 0.0], UNLABELLED),
        (0, [0.5, 0.0, 0.0], 0),
        (UNLABELLED, [0.5, 0.0, 0.0], UNLABELLED),
        (UNLABELLED, [0.0, 0.6, 0.0], 1),
        (2, [0.0, 0.6, 0.4], 1),
        (UNLABELLED, [0.0, 0.0, 0.0], UNLABELLED),
    ]
    labels, targets, main = (list(column) for column in zip(*rows, strict=True))
    images, index = torch.zeros(len(rows), 1), torch.arange(len(rows))
    batch = Batch(images, torch.tensor(labels), index, torch.tensor(targets), 1, 0, 1, "some")
    assert batch.main_labels.tolist() == main
    assert replace(batch, targets=None).main_labels.tolist() == labels


@pytest.mark.parametrize("field", ["labels", "main_labels", "targets"])
def test_a_method_that_must_not_read_labels_is_stopped(field):
    batch = next(iter(half_labelled().epoch(1)))
    guarded = WithoutLabels("mine", batch)
    for seen, size in ((guarded, 4), (guarded.first(2), 2)):
        with pytest.raises(RunError, match=r"mine.*reads_labels"):
            getattr(seen, field)
        assert torch.equal(seen.images, batch.images[:size])
        assert torch.equal(seen.index, batch.index[:size])
        assert (seen.epoch, seen.step) == (batch.epoch, batch.step)
        draws = [torch.rand(3, generator=each.generator("x")) for each in (seen, batch)]
        assert torch.equal(*draws)
