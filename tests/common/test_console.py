"""Consoles of any encoding and width: what they lack degrades, nothing that is printed fails, files stay UTF-8."""

import contextlib
import io
import json
import subprocess
import sys
import unicodedata

import pytest

import compare
import evaluate
import export
import predict
import train_student
import train_teacher
import transfer_student
from common.command import guard, say, show, show_file
from common.console import ascii_form, on_console
from common.errors import RequestError
from engine.checkpoints import teachers
from engine.records.progress import Progress
from scripts import (
    ablate_std,
    analyse,
    benchmark,
    benchmark_methods,
    draw_std,
    trace_calls,
    write_methods_page,
)
from tests.helpers import ROOT, environment

ENCODINGS = ("ascii", "cp437", "cp1252", "latin-1", "koi8-r", "shift_jis", "utf-8")
SCRIPTS = (
    *(train_student, train_teacher, transfer_student, evaluate, export, predict, compare, teachers),
    *(ablate_std, analyse, benchmark, benchmark_methods, draw_std, trace_calls, write_methods_page),
)
HARD = "− → × … γ ± † ‖ ² ½ é \udcff 😀"  # with a byte of a file's name that is not UTF-8


class Consoles:
    """Standard output and error of an encoding, and what was written to them."""

    def __init__(self, encoding, monkeypatch, terminal=False):
        self.streams = []
        for name in ("stdout", "stderr"):
            stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict", newline="")
            stream.isatty = lambda: terminal
            self.streams.append(stream)
            monkeypatch.setattr(sys, name, stream)

    def texts(self, encoding=None):
        for stream in self.streams:
            stream.flush()
        return [stream.buffer.getvalue().decode(encoding or stream.encoding) for stream in self.streams]


@pytest.fixture
def consoles(monkeypatch):
    return lambda encoding, terminal=False: Consoles(encoding, monkeypatch, terminal)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_help_on_every_console(script, consoles, monkeypatch):
    for encoding in ENCODINGS:
        for width in ("", "0", "-3", "20", "80", "10000", "9" * 30, "wide"):
            monkeypatch.setenv("COLUMNS", width)
            console = consoles(encoding)
            with contextlib.suppress(SystemExit):
                assert script.main(["--help"]) in (0, None)
            out, errors = console.texts()
            assert out.startswith("usage: ")
            assert errors == ""


@pytest.mark.runs
@pytest.mark.parametrize("script", sorted(path.name for path in ROOT.glob("*.py")))
def test_help_of_a_process_in_the_c_locale(script):
    c_locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    variables = {name: value for name, value in environment().items() if name != "PYTHONIOENCODING"} | c_locale
    command = [sys.executable, str(ROOT / script), "--help"]
    done = subprocess.run(command, capture_output=True, timeout=120, env=variables)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode("ascii").startswith("usage: ")


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("argv", [["--list"], ["--list", "std", "dist"], ["--help", "all"]], ids=" ".join)
def test_long_texts_on_every_console(argv, encoding, consoles):
    console = consoles(encoding)
    assert train_student.main(argv) == 0
    out, errors = console.texts()
    assert len(out.splitlines()) > 40
    assert errors == ""


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_nothing_that_is_printed_fails(encoding, consoles):
    def main(argv):
        print(HARD)
        say(HARD)
        show(HARD)
        progress = Progress()
        progress.line(HARD)
        progress.warning(HARD)
        raise RequestError(HARD)

    console = consoles(encoding)
    assert guard(main)([]) == 2
    out, errors = console.texts()
    assert out.count("\\udcff") == 4
    assert errors.count("\\udcff") == 2
    if encoding == "ascii":
        assert out.startswith("- -> x ... gamma +- * || ^2 1/2 \\xe9 \\udcff \\U0001f600")


@pytest.mark.parametrize("argv", [["--distill", "γ"], ["--größe", "1"], ["--trial", "½"]], ids=" ".join)
def test_what_the_user_gave_is_in_the_error(argv, consoles):
    console = consoles("ascii")
    assert train_student.main([*argv, "--dataset", "digits"]) == 2
    out, errors = console.texts()
    assert out == ""
    assert errors.startswith("error: ")
    assert on_console(argv[0], sys.stderr) in errors or on_console(argv[1], sys.stderr) in errors


def test_every_character_of_the_suite_has_an_ascii_form():
    """But letters with accents: they are parts of names."""
    sources = [
        path for path in ROOT.rglob("*") if path.suffix in (".py", ".toml", ".csv") and ".venv" not in path.parts
    ]
    texts = [path.read_text(encoding="utf-8") for path in sources if "tests" not in path.relative_to(ROOT).parts]
    characters = {character for text in texts for character in text if not character.isascii()}
    assert len(characters) > 30
    without = {c for c in characters if "\\" in ascii_form(c) and not unicodedata.name(c).startswith("LATIN")}
    assert not {c for c in without if not unicodedata.combining(c)}


@pytest.mark.parametrize(
    ("encoding", "terminal", "wish", "written"),
    [
        ("cp1252", False, None, "utf-8"),  # a file or a pipe
        ("ascii", False, None, "utf-8"),
        ("cp1252", True, None, "cp1252"),
        ("cp1252", False, "cp1252", "cp1252"),  # PYTHONIOENCODING
    ],
)
def test_what_is_a_file_is_utf8(encoding, terminal, wish, written, consoles, monkeypatch):
    if wish is None:
        monkeypatch.delenv("PYTHONIOENCODING", raising=False)
    else:
        monkeypatch.setenv("PYTHONIOENCODING", wish)
    console = consoles(encoding, terminal)
    show_file("teacher → student ± ×")
    expected = "teacher → student ± ×" if written == "utf-8" else "teacher -> student ± ×"
    assert console.texts(written)[0] == expected


@pytest.mark.parametrize("encoding", ["ascii", "cp437", "cp1252"])
@pytest.mark.parametrize("columns", ["1", "20", "80", "200", "9" * 30])
def test_tables_of_runs_keep_straight_columns(encoding, columns, consoles, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("TERM", "dumb")
    console = consoles(encoding, terminal=True)
    assert compare.main([str(ROOT / "results" / "digits_demo")]) == 0
    out, _ = console.texts()
    assert "\\u" not in out
    assert "\x1b[" not in out  # TERM=dumb
    lines = out.splitlines()
    rules = [number for number, line in enumerate(lines) if line and not line.strip("-─")]
    assert len(rules) >= 4
    for rule in rules:
        assert len(lines[rule - 1]) <= len(lines[rule])
        row = rule + 1
        while row < len(lines) and lines[row].startswith(("teacher ", "student ", "std ", "kd ", "crd ")):
            assert len(lines[row]) <= len(lines[rule])
            row += 1


def test_json_of_any_console_is_json(consoles, monkeypatch):
    monkeypatch.delenv("PYTHONIOENCODING", raising=False)
    console = consoles("ascii")
    assert compare.main([str(ROOT / "results" / "digits_demo"), "--format", "json"]) == 0
    json.loads(console.texts("utf-8")[0])
