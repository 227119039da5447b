"""The rules of the layout: imports run one way, and nothing decides by the name of a method, model or data set."""

import ast
import subprocess
import sys

import pytest

from dataset import DATASETS
from distiller_zoo import METHODS
from models import MODELS
from tests.helpers import ROOT

# Each package and what it may import of ours.
MAY_IMPORT = {
    "common": set(),
    "models": {"common"},
    "dataset": {"common"},
    "distiller_zoo": {"common", "models"},
    "engine": {"common", "models", "dataset", "distiller_zoo"},
    "benchmarking": {"common", "models", "dataset", "distiller_zoo", "engine"},
    "reporting": {"common", "models", "dataset", "distiller_zoo", "engine"},  # late, see below
    "analysis": {"common", "models", "dataset", "engine", "reporting"},
}
SCRIPTS = sorted(ROOT.glob("*.py"))


def parse(path):
    return ast.parse(path.read_text(), str(path))


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.split(".")[0]


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_run_one_way(package):
    ours = set(MAY_IMPORT) | {path.stem for path in SCRIPTS} | {"tests"}
    for path in ROOT.glob(f"{package}/*.py"):
        foreign = set(imported(parse(path))) & ours - MAY_IMPORT[package] - {package}
        assert not foreign, f"{path.name} imports {foreign}"


def test_tables_of_records_load_no_torch():
    command = "import sys, compare, reporting.published; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], cwd=ROOT).returncode == 0


@pytest.mark.parametrize("path", [*SCRIPTS, *sorted(ROOT.glob("engine/*.py"))], ids=lambda path: path.name)
def test_nothing_compares_with_a_registered_name(path):
    names = {*METHODS, *MODELS, *DATASETS}
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq | ast.NotEq | ast.In | ast.NotIn):
            constants = {n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
            assert not constants & names, f"{path.name}:{node.lineno} decides by {constants & names}"
