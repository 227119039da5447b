"""Tables for a terminal: as wide as it is, in colours, and nothing is lost."""

import builtins
import os
import pty
import re
import subprocess
import sys

import pytest

import compare
from reporting.formats.terminal import to_terminal
from tests.reporting.fake_runs import SCRIPT, build, write_run, write_suite
from tests.reporting.formats.many_runs import write_many_pairs


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    root = tmp_path_factory.mktemp("many")
    write_suite(root)
    write_many_pairs(root)
    return build(root)


def figures_of(text):
    return sorted(re.findall(r"-?\d+\.\d\d", text))


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_a_page_is_as_wide_as_the_terminal_and_names_what_it_hides(many, width):
    page = to_terminal(many, width)
    assert max(map(len, page.splitlines())) <= width
    assert "60.53 ± 0.59 (3)" in page
    assert bool(re.search(r"Hidden.*top-5", page)) == (width < 100)


def test_a_summary_too_wide_is_broken_between_pairs_and_loses_nothing(tmp_path):
    write_many_pairs(tmp_path)
    report = build(tmp_path)
    parts = [to_terminal(report, width).split("all pairs\n")[1].split("Rank is")[0] for width in (70, 400)]
    assert figures_of(parts[0]) == figures_of(parts[1])
    assert parts[0].count("teacher") > parts[1].count("teacher") == 1


@pytest.mark.parametrize("width", [60, 80])
def test_a_long_name_goes_on_below_and_numbers_keep_their_line(tmp_path, width):
    names = ["std std_" + "x" * 90 + end for end in "ab"] + ["std " + "std_mine=True " * 9 + end for end in "ab"]
    for number, name in enumerate(names):
        write_run(tmp_path, f"{number}", 60.0 + number, method="std", label=name)
    page = to_terminal(build(tmp_path), width)
    assert max(map(len, page.splitlines())) <= width
    assert "…" not in page
    assert all(f"{60 + number}.00 (1)" in page for number in range(len(names)))
    letters = re.sub(r"[^a-zT_=]", "", page)  # right of the names are none
    assert all(name.replace(" ", "") in letters for name in names)
    assert ("top-5" in page.splitlines()[3]) == (width == 80)  # they take no more than half of the width from the rest


def test_colours_only_if_asked_for(many):
    assert "\x1b" in to_terminal(many, width=100, colour=True)
    assert "\x1b" not in to_terminal(many, width=100, colour=False)
    assert "\x1b" not in to_terminal(many, width=100)  # a test's output is no terminal


@pytest.mark.runs
def test_a_terminal_gets_a_table_in_colours(tmp_path):
    write_suite(tmp_path)
    reader, writer = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"}
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen([sys.executable, str(SCRIPT), str(tmp_path)], stdout=writer, env=environment)
    os.close(writer)
    page = b""
    while True:
        try:
            piece = os.read(reader, 1 << 16)
        except OSError:  # Linux ends so when the process has gone
            break
        if not piece:
            break
        page += piece
    os.close(reader)
    assert process.wait(timeout=60) == 0
    page = page.decode()
    assert "\x1b[1m" in page  # bold
    assert "60.53 ± 0.59 (3)" in page
    assert "|" not in page  # no Markdown


def test_without_rich_the_other_formats_work(tmp_path, capsys, monkeypatch):
    write_run(tmp_path, "a", 60.0)
    original = builtins.__import__

    def without_rich(name, *args, **kwargs):
        if name.split(".")[0] == "rich":
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_rich)
    assert compare.main([str(tmp_path), "--format", "terminal"]) == 2
    assert "--format markdown" in capsys.readouterr().err
    assert compare.main([str(tmp_path), "--format", "markdown"]) == 0
