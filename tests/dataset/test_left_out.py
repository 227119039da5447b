"""Damaged images in runs: refused, left out and recorded, and what a stopped run does after the advice was followed."""

import os
import signal

import numpy as np
import pytest

import evaluate
from common.errors import DataError
from dataset import DATASETS, LeftOut, evaluation_batches, load_arrays
from dataset import image_workers as workers
from dataset.left_out import printable
from tests.dataset.photographs import NAME, train
from tests.helpers import assert_same, at_step, folder_of, load, outcome_of, read_json, read_metrics


def spoil(path):
    """Damage an image where neither its header nor its end shows it; its size stays."""
    content = path.read_bytes()
    path.write_bytes(content[:100] + b"damage" + content[106:])


@pytest.mark.parametrize("name", ["a b.png", "straße.png", "鳥.png"])
def test_plain_names_are_printed_as_they_are(name):
    assert printable(name) == name


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31m", os.fsdecode(b"\xff.png"), "\u202e"])
def test_names_that_no_terminal_shows_are_escaped(name):
    assert printable(name).isascii()
    assert printable(name).isprintable()


def test_the_next_of_the_class_takes_the_place(pictures):
    DATASETS.find(NAME, pictures)
    left_out = LeftOut(allowed=True)
    files = load_arrays(NAME, pictures, left_out).train_images
    for row in (8, 15, 16):  # the first and the last dog, the first eel
        files.path(row).write_bytes(b"")
    for row, other in ((8, 9), (15, 14), (16, 17), (0, 0)):
        failed = {}
        assert files.decode_in_place(row, failed).tobytes() == files.decode(other).tobytes()
        assert list(failed) == ([] if row == other else [files.label(row)])
    own = files[[*range(8, 16)]]  # a part, such as one held out, takes from itself
    assert own.left_out is left_out
    assert own.decode_in_place(7, {}).tobytes() == files.decode(14).tobytes()


def test_where_the_folder_is_lost_the_command_ends(pictures):
    DATASETS.find(NAME, pictures)
    files = load_arrays(NAME, pictures, LeftOut(allowed=True)).test_images
    for path in (pictures / "pets/val/cats").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="val/cats/0"):
        list(evaluation_batches(files, np.zeros(9, dtype=np.int64), DATASETS[NAME], 4, "cpu"))


# --- runs ----------------------------------------------------------------------------------------


@pytest.mark.runs
def test_found_before_training(pictures, tmp_path, capsys):
    (pictures / "pets/train/cats/0.png").write_bytes(b"")
    (pictures / "pets/val/dogs/2.jpg").write_bytes(b"text")
    names = ["train/cats/0.png", "val/dogs/2.jpg"]
    assert train(pictures, tmp_path) == 2
    message = capsys.readouterr().err
    assert all(word in message for word in (*names, "--skip_bad_images"))
    assert train(pictures, tmp_path, "--skip_bad_images") == 0
    folder, (out, err) = folder_of(tmp_path), capsys.readouterr()
    assert all(name in err for name in names)
    assert ".txt" in out  # what was passed over
    assert list(read_json(folder / "config.json")["left_out"]) == names
    assert read_json(folder / "result.json")["left_out"] == {"images": 2, "files": names}
    assert [record.get("left_out") for record in read_metrics(folder)] == [names, None]
    words = ["--path", str(folder / "resnet8_last.pth"), "--dataset", NAME, "--data_folder", str(pictures)]
    assert evaluate.main(words) == 1
    assert evaluate.main([*words, "--skip_bad_images"]) == 0
    assert train(pictures, tmp_path) == 0  # it is finished


def damaged_at(monkeypatch, path, *position):
    """Damage an image in the middle of a run; the images of later epochs are decoded after that."""
    at_step(monkeypatch, *position, lambda: spoil(path))


@pytest.mark.runs
@pytest.mark.parametrize("part", ["train", "val"])
def test_met_in_training(pictures, tmp_path, monkeypatch, capsys, part):
    """State is saved; put back, the run goes on to its own end; with the flag it goes on without the image."""
    path = pictures / "pets" / part / "cats/0.png"
    content = path.read_bytes()
    assert train(pictures, tmp_path / "whole") == 0
    for advice in ("put back", "left out"):
        output = tmp_path / advice
        with monkeypatch.context() as patch:
            damaged_at(patch, path, 1, 3)
            assert train(pictures, output) == 1
        error = capsys.readouterr().err
        assert all(word in error for word in (f"{part}/cats/0.png", "--skip_bad_images"))
        assert "Traceback" not in error
        folder = folder_of(output)
        assert load(folder / "checkpoint.pth")["position"][0] in (1, 2)
        assert not (folder / "failure.json").exists()
        if advice == "put back":
            path.write_bytes(content)
            assert train(pictures, output) == 0
            assert_same(outcome_of(folder), outcome_of(folder_of(tmp_path / "whole")))
        else:
            assert train(pictures, output, "--skip_bad_images") == 0
            assert read_json(folder / "result.json")["left_out"]["files"] == [f"{part}/cats/0.png"]
            path.write_bytes(content)


@pytest.mark.runs
def test_a_run_that_may_leave_images_out_goes_on(pictures, tmp_path, monkeypatch, capsys):
    path = pictures / "pets/train/cats/0.png"
    damaged_at(monkeypatch, path, 1, 3)
    assert train(pictures, tmp_path, "--skip_bad_images") == 0
    assert "train/cats/0.png" in capsys.readouterr().err
    assert read_json(folder_of(tmp_path) / "result.json")["left_out"]["images"] == 1


@pytest.mark.runs
def test_a_file_that_is_gone_for_good(pictures, tmp_path, monkeypatch, capsys):
    path = pictures / "pets/train/cats/0.png"
    content = path.read_bytes()
    with monkeypatch.context() as patch:
        at_step(patch, 1, 3, path.unlink)
        assert train(pictures, tmp_path) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert train(pictures, tmp_path) == 2
    assert "--overwrite" in capsys.readouterr().err
    path.write_bytes(content)
    assert train(pictures, tmp_path) == 0


@pytest.mark.runs
def test_a_worker_that_is_killed_loses_no_step(pictures, tmp_path, monkeypatch, capsys):
    def killed(work, number):
        if number == 3 and work.seeds is not None:  # of training, not of testing
            os.kill(os.getpid(), signal.SIGKILL)
        return original(work, number)

    monkeypatch.setattr(workers, "LOOK_SECONDS", 0.5)
    assert train(pictures, tmp_path / "whole") == 0
    original = workers._Batches.__getitem__
    with monkeypatch.context() as patch:
        patch.setattr(workers._Batches, "__getitem__", killed)
        assert train(pictures, tmp_path / "cut") == 1
    error, folder = capsys.readouterr().err, folder_of(tmp_path / "cut")
    assert "SIGKILL" in error
    assert "Traceback" not in error
    epoch, step = load(folder / "checkpoint.pth")["position"]
    assert epoch == 1
    assert 1 <= step <= 3  # what the dead worker had ready is lost with it
    assert train(pictures, tmp_path / "cut") == 0
    assert_same(outcome_of(folder), outcome_of(folder_of(tmp_path / "whole")))
