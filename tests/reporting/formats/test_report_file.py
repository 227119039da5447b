"""Where a report is written: whole or not at all, and in place of another file only if asked to."""

import os
from pathlib import Path

import pytest

from common.errors import RequestError
from reporting.formats.report_file import check_out, write_report


def test_a_file_that_exists_is_kept_unless_it_may_be_replaced(tmp_path):
    out = tmp_path / "report.md"
    check_out(out, "add --overwrite")
    out.write_text("mine")
    with pytest.raises(RequestError) as raised:
        check_out(out, "add --overwrite")
    assert str(out) in str(raised.value)
    assert "--overwrite" in str(raised.value)
    check_out(out, None)


def test_a_folder_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(RequestError) as raised:
        check_out(tmp_path / "missing" / "t.md", None)
    assert str(tmp_path / "missing") in str(raised.value)


def test_text_is_written_without_other_files(tmp_path):
    out = tmp_path / "report.md"
    for text in ("first é", "second"):
        write_report(out, text)
        assert out.read_text(encoding="utf-8") == text
    assert list(tmp_path.iterdir()) == [out]


def test_a_device_is_written_to_and_never_replaced():
    check_out(Path(os.devnull), "add --overwrite")
    write_report(Path(os.devnull), "text")
    assert not Path(os.devnull).is_file()


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(RequestError):
        write_report(tmp_path, "text")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc here")
def test_a_place_that_takes_no_files_is_said_without_flags_of_other_scripts():
    with pytest.raises(RequestError) as raised:
        write_report(Path("/proc/t.md"), "text")
    assert "--data_folder" not in str(raised.value)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everything")
def test_a_write_protection_holds(tmp_path):
    out = tmp_path / "report.md"
    out.write_text("mine")
    out.chmod(0o400)
    with pytest.raises(RequestError):
        write_report(out, "text")
    assert out.read_text() == "mine"
