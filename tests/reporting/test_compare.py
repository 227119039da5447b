"""compare.py as a command: formats, files, exit codes, and requests that cannot be met."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import compare
from reporting.formats.names import FORMATS
from reporting.formats.printers import PRINTERS
from reporting.tables.build_report import build_report
from reporting.tables.columns import COLUMNS
from reporting.tables.published_figures import FOLDER as FIGURES
from tests.reporting.fake_runs import SCRIPT, run_script, write_pairs, write_run, write_suite
from tests.reporting.tables.test_accuracy_cost_tables import write_students


def test_a_pipe_gets_markdown_of_the_default_root(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_suite(tmp_path / "save")
    write_run(tmp_path / "save", "z", result=None, method="pkt")
    assert compare.main([]) == 0
    page = capsys.readouterr().out
    assert page.startswith("## cifar100, 100 classes, 32×32: deit, 2 epochs, batch 128, fp32 [3f2a9c01]")
    assert "save/z: unfinished" in page


def test_data_formats_keep_remarks_off_the_output(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path, "one/a", 60.0)
    write_run(tmp_path, "two/b", result=None)
    assert compare.main(["one", "--format", "csv", "two"]) == 0
    captured = capsys.readouterr()
    assert list(pd.read_csv(io.StringIO(captured.out)).columns) == COLUMNS
    assert "two/b: unfinished" in captured.err


def test_roots_without_runs_exit_with_2_and_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign/config.json").write_text("{}")
    for words, named in (([], "save"), (["empty"], "empty"), (["foreign"], "foreign")):
        assert compare.main(words) == 2
        captured = capsys.readouterr()
        assert (captured.out, captured.err.count("\n")) == ("", 1)
        assert named in captured.err
        assert "train_student.py" in captured.err


@pytest.mark.parametrize(
    ("suffix", "start"), [(".md", "## "), (".tex", "% "), (".csv", "dataset,"), (".json", "["), (".HTML", "<!DOCTYPE")]
)
def test_the_suffix_of_out_chooses_the_format(tmp_path, capsys, suffix, start):
    write_run(tmp_path, "runs/a")
    out = tmp_path / f"table{suffix}"
    assert compare.main([str(tmp_path / "runs"), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert out.read_text(encoding="utf-8").startswith(start)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs", out.name]


def test_a_table_for_a_terminal_may_be_written_to_a_file(tmp_path):
    write_run(tmp_path, "runs/a")
    assert compare.main([str(tmp_path / "runs"), "--format", "terminal", "--out", str(tmp_path / "table.txt")]) == 0
    assert "\x1b" not in (tmp_path / "table.txt").read_text(encoding="utf-8")


def test_a_file_that_exists_is_replaced_only_if_asked_for(tmp_path, capsys):
    """Even an earlier report; and that is said before any work."""
    out = tmp_path / "report.md"
    out.write_text("My own words.")
    assert compare.main([str(tmp_path / "no runs"), "--out", str(out)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert out.read_text() == "My own words."
    write_run(tmp_path, "runs/a")
    assert compare.main([str(tmp_path / "runs"), "--out", str(out), "--overwrite"]) == 0
    assert out.read_text(encoding="utf-8").startswith("## ")
    assert compare.main([str(tmp_path / "runs"), "--out", str(out)]) == 2


@pytest.mark.parametrize(("out", "named"), [("missing/t.md", "missing"), ("runs", ".md"), ("t.xyz", ".md")])
def test_an_out_that_cannot_be_written_exits_with_2_before_any_work(tmp_path, capsys, monkeypatch, out, named):
    monkeypatch.chdir(tmp_path)
    assert compare.main(["no runs", "--out", out]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert named in captured.err


@pytest.mark.parametrize("words", [["0"], ["2", "--published"], ["2", "--format", "csv"], ["2", "--format", "html"]])
def test_top_is_a_number_and_for_tables_that_people_read(tmp_path, capsys, words):
    assert compare.main([str(tmp_path), "--top", *words]) == 2
    assert "--top" in capsys.readouterr().err


def test_top_shortens_a_table(tmp_path, capsys):
    write_pairs(tmp_path)
    assert compare.main([str(tmp_path), "--top", "1"]) == 0
    assert "--top 1" in capsys.readouterr().out


def test_an_analysis_is_for_pages_only(tmp_path, capsys):
    assert compare.main([str(tmp_path), "--analysis", str(tmp_path), "--format", "markdown"]) == 2
    assert "--format html" in capsys.readouterr().err


def test_an_unknown_flag_is_answered_with_the_nearest(tmp_path, capsys):
    assert compare.main([str(tmp_path), "--formt", "csv"]) == 2
    assert "--format" in capsys.readouterr().err


# --- published figures ---


def test_the_names_of_the_formats():
    assert tuple(PRINTERS) == FORMATS


@pytest.mark.parametrize("name", PRINTERS)
def test_published_figures_stand_alone_in_every_format_without_runs(tmp_path, capsys, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert compare.main(["--published", "--format", name]) == 0
    captured = capsys.readouterr()
    assert "wttm" in captured.out
    assert "save" in captured.out + captured.err  # that it holds no runs
    if name == "json":
        assert {row["distill"] for row in json.loads(captured.out)} >= {"teacher", "student alone", "kd", "dkd"}


def test_the_folder_of_the_figures_stands_alone_also_where_there_are_runs(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "save", "a", 60.0)
    pages = []
    for more in ([], ["--published"]):
        assert compare.main([str(FIGURES), *more]) == 0
        pages.append(capsys.readouterr().out)
    assert pages[0] == pages[1]
    assert "wttm" in pages[0]


@pytest.mark.parametrize("flags", [["--where", "method=kd"], ["--by", "method"], ["--select", "best"], ["--top", "2"]])
def test_published_figures_alone_take_no_choice_among_runs(capsys, flags):
    assert compare.main([str(FIGURES), *flags]) == 2
    assert flags[0] in capsys.readouterr().err


def test_published_figures_beside_runs(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert compare.main(["nowhere", "--published"]) == 2
    assert "nowhere" in capsys.readouterr().err
    write_run(tmp_path / "save", "a", result=None)
    assert compare.main(["--published"]) == 0
    assert "save/a: unfinished" in capsys.readouterr().out
    write_run(tmp_path / "save", "b", 60.0)
    report = build_report([], published=True)
    assert report.literature is None
    assert report.published is not None


# --- as a process ---


@pytest.mark.runs
def test_as_a_user_runs_it(tmp_path):
    """Without a warning, for the interpreter makes an error of any."""
    write_suite(tmp_path / "save")
    done = run_script(cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "60.53 ± 0.59 (3)" in done.stdout


@pytest.mark.runs
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_behind_the_output_is_one_line(tmp_path):
    write_run(tmp_path, "a")
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, SCRIPT, tmp_path], stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)


@pytest.mark.runs
def test_a_reader_that_stops_early_is_no_error(tmp_path):
    write_run(tmp_path, "a")
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, SCRIPT, tmp_path], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.runs
@pytest.mark.skipif(os.name != "posix", reason="closes the output by a shell")
def test_a_closed_output_is_one_line(tmp_path):
    write_run(tmp_path, "a")
    command = f'"{sys.executable}" "{SCRIPT}" "{tmp_path}" >&-'
    done = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)


# --- accuracy and cost ---


def test_pareto_and_within_in_every_format(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_students(tmp_path / "save")
    for name in ("terminal", "markdown", "latex", "html"):
        assert compare.main(["--format", name, "--pareto", "bytes", "--within", "3"]) == 0
        page = capsys.readouterr().out
        assert "front" in page
        assert "3 points" in page
    assert compare.main(["--format", "csv", "--pareto", "bytes", "--within", "3"]) == 0
    captured = capsys.readouterr()
    assert "large by kd" in captured.err
    table = pd.read_csv(io.StringIO(captured.out))
    assert list(table.columns) == [*COLUMNS, "pareto_bytes"]
    found = {(row.student, row.method): row.pareto_bytes for row in table.itertuples() if row.role != "teacher"}
    assert found == {("small", "kd"): True, ("small", "none"): False, ("large", "kd"): True, ("large", "none"): False}
    assert compare.main(["--format", "json", "--pareto", "bytes"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["pareto_bytes"] for row in rows} == {True, False, None}
    assert {row["macs"] for row in rows} == {10_000_000, 5_000_000, 80_000_000}


def test_the_default_cost_is_multiply_accumulates(tmp_path, capsys):
    write_students(tmp_path)
    assert compare.main([str(tmp_path), "--format", "csv", "--pareto"]) == 0
    assert "pareto_macs" in capsys.readouterr().out
    assert compare.main([str(tmp_path), "--within", "50"]) == 0
    assert "multiply-accumulates: large by kd" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--pareto", "watts"], "watts"),
        (["--pareto", "."], "before --pareto"),
        (["--within", "near"], "near"),
        (["--within", "-1"], "--within -1"),
        (["--within", "nan"], "--within nan"),
        (["--within", "101"], "--within 101"),
        (["--within", "1", "watts"], "watts"),
        (["--within", "1", "macs", "bytes"], "at most one COST"),
        (["--pareto", "--published"], "--published"),
        (["--within", "0", "--published"], "--published"),
    ],
)
def test_requests_about_costs_that_are_refused(tmp_path, capsys, monkeypatch, words, named):
    """Before anything is read."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("reporting.tables.build_report.build_report", None)
    assert compare.main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert named in captured.err


def test_costs_that_no_record_has_and_published_figures_alone_are_refused(tmp_path, capsys):
    write_run(tmp_path, "old", 60.0)
    assert compare.main([str(tmp_path), "--pareto"]) == 2
    assert "parameters" in capsys.readouterr().err
    assert compare.main([str(tmp_path), "--pareto", "parameters"]) == 0
    assert compare.main([str(FIGURES), "--pareto", "parameters"]) == 2
    assert "--pareto" in capsys.readouterr().err
