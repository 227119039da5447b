"""Files are whole or not there, and errors of the disk say how to mend them."""

import errno
import json
import os

import pytest

from common.errors import RunError
from common.files import sha256_of, write_atomically, write_bytes, write_json, write_text


def test_writes_and_replaces(tmp_path):
    path = tmp_path / "new" / "folder" / "file.txt"
    write_text(path, "one")
    write_text(path, "zwei ü\n")
    assert path.read_bytes() == "zwei ü\n".encode()
    assert os.listdir(path.parent) == ["file.txt"]


def test_json_round_trip_and_no_nan(tmp_path):
    write_json(tmp_path / "a.json", {"acc": 72.63, "name": "α"})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"acc": 72.63, "name": "α"}
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert "72.63" in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_sha256(tmp_path):
    write_bytes(tmp_path / "abc", b"abc")
    assert sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("trouble", [KeyError("bug"), KeyboardInterrupt()])
def test_old_file_stands_when_writing_fails(tmp_path, trouble):
    path = tmp_path / "file"
    write_bytes(path, b"old")

    def write(file):
        file.write(b"half of the n")
        raise trouble

    with pytest.raises(type(trouble)):
        write_atomically(path, write)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("number", "mend"), [(errno.ENOSPC, "free some space"), (errno.EROFS, "read-only"), (None, "free some space")]
)
def test_disk_errors_name_the_mend_in_one_line(tmp_path, number, mend):
    def write(file):
        raise OSError(number, "the reason") if number else OSError("5 requested and 0 written")

    with pytest.raises(RunError, match=mend) as caught:
        write_atomically(tmp_path / "file", write)
    assert "\n" not in str(caught.value)
    assert "--output" in str(caught.value)
    assert not os.listdir(tmp_path)


def test_full_disk_for_real():
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full on this system")
    from common.files import explained_write_errors

    with (
        pytest.raises(RunError, match="No space left on device; free some space"),
        explained_write_errors("x"),
        open("/dev/full", "wb", buffering=0) as file,
    ):
        file.write(b"x")


def test_folder_that_is_a_file(tmp_path):
    write_bytes(tmp_path / "taken", b"")
    with pytest.raises(RunError, match="choose another place"):
        write_bytes(tmp_path / "taken" / "file", b"x")
