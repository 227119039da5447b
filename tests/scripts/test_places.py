"""Every flag of every script that takes a path: whatever lies there, or cannot, is exit code 2 and one or two lines.

Nothing is waited for, nothing is written, and it is said before any work.
"""

import os
import stat
from pathlib import Path

import pytest

import compare
import evaluate
import export
import predict
import train_student
import train_teacher
import transfer_student
from engine.checkpoints import teachers
from scripts import ablate_std, analyse, benchmark, benchmark_methods, check_images, draw_std, measure_latency
from tests.helpers import ROOT, save_network

DIGITS = ["--dataset", "digits", "--device", "cpu"]
PAIR = ["--teacher", "resnet8.pth", "--student", "resnet8.pth"]
READERS = {
    "evaluate --path": (evaluate, lambda path: ["--path", path, *DIGITS]),
    "train_student --path_t": (train_student, lambda path: ["--path_t", path, *DIGITS]),
    "train_student --preset": (train_student, lambda path: ["--preset", f"{path}.toml"]),
    "transfer_student --path_s": (transfer_student, lambda path: ["--path_s", path, *DIGITS]),
    "ablate_std --path_t": (ablate_std, lambda path: ["--path_t", path, *DIGITS]),
    "analyse --teacher": (analyse, lambda path: ["--teacher", path, "--student", path, "--out", "new", *DIGITS]),
    "analyse --student": (analyse, lambda path: [*PAIR, path, "--out", "new", *DIGITS]),
    "analyse --runs": (analyse, lambda path: ["--runs", path, "--out", "new"]),
    "benchmark --path_t": (benchmark, lambda path: ["--pairs", "resnet8:resnet8", "--path_t", path, *DIGITS]),
    "compare ROOT": (compare, lambda path: [path]),
    "measure_latency ROOT": (measure_latency, lambda path: [path]),
    "measure_latency --path_t": (measure_latency, lambda path: [str(ROOT / "results"), "--path_t", path]),
    "compare --analysis": (compare, lambda path: [str(ROOT / "results"), "--format", "html", "--analysis", path]),
}
WRITERS = {
    "train_teacher --output": (train_teacher, lambda path: ["--model", "resnet8", "--output", path, *DIGITS]),
    "train_student --output": (train_student, lambda path: ["--output", path, "--distill", "none", *DIGITS]),
    "teachers --output": (teachers, lambda path: ["--output", path, "resnet20"]),
    "compare --out": (compare, lambda path: [str(ROOT / "results"), "--format", "csv", "--out", path]),
    "draw_std --out": (draw_std, lambda path: ["--out", path]),
    "ablate_std --out": (ablate_std, lambda path: ["--path_t", "resnet8.pth", "--out", path, *DIGITS]),
    "benchmark --json": (benchmark, lambda path: ["--json", path, *DIGITS]),
    "benchmark_methods --json": (benchmark_methods, lambda path: ["--json", path]),
    "export --out": (export, lambda path: ["--path", "resnet8.pth", "--out", path]),
    "analyse --out": (analyse, lambda path: [*PAIR, "--out", path, *DIGITS]),
    "train_teacher --data_folder": (
        train_teacher,
        lambda path: ["--model", "resnet8", "--dataset", "cifar100", "--device", "cpu", "--data_folder", path],
    ),
}
NAMES = ["é" * 140, "a/" * 3000, "file/below", "circle", "a\nb", "a\0b", "a\ud800b", " "]
UNREADABLE = ["pipe", "nowhere", "device", "missing", *NAMES]
UNWRITABLE = ["pipe", "file", "/proc/new", *NAMES]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with one of each kind, which the commands are called in."""
    folder = tmp_path_factory.mktemp("place")
    save_network(folder / "resnet8.pth")
    for end in ("", ".toml"):
        os.mkfifo(folder / f"pipe{end}")
        (folder / f"circle{end}").symlink_to(f"circle{end}")
        (folder / f"nowhere{end}").symlink_to("missing/file")
        (folder / f"device{end}").symlink_to("/dev/zero")
    (folder / "file").write_text("mine")
    return folder


def files():
    """All but the folders, empty ones of which may be left."""
    found = ((path, os.lstat(path)) for path in Path().rglob("*"))
    return {path: state.st_mtime_ns for path, state in found if not stat.S_ISDIR(state.st_mode)}


def assert_refused(script, argv, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    before = files()
    assert script.main(argv) == 2
    out, errors = capsys.readouterr()
    assert out == ""
    assert 1 <= len(errors.splitlines()) <= 2, errors
    assert len(errors) < 1000
    assert "Traceback" not in errors
    assert files() == before


@pytest.mark.parametrize("path", UNREADABLE, ids=lambda path: ascii(path[:10]))
@pytest.mark.parametrize("flag", READERS)
def test_what_cannot_be_read(flag, path, place, monkeypatch, capsys):
    script, argv = READERS[flag]
    assert_refused(script, argv(path), place, monkeypatch, capsys)


@pytest.mark.parametrize("path", UNWRITABLE, ids=lambda path: ascii(path[:10]))
@pytest.mark.parametrize("flag", WRITERS)
def test_where_nothing_can_be_written(flag, path, place, monkeypatch, capsys):
    script, argv = WRITERS[flag]
    assert_refused(script, argv(path), place, monkeypatch, capsys)


@pytest.mark.parametrize("flag", [flag for flag in WRITERS if "--out" in flag.split() or "--json" in flag.split()])
def test_files_that_are_there_stay(flag, tmp_path, monkeypatch, capsys):
    """A file that exists is named, with what to do; so is a picture in a folder of pictures."""
    script, argv = WRITERS[flag]
    save_network(tmp_path / "resnet8.pth")
    path = tmp_path / "mine.csv"
    if script is analyse:
        path = tmp_path / "pictures"
        path.mkdir()
        (path / "tsne.csv").write_text("mine")
    else:
        path.write_text("mine")
    assert_refused(script, argv(str(path)), tmp_path, monkeypatch, capsys)
    assert (path / "tsne.csv" if script is analyse else path).read_text() == "mine"


DATA_FOLDERS = {
    "train_teacher": (train_teacher, ["--model", "resnet8", *DIGITS]),
    "train_student": (train_student, ["--distill", "none", *DIGITS]),
    "evaluate": (evaluate, ["--path", "resnet8.pth", *DIGITS]),
    "export": (export, ["--path", "resnet8.pth"]),
    "predict": (predict, ["--path", "resnet8.pth", "file"]),
    "check_images": (check_images, ["--dataset", "folder:photos"]),
}


@pytest.mark.parametrize("script", DATA_FOLDERS)
def test_a_file_in_the_place_of_the_data_folder(script, place, monkeypatch, capsys):
    """It is the flag that is wrong, whatever the data set: no advice to move the file away."""
    main, argv = DATA_FOLDERS[script]
    monkeypatch.chdir(place)
    assert main.main([*argv, "--data_folder", "file"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--data_folder" in line
    assert "move it away" not in line
