"""Paths that users name: whatever lies there, or cannot, is one line that names it; nothing blocks."""

import argparse
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import RequestError
from common.user_paths import (
    check_file,
    file_is_there,
    reachable_path,
    read_regular,
    read_small_file,
    shown_path,
    why_no_file,
    why_unreachable,
)
from tests.helpers import ROOT, environment


def listening(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))  # its file stays


def circle(path):
    path.symlink_to(path.with_name("other"))
    path.with_name("other").symlink_to(path)


# What is made at a path, and whether something could still be made there.
NO_FILES = {
    "nothing": (lambda path: None, True),
    "a folder": (Path.mkdir, True),
    "a pipe": (os.mkfifo, True),
    "a link to a pipe": (lambda path: (os.mkfifo(path.with_name("p")), path.symlink_to("p")), True),
    "a socket": (listening, True),
    "a device": (lambda path: path.symlink_to("/dev/zero"), True),
    "a link into nowhere": (lambda path: path.symlink_to("nowhere"), True),
    "a link to itself": (lambda path: path.symlink_to(path.name), False),
    "a circle of links": (circle, False),
}


@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_file(kind, tmp_path):
    make, may_be_made = NO_FILES[kind]
    path = tmp_path / "it"
    make(path)
    assert (why_unreachable(path) is None) == may_be_made
    assert why_no_file(path)
    for read in (lambda: check_file(path, "do this", "--flag"), lambda: read_small_file(path, 10, "do this", "--flag")):
        with pytest.raises(RequestError) as refusal:
            read()
        assert all(word in str(refusal.value) for word in (str(path), "--flag", "do this"))
        assert len(str(refusal.value).splitlines()) == 1
    with pytest.raises(OSError):  # noqa: PT011
        read_regular(path)
    if kind == "nothing":
        assert not file_is_there(path, "do this")
    else:
        with pytest.raises(RequestError):
            file_is_there(path, "do this")


NAMES = {
    "empty": "",
    "below a file": "file/below/it",
    "a name of 256 bytes": "n" * 256,
    "a name of 256 bytes in 64 letters": "🦆" * 64,
    "a long name in a folder that is missing": f"missing/{'n' * 256}/it",
    "a long path": "folder/" * 600,
    "NUL": "a\0b",
    "a line break": "a\nb",
    "an escape code": "a\x1b[31mb",
    "a line separator": "a\u2028b",
    "a lone surrogate": "a\ud800b",
}


@pytest.mark.parametrize("kind", NAMES)
def test_names_that_cannot_be(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(argparse.ArgumentTypeError) as refusal:
        reachable_path(NAMES[kind])
    message = str(refusal.value)
    assert len(message.splitlines()) == 1
    assert len(message) < 300
    assert not any(letter < " " or "\ud800" <= letter <= "\udfff" for letter in message)
    assert why_no_file(NAMES[kind])


@pytest.mark.parametrize(
    "name", ["n" * 255, "ü" * 127, "a b", "-x", "~", "$HOME", "日本", "a\udcffb", "x/../y", ".", "a'\"b"]
)
def test_names_that_can_be(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert reachable_path(name) == Path(name)
    if name != ".":
        Path("x").mkdir()
        Path(name).write_bytes(b"12345")
        assert why_no_file(name) is None
        assert file_is_there(name, "")
        assert read_regular(name) == read_small_file(name, 5, "") == b"12345"
        with pytest.raises(RequestError):
            read_small_file(name, 4, "")


def test_a_path_is_shown_on_one_line():
    assert shown_path("a\n\x1b\udcff\u2028b") == r"a\n\x1b\udcff\u2028b"
    assert shown_path("日本 ü") == "日本 ü"
    assert len(shown_path("n" * 9000)) < 100


WITHOUT_RIGHTS = """
import os, sys
from pathlib import Path
from common.user_paths import why_no_file, why_unreachable
from common.output_places import check_output_file, check_output_folder
from common.errors import RequestError
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
folder = Path(sys.argv[1])
for path in (folder / "closed" / "it", folder / "closed" / "missing" / "it"):
    assert why_unreachable(path) and why_no_file(path), path
assert why_no_file(folder / "unreadable")
for check, name in (
    (check_output_file, "closed/it"), (check_output_folder, "closed/it"), (check_output_file, "fixed/it"),
    (check_output_folder, "fixed/it"), (check_output_file, "protected"),
):
    try:
        check("--out", folder / name, *([True] if check is check_output_file else []))
    except RequestError as error:
        assert "--out" in str(error) and len(str(error).splitlines()) == 1
    else:
        raise AssertionError(name)
print("done")
"""


@pytest.mark.runs
@pytest.mark.skipif(not hasattr(os, "setuid"), reason="no users here")
def test_without_permission(tmp_path_factory):
    """As another user where the tests run as root, whom permissions do not bind."""
    folder = tmp_path_factory.mktemp("rights")
    for path in (folder, *folder.parents[:2]):
        path.chmod(path.stat().st_mode | 0o055)
    (folder / "closed").mkdir()
    for name, mode in (("unreadable", 0o000), ("protected", 0o400)):
        (folder / name).touch()
        (folder / name).chmod(mode)
    (folder / "fixed").mkdir(mode=0o555)
    (folder / "closed").chmod(0o000)
    command = [sys.executable, "-c", WITHOUT_RIGHTS, str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, env=environment())
    finally:
        (folder / "closed").chmod(0o700)
    assert done.stdout == "done\n", done.stderr


def test_a_slash_behind_a_file(tmp_path):
    """The message names the file and calls it a file."""
    (tmp_path / "it").write_text("")
    problem = why_unreachable(f"{tmp_path}/it/")
    assert problem is not None
    assert str(tmp_path / "it") in problem
    assert "a file" in problem
