"""Files are replaced as a whole or not at all, and errors of the disk say what to do."""

import errno
import json
import os
from pathlib import Path

import pytest

from common.errors import RunError
from common.files import explained_write_errors, sha256_of, write_atomically, write_bytes, write_json, write_text


def test_writes_and_replaces(tmp_path):
    path = tmp_path / "new" / "folder" / "file.txt"
    write_text(path, "one")
    write_text(path, "zwei ü\n")
    assert path.read_bytes() == "zwei ü\n".encode()
    assert os.listdir(path.parent) == ["file.txt"]


def test_the_previous_file_can_be_kept(tmp_path):
    for content in (b"one", b"two", b"three"):
        write_bytes(tmp_path / "file", content, keep=tmp_path / "before")
    assert ((tmp_path / "file").read_bytes(), (tmp_path / "before").read_bytes()) == (b"three", b"two")


@pytest.mark.parametrize("keep", [False, True])
def test_no_device_and_no_pipe_is_replaced(tmp_path, keep):
    os.mkfifo(tmp_path / "pipe")
    for path in (Path(os.devnull), tmp_path / "pipe"):
        with pytest.raises(RunError, match=path.name):
            write_bytes(path, b"one", keep=tmp_path / "before" if keep else None)
        assert not path.is_file()
    assert os.listdir(tmp_path) == ["pipe"]


def test_json_is_valid_whatever_is_written(tmp_path):
    write_json(tmp_path / "a.json", {"acc": 72.63, "name": "α"})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"acc": 72.63, "name": "α"}
    infinite = {"loss": float("nan"), "inner": [{"a": float("-inf")}, (1.5, float("inf"))], "n": 3}
    write_json(tmp_path / "a.json", infinite)
    assert json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail) == {
        "loss": None,
        "inner": [{"a": None}, [1.5, None]],
        "n": 3,
    }


def test_sha256(tmp_path):
    write_bytes(tmp_path / "abc", b"abc")
    assert sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("trouble", [KeyError("bug"), KeyboardInterrupt()])
def test_the_previous_file_stays_when_writing_fails(tmp_path, trouble):
    path = tmp_path / "file"
    write_bytes(path, b"old")

    def write(file):
        file.write(b"half of the n")
        raise trouble

    with pytest.raises(type(trouble)):
        write_atomically(path, write)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, None])
def test_disk_errors_are_one_line_that_names_the_file_and_other_places(tmp_path, number):
    def write(file):
        raise OSError(number, "the reason") if number else OSError("5 requested and 0 written")

    with pytest.raises(RunError) as caught:
        write_atomically(tmp_path / "file", write)
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in (str(tmp_path / "file"), "--output", "--data_folder"))
    assert not os.listdir(tmp_path)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_a_full_disk():
    with pytest.raises(RunError) as caught, explained_write_errors("x"), open("/dev/full", "wb", buffering=0) as file:
        file.write(b"x")
    assert os.strerror(errno.ENOSPC) in str(caught.value)


def test_a_folder_that_is_a_file(tmp_path):
    write_bytes(tmp_path / "taken", b"")
    with pytest.raises(RunError) as caught:
        write_bytes(tmp_path / "taken" / "file", b"x")
    assert "--output" in str(caught.value)
