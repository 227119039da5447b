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
    "reporting": {"common"},
    "analysis": {"common", "models", "dataset", "engine", "reporting"},
}
# Each room of engine/ and the rooms that it may import.
ENGINE_ROOMS = {
    "protocol": set(),
    "device": set(),
    "checkpoints": {"protocol"},
    "records": {"checkpoints", "protocol"},
    "training": {"records", "checkpoints", "protocol", "device"},
    "light_flags": {"protocol"},
    "cli": {"training", "records", "checkpoints", "protocol", "device", "light_flags"},
}
# Likewise of reporting/.
REPORTING_ROOMS = {"records": set(), "tables": {"records"}, "formats": {"records", "tables"}}
MOST_PARAMETERS = 6
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


def imported_modules(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def imported(tree):
    return (name.split(".")[0] for name in imported_modules(tree))


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_run_one_way(package):
    ours = set(MAY_IMPORT) | {path.stem for path in SCRIPTS} | {"tests"}
    for path in modules_of(package):
        foreign = set(imported(parse(path))) & ours - MAY_IMPORT[package] - {package}
        assert not foreign, f"{path.name} imports {foreign}"


@pytest.mark.parametrize("room", ENGINE_ROOMS)
def test_rooms_of_the_engine_import_one_way(room):
    file = ROOT / "engine" / f"{room}.py"
    for path in [file] if file.is_file() else modules_of(f"engine/{room}"):
        rooms = {name.split(".")[1] for name in imported_modules(parse(path)) if name.startswith("engine.")}
        foreign = rooms - ENGINE_ROOMS[room] - {room}
        assert not foreign, f"{path.relative_to(ROOT)} imports {foreign}"


@pytest.mark.parametrize("room", REPORTING_ROOMS)
def test_rooms_of_reporting_import_one_way(room):
    for path in modules_of(f"reporting/{room}"):
        rooms = {name.split(".")[1] for name in imported_modules(parse(path)) if name.startswith("reporting.")}
        foreign = rooms - REPORTING_ROOMS[room] - {room}
        assert not foreign, f"{path.relative_to(ROOT)} imports {foreign}"


@pytest.mark.runs
def test_tables_load_no_torch():
    """Those beside published figures neither, which are compared with recipes and methods."""
    loaded = "{'torch', 'engine', 'models', 'dataset', 'distiller_zoo'} & set(sys.modules)"
    command = f"import sys, compare; compare.main(['results/cifar100_short', '--published']); assert not {loaded}"
    assert subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True).returncode == 0


HEAVY = "{'torch', 'pandas', 'numpy', 'scipy'}"


@pytest.mark.runs
@pytest.mark.parametrize("script", ["compare", "evaluate", "export", "predict"])
def test_command_lines_are_checked_before_libraries_are_imported(script):
    """Those of training are not: their flags are made from the methods, which are networks of torch."""
    command = (
        f"import sys, {script}\n"
        f"codes = [{script}.main(words) for words in (['--help'], ['--no_such_flag'], ['--format=worst'])]\n"
        f"assert codes == [0, 2, 2], codes\n"
        f"assert not {HEAVY} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


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


@pytest.mark.parametrize("package", [*MAY_IMPORT, "scripts", "."])
def test_no_function_takes_more_than_six_parameters(package):
    """Not counted are self and cls."""
    for path in SCRIPTS if package == "." else modules_of(package):
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                given = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
                names = [argument.arg for argument in given if argument.arg not in ("self", "cls")]
                place = f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
                assert len(names) <= MOST_PARAMETERS, f"{place} takes {names}"
