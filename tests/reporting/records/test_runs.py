"""All runs below some folders, and what tells them apart."""

import os

import pytest

from reporting.formats.markdown import to_markdown
from reporting.formats.printers import PRINTERS
from reporting.records.runs import read_folders, read_runs
from tests.reporting.fake_runs import build, row_of, write_run


def test_roots_that_overlap_and_links_that_loop_are_read_once(tmp_path):
    folder = write_run(tmp_path, "runs/a")
    (folder / "loop").symlink_to(tmp_path)
    (tmp_path / "runs" / "self").symlink_to("self")
    runs, skipped = read_runs([tmp_path, tmp_path / "runs", folder])
    assert (len(runs), skipped) == (1, [])


def test_notes_name_runs_below_their_root_where_that_is_unambiguous(tmp_path):
    for place in ("one/a", "one/b", "other/a"):
        write_run(tmp_path, place)
    runs, _ = read_runs([tmp_path / "one", tmp_path / "other"])
    assert {run.path_in_notes for run in runs} == {str(tmp_path / "one/a"), "b", str(tmp_path / "other/a")}
    assert {run.path_in_notes for run in read_runs([tmp_path])[0]} == {"one/a", "one/b", "other/a"}
    (run,) = read_runs([tmp_path / "one/b"])[0]
    assert run.path_in_notes == str(tmp_path / "one/b")


def test_very_folders_are_read_without_those_below(tmp_path):
    folder = write_run(tmp_path, "a")
    write_run(folder, "below")
    runs, (missing,) = read_folders([folder, tmp_path / "nothing"])
    assert [run.folder for run in runs] == [folder]
    assert missing.state == "broken"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_unreadable_folders_and_files_are_listed(tmp_path):
    (write_run(tmp_path, "file") / "result.json").chmod(0)
    folder = write_run(tmp_path, "folder")
    folder.chmod(0)
    try:
        skipped = read_runs([tmp_path])[1]
    finally:
        folder.chmod(0o700)
    assert sorted(entry.state for entry in skipped) == ["broken", "unreadable"]


def test_foreign_folders_are_listed_and_harmless(tmp_path):
    write_run(tmp_path, "a")
    write_run(tmp_path, "future", format=2)
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert/config.json").write_text('{"architectures": ["BertModel"], "kind": []}')
    runs, skipped = read_runs([tmp_path])
    assert [entry.state for entry in skipped] == ["foreign", "foreign"]
    assert len(runs) == 1


def test_only_one_line_per_entry_even_for_hostile_names(tmp_path):
    write_run(tmp_path, "new\nline\x1b[31m", result=None)
    write_run(tmp_path, os.fsdecode(b"not-utf8-\xff"), label="a|b\n\ud800")
    report = build(tmp_path)
    page = to_markdown(report)
    assert r"new\nline\x1b[31m" in page
    assert r"a\|b\n\ud800" in page
    for to_text in PRINTERS.values():
        to_text(report).encode()


def test_one_protocol_has_its_fullest_words(tmp_path):
    """Records of older versions leave out what was changed of the recipe; and count the same."""
    worded = ("deit, 1 epochs, fp32", "deit schedule=step, 1 epoch", "deit schedule=step, 1 epochs", "deit, 1 epoch")
    for trial, words in enumerate(worded, start=1):
        write_run(tmp_path, f"kd-{trial}", 60.0 + trial, method="kd", trial=trial, protocol=words)
    assert {run.protocol for run in read_runs([tmp_path])[0]} == {"deit schedule=step, 1 epoch"}
    table = build(tmp_path).table
    assert row_of(table, "kd").n == 4
    assert set(table.protocol) == {"deit schedule=step, 1 epoch"}


def test_runs_on_different_bytes_of_a_data_set_are_apart(tmp_path):
    write_run(tmp_path, "old", method="hint")  # from before the data was on record
    write_run(tmp_path, "a", data_sha256="a" * 64)
    assert build(tmp_path).notes == []
    write_run(tmp_path, "b", method="std", data_sha256="b" * 64)
    write_run(tmp_path, "more", trial=2, data_sha256="a" * 64)
    table = build(tmp_path).table
    assert {(row.group, row.method, row.n) for row in table.itertuples() if row.role == "method"} == {
        ("data aaaaaaaa", "kd", 2),
        ("data aaaaaaaa", "hint", 1),  # which does not say, and so is taken to have seen what most saw
        ("data bbbbbbbb", "std", 1),
    }
