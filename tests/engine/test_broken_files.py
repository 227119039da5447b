"""A broken file among methods, networks or data sets: its line and its error in two lines, and exit code 2."""

import re
import shutil
import subprocess
import sys
from types import ModuleType

import pytest

from common.errors import RequestError
from common.registry import import_all_modules
from tests.helpers import ROOT, environment

METHOD = """from distiller_zoo.method import Method
from distiller_zoo.registry import register_method


@register_method("mine")
class Mine(Method):
    needs = ("embeding",)
"""
FILES = {
    "syntax": ("x = 1\ndef f(:\n", r"zoo/mine\.py:2: SyntaxError: invalid syntax"),
    "null byte": ("x = '\0'\n", r"zoo/mine\.py(:1)?: \w+Error: .*null bytes"),
    "a name": ("import math\n\nfrom math import tau, taa\n", r"zoo/mine\.py:3: ImportError: cannot import name 'taa'"),
    "a package": ("import nowhere_at_all\n", r"zoo/mine\.py:1: ModuleNotFoundError: No module named 'nowhere_at_all'"),
    "a function": ("def f():\n    return 1 / 0\n\n\nf()\n", r"zoo/mine\.py:2: ZeroDivisionError: division by zero"),
    "others' code": ("import json\n\njson.loads('')\n", r"zoo/mine\.py:3: JSONDecodeError: Expecting value"),
    "no words": ("raise KeyError\n", r"zoo/mine\.py:1: KeyError$"),
    "a neighbour": ("from PACKAGE import other\n", r"zoo/other\.py:2: NameError: name 'y' is not defined"),
    "a declaration": (METHOD, r"zoo/mine\.py:5: TypeError: Mine needs 'embeding', which no network has; there is "),
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An empty package in a folder zoo: its name and the folder."""
    folder, name = tmp_path / "zoo", "zoo_of_a_test"
    folder.mkdir()
    module = ModuleType(name)
    module.__path__ = [str(folder)]
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    yield name, folder
    for module in [module for module in sys.modules if module.startswith(f"{name}.")]:
        del sys.modules[module]


def refusal_of(name, folder):
    """The two lines that the import of all ends with."""
    with pytest.raises(RequestError) as refusal:
        import_all_modules(name, [str(folder)])
    assert refusal.value.__cause__ is not None
    first, second = str(refusal.value).splitlines()
    return first, second


@pytest.mark.parametrize("case", FILES)
def test_file_and_line_are_named(case, package):
    name, folder = package
    code, sentence = FILES[case]
    (folder / "mine.py").write_text(code.replace("PACKAGE", name))
    (folder / "other.py").write_text("x = 1\ny\n" if case == "a neighbour" else "")
    first, second = refusal_of(name, folder)
    assert re.match(sentence, first), first
    assert second == f'mend the file or move it away; python -c "import {name}.mine" shows the whole traceback'


def test_a_name_taken_twice_names_both_files(package):
    name, folder = package
    (folder / "first.py").write_text(
        "from common.registry import Registry\n\nTHINGS = Registry('thing')\nTHINGS.add('one', 1, aliases=['uno'])\n"
    )
    (folder / "second.py").write_text(f"from {name}.first import THINGS\n\nTHINGS.add('uno', 2)\n")
    first, _ = refusal_of(name, folder)
    assert first.startswith("zoo/second.py:3: ValueError: thing 'uno' is registered twice, first in zoo/first.py; ")


# --- as a user sees it ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the suite whose methods have a file that is a copy of kd's, its name not yet changed."""
    folder = tmp_path_factory.mktemp("suite")
    for part in ("common", "dataset", "distiller_zoo", "engine", "models", "presets", "analysis", "reporting"):
        shutil.copytree(ROOT / part, folder / part)
    (folder / "scripts").mkdir()
    for script in ("train_student.py", "evaluate.py", "scripts/analyse.py"):
        shutil.copy(ROOT / script, folder / script)
    shutil.copy(folder / "distiller_zoo" / "kd.py", folder / "distiller_zoo" / "wkd.py")
    return folder


def run(copy, *argv):
    return subprocess.run(
        [sys.executable, *argv], cwd=copy, capture_output=True, text=True, env=environment(), timeout=120
    )


@pytest.mark.parametrize(
    "argv", [("train_student.py", "--list"), ("evaluate.py", "--path", "x"), ("scripts/analyse.py", "--help")]
)
def test_every_script_ends_by_it_in_two_lines(argv, copy):
    done = run(copy, *argv)
    assert (done.returncode, done.stdout) == (2, "")
    first, second = done.stderr.splitlines()
    assert re.match(r"error: distiller_zoo/wkd\.py:\d+: ValueError: method 'kd' is registered twice", first)
    assert "first in distiller_zoo/kd.py" in first
    assert 'python -c "import distiller_zoo.wkd"' in second


def test_the_command_that_it_names_shows_the_whole_traceback(copy):
    done = run(copy, "-c", "import distiller_zoo.wkd")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert '@register_method("kd"' in done.stderr
