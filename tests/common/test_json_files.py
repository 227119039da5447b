"""JSON files from strangers: an object, or a reason."""

import json
import os

import pytest

from common.json_files import BrokenError, is_too_deep, object_or_none, read_object

GOOD = {
    "plain": b'{"a": 1}',
    "with a byte order mark": b'\xef\xbb\xbf{"a": 1}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "twice the same key": b'{"a": 2, "a": 1}',
    "spaces": b' \n\r\t{"a":\n1} \n',
}
BAD = {
    "empty": b"",
    "cut": b'{"a": ',
    "two objects": b'{"a": 1}{"a": 1}',
    "a list": b"[1]",
    "a number": b"3",
    "null": b"null",
    "invalid UTF-8": b'{"a": "\xff\xfe"}',
    "NUL": bytes(100),
    "deep lists": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "deep and whole": b'{"a":' + b"[" * 500 + b"]" * 500 + b"}",
    "a number of 5,000 digits": b'{"a": ' + b"9" * 5000 + b"}",
    "single quotes": b"{'a': 1}",
    "a comment": b'{"a": 1} // one',
}


@pytest.mark.parametrize("kind", GOOD)
def test_objects(kind, tmp_path):
    (tmp_path / "a.json").write_bytes(GOOD[kind])
    assert read_object(tmp_path / "a.json") == object_or_none(tmp_path / "a.json") == {"a": 1}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_object(kind, tmp_path):
    (tmp_path / "a.json").write_bytes(BAD[kind])
    with pytest.raises(BrokenError) as refusal:
        read_object(tmp_path / "a.json")
    assert "a.json" in str(refusal.value)
    assert len(str(refusal.value)) < 100
    assert object_or_none(tmp_path / "a.json") is None


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "circle").symlink_to("circle")
    with open(tmp_path / "huge", "wb") as file:
        file.truncate(1 << 40)  # takes no space
    for name in ("pipe", "folder", "circle", "huge", "missing", "n" * 300, "a\0b"):
        with pytest.raises(BrokenError):
            read_object(tmp_path / name)


def test_depth():
    assert not is_too_deep({"a": [{"b": [1, 2]}, "text"]})
    assert not is_too_deep(json.loads("[" * 60 + "]" * 60))
    assert is_too_deep(json.loads("[" * 70 + "]" * 70))
