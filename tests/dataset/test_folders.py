"""Folders of photographs: what is found there, how they are cut and scaled, and runs on them."""

import math
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.transforms import functional

import evaluate
import train_student
import train_teacher
from common.errors import RequestError, RunError
from dataset import DATASETS, Augmentation, Batching, BatchStream, digest, evaluation_batches
from dataset.augment import normalise
from dataset.image_files import CROP_AREA, CROP_ASPECT, CROP_ATTEMPTS, ImageFiles, middle, part, random_box
from tests.dataset.photographs import CLASSES, NAME, train
from tests.helpers import ROOT, assert_same, environment, folder_of, outcome_of, read_json, stop_at_step


def stream(folder, batch_size=5, seed=1, augmentation=None, views=1):
    entry = DATASETS.find(NAME, folder)
    data = entry.load(folder)
    batching = Batching(augmentation or Augmentation(), batch_size, seed, drop_last=False, views=views)
    return BatchStream(data.train_images, data.train_labels, entry, batching, "cpu")


# --- what is found -------------------------------------------------------------------------------


def test_what_is_there(pictures):
    entry = DATASETS.find(NAME, pictures)
    assert (entry.name, entry.num_classes, entry.image_size) == (NAME, 3, 16)
    assert (entry.train_size, entry.test_size) == (24, 9)
    data = entry.load(pictures)
    assert data.train_labels.tolist() == [0] * 8 + [1] * 8 + [2] * 8
    paths = [data.test_images.path(row) for row in range(len(data.test_images))]
    assert paths == sorted(pictures.glob("pets/val/*/*"))
    assert DATASETS[NAME] is entry
    assert NAME not in list(DATASETS)  # the list names what needs no folder


def test_the_size_is_224_by_default(pictures):
    assert DATASETS.find("folder:pets", pictures).name == "folder:pets@224"


@pytest.mark.parametrize("name", ["val", "validation", "valid", "test"])
def test_ways_to_call_the_test_set(pictures, name):
    (pictures / "pets/val").rename(pictures / "pets" / name)
    assert DATASETS.find(NAME, pictures).test_size == 9


def test_a_class_may_have_no_test_image(pictures):
    shutil.rmtree(pictures / "pets/val/dogs")
    labels = DATASETS.find(NAME, pictures).load(pictures).test_labels
    assert labels.tolist() == [0] * 3 + [2] * 3


def test_names_that_are_no_text(pictures):
    name = os.fsencode(pictures / "pets/train/cats") + b"/\xff.png"
    shutil.copy(pictures / "pets/train/cats/0.png", name)
    data = DATASETS.find(NAME, pictures).load(pictures)
    assert os.fsencode(data.train_images.path(8)) == name
    assert data.train_images.decode(8).size == data.train_images.decode(0).size


@pytest.mark.parametrize(
    ("name", "spoil", "named"),
    [
        ("folder:lions", lambda pets: None, "lions/train"),
        ("folder:pets", lambda pets: shutil.rmtree(pets / "train"), "pets/train"),
        ("folder:pets", lambda pets: (pets / "val/fish").mkdir(), "val/fish"),
        ("folder:pets", lambda pets: (pets / "train/apes").mkdir(), "train/apes"),
        ("folder:pets", lambda pets: [shutil.rmtree(pets / "train" / name) for name in CLASSES[1:]], "pets/train"),
        ("folder:pets", lambda pets: [shutil.rmtree(pets / "val" / name) for name in CLASSES], "pets/val"),
        ("folder:pets@0", lambda pets: None, "pets@0"),
        ("folder:pets@big", lambda pets: None, "pets@big"),
        ("folder:pets@", lambda pets: None, "pets@"),
        ("folder:", lambda pets: None, "--data_folder"),
        ("folder:../data/pets", lambda pets: None, "--data_folder"),
        ("folders:pets", lambda pets: None, "folders:pets"),
    ],
)
def test_a_wrong_name_or_folder_is_refused(pictures, name, spoil, named):
    spoil(pictures / "pets")
    with pytest.raises(RequestError) as refusal:
        DATASETS.find(name, pictures)
    assert named in str(refusal.value)


def test_hidden_names_and_what_is_no_file_are_passed_over(pictures):
    before = digest(DATASETS.find(NAME, pictures).load(pictures))
    cats = pictures / "pets/train/cats"
    (cats / "._0.png").write_bytes(b"of macOS")
    (cats / "9.jpg").mkdir()
    os.mkfifo(cats / "pipe.png")
    (cats / "notes").symlink_to("nowhere")
    for folder in (cats, cats.parent, pictures / "pets/val"):
        shutil.copytree(pictures / "pets/val/dogs", folder / ".ipynb_checkpoints")
    assert digest(DATASETS.find(NAME, pictures).load(pictures)) == before


def test_what_is_passed_over_is_counted_by_ending(pictures):
    cats = pictures / "pets/train/cats"
    for name in ("a.heic", "b.HEIC", "c.avif", "no_ending", ".DS_Store", "Thumbs.db", "d.jpg.part"):
        (cats / name).write_bytes(b"")
    shutil.copytree(cats, pictures / "pets/train/__MACOSX")
    os.mkfifo(cats / "pipe.png")
    shutil.copy(cats / "0.png", pictures / "pets/train/loose.png")
    shutil.rmtree(pictures / "pets/val/dogs")
    entry = DATASETS.find(NAME, pictures)
    assert entry.train_size == 24
    passed, loose, untested = entry.notes
    for word in ("2 .heic", "1 .avif", "2 hidden", "2 kinds more"):
        assert word in passed, passed
    assert "1 image" in loose
    assert "dogs" in untested


@pytest.mark.parametrize("name", ["x.JPG", "x.jfif", "x.Jpe", "x.apng", "x.PBM", "x.TIFF", "ä b.webp", "x.y.png"])
def test_endings_of_listed_formats_are_taken(pictures, name):
    shutil.copy(pictures / "pets/train/cats/0.png", pictures / "pets/train/cats" / name)
    assert DATASETS.find(NAME, pictures).train_size == 25


LOOK_ALIKE = [("cats", "Cats"), ("caf\u00e9", "cafe\u0301"), ("STRASSE", "stra\u00dfe")]


@pytest.mark.parametrize(("name", "other"), LOOK_ALIKE)
def test_classes_whose_names_look_alike(pictures, name, other):
    """Two classes where both are in the training set; refused where one of them is the test set's."""
    train_part, test_part = pictures / "pets/train", pictures / "pets/val"
    for place, new in ((train_part, name), (train_part, other)):
        if not (place / new).exists():
            shutil.copytree(place / "dogs", place / new)
    assert any(ascii(name) in note and ascii(other) in note for note in DATASETS.find(NAME, pictures).notes)
    shutil.rmtree(train_part / other)
    shutil.copytree(test_part / "dogs", test_part / other)
    with pytest.raises(RequestError) as refusal:
        DATASETS.find(NAME, pictures)
    assert ascii(name) in str(refusal.value)
    assert ascii(other) in str(refusal.value)


@pytest.mark.slow
def test_folders_in_folders_without_end(pictures):
    folders = [pictures / "pets/train/cats/d"]
    for _ in range(1100):  # more than Python calls itself
        folders.append(folders[-1] / "d")
    for folder in folders:
        folder.mkdir()
    assert DATASETS.find(NAME, pictures).train_size == 24
    for folder in reversed(folders):  # which pytest could not
        folder.rmdir()


def test_sub_folders_are_walked_as_torchvision_does(pictures):
    """Nested, through links to folders and files, with names that sort otherwise as paths than as lists of names."""
    cats, dogs = (pictures / "pets/train" / name for name in CLASSES[:2])
    for place in ("images/a", "images/a-b", "images/a/c", "0.png.d"):
        shutil.copytree(pictures / "pets/val/cats", cats / place)
    shutil.move(dogs, pictures / "elsewhere")
    dogs.mkdir()
    (dogs / "images").symlink_to(pictures / "elsewhere")
    (dogs / "0.png").symlink_to(cats / "0.png")
    data = DATASETS.find(NAME, pictures).load(pictures)
    expected = ImageFolder(pictures / "pets/train").samples
    assert len(expected) == 24 + 4 * 3 + 1
    found = [str(data.train_images.path(row)) for row in range(len(data.train_images))]
    assert list(zip(found, data.train_labels.tolist(), strict=True)) == expected
    assert np.asarray(data.train_images.decode(len(found) - 1)).shape[2] == 3


@pytest.mark.parametrize(
    ("name", "target", "named"),
    [
        ("dead.png", "nowhere.png", "cats/dead.png"),
        ("ring.png", "ring.png", "cats/ring.png"),
        ("up", "..", "train/cats/up/cats"),
        ("here", ".", "train/cats/here"),
    ],
)
def test_links_that_lead_nowhere_or_back(pictures, name, target, named):
    (pictures / "pets/train/cats" / name).symlink_to(target)
    with pytest.raises(RequestError) as refusal:
        DATASETS.find(NAME, pictures)
    assert named in str(refusal.value)


def test_a_file_that_went_away_is_named(pictures):
    data = DATASETS.find(NAME, pictures).load(pictures)
    (pictures / "pets/train/eels/3.png").unlink()
    with pytest.raises(RequestError, match=r"train/eels/3\.png"):
        digest(data)


def test_other_files_are_other_data(pictures):
    def identity():
        return digest(DATASETS.find(NAME, pictures).load(pictures))

    before = identity()
    assert identity() == before
    (pictures / "pets/train/eels/0.png").rename(pictures / "pets/train/eels/9.png")
    renamed = identity()
    with (pictures / "pets/val/eels/0.png").open("ab") as file:
        file.write(b" ")
    assert len({before, renamed, identity()}) == 3


# --- pixels --------------------------------------------------------------------------------------

SIDES = st.integers(1, 500)
NUMBERS = st.floats(0, 1, exclude_max=True, allow_subnormal=False)
ATTEMPTS = st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS), max_size=CROP_ATTEMPTS)


@given(SIDES, SIDES, ATTEMPTS)
def test_a_box_lies_within_the_image(width, height, draws):
    left, top, right, bottom = random_box(width, height, draws)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height


@given(st.integers(50, 500), st.integers(50, 500), NUMBERS, NUMBERS, NUMBERS, NUMBERS)
def test_a_box_that_fits_has_the_drawn_area_and_aspect(width, height, area, aspect, across, down):
    draw = (area, aspect, across, down)
    share = CROP_AREA[0] + (CROP_AREA[1] - CROP_AREA[0]) * area
    ratio = CROP_ASPECT[0] * (CROP_ASPECT[1] / CROP_ASPECT[0]) ** aspect
    wide, tall = math.sqrt(share * width * height * ratio), math.sqrt(share * width * height / ratio)
    box = random_box(width, height, [draw])
    if wide > width + 0.5 or tall > height + 0.5:
        assert box == random_box(width, height, [])
    elif wide < width - 0.5 and tall < height - 0.5:
        assert (box[2] - box[0], box[3] - box[1]) == pytest.approx((wide, tall), abs=0.51)
        assert (box[0], box[1]) == pytest.approx((across * (width - wide), down * (height - tall)), abs=2)


@given(SIDES, SIDES)
def test_where_none_fits_it_is_torchvisions_middle(width, height):
    """Its own choice after ten attempts, with an area that never fits."""
    top, left, tall, wide = transforms.RandomResizedCrop.get_params(
        torch.empty(3, height, width), scale=(4.0, 4.0), ratio=CROP_ASPECT
    )
    assert random_box(width, height, []) == (left, top, left + wide, top + tall)


def test_boxes_are_spread_as_torchvisions_are():
    """Mean area, aspect and place of 4,000 boxes of each, within four standard errors."""
    width, height, count = 60, 40, 4000
    draws = torch.rand((count, CROP_ATTEMPTS, 4), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ours = np.array([random_box(width, height, draw) for draw in draws.tolist()], dtype=float)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        picture = torch.empty(3, height, width)
        theirs = [
            transforms.RandomResizedCrop.get_params(picture, list(CROP_AREA), list(CROP_ASPECT)) for _ in range(count)
        ]
    theirs = np.array([(left, top, left + wide, top + tall) for top, left, tall, wide in theirs], dtype=float)

    def features(box):
        left, top, right, bottom = box.T
        wide, tall = right - left, bottom - top
        return np.stack([wide * tall, np.log(wide / tall), (left + right) / 2, (top + bottom) / 2, wide, tall])

    mine, reference = features(ours), features(theirs)
    error = np.sqrt((mine.var(axis=1) + reference.var(axis=1)) / count)
    assert (np.abs(mine.mean(axis=1) - reference.mean(axis=1)) < 4 * error).all()


def test_testing_is_torchvisions_transform(pictures):
    """Resize to size/0.875, the square in the middle, in the order of the files, normalised."""
    entry = DATASETS.find("folder:pets@28", pictures)
    data = entry.load(pictures)
    resize = transforms.Resize(32, transforms.InterpolationMode.BICUBIC)
    usual = transforms.Compose([resize, transforms.CenterCrop(28), transforms.ToTensor()])
    paths = sorted(pictures.glob("pets/val/*/*"))
    expected = torch.stack([usual(Image.open(path).convert("RGB")) for path in paths])
    batches = list(evaluation_batches(data.test_images, data.test_labels, entry, 4, "cpu"))
    assert [len(images) for images, _ in batches] == [4, 4, 1]
    assert torch.equal(torch.cat([labels for _, labels in batches]), torch.from_numpy(data.test_labels))
    found = torch.cat([images for images, _ in batches])
    mean, std = torch.tensor(entry.mean)[:, None, None], torch.tensor(entry.std)[:, None, None]
    torch.testing.assert_close(found, (expected - mean) / std, rtol=0, atol=1e-5)


@given(SIDES, SIDES, st.integers(1, 64), st.randoms(use_true_random=False))
def test_both_ways_are_torchvisions_for_any_shape(width, height, size, random):
    """Of a shape whose longer side is at most twenty times the shorter one."""
    width, height = min(width, 20 * height), min(height, 20 * width)
    noise = np.random.default_rng(random.randrange(2**32)).integers(0, 256, (height, width, 3), dtype=np.uint8)
    picture, bicubic = Image.fromarray(noise), transforms.InterpolationMode.BICUBIC
    resized = functional.resize(picture, round(size / 0.875), bicubic)
    assert middle(picture, size).tobytes() == functional.center_crop(resized, size).tobytes()
    draws = [[random.random() for _ in range(4)] for _ in range(3)]
    left, top, right, bottom = random_box(width, height, draws)
    cut = functional.resized_crop(picture, top, left, bottom - top, right - left, [size, size], bicubic)
    assert part(picture, size, draws).tobytes() == cut.tobytes()


def test_a_part_is_cut_out_before_it_is_scaled():
    """No pixel beside the box shows in it."""
    picture = np.zeros((40, 60, 3), dtype=np.uint8)
    draw = (0.2, 0.3, 0.6, 0.7)
    left, top, right, bottom = random_box(60, 40, [draw])
    picture[top:bottom, left:right] = 200
    assert (np.asarray(part(Image.fromarray(picture), 16, [draw])) == 200).all()
    assert np.asarray(middle(Image.fromarray(picture), 16)).shape == (16, 16, 3)


def test_a_thin_image_fills_no_memory():
    """Scaled whole, its shorter side to 256, it would have 2.6 million lines; what is seen is the middle."""
    values = np.zeros((10_000, 1, 3), dtype=np.uint8)
    values[4_900:5_100] = 200
    seen = np.asarray(middle(Image.fromarray(values), 224))
    assert seen.shape == (224, 224, 3)
    assert (seen == 200).all()


def test_grey_and_transparent_pictures_become_rgb(pictures):
    grey = Image.fromarray(np.full((30, 30), 90, dtype=np.uint8))
    grey.save(pictures / "pets/val/cats/0.png")
    Image.merge("LA", [grey, grey]).save(pictures / "pets/val/cats/3.png")
    data = DATASETS.find(NAME, pictures).load(pictures)
    for row in (0, 3):
        assert (np.asarray(middle(data.test_images.decode(row), 16)) == 90).all()


def decode(path):
    return ImageFiles(path.parent, np.array([os.fsencode(path.name)]), 16).decode(0)


RAMP = np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32)


@pytest.mark.parametrize(
    ("name", "mode", "values"),
    [
        ("x.png", "I;16", RAMP),
        ("x.tif", "I;16", RAMP),
        ("x.tif", "I;16B", RAMP.byteswap()),
        ("x.pgm", "I", RAMP.astype(np.int32)),
    ],
)
def test_of_16_bits_the_upper_8_are_seen(tmp_path, name, mode, values):
    path = tmp_path / name
    Image.frombytes(mode, (32, 32), values.tobytes()).save(path)
    assert Image.open(path).mode == mode
    assert np.array_equal(np.asarray(decode(path)), np.repeat((RAMP // 256)[..., None], 3, axis=-1))


@pytest.mark.parametrize(
    ("name", "mode", "values"),
    [("x.tif", "I", RAMP.astype(np.int32)), ("x.tiff", "F", RAMP.astype(np.float32))],
)
def test_values_of_unknown_range_are_refused(tmp_path, name, mode, values):
    path = tmp_path / name
    Image.fromarray(values).save(path)
    assert Image.open(path).mode == mode
    with pytest.raises(RunError, match=rf"{name} .*mode {mode}\b"):
        decode(path)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_other_modes_are_converted_as_pillow_does(tmp_path, mode):
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    noise = np.random.default_rng(0).integers(0, 256, (20, 20, 4), dtype=np.uint8)
    saved = Image.fromarray(noise).convert("RGB").convert(mode)
    saved.save(path)
    assert Image.open(path).mode == mode
    assert decode(path).tobytes() == saved.convert("RGB").tobytes()


# --- batches -------------------------------------------------------------------------------------


def test_every_image_once_an_epoch_with_its_label(pictures):
    source = stream(pictures)
    batches = list(source.epoch(1))
    assert sorted(torch.cat([batch.index for batch in batches]).tolist()) == list(range(24))
    assert [len(batch.index) for batch in batches] == [5, 5, 5, 5, 4]
    for batch in batches:
        assert batch.images.shape[1:] == (3, 16, 16)
        assert batch.images.mean(dim=(2, 3)).argmax(dim=1).tolist() == batch.labels.tolist()  # red, green, blue
        assert torch.equal(batch.labels, source.labels[batch.index])


def test_batches_are_functions_of_seed_epoch_and_step(pictures):
    whole, again = list(stream(pictures).epoch(3)), list(stream(pictures).epoch(3, first_step=2))
    assert [batch.step for batch in again] == [2, 3, 4]
    for one, other in zip(whole[2:], again, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.index, other.index)
    for other in (stream(pictures).epoch(4), stream(pictures, seed=2).epoch(3)):
        assert not torch.equal(next(other).images, whole[0].images)


def test_the_first_view_is_that_of_a_stream_with_one(pictures):
    one, two = next(stream(pictures).epoch(1)), next(stream(pictures, views=2).epoch(1))
    first, second = two.images.chunk(2)
    assert torch.equal(first, one.images)
    assert not torch.equal(second, first)


def test_without_crop_the_middle_is_seen(pictures):
    plain = Augmentation(crop=False, flip=False)
    batch = next(stream(pictures, augmentation=plain, views=2).epoch(1))
    data = DATASETS[NAME].load(pictures)
    squares = np.stack([middle(data.train_images.decode(row), 16) for row in batch.index[:5].tolist()])
    expected = normalise(torch.from_numpy(squares).permute(0, 3, 1, 2), DATASETS[NAME].mean, DATASETS[NAME].std)
    assert torch.equal(batch.images, torch.cat([expected, expected]))


def test_a_batch_of_its_parts_by_hand(pictures):
    """Crops as `part` makes them of the drawn numbers, then the augmentation that every data set has."""
    from common.seeds import make_generator
    from dataset.augment import augment

    source = stream(pictures, augmentation=Augmentation(erasing=0.5))
    batch = list(source.epoch(2))[1]
    draws = torch.rand(
        (5, CROP_ATTEMPTS, 4), generator=make_generator(1, "resized crop", 2, 1, 0), dtype=torch.float64
    ).tolist()
    images = [source.images.decode(row) for row in batch.index.tolist()]
    pixels = torch.from_numpy(np.stack([part(image, 16, draw) for image, draw in zip(images, draws, strict=True)]))
    generator = make_generator(1, "augment", 2, 1)
    expected, _ = augment(pixels, batch.labels, source.entry, source.batching.augmentation, generator)
    assert torch.equal(batch.images, expected)


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_a_file_that_is_no_picture_is_named(pictures, content):
    (pictures / "pets/train/dogs/4.jpg").write_bytes(content)
    with pytest.raises(RunError, match=r"train/dogs/4\.jpg"):
        list(stream(pictures).epoch(1))


# --- runs ----------------------------------------------------------------------------------------


@pytest.mark.runs
def test_a_run_is_stopped_continued_and_measured(pictures, tmp_path, monkeypatch, capsys):
    assert train(pictures, tmp_path / "whole") == 0
    with monkeypatch.context() as patch:
        stop_at_step(patch, 2, 2)
        assert train(pictures, tmp_path / "cut") == 130
    assert train(pictures, tmp_path / "cut") == 0
    capsys.readouterr()
    whole, cut = folder_of(tmp_path / "whole"), folder_of(tmp_path / "cut")
    assert_same(outcome_of(whole), outcome_of(cut))
    assert whole.name.startswith("S_resnet8_T_none_folder_pets_16_none_")
    config = read_json(whole / "config.json")
    assert (config["dataset"], config["num_classes"], config["image_size"]) == (NAME, 3, 16)
    words = ["--path", str(whole / "resnet8_last.pth"), "--dataset", NAME, "--data_folder", str(pictures), "--json"]
    assert evaluate.main(words) == 0
    printed = capsys.readouterr().out.splitlines()[-1]
    assert f'"top1": {read_json(whole / "result.json")["last"]["top1"]}' in printed


@pytest.mark.runs
def test_a_teacher_trained_there_teaches_there(pictures, tmp_path, capsys):
    shared = ["--dataset", NAME, "--data_folder", str(pictures), "--epochs", "1", "--batch_size", "12"]
    shared += ["--output", str(tmp_path), "--device", "cpu"]
    assert train_teacher.main(["--model", "resnet8", *shared]) == 0
    words = ["--distill", "kd", "mlkd", "nd", "--model_t", "resnet8", "--model_s", "resnet8", "--validation", "6"]
    assert train_student.main([*words, *shared]) == 0
    assert capsys.readouterr().err == ""
    for method in ("kd", "mlkd", "nd"):  # with one view, with two, with a look at all images first
        assert read_json(folder_of(tmp_path, method) / "result.json")["by_validation"]["epoch"] == 1


@pytest.mark.runs
def test_ctrl_c_saves_and_leaves_no_process(pictures, tmp_path):
    """As a terminal sends it: to the script and to the processes that decode for it."""
    words = ["--distill", "none", "--model_s", "resnet8", "--dataset", NAME, "--data_folder", pictures]
    words += ["--epochs", 10_000, "--batch_size", 6, "--output", tmp_path, "--recipe", "repdistiller"]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "train_student.py"), *map(str, words)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(), start_new_session=True,
    )  # fmt: skip
    seen = ""
    while "epoch 3/" not in seen:
        seen = process.stdout.readline()
        assert seen, process.stderr.read()
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.1)
    else:
        raise AssertionError("some process is still there")
    assert (folder_of(tmp_path) / "checkpoint.pth").is_file()
