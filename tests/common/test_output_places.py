"""Where results are written: checked before the work, whole or not at all, and over another file only if asked to."""

import os
import socket
import threading
from pathlib import Path

import pytest

from common.errors import RequestError
from common.output_places import check_output_file, check_output_folder, write_output


def refused(check, *arguments, **options):
    """The message of a refusal, which is one line."""
    with pytest.raises(RequestError) as raised:
        check(*arguments, **options)
    assert len(str(raised.value).splitlines()) == 1
    return str(raised.value)


def test_a_file_that_exists_is_kept_unless_it_may_be_replaced(tmp_path):
    out = tmp_path / "report.md"
    check_output_file("--out", out)
    out.write_text("mine")
    message = refused(check_output_file, "--out", out)
    assert all(word in message for word in (str(out), "--out", "--overwrite"))
    assert "remove it" in refused(check_output_file, "--json", out, advice="remove it")
    check_output_file("--out", out, overwrite=True)
    assert out.read_text() == "mine"


def listening(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))  # its file stays


# What is made below a folder, and the place in it that is asked for.
WRONG_FILES = {
    "missing parent": (lambda folder: None, "missing/t.md"),
    "a folder": (lambda folder: (folder / "t.md").mkdir(), "t.md"),
    "below a file": (lambda folder: (folder / "t").write_text(""), "t/t.md"),
    "a pipe that nobody reads": (lambda folder: os.mkfifo(folder / "t.md"), "t.md"),
    "a socket": (lambda folder: listening(folder / "t.md"), "t.md"),
    "a circle of links": (lambda folder: (folder / "t.md").symlink_to("t.md"), "t.md"),
    "a link into nowhere": (lambda folder: (folder / "t.md").symlink_to("missing/t"), "t.md"),
    "a long name": (lambda folder: None, "ä" * 127 + ".m"),
    "a long path": (lambda folder: None, "a/" * 2100 + "t.md"),
    "a line break": (lambda folder: None, "t\n.md"),
    "NUL": (lambda folder: None, "t\0.md"),
    "a lone surrogate": (lambda folder: None, "t\ud800.md"),
    "the folder itself": (lambda folder: None, "."),
    "the root": (lambda folder: None, "/"),
    "no place for files": (lambda folder: None, "/proc/t.md"),
}


@pytest.mark.parametrize("kind", WRONG_FILES)
def test_places_where_no_file_can_be_written(kind, tmp_path):
    make, name = WRONG_FILES[kind]
    make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert "--out" in refused(check_output_file, "--out", tmp_path / name, overwrite=True)
    assert sorted(tmp_path.rglob("*")) == before


WRONG_FOLDERS = {
    "a file": (lambda folder: (folder / "out").write_text(""), "out"),
    "below a file": (lambda folder: (folder / "out").write_text(""), "out/pictures/more"),
    "a pipe": (lambda folder: os.mkfifo(folder / "out"), "out"),
    "a link into nowhere": (lambda folder: (folder / "out").symlink_to("missing"), "out"),
    "a circle of links": (lambda folder: (folder / "out").symlink_to("out"), "out/pictures"),
    "no place for files": (lambda folder: None, "/proc/pictures"),
    "a long name": (lambda folder: None, "new/" + "好" * 90),
}


@pytest.mark.parametrize("kind", WRONG_FOLDERS)
def test_places_where_no_folder_can_be(kind, tmp_path):
    make, name = WRONG_FOLDERS[kind]
    make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert "--out" in refused(check_output_folder, "--out", tmp_path / name)
    assert sorted(tmp_path.rglob("*")) == before


def test_folders_that_are_there_or_can_be_made(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    for name in (".", "new", "new/below", "link/new", "n" * 255, "ü" * 127):
        check_output_folder("--out", tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


def test_text_is_written_without_other_files(tmp_path):
    for name in ("report.md", "r" * 252 + ".md", "報" * 84 + ".md"):
        out = tmp_path / name
        for text in ("first é", "second"):
            write_output("--out", out, text)
            assert out.read_text(encoding="utf-8") == text
        assert list(tmp_path.iterdir()) == [out]
        out.unlink()


def test_a_device_is_written_to_and_never_replaced():
    check_output_file("--out", Path(os.devnull))
    write_output("--out", Path(os.devnull), "text")
    assert not Path(os.devnull).is_file()


def test_a_pipe_that_somebody_reads_is_written_to(tmp_path):
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    end = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)  # there before anything is written
    check_output_file("--out", pipe)
    os.set_blocking(end, True)
    reader = threading.Thread(target=lambda: read.append(os.read(end, 1 << 16)))
    write_output("--out", pipe, "text")
    reader.start()
    reader.join(timeout=10)
    os.close(end)
    assert read == [b"text"]
    assert pipe.is_fifo()


def test_a_folder_is_no_file(tmp_path):
    refused(write_output, "--out", tmp_path, "text")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc here")
def test_a_place_that_takes_no_files_is_said_without_flags_of_other_scripts():
    assert "--data_folder" not in refused(write_output, "--out", Path("/proc/t.md"), "text")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everything")
def test_a_write_protection_holds(tmp_path):
    out = tmp_path / "report.md"
    out.write_text("mine")
    out.chmod(0o400)
    refused(check_output_file, "--out", out, overwrite=True)
    refused(write_output, "--out", out, "text")
    assert out.read_text() == "mine"
