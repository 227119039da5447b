"""Registries: names, aliases, temporary entries, and files that cannot be imported, reported in two lines."""

import shutil
import subprocess
import sys
from types import ModuleType

import pytest

from common.errors import RequestError
from common.registry import Registry, import_all_modules
from tests.helpers import ROOT, environment


def test_names_and_aliases():
    registry: Registry[int] = Registry("thing")
    registry.add("one", 1, ["uno"])
    registry.add("two", 2)
    assert [registry["one"], registry["uno"], registry.canonical("uno")] == [1, 1, "one"]
    assert ("uno" in registry, "three" in registry, len(registry), list(registry)) == (True, False, 2, ["one", "two"])
    assert (registry.aliases_of("one"), registry.aliases_of("two")) == (["uno"], [])
    with pytest.raises(RequestError) as refusal:
        registry.canonical("twoo")
    assert all(word in str(refusal.value) for word in ("thing", "'twoo'", "two", "--list"))


def test_temporary_entries_are_undone_even_after_an_error():
    registry: Registry[int] = Registry("thing")
    registry.add("one", 1, ["first"])
    with pytest.raises(ValueError), registry.temporarily({"one": 10}):  # noqa: PT011, PT012
        registry.add("two", 2, ["second"])
        assert [registry["first"], registry["second"]] == [10, 2]
        raise ValueError
    assert dict(registry.items()) == {"one": 1}
    with pytest.raises(RequestError):
        registry.canonical("second")
    registry.add("two", 2, ["second"])  # the names are free again


# --- files that cannot be imported ------------------------------------------------------------------

METHOD = """from distiller_zoo.method import Method
from distiller_zoo.registry import register_method


@register_method("mine")
class Mine(Method):
    needs = ("embeding",)
"""
FILES = {
    "syntax": ("x = 1\ndef f(:\n", "zoo/mine.py:2: SyntaxError"),
    "null byte": ("x = '\0'\n", "zoo/mine.py"),
    "a name": ("import math\n\nfrom math import tau, taa\n", "zoo/mine.py:3: ImportError"),
    "a package": ("import nowhere_at_all\n", "zoo/mine.py:1: ModuleNotFoundError"),
    "a function": ("def f():\n    return 1 / 0\n\n\nf()\n", "zoo/mine.py:2: ZeroDivisionError"),
    "others' code": ("import json\n\njson.loads('')\n", "zoo/mine.py:3: JSONDecodeError"),
    "no words": ("raise KeyError\n", "zoo/mine.py:1: KeyError"),
    "a neighbour": ("from PACKAGE import other\n", "zoo/other.py:2: NameError"),
    "a declaration": (METHOD, "zoo/mine.py:5: TypeError"),
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An empty package in a folder zoo: its name and the folder."""
    folder, name = tmp_path / "zoo", "zoo_of_a_test"
    folder.mkdir()
    module = ModuleType(name)
    module.__path__ = [str(folder)]
    monkeypatch.setitem(sys.modules, name, module)
    yield name, folder
    for module in [module for module in sys.modules if module.startswith(f"{name}.")]:
        del sys.modules[module]


@pytest.mark.parametrize("case", FILES)
def test_file_and_line_are_named(case, package):
    name, folder = package
    code, place = FILES[case]
    (folder / "mine.py").write_text(code.replace("PACKAGE", name))
    (folder / "other.py").write_text("x = 1\ny\n" if case == "a neighbour" else "")
    with pytest.raises(RequestError) as refusal:
        import_all_modules(name, [str(folder)])
    assert refusal.value.__cause__ is not None
    first, second = str(refusal.value).splitlines()
    assert first.startswith(place)
    assert f'python -c "import {name}.mine"' in second


def test_a_name_taken_twice_names_both_files(package):
    name, folder = package
    (folder / "first.py").write_text(
        "from common.registry import Registry\n\nTHINGS = Registry('thing')\n\n\ndef one():\n    pass\n\n\n"
        "THINGS.add('one', one, aliases=['uno'])\n"
    )
    (folder / "second.py").write_text(f"from {name}.first import THINGS\n\nTHINGS.add('uno', 2)\n")
    with pytest.raises(RequestError) as refusal:
        import_all_modules(name, [str(folder)])
    first, _ = str(refusal.value).splitlines()
    assert first.startswith("zoo/second.py:3: ")
    assert "'uno'" in first
    assert "zoo/first.py" in first


def test_a_broken_file_is_reported_when_the_registry_is_used(package):
    name, folder = package
    (folder / "mine.py").write_text("1 / 0\n")
    registry: Registry[int] = Registry("thing")
    registry.add("one", 1)
    registry.add_package(name, [str(folder)])
    for use in (lambda: registry["one"], lambda: list(registry), registry.items):
        with pytest.raises(RequestError) as refusal:
            use()
        assert "zoo/mine.py:1" in str(refusal.value)


# --- as a user sees it ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the suite whose methods have a file that is a copy of kd's, its name not yet changed."""
    folder = tmp_path_factory.mktemp("suite")
    for part in ("common", "dataset", "distiller_zoo", "engine", "models", "presets"):
        shutil.copytree(ROOT / part, folder / part)
    shutil.copy(ROOT / "train_student.py", folder)
    shutil.copy(folder / "distiller_zoo" / "kd.py", folder / "distiller_zoo" / "wkd.py")
    return folder


def run(copy, *argv):
    command = [sys.executable, *argv]
    return subprocess.run(command, cwd=copy, capture_output=True, text=True, env=environment(), timeout=120)


@pytest.mark.runs
def test_a_script_ends_in_two_lines_by_a_broken_file(copy):
    done = run(copy, "train_student.py", "--list")
    assert (done.returncode, done.stdout) == (2, "")
    first, second = done.stderr.splitlines()
    assert first.startswith("error: distiller_zoo/wkd.py:")
    assert "distiller_zoo/kd.py" in first
    assert 'python -c "import distiller_zoo.wkd"' in second


@pytest.mark.runs
def test_the_command_that_it_names_shows_the_whole_traceback(copy):
    done = run(copy, "-c", "import distiller_zoo.wkd")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert '@register_method("kd"' in done.stderr
