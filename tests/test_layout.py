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
# Where things are registered (models, distiller_zoo) a name may stand for itself.
DECIDES_BY_NO_NAME = ("analysis", "benchmarking", "common", "dataset", "engine", "reporting", "scripts")
# Every table shows the student alone, which is the method "none", as what the others are compared with.
MAY_NAME = {"reporting": {"none"}}
BY_VALUE = (ast.Eq, ast.NotEq, ast.In, ast.NotIn)


def modules_of(package):
    """All modules of a package, those of its subpackages too."""
    found = sorted(ROOT.glob(f"{package}/**/*.py"))
    assert found, package
    return found


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
    for path in modules_of(package):
        foreign = set(imported(parse(path))) & ours - MAY_IMPORT[package] - {package}
        assert not foreign, f"{path.name} imports {foreign}"


def test_tables_of_records_load_no_torch():
    command = "import sys, compare, reporting.tables.published_figures; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], cwd=ROOT).returncode == 0


def test_packages_in_packages_are_looked_at_too():
    assert ROOT / "reporting/formats/html/chart.py" in modules_of("reporting")


@pytest.mark.parametrize(
    "path",
    [*SCRIPTS, *(path for package in DECIDES_BY_NO_NAME for path in modules_of(package))],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_nothing_compares_with_a_registered_name(path):
    names = {*METHODS, *MODELS, *DATASETS} - MAY_NAME.get(path.relative_to(ROOT).parts[0], set())
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Compare) and any(isinstance(op, BY_VALUE) for op in node.ops):
            constants = {n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
            assert not constants & names, f"{path.name}:{node.lineno} decides by {constants & names}"
