"""The list of a command's runs: complete, replaced by the next command, and never in the place of another file."""

import os
from pathlib import Path

import pytest

from common.errors import RequestError
from engine.records.run_list import check_run_list, write_run_list
from tests.helpers import folders_of, save_network, train


@pytest.mark.runs
def test_has_the_folder_of_every_run_in_order_also_of_finished_ones(tmp_path):
    save_network(tmp_path / "t.pth")
    listed = tmp_path / "runs.txt"
    extra = ("--run_list", str(listed))
    for _ in ("trains them", "finds them finished"):
        assert train("none", "kd", teacher=tmp_path / "t.pth", output=tmp_path / "out", extra=extra) == 0
        folders = listed.read_text().splitlines()
        assert sorted(folders) == sorted(map(str, folders_of(tmp_path / "out")))
        assert "none" in folders[0]
        listed.write_text(folders[0] + "\n")  # an earlier list may be replaced


@pytest.mark.parametrize("text", ["a letter\n", "/elsewhere/run\n", "\0\xff"])
def test_no_other_file_is_replaced(tmp_path, text):
    path = tmp_path / "mine"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(RequestError, match="mine"):
        check_run_list(path, tmp_path / "out")
    assert path.read_bytes() == text.encode("latin-1")


def test_a_device_is_never_replaced(tmp_path):
    check_run_list(Path(os.devnull), tmp_path)
    write_run_list(Path(os.devnull), [tmp_path / "run"])
    assert Path(os.devnull).is_char_device()


def test_an_empty_or_missing_file_is_fine(tmp_path):
    path = tmp_path / "new"
    check_run_list(path, tmp_path / "out")
    write_run_list(path, [])
    check_run_list(path, tmp_path / "out")
    with pytest.raises(RequestError, match="--run_list"):
        check_run_list(tmp_path / "no" / "such" / "folder", tmp_path / "out")
