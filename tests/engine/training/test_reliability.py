"""What disks, clocks, neighbours and numbers do to a run: it goes on exactly, or says what is wrong, and never lies."""

import contextlib
import hashlib
import json
import math
import os
import pickle
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.errors import RequestError
from common.lock import LOCK, sole_user_of
from dataset import DATASETS, Arrays
from dataset.arrays import all_there, array_paths, read_arrays, write_arrays
from dataset.cifar import CIFAR100, load_cifar, raw_digest
from dataset.registry import register_dataset
from distiller_zoo import METHODS, Method, Weights, register_method
from engine.checkpoints.read_checkpoint import read_checkpoint
from engine.checkpoints.weights import write_torch
from engine.records.run_folder import RunFolder
from engine.training.student_run import StudentRun
from tests.engine.training.crash_run import the_server
from tests.engine.training.few import SMALL, TEST_SIZE, TRAIN_SIZE, TWO_STEPS, few_digits, train_few
from tests.helpers import (
    ROOT,
    arguments,
    assert_same,
    at_step,
    environment,
    folder_of,
    load,
    outcome_of,
    read_json,
    read_metrics,
    save_network,
    stop_at_step,
)

pytestmark = pytest.mark.runs

INTERRUPTED = 130
EVERY_STEP = ("--checkpoint_seconds", "0")


@pytest.fixture(scope="module")
def server():
    return the_server()


@pytest.fixture(scope="module")
def alone(teacher, tmp_path_factory):
    """The outcome of `crd`, with its memory, that nothing has disturbed; it trains on four batches twice."""
    output = tmp_path_factory.mktemp("alone")
    assert run(output, teacher) == 0
    return outcome_of(folder_of(output))


def run(output, teacher, *extra, method="crd"):
    return train_few(method, output=output, teacher=teacher, extra=[*EVERY_STEP, *extra])


@pytest.fixture(scope="module")
def cut(teacher, tmp_path_factory):
    """An output root where that run was stopped in its second epoch, after two checkpoints of it."""
    output = tmp_path_factory.mktemp("cut")
    with pytest.MonkeyPatch.context() as patch:
        stop_at_step(patch, 2, 1)
        assert run(output, teacher) == INTERRUPTED
    folder = folder_of(output)
    assert [load(path)["position"] for path in RunFolder(folder, "resnet8").checkpoints()] == [[2, 2], [2, 1]]
    return output


@pytest.fixture
def unfinished(cut, tmp_path):
    """A copy of it that may be changed, and the folder of its run."""
    output = tmp_path / "unfinished"
    shutil.copytree(cut, output)
    return output, folder_of(output)


def state_of(folder):
    """All files below a folder, to the byte."""
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def error_of(capsys, lines=2):
    """The one error on stderr, of so many lines at most."""
    text = capsys.readouterr().err
    assert text.startswith("error: ")
    assert 1 <= len(text.splitlines()) <= lines, text
    return text


# --- damaged checkpoints -----------------------------------------------------------------------------


def flip(content, bit):
    """The same bytes, but for one bit."""
    return content[: bit // 8] + bytes([content[bit // 8] ^ 1 << bit % 8]) + content[bit // 8 + 1 :]


def zero_page(content):
    middle = len(content) // 2
    return content[:middle] + bytes(4096) + content[middle + 4096 :]


DAMAGES = {
    "cut in the middle": lambda content: content[: len(content) // 2],
    "cut by a byte": lambda content: content[:-1],
    "a bit in the middle": lambda content: flip(content, 4 * len(content)),
    "a bit of the first tensor": lambda content: flip(content, 8 * content.index(b"/data/0") + 8 * 300),
    "a page of zeros": zero_page,
    "zeros": lambda content: bytes(len(content)),
    "empty": lambda content: b"",
    "a text": lambda content: b"no checkpoint\n",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_gives_way_to_the_one_before_it(damage, unfinished, teacher, alone, capsys):
    output, folder = unfinished
    path = folder / "checkpoint.pth"
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    capsys.readouterr()
    assert run(output, teacher) == 0
    out, errors = capsys.readouterr()
    assert errors.startswith("warning: ")
    assert str(path) in errors
    assert len(errors.splitlines()) == 1
    assert "epoch 2, step 1" in out
    assert_same(outcome_of(folder), alone)


@pytest.mark.parametrize("former", ["zeros", None])
def test_where_no_checkpoint_is_good_the_run_is_refused(former, unfinished, teacher, alone, capsys):
    output, folder = unfinished
    for name, damage in (("checkpoint.pth", "a bit in the middle"), ("checkpoint_former.pth", former)):
        path = folder / name
        if damage is None:
            path.unlink()
        else:
            path.write_bytes(DAMAGES[damage](path.read_bytes()))
    before = state_of(folder)
    capsys.readouterr()
    assert run(output, teacher) == 2
    errors = error_of(capsys)
    assert str(folder / "checkpoint.pth") in errors
    assert "--overwrite" in errors
    assert state_of(folder) == before
    assert run(output, teacher, "--overwrite") == 0
    assert_same(outcome_of(folder), alone)


def test_killed_between_the_two_renames(unfinished, teacher, alone, capsys):
    """The former checkpoint is all there is; nothing is wrong with that."""
    output, folder = unfinished
    (folder / "checkpoint.pth").replace(folder / "checkpoint_former.pth")
    capsys.readouterr()
    assert run(output, teacher) == 0
    out, errors = capsys.readouterr()
    assert errors == ""
    assert "epoch 2, step 2" in out
    assert_same(outcome_of(folder), alone)


def test_a_damaged_former_checkpoint_is_not_even_looked_at(unfinished, teacher, alone, capsys):
    output, folder = unfinished
    (folder / "checkpoint_former.pth").write_bytes(b"")
    capsys.readouterr()
    assert run(output, teacher) == 0
    assert capsys.readouterr().err == ""
    assert_same(outcome_of(folder), alone)


def test_a_damaged_checkpoint_does_not_push_out_the_good_one(unfinished, teacher, alone, server):
    """Killed when the first checkpoint is saved after a damaged one: what the run went on from is still there."""
    output, folder = unfinished
    path = folder / "checkpoint.pth"
    path.write_bytes(DAMAGES["zeros"](path.read_bytes()))
    whole = shutil.copytree(output, output.parent / "whole")
    argv = arguments("crd", output=whole, teacher=teacher, small=SMALL, extra=EVERY_STEP)
    ((code, moments),) = server.run(argv)
    assert code == 0
    at = next(n for n, moment in enumerate(moments) if re.fullmatch(r"before replace \.checkpoint.* \S+", moment))
    argv[argv.index(str(whole))] = str(output)
    ((code, _),) = server.run(argv, at=at)
    assert code == -signal.SIGKILL
    ((code, _),) = server.run(argv)
    assert code == 0, server.words()
    assert_same(outcome_of(folder), alone)


# Like a checkpoint, but small, so that a flip hits each of its parts often.
CONTENT = {
    "format": 1,
    "run_id": "0a1b2c3d",
    "position": [3, 7],
    "student": {"weight": torch.linspace(-1, 1, 12).view(4, 3), "count": torch.tensor(9)},
    "meters": {"names": ["loss"], "sums": torch.tensor([2.5], dtype=torch.float64), "seconds": 1.5},
    "history": [{"epoch": 1, "train": {"loss": 0.75}}],
}


def assert_refused_or_the_same(path, content, expected):
    path.write_bytes(content)
    with contextlib.suppress(RequestError):
        assert_same(read_checkpoint(path), expected)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True))
def test_a_flipped_bit_of_a_checkpoint_is_seen_or_harmless(place, tmp_path):
    path = tmp_path / "checkpoint.pth"
    write_torch(path, CONTENT)
    content = path.read_bytes()
    assert_refused_or_the_same(path, flip(content, int(place * 8 * len(content))), CONTENT)


@pytest.mark.slow
def test_any_flipped_bit_of_a_checkpoint_is_seen_or_harmless(tmp_path):
    path = tmp_path / "checkpoint.pth"
    write_torch(path, CONTENT)
    content = path.read_bytes()
    for bit in range(8 * len(content)):
        assert_refused_or_the_same(path, flip(content, bit), CONTENT)


def test_a_flipped_bit_in_the_table_of_contents_is_seen_or_harmless(tmp_path):
    """Each bit of what it says of one tensor: where it is, how long, what kind of file; and of where the table is."""
    path = tmp_path / "checkpoint.pth"
    write_torch(path, CONTENT)
    content = path.read_bytes()
    entries = [match.start() for match in re.finditer(rb"PK\x01\x02", content)]
    first = next(n for n, place in enumerate(entries) if b"/data/0" in content[place : entries[n + 1]])
    end = content.index(b"PK\x06\x06") if b"PK\x06\x06" in content else content.index(b"PK\x05\x06")
    for bit in (*range(8 * entries[first], 8 * entries[first + 1]), *range(8 * end, 8 * len(content))):
        assert_refused_or_the_same(path, flip(content, bit), CONTENT)


def test_a_checkpoint_that_is_cut_anywhere_is_refused(tmp_path):
    path = tmp_path / "checkpoint.pth"
    write_torch(path, CONTENT)
    content = path.read_bytes()
    for size in (*range(0, len(content), 7), *range(len(content) - 50, len(content))):
        path.write_bytes(content[:size])
        with pytest.raises(RequestError):
            read_checkpoint(path)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True))
def test_a_flipped_bit_of_a_weights_file_is_seen_or_harmless(place, tmp_path):
    path = tmp_path / "resnet8.pth"
    save_network(path)
    content, expected = path.read_bytes(), load(path)
    assert_refused_or_the_same(path, flip(content, int(place * 8 * len(content))), expected)


class Trap:
    """Pickles as a call that makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def evil_archive(path, trap):
    torch.save({"run_id": "x", "student": trap}, path)


def evil_legacy(path, trap):
    torch.save({"run_id": "x", "student": trap}, path, _use_new_zipfile_serialization=False)


def evil_pickle(path, trap):
    path.write_bytes(pickle.dumps(trap))


@pytest.mark.parametrize("make", [evil_archive, evil_legacy, evil_pickle])
def test_a_checkpoint_cannot_run_code(make, unfinished, teacher, alone, tmp_path, capsys):
    output, folder = unfinished
    created, both = tmp_path / "created", tmp_path / "both"
    make(folder / "checkpoint.pth", Trap(created))
    shutil.copytree(output, both)
    make(folder_of(both) / "checkpoint_former.pth", Trap(created))
    capsys.readouterr()
    assert run(both, teacher) == 2
    assert "--overwrite" in error_of(capsys)
    assert run(output, teacher) == 0
    errors = capsys.readouterr().err
    assert errors.startswith("warning: ")
    assert str(folder / "checkpoint.pth") in errors
    assert_same(outcome_of(folder), alone)
    assert not created.exists()
    pickle.loads(pickle.dumps(Trap(created)))
    assert created.exists()  # the trap is a trap


# --- two processes -----------------------------------------------------------------------------------


def test_a_second_process_is_refused_and_disturbs_nothing(server, tmp_path, monkeypatch, capsys):
    """Once the same command, and once with --overwrite, which must not remove a thing."""
    assert train_few("none", output=tmp_path / "alone", extra=EVERY_STEP) == 0
    output, seen = tmp_path / "shared", []

    def second():
        folder = folder_of(output)
        before = state_of(folder)
        argv = arguments("none", output=output, small=SMALL, extra=EVERY_STEP)
        for command in (argv, [*argv, "--overwrite"]):
            ((code, _),) = server.run(command)
            seen.append((code, server.words()))
        assert state_of(folder) == before

    at_step(monkeypatch, 2, 3, second)
    assert train_few("none", output=output, extra=EVERY_STEP) == 0
    folder = folder_of(output)
    assert len(seen) == 2
    for code, words in seen:
        assert code == 2
        assert len(words.splitlines()) == 1
        for part in (str(folder), str(os.getpid()), "--output"):
            assert part in words
    assert_same(outcome_of(folder), outcome_of(folder_of(tmp_path / "alone")))
    assert not (folder / LOCK).exists()


HOLDER = """
import sys, time
from pathlib import Path
from common.lock import sole_user_of
with sole_user_of(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@contextlib.contextmanager
def held(folder):
    """Another process holds the lock of a folder; it is killed at the end."""
    command = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment()) as process:
        try:
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_the_lock_dies_with_its_holder(unfinished, teacher, alone, capsys):
    output, folder = unfinished
    before = state_of(folder)
    with held(folder) as holder:
        capsys.readouterr()
        for extra in ([], ["--overwrite"]):
            assert run(output, teacher, *extra) == 2
            assert str(holder.pid) in error_of(capsys, lines=1)
        holder.kill()
    assert holder.returncode == -signal.SIGKILL
    assert (folder / LOCK).exists()  # the file, but nobody holds it
    assert {path: content for path, content in state_of(folder).items() if path.name != LOCK} == before
    assert run(output, teacher) == 0
    assert_same(outcome_of(folder), alone)
    assert not (folder / LOCK).exists()


def test_one_held_folder_of_a_group_stops_the_group_before_it_begins(unfinished, teacher, capsys):
    output, folder = unfinished
    with held(folder):
        assert train_few("none", "crd", output=output, teacher=teacher, extra=EVERY_STEP) == 2
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]  # nothing of the other is left
    assert str(folder) in capsys.readouterr().err


def test_two_processes_at_the_same_moment(server, teacher, tmp_path):
    """One trains. The other is refused, or comes so late that it finds everything done; which, the system decides."""
    for attempt in range(3):
        output = tmp_path / str(attempt)
        argv = arguments("none", output=output, small=TWO_STEPS, extra=EVERY_STEP)
        codes = [code for code, _ in server.run(argv, argv)]
        words = [server.words(number) for number in range(2)]
        assert sorted(codes) in ([0, 0], [0, 2]), words
        assert sum("epoch 1/2" in text for text in words) == 1
        for code, text in zip(codes, words, strict=True):
            assert "Traceback" not in text
            assert code == 0 or "--output" in text  # the name of the other may still be on its way
            assert code == 2 or "epoch 2/2" in text or "already finished" in text
        folder = folder_of(output)
        assert read_json(folder / "result.json")["epochs"] == 2
        assert not list(folder.glob(".*"))


def test_the_lock_is_of_this_process_too(tmp_path):
    with (
        sole_user_of(tmp_path),
        pytest.raises(RequestError, match=str(os.getpid())),
        sole_user_of(tmp_path),
    ):
        pass
    assert not any(tmp_path.iterdir())
    with sole_user_of(tmp_path):  # and is free again
        pass


def test_a_folder_that_another_process_removes_at_the_start(tmp_path, monkeypatch, capsys):
    """It had made it, was refused before its first file, and leaves nothing behind; at the worst of all moments.

    This one makes it anew and trains.
    """
    original, removed = Path.unlink, []

    def unlink(self, missing_ok=False):
        original(self, missing_ok)
        if self.name == ".writable":
            monkeypatch.setattr(Path, "unlink", original)
            self.parent.rmdir()
            removed.append(self.parent)

    monkeypatch.setattr(Path, "unlink", unlink)
    assert train_few("none", output=tmp_path, small=TWO_STEPS) == 0
    assert capsys.readouterr().err == ""
    assert removed == [folder_of(tmp_path)]
    assert read_json(removed[0] / "result.json")["epochs"] == 2


def test_a_run_that_never_began_leaves_nothing(tmp_path, monkeypatch, capsys):
    def stop(*where):
        raise KeyboardInterrupt

    monkeypatch.setattr("engine.training.run_plans.load_arrays", stop)
    assert train_few("none", output=tmp_path, small=TWO_STEPS) == INTERRUPTED
    assert not list((tmp_path / "student_model").iterdir())


# --- clocks ------------------------------------------------------------------------------------------


def test_a_clock_that_jumps_by_years(alone, teacher, tmp_path, monkeypatch):
    """The time of day leaps back and forth at each look; it decides nothing, and no time in the records is absurd."""
    draw, saves = random.Random(3), []
    monkeypatch.setattr(time, "time", lambda: draw.uniform(1e6, 4e9))
    monkeypatch.setattr(time, "time_ns", lambda: int(1e9 * time.time()))
    original = StudentRun.save
    monkeypatch.setattr(StudentRun, "save", lambda self: saves.append(self.position) or original(self))
    assert train_few("crd", output=tmp_path, teacher=teacher) == 0
    folder = folder_of(tmp_path)
    assert_same(outcome_of(folder), alone)
    assert saves == [(2, 0), (3, 0)]  # ten minutes have not passed
    result = read_json(folder / "result.json")
    for seconds in (result["wall_seconds"], *(record["seconds"] for record in read_metrics(folder))):
        assert 0 <= seconds < 600
    assert all(0 < record["images_per_second"] < math.inf for record in read_metrics(folder))


def test_checkpoints_within_epochs_come_by_the_clock(alone, teacher, tmp_path, monkeypatch):
    """A clock by which each step takes four seconds, and a checkpoint every ten: at each third step of all."""
    steps, saves = [], []
    original_step, original_save = StudentRun.step, StudentRun.save
    monkeypatch.setattr(StudentRun, "step", lambda self, *batch: steps.append(1) or original_step(self, *batch))
    monkeypatch.setattr(StudentRun, "save", lambda self: saves.append(self.position) or original_save(self))
    monkeypatch.setattr("engine.training.loop.time.monotonic", lambda: 4.0 * len(steps))
    extra = ["--checkpoint_seconds", "10"]
    assert train_few("crd", output=tmp_path, teacher=teacher, extra=extra) == 0
    assert saves == [(1, 3), (2, 0), (2, 2), (3, 0)]
    assert_same(outcome_of(folder_of(tmp_path)), alone)


# --- data that changes -------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    """A data set in files of the test's own; returns their paths."""
    sizes = {"train_size": TRAIN_SIZE, "test_size": TEST_SIZE, "image_size": 8, "num_classes": 10}
    folder = tmp_path / "data" / "own"
    write_arrays(folder, few_digits())
    with DATASETS.temporarily():
        register_dataset(
            replace(
                DATASETS["few"],
                name="own",
                load=lambda data: read_arrays(data / "own", SimpleNamespace(**sizes)),
                at_hand=lambda data: all_there(data / "own"),
            )
        )
        yield array_paths(folder)


def train_on(files, output, *extra):
    small = ("--dataset", "own", *SMALL[2:])
    data_folder = ["--data_folder", str(files["train_images"].parents[1])]
    return train_few("none", output=output, small=small, extra=[*data_folder, *EVERY_STEP, *extra])


def change(path):
    """The last bit of one value in the midst of an array."""
    array = np.load(path)
    array[tuple(size // 2 for size in array.shape)] ^= 1
    np.save(path, array)


@pytest.mark.parametrize("field", Arrays._fields)
def test_changed_data_does_not_go_on(field, files, tmp_path, monkeypatch, capsys):
    former = files[field].read_bytes()
    assert train_on(files, tmp_path / "whole") == 0
    expected = outcome_of(folder_of(tmp_path / "whole"))
    with monkeypatch.context() as patch:
        stop_at_step(patch, 2, 1)
        assert train_on(files, tmp_path / "cut") == INTERRUPTED
    folder = folder_of(tmp_path / "cut")
    before = state_of(folder)
    change(files[field])
    capsys.readouterr()
    assert train_on(files, tmp_path / "cut") == 2
    errors = error_of(capsys)
    assert "resnet8 none, trial 1" in errors
    assert "--overwrite" in errors
    assert state_of(folder) == before
    if field == "train_images":
        shutil.copytree(tmp_path / "cut", tmp_path / "anew")
        assert train_on(files, tmp_path / "anew", "--overwrite") == 0
        assert outcome_of(folder_of(tmp_path / "anew"))["metrics"] != expected["metrics"]
    files[field].write_bytes(former)
    assert train_on(files, tmp_path / "cut") == 0
    assert_same(outcome_of(folder), expected)


def test_data_are_known_by_their_bytes(files, tmp_path):
    assert train_on(files, tmp_path) == 0
    arrays = [np.load(path) for path in files.values()]
    expected = hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()
    assert read_json(folder_of(tmp_path) / "config.json")["data_sha256"] == expected


def test_a_finished_run_on_other_data_is_warned_of(files, tmp_path, capsys):
    assert train_on(files, tmp_path / "output") == 0
    folder = folder_of(tmp_path / "output")
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert train_on(files, tmp_path / "output") == 0
    assert capsys.readouterr().err == ""
    change(files["test_labels"])
    assert train_on(files, tmp_path / "output") == 0
    out, errors = capsys.readouterr()
    assert str(folder) in out
    assert errors.startswith("warning: ")
    assert "resnet8 none, trial 1" in errors
    assert len(errors.splitlines()) == 1
    files["test_labels"].unlink()  # what is not there cannot be compared, and nobody asked for it
    assert train_on(files, tmp_path / "output") == 0
    assert capsys.readouterr().err == ""
    after = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}
    assert after == before


@pytest.mark.parametrize("epoch", [None, 2])
def test_a_run_on_other_data_is_repeated_on_request(epoch, files, tmp_path, monkeypatch, capsys):
    """A finished one, and one that was interrupted; what was made on the data of now is left alone."""
    with monkeypatch.context() as patch:
        if epoch:
            stop_at_step(patch, epoch, 1)
        assert train_on(files, tmp_path) == (INTERRUPTED if epoch else 0)
    former = read_json(folder_of(tmp_path) / "config.json")["data_sha256"]
    change(files["train_images"])
    assert train_on(files, tmp_path, "--overwrite", "changed") == 0
    assert read_json(folder_of(tmp_path) / "config.json")["data_sha256"] != former
    assert [record["epoch"] for record in read_metrics(folder_of(tmp_path))] == [1, 2]
    before = state_of(tmp_path)
    capsys.readouterr()
    assert train_on(files, tmp_path, "--overwrite", "changed") == 0
    assert capsys.readouterr().err == ""
    assert state_of(tmp_path) == before


@pytest.mark.parametrize("field", Arrays._fields)
def test_wrong_bytes_of_an_official_set_are_refused_by_name(field, tmp_path):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (size, 32, 32, 3), dtype=np.uint8) for size in (12, 4)]
    labels = [rng.integers(0, 100, size) for size in (12, 4)]
    arrays = Arrays(images[0], labels[0], images[1], labels[1])
    digests = {name: raw_digest(array) for name, array in arrays._asdict().items()}
    source = replace(CIFAR100, train_size=12, test_size=4, raw_sha256=digests)
    write_arrays(tmp_path / "cifar100", arrays)
    np.testing.assert_array_equal(load_cifar(tmp_path, source).train_images, images[0])
    path = tmp_path / "cifar100" / f"{field}.npy"
    change(path)
    with pytest.raises(RequestError, match=re.escape(str(path))):
        load_cifar(tmp_path, source)


# --- disks -------------------------------------------------------------------------------------------


def mount(place, *how):
    if subprocess.run(["mount", *how, str(place)], capture_output=True).returncode:
        pytest.skip("mounting is not permitted here")


def unmount(place):
    subprocess.run(["umount", "-l", place], check=True)  # whoever still holds a file open there may keep it


@contextlib.contextmanager
def read_only(folder):
    """As when a system finds a disk damaged: nothing more can be written, but to files that are open."""
    mount(folder, "--bind", str(folder))
    try:
        mount(folder, "-o", "remount,bind,ro")
        yield
    finally:
        unmount(folder)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount(place, "-t", "tmpfs", "-o", "size=4m", "tmpfs")
    yield place
    unmount(place)


def test_a_read_only_place(unfinished, teacher, capsys):
    """A fresh run and an unfinished one are refused; a finished one is left alone, as there is nothing to write."""
    output, _ = unfinished
    assert train_few("none", output=output, small=TWO_STEPS) == 0
    before = state_of(output)
    capsys.readouterr()
    with read_only(output):
        for action in (
            lambda: train_few("none", output=output, small=TWO_STEPS, extra=["--trial", "2"]),
            lambda: run(output, teacher),
            lambda: train_few("none", output=output, small=TWO_STEPS, extra=["--overwrite"]),
        ):
            assert action() == 2
            errors = error_of(capsys)
            assert "Read-only file system" in errors
            assert "--output" in errors
        assert train_few("none", output=output, small=TWO_STEPS) == 0
    out, errors = capsys.readouterr()
    assert (out[:16], errors) == ("already finished", "")
    assert state_of(output) == before


@pytest.mark.parametrize("step", [1, 3])
def test_a_place_that_becomes_read_only(step, teacher, alone, tmp_path, monkeypatch, capsys):
    with contextlib.ExitStack() as stack, monkeypatch.context() as patch:
        at_step(patch, 2, step, lambda: stack.enter_context(read_only(folder_of(tmp_path))))
        assert run(tmp_path, teacher) == 1
    errors = error_of(capsys, lines=1)
    assert "Read-only file system" in errors
    assert "--output" in errors
    folder = folder_of(tmp_path)
    assert read_checkpoint(folder / "checkpoint.pth")["position"] == [2, step]
    assert run(tmp_path, teacher) == 0
    assert_same(outcome_of(folder), alone)
    assert not list(folder.glob(".*"))


def fill(path):
    with contextlib.suppress(OSError), open(path, "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def test_a_disk_that_is_full_amid_an_epoch(small_disk, teacher, alone, monkeypatch, capsys):
    output = small_disk
    with monkeypatch.context() as patch:
        at_step(patch, 2, 2, lambda: fill(output / "filler"))
        assert run(output, teacher) == 1
    errors = error_of(capsys, lines=1)
    assert "No space left on device" in errors
    folder = folder_of(output)
    assert not list(folder.glob(".*.tmp"))
    checkpoints = RunFolder(folder, "resnet8").checkpoints()
    assert [read_checkpoint(path)["position"] for path in checkpoints] == [[2, 2], [2, 1]]
    (output / "filler").unlink()
    assert run(output, teacher) == 0
    assert_same(outcome_of(folder), alone)


def test_a_disk_that_is_full_from_the_start(small_disk, unfinished, teacher, alone, capsys):
    """Neither a new run nor one that goes on can even leave its name in the lock; both say why, and lose nothing."""
    output = small_disk
    shutil.copytree(unfinished[0], output, dirs_exist_ok=True)
    folder = folder_of(output)
    fill(output / "filler")
    before = {path: path.read_bytes() for path in folder.glob("*.*") if path.name != LOCK}
    capsys.readouterr()
    assert run(output, teacher) == 1
    assert "No space left on device" in error_of(capsys, lines=1)
    assert {path: path.read_bytes() for path in folder.glob("*.*") if path.name != LOCK} == before
    assert train_few("none", output=output, small=TWO_STEPS) == 1
    assert "No space left on device" in error_of(capsys, lines=1)
    (output / "filler").unlink()
    assert run(output, teacher) == 0
    assert_same(outcome_of(folder), alone)


# --- what must not matter ----------------------------------------------------------------------------


def test_the_hash_seed_changes_nothing(teacher, tmp_path):
    """Python orders sets of strings anew in each process; two at a time, for they are slow to start."""
    outputs = [tmp_path / seed for seed in ("0", "1")]
    begun = []
    for output in outputs:
        argv = arguments("kd", "crd", output=output, teacher=teacher, extra=["--epochs", "1"])
        command = [sys.executable, str(ROOT / "train_student.py"), *argv]
        begun.append(subprocess.Popen(command, env=environment() | {"PYTHONHASHSEED": output.name}, cwd=ROOT))
    assert [process.wait(timeout=120) for process in begun] == [0, 0]
    for method in ("kd", "crd"):
        assert_same(*(outcome_of(folder_of(output, method)) for output in outputs))


# --- losses that are no numbers ----------------------------------------------------------------------


class Breaking(Method):
    """Its loss is no number at one step of the second epoch."""

    weights = Weights(gamma=1, alpha=0, beta=1)

    def loss(self, student, teacher, batch):
        value = math.nan if (batch.epoch, batch.step) == (2, 2) else 1.0
        return student.logits.square().mean() * value


class Bursting(Method):
    """Its loss is a number at each step; its gradient is none at one, as that of a square root of zero."""

    weights = Weights(gamma=1, alpha=0, beta=1)

    def loss(self, student, teacher, batch):
        root = (student.logits.sum() * 0).sqrt() if (batch.epoch, batch.step) == (2, 1) else 0
        return student.logits.square().mean() + root


@pytest.fixture
def methods():
    with METHODS.temporarily():
        for name, method in (("breaking", Breaking), ("bursting", Bursting)):
            register_method(name)(method)
        yield


def assert_good_until(folder, position):
    """Both checkpoints hold numbers; the last is of this position, as good as one of a run that stopped there."""
    saved = [read_checkpoint(path) for path in RunFolder(folder, "resnet8").checkpoints()]
    assert saved[0]["position"] == position
    for content in saved:
        assert all(tensor.isfinite().all() for tensor in content["student"].values())


def test_a_loss_that_is_no_number_amid_an_epoch(methods, teacher, tmp_path, capsys):
    assert run(tmp_path, teacher, method="breaking") == 1
    errors = error_of(capsys)
    assert "breaking, trial 1: loss is nan" in errors
    folder = folder_of(tmp_path)
    assert_good_until(folder, [2, 2])
    before = {path.name: path.read_bytes() for path in folder.glob("checkpoint*")}
    assert run(tmp_path, teacher, method="breaking") == 1  # and again, from there
    out, errors = capsys.readouterr()
    assert "epoch 2, step 2" in out
    assert "breaking, trial 1: loss is nan" in errors
    assert {path.name: path.read_bytes() for path in folder.glob("checkpoint*")} == before


def test_weights_that_are_no_numbers_are_not_saved(methods, teacher, tmp_path, capsys):
    """The loss of the step that broke them still was one; the checkpoint within the epoch comes before the next."""
    assert run(tmp_path, teacher, method="bursting") == 1
    assert re.search(r"bursting, trial 1: .* epoch 2, step [23]", error_of(capsys))
    assert_good_until(folder_of(tmp_path), [2, 1])


# --- leftovers ---------------------------------------------------------------------------------------


@pytest.fixture
def finished(unfinished, teacher):
    """A finished run with its checkpoints, as if it had been killed right after its result."""
    output, folder = unfinished
    checkpoints = {path: path.read_bytes() for path in folder.glob("checkpoint*")}
    assert run(output, teacher) == 0
    assert not list(folder.glob("checkpoint*"))
    for path, content in checkpoints.items():
        path.write_bytes(content)
    return output, folder


def test_checkpoints_of_a_finished_run_are_removed(finished, teacher, alone, capsys):
    output, folder = finished
    assert run(output, teacher) == 0
    assert capsys.readouterr().err == ""
    assert not list(folder.glob("checkpoint*"))
    assert not list(folder.glob(".*"))
    assert_same(outcome_of(folder), alone)


def test_the_lock_file_of_a_killed_process_is_removed(finished, teacher):
    """It finished one run of a group and was killed in another; that one's lock file lies there still."""
    output, folder = finished
    for path in folder.glob("checkpoint*"):
        path.unlink()
    (folder / LOCK).write_text("process 1 on localhost since 2020-01-01 00:00 UTC")
    assert run(output, teacher) == 0
    assert not (folder / LOCK).exists()


def test_nothing_of_a_finished_run_is_touched_that_another_process_holds(finished, teacher, capsys):
    output, folder = finished
    with held(folder):
        before = state_of(folder)
        capsys.readouterr()
        assert run(output, teacher) == 0
        out, errors = capsys.readouterr()
        assert state_of(folder) == before
    assert (out[:16], errors) == ("already finished", "")
    assert len(list(folder.glob("checkpoint*"))) == 2


def test_half_written_files_of_a_killed_process_are_removed(unfinished, teacher, alone):
    output, folder = unfinished
    for name in (".checkpoint.pth.abc.tmp", ".metrics.jsonl.def.tmp"):
        (folder / name).write_bytes(b"half")
    assert run(output, teacher) == 0
    assert not list(folder.glob(".*"))
    assert_same(outcome_of(folder), alone)


def test_json_of_a_finished_run_that_is_damaged_warns_of_nothing(finished, teacher, capsys):
    """Its data is unknown then; that is no reason to warn, and none for a traceback."""
    output, folder = finished
    for content in (b"", b"{", b"[1]", b"\xff", json.dumps({"data_sha256": 3}).encode()):
        (folder / "config.json").write_bytes(content)
        assert run(output, teacher) == 0
        assert capsys.readouterr().err == ""
