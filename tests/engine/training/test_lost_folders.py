"""A run's folder, or its lock, that somebody removes, renames or replaces while the run trains: it ends in one line.

Nothing is written any more, no half of a run passes for a finished one, and the same command ends as if undisturbed.
"""

import os
import shutil

import pytest
from PIL import Image

from common.lock import LOCK
from engine.records.run_folder import RunFolder
from engine.training import student_run
from tests.engine.training.few import train_few
from tests.helpers import assert_same, at_step, folder_of, folders_of, outcome_of

pytestmark = pytest.mark.runs

EVERY_STEP = ("--checkpoint_seconds", "0")


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The outcome of a run that nothing has disturbed."""
    output = tmp_path_factory.mktemp("alone")
    assert train_few("none", output=output, extra=EVERY_STEP) == 0
    return outcome_of(folder_of(output))


def renamed(folder):
    folder.rename(folder.parents[2] / "elsewhere")


def replaced(folder):
    """By a copy, as a colleague's backup is moved back."""
    shutil.copytree(folder, folder.parents[2] / "copy")
    renamed(folder)
    (folder.parents[2] / "copy").rename(folder)


def lock_linked(folder):
    (folder / LOCK).unlink()
    (folder.parent.parent / "mine").write_text("my notes")
    (folder / LOCK).symlink_to(folder.parent.parent / "mine")


def emptied(folder):
    """By `rm -rf` with all that it had listed before the run wrote anew."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


LOSSES = {
    "removed": shutil.rmtree,
    "removed with all above": lambda folder: shutil.rmtree(folder.parent),
    "renamed": renamed,
    "replaced": replaced,
    "emptied": emptied,
    "lock removed": lambda folder: (folder / LOCK).unlink(),
    "lock linked": lock_linked,
}


def files_below(place):
    return {path: path.read_bytes() for path in sorted(place.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("epoch", "step"), [(1, 0), (2, 3)], ids=["first step", "last step"])
def test_the_run_ends_and_nothing_is_written(loss, epoch, step, alone, tmp_path, monkeypatch, capsys):
    output, seen = tmp_path / "save", {}

    def lose():
        (folder,) = [path.parent for path in output.glob("*/*/config.json")]
        LOSSES[loss](folder)
        seen.update(files_below(output))

    with monkeypatch.context() as patch:
        at_step(patch, epoch, step, lose)
        assert train_few("none", output=output, extra=EVERY_STEP) == 1
    errors = capsys.readouterr().err
    assert errors.startswith("error: ")
    assert len(errors.splitlines()) == 1
    assert files_below(output) == seen
    for folder in folders_of(output):
        if (folder / LOCK).is_symlink():
            assert train_few("none", output=output) == 2
            (folder / LOCK).unlink()
            assert (output / "mine").read_text() == "my notes"
    capsys.readouterr()
    assert train_few("none", output=output) == 0
    assert "already finished" not in capsys.readouterr().out
    assert_same(outcome_of(folder_of(output)), alone)


def test_the_others_of_a_group_go_on(alone, teacher, tmp_path, monkeypatch, capsys):
    def lose():
        shutil.rmtree(folder_of(tmp_path, "kd"))

    with monkeypatch.context() as patch:
        at_step(patch, 1, 2, lose)
        assert train_few("kd", "none", output=tmp_path, teacher=teacher, extra=EVERY_STEP) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert_same(outcome_of(folder_of(tmp_path)), alone)


@pytest.mark.parametrize("kept", ["result.json", "result.json and the weights", "half of it"])
def test_a_result_without_the_rest_is_no_finished_run(kept, alone, tmp_path, capsys):
    """What a removal leaves that had listed the folder before its result was written. Nothing is written over it."""
    assert train_few("none", output=tmp_path) == 0
    folder = folder_of(tmp_path)
    for path in folder.iterdir():
        if path.name != "result.json" and not ("weights" in kept and path.suffix == ".pth") and kept != "half of it":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    if kept == "half of it":
        (folder / "result.json").write_bytes((folder / "result.json").read_bytes()[:50])
    before = files_below(tmp_path)
    capsys.readouterr()
    assert train_few("none", output=tmp_path) == 2
    errors = capsys.readouterr().err
    assert all(word in errors for word in (str(folder / "result.json"), "--overwrite"))
    assert len(errors.splitlines()) <= 2
    assert files_below(tmp_path) == before
    assert train_few("none", output=tmp_path, extra=["--overwrite"]) == 0
    assert_same(outcome_of(folder), alone)


@pytest.mark.parametrize("loss", ["removed", "renamed", "lock removed"])
def test_a_run_that_is_repeated(loss, alone, tmp_path, monkeypatch, capsys):
    """The repetition lies in the folder of the finished run; where that stays, its result does."""
    output = tmp_path / "save"
    assert train_few("none", output=output, extra=EVERY_STEP) == 0
    folder = folder_of(output)
    result = (folder / "result.json").read_bytes()
    with monkeypatch.context() as patch:
        at_step(patch, 2, 1, lambda: LOSSES[loss](folder))
        assert train_few("none", output=output, extra=[*EVERY_STEP, "--overwrite"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
    place = {"renamed": tmp_path / "elsewhere", "lock removed": folder}.get(loss)
    if place is not None:
        assert (place / "result.json").read_bytes() == result
    else:
        assert not folder.exists()
    assert train_few("none", output=output) == 0
    assert_same(outcome_of(folder_of(output)), alone)


def test_a_folder_lost_amid_the_writing_of_its_result(tmp_path):
    run = RunFolder(tmp_path / "run", "resnet8")
    with run.opened():
        run.write_config({})

        def lose(path, result):
            shutil.rmtree(run.path)
            run.path.mkdir()
            path.write_text(result)

        with pytest.raises(Exception, match="run"):
            run._write(lose, run.result, "{}")
    assert list(run.path.iterdir()) == []


def test_a_failure_of_a_lost_run_makes_no_folder(tmp_path, monkeypatch, capsys):
    """Neither its traceback nor its reason are written to where the folder was."""

    def broken(plan, *others):
        shutil.rmtree(folder_of(tmp_path))
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(student_run, "training_loss", broken)
        assert train_few("none", output=tmp_path) == 1
    assert capsys.readouterr().err
    assert folders_of(tmp_path) == []
    assert list((tmp_path / "student_model").iterdir()) == []


def test_a_name_of_many_bytes_is_cut_between_letters(tmp_path):
    """The run's folder has a name of at most 255 bytes, whatever the data set is called."""
    name = "絵" * 60
    for place in ("train/a", "train/b", "val/a", "val/b"):
        folder = tmp_path / "data" / name / place
        folder.mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (8, 8), (number * 60, 0, 0)).save(folder / f"{number}.png")
    small = ("--dataset", f"folder:{name}@8", "--recipe", "repdistiller", "--epochs", "1", "--batch_size", "4")
    small += ("--device", "cpu", "--precision", "fp32", "--data_folder", str(tmp_path / "data"))
    assert train_few("none", output=tmp_path / "save", small=small) == 0
    folder = folder_of(tmp_path / "save")
    assert len(os.fsencode(folder.name)) <= 255
    assert folder.name.isprintable()
