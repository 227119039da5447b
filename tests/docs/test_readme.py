"""What README and docs promise: the example of a new method works as it stands, commands exist, tables are measured."""

import re
import shutil
import signal
import subprocess
import sys
from types import ModuleType

import pytest

import train_student
from distiller_zoo import METHODS
from tests.helpers import ROOT, SMALL, environment, folder_of, read_json, read_metrics, save_network

README = (ROOT / "README.md").read_text()
PARTS = ("common", "models", "distiller_zoo", "dataset", "engine", "reporting", "presets")  # what training takes


def section_of(heading):
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    return section


def compared(*words):
    command = [sys.executable, "compare.py", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def readme_method(monkeypatch):
    """The method of README's example, registered for the length of the test."""
    monkeypatch.setattr(METHODS, "_entries", dict(METHODS._entries))
    monkeypatch.setattr(METHODS, "_aliases", dict(METHODS._aliases))
    source = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    exec(compile(source, "README.md", "exec"), ModuleType("logits").__dict__)
    return METHODS["logits"]


def test_the_example_method_is_listed_trains_and_takes_its_option(readme_method, tmp_path, capsys):
    assert train_student.main(["--list"]) == 0
    assert readme_method.paper in capsys.readouterr().out
    save_network(tmp_path / "teacher.pth")
    small = list(SMALL)
    command = ["--distill", "none", "logits", "--path_t", str(tmp_path / "teacher.pth"), "--model_s", "resnet8"]
    assert train_student.main([*command, *small, "--logit_power", "1", "--output", str(tmp_path / "save")]) == 0
    folder = folder_of(tmp_path / "save", "logits")
    assert read_json(folder / "config.json")["label"] == "logits logit_power=1.0"
    first, last = read_metrics(folder)
    assert last["train"]["logits"] < first["train"]["logits"]


def test_the_example_method_is_one_file_and_nothing_else(tmp_path):
    """Put into a copy of the repository: listed, trained, stopped, continued and tabulated as a user would do it."""
    copy = tmp_path / "repository"
    for part in (*PARTS, *(path.name for path in ROOT.glob("*.py"))):
        place = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy.mkdir(exist_ok=True)
        place(ROOT / part, copy / part)
    source = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    (copy / "distiller_zoo" / "logits.py").write_text(source)
    save_network(tmp_path / "teacher.pth")

    def run(*argv):
        command = [sys.executable, *map(str, argv)]
        return subprocess.run(command, cwd=copy, capture_output=True, text=True, env=environment(), timeout=120)

    assert re.search(r"^  logits .*Ba & Caruana", run("train_student.py", "--list").stdout, re.MULTILINE)
    command = ["--distill", "none", "logits", "--model_s", "resnet8", "--path_t", tmp_path / "teacher.pth", *SMALL]
    words = [sys.executable, "train_student.py", *map(str, command)]
    with subprocess.Popen(words, cwd=copy, stdout=subprocess.PIPE, text=True, env=environment(), bufsize=1) as process:
        for line in process.stdout:
            if line.startswith("epoch 1/2") and "logits" in line:
                process.send_signal(signal.SIGINT)
                break
        process.stdout.read()
    assert process.returncode == 130
    again = run("train_student.py", *command)
    assert again.returncode == 0, again.stderr
    assert re.search(r"^logits: .*\(continues at epoch [12], step \d+\)$", again.stdout, re.MULTILINE)
    table = run("compare.py").stdout
    assert re.search(r"^\| \**logits\** ", table, re.MULTILINE)
    assert re.search(r"^\| student alone ", table, re.MULTILINE)


@pytest.mark.parametrize("page", ["README.md", "docs/commands.md"])
def test_scripts_and_files_that_it_names_exist(page):
    text = (ROOT / page).read_text()
    for name in set(re.findall(r"(?:scripts|docs)/[\w.]+\.(?:sh|md|py)|(?<![/\w])\w+\.py\b", text)):
        assert (ROOT / name).is_file(), name
    for name in re.findall(r"\]\(([\w./]+\.md)", text):
        assert ((ROOT / page).parent / name).is_file(), name


@pytest.mark.parametrize("page", ["README.md", "docs/commands.md"])
def test_every_flag_that_it_shows_is_known(page):
    text = (ROOT / page).read_text().replace("\\\n", " ")
    lines = re.findall(r"^ *(?:python|torchrun) .*$", text, re.MULTILINE)
    assert len(lines) > 4
    known = {}
    for line in lines:
        script, *words = line[line.index(next(re.finditer(r"\S+\.py", line))[0]) :].split("#")[0].split()
        if script not in known:
            command = [sys.executable, str(ROOT / script), "--help"]
            known[script] = set(re.findall(r"--[\w-]+", subprocess.run(command, capture_output=True, text=True).stdout))
        assert {word for word in words if word.startswith("--")} <= known[script], line


@pytest.mark.parametrize(
    ("page", "heading"), [("README.md", "Two commands"), ("README.md", "Which methods win"), ("docs/results.md", None)]
)
def test_tables_are_those_of_the_records(page, heading):
    """Every table stands in what the commands that are named beside it print of the records."""
    text = section_of(heading) if heading else (ROOT / page).read_text()
    commands = re.findall(r"`python compare\.py (results/\w+(?: results/\w+)*(?: --top \d+)?)`", text)
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert tables
    printed = "".join(compared(*command.split()) for command in commands)
    for table in tables:
        assert table in printed


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_what_is_explained_is_there(page):
    """And nothing is left to be filled in."""
    text = (ROOT / page).read_text()
    tables = "".join(re.findall(r"^\|.*\n", text, re.MULTILINE))
    assert ("†" in text) == ("†" in tables)
    assert not re.search(r"^[A-Z]+$", text, re.MULTILINE)


def test_published_gains_are_those_of_the_table():
    """In words, the highest first: all that are above kd, with the number of pairs where it is not all of them."""
    text = " ".join(section_of("Which methods win").split())
    (sentence,) = re.findall(r"\(in points\): (.*?)\. ", text)
    said = re.findall(r"(\w[\w+ ]*?) (\+\d\.\d\d)(?: \((\d+)\))?", sentence)
    rows = [re.split(r" *\| *", line)[1:-1] for line in compared("results/published").splitlines() if "|" in line]
    figures = [(name, *gain.rstrip(")").split(" (")) for name, *_, gain in rows if gain.startswith("+")]
    assert len(figures) > 10
    assert said == [(name, gain, "" if n == "13" else n) for name, gain, n in figures]
    (of_kd,) = re.findall(r"Kd itself is (\d\.\d\d) above the student alone", text)
    assert [gain for name, *_, gain, _ in rows if name == "kd"] == [f"+{of_kd} (13)"]
    below = [(name, gain.split(" (")[0]) for name, *_, gain in rows if re.match(r"-\d", gain)]
    assert f"from {below[0][0]} ({below[0][1]}) to {below[-1][0]} ({below[-1][1]})" in text
