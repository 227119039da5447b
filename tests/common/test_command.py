"""Scripts: exit codes, errors without a traceback, flags that are nearly right, and output that nobody takes."""

import argparse
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from common.command import Parser, at_least, guard, integer, make_parser, number, one_of_several_paths
from common.errors import Interrupted, RequestError, RunError
from common.flag_names import OTHER_NAMES
from engine.protocol.recipes import AUGMENTATION_FIELDS, RECIPE_FIELDS
from tests.helpers import ROOT, environment


def raising(error):
    def main(argv):
        raise error

    return guard(main)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RequestError("what is wrong"), 2),
        (RunError("what is wrong"), 1),
        (Interrupted("what is wrong"), 130),
        (KeyboardInterrupt(), 130),
    ],
    ids=lambda value: type(value).__name__,
)
def test_exit_codes(error, code, capsys):
    assert raising(error)([]) == code
    out, errors = capsys.readouterr()
    assert out == ""
    assert len(errors.splitlines()) == 1
    assert ("what is wrong" in errors) == bool(str(error))


@pytest.mark.parametrize(("stop", "code"), [(None, 0), (0, 0), (2, 2), ("what is wrong", 1)])
def test_the_code_is_returned_where_a_parser_would_leave_the_process(stop, code, capsys):
    """There is one way in which main tells how it went, also to a notebook."""
    assert raising(SystemExit(stop))([]) == code
    assert ("what is wrong" in capsys.readouterr().err) == (code == 1)


@pytest.mark.parametrize("error", [ZeroDivisionError(), OSError("no number")])
def test_other_errors_are_mistakes_and_keep_their_traceback(error):
    with pytest.raises(type(error)):
        raising(error)([])


# --- parsing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        *((integer, text, value) for text, value in (("7", 7), (" -3", -3), ("+0", 0), ("0" * 99 + "1", 1))),
        *((number, text, value) for text, value in ((".5", 0.5), ("5.", 5.0), ("-1e-3", -1e-3), ("1e400", math.inf))),
        *((integer, text, None) for text in ("1_000", "١٢", "２", "1e3", "2.0", "0x10", "", "9" * 400, "1,2", "½")),
        *((number, text, None) for text in ("1_0.5", "１.5", "0,05", "", "half", "1 2", "infinity", "0x1p3")),
    ],
)
def test_numbers_are_written_in_ascii_digits(kind, text, value):
    if value is not None:
        assert kind(text) == value
        return
    with pytest.raises(argparse.ArgumentTypeError) as refusal:
        kind(text)
    assert len(str(refusal.value)) < 120


@pytest.mark.parametrize(
    ("kind", "text", "advice"),
    [
        (integer, "1e3", "1000"),
        (integer, "240.0", "240"),
        (number, "0,05", "0.05"),
        (integer, "1,2,3", "spaces: 1 2 3"),
        (number, "0.1,1", "spaces: 0.1 1"),
    ],
)
def test_advice_for_another_notation(kind, text, advice):
    with pytest.raises(argparse.ArgumentTypeError, match=re.escape(advice)):
        kind(text)


@pytest.mark.parametrize("kind", [None, str, Path])
@pytest.mark.parametrize("value", ["", "  ", "a\0b"])
def test_empty_values_are_refused_by_the_flag(kind, value, capsys):
    parser = make_parser("Description.")
    parser.add_argument("--name", type=kind, nargs="+")
    assert parser.parse_args(["--name", "x", "y z"]).name == [(kind or str)(text) for text in ("x", "y z")]
    with pytest.raises(SystemExit) as stopped:
        parser.parse_args(["--name", "x", value])
    assert stopped.value.code == 2
    assert "--name" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--kind", "a,b"], ["--kind", "spaces: a b"]),
        (["--one", "a,b"], ["--one", "one of them"]),
        (["--one", "a", "b"], ["'b'", "--one", "one value"]),
        (["--on", "b"], ["'b'", "--on", "no value"]),
        (["--path", "x,y"], ["--path", "spaces: x y"]),
    ],
)
def test_several_values_in_a_word_or_after_a_flag_with_one(argv, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("x", "y", "p,q"):
        Path(name).touch()
    parser = make_parser("Description.")
    parser.add_argument("--kind", nargs="+", choices=("a", "b"))
    parser.add_argument("--one", choices=("a", "b"))
    parser.add_argument("--on", action="store_true")
    parser.add_argument("--path", nargs="+", type=one_of_several_paths)
    assert parser.parse_args(["--kind", "a", "b", "--path", "p,q", "x"]).path == [Path("p,q"), Path("x")]
    with pytest.raises(SystemExit):
        parser.parse_args(argv)
    message = capsys.readouterr().err
    assert all(word in message for word in words), message


@pytest.fixture
def parser():
    parser = make_parser("Description.")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--learning_rate", type=float)
    parser.add_argument("--batch_size", type=int)
    parser.add_argument("--distill", nargs="+")
    parser.add_argument("--model_t")
    parser.add_argument("--path_t", required=False)
    parser.add_argument("-t", "--trial", type=at_least(1))
    parser.add_argument("--print_freq", help="==SUPPRESS==")
    return parser


def error_of(parser: Parser, argv, capsys):
    """The line on stderr that a command line is refused with."""
    with pytest.raises(SystemExit) as stopped:
        parser.parse_args(argv)
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize(
    ("argv", "offered"),
    [
        (["--epoch", "3"], {"--epochs"}),  # no abbreviations
        (["--method", "kd"], {"--distill"}),
        (["--teacher", "resnet56"], {"--model_t", "--path_t"}),
        (["--lr", "0.1"], {"--learning_rate"}),
        (["--learn=0.1"], {"--learning_rate"}),
        (["--batch-size", "8"], {"--batch_size"}),
        (["--distil", "kd"], {"--distill"}),
        (["--no_such_option", "1"], set()),
        (["--print_frq", "1"], set()),  # hidden flags are not offered
    ],
)
def test_unknown_flags_are_answered_with_near_ones(parser, argv, offered, capsys):
    line = error_of(parser, argv, capsys)
    flags = {word.strip("?,;()") for word in line.split() if word.startswith("--")}
    assert argv[0].split("=")[0] in flags
    assert offered <= flags
    assert bool(offered) == ("did you mean" in line)


@pytest.mark.parametrize(
    "argv",
    [["--epochs", "three"], ["--learning_rate", "much"], ["--trial", "0"], ["--trial", "one"], ["--distill"]],
    ids=" ".join,
)
def test_wrong_values_name_the_flag_and_the_value(parser, argv, capsys):
    line = error_of(parser, argv, capsys)
    assert all(word in line for word in argv)


def test_a_word_too_many_is_named(parser, capsys):
    assert "'4'" in error_of(parser, ["--epochs", "3", "4"], capsys)


def test_the_usage_has_what_is_required():
    parser = make_parser("Description.")
    parser.add_argument("--path", required=True, metavar="CKPT")
    parser.add_argument("--other")
    parser.add_argument("roots", nargs="*", metavar="ROOT")
    usage = parser.format_help().splitlines()[0]
    assert "--path CKPT" in usage
    assert "[ROOT ...]" in usage
    assert "--other" not in usage


def test_other_names_are_of_existing_flags():
    sources = [*ROOT.glob("*.py"), *ROOT.glob("engine/*.py"), *(ROOT / "engine" / "protocol").glob("*.py")]
    text = "".join(path.read_text() for path in sources)
    known = {*RECIPE_FIELDS, *AUGMENTATION_FIELDS, "gamma", "alpha", "beta"}
    assert [flag for flag in sorted(OTHER_NAMES) if flag not in known and f'"--{flag}"' not in text] == []


# --- output that nobody takes ----------------------------------------------------------------------

pipes = pytest.mark.runs


@pipes
@pytest.mark.parametrize("flag", ["--list", "--help"])
def test_a_reader_that_has_seen_enough_is_no_error(flag):
    """As with `| head`: the pipe is closed while a long text is printed."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as pipe:
        command = [sys.executable, str(ROOT / "train_student.py"), flag]
        env = environment() | {"PYTHONUNBUFFERED": ""}
        done = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, text=True, env=env)
    assert (done.returncode, done.stderr) == (0, "")


SAYS_MUCH = (
    "import sys\nfrom common.command import guard, say\n"
    "sys.exit(guard(lambda argv: [say('x' * 999) for _ in range(999)] and 0)([]))"
)


@pipes
def test_a_command_that_nobody_reads_any_more_fails_in_a_line():
    command = [sys.executable, "-c", SAYS_MUCH]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
    assert (process.returncode, errors.count("\n")) == (1, 1)
    assert errors.startswith("error: ")


@pipes
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("call", ["show('text')", "print('text')", "print('text', flush=True)"])
def test_a_full_disk_behind_the_output_is_one_line(call):
    code = f"import sys\nfrom common.command import guard, show\nsys.exit(guard(lambda argv: {call} and 0 or 0)([]))"
    env = environment() | {"PYTHONUNBUFFERED": ""}
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=env, cwd=ROOT)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("error: ")
