"""The shell scripts: which commands they start, when they end, and that these commands are understood."""

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT, environment, train_alone

SCRIPTS = sorted(ROOT.glob("scripts/*.sh"))
# In the place of python: writes its arguments down, makes what the demo looks for, and ends as it is told.
STUB = r"""#!/usr/bin/env bash
printf '%s\t' "$@" >> "$CALLS"; echo >> "$CALLS"
if [[ $1 == train_teacher.py ]]; then
    mkdir -p "$MADE/resnet20_digits_lr_0.05_trial_${7}_00000000"
    touch "$MADE/resnet20_digits_lr_0.05_trial_${7}_00000000/resnet20_last.pth"
fi
for ((i = 1; i < $#; i++)); do
    next=$((i + 1))
    [[ ${!i} != --run_list ]] || echo "$MADE/the_teacher" > "${!next}"
done
[[ $1 != scripts/choose_student.py ]] || echo "$MADE/the_student"
[[ $1 != train_* ]] || exit "${CODE:-0}"
"""


def run(script, *arguments, cwd=ROOT, path=Path(sys.executable).parent, **variables):
    """A script with the python of this folder."""
    variables = {name: str(value) for name, value in variables.items()}
    env = environment() | {"SKIP_SETUP": "1", "PATH": f"{path}{os.pathsep}{os.environ['PATH']}"} | variables
    command = ["bash", str(ROOT / "scripts" / script), *arguments]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300)


@pytest.fixture
def stub(tmp_path):
    """Runs a script with the stub: its exit code, and the scripts that it started with their arguments."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").write_text(STUB)
    (tmp_path / "bin" / "python").chmod(0o755)

    def start(script, *arguments, **variables):
        calls = tmp_path / "calls"
        calls.unlink(missing_ok=True)
        variables = {"CALLS": calls, "MADE": tmp_path / "out" / "models", "OUTPUT": tmp_path / "out"} | variables
        done = run(script, *arguments, path=tmp_path / "bin", cwd=tmp_path, **variables)
        lines = calls.read_text().splitlines() if calls.exists() else []
        return done.returncode, [line.rstrip("\t").split("\t") for line in lines]

    return start


def understood(call):
    """What a script makes of its arguments."""
    script, *words = call
    return importlib.import_module(script.removesuffix(".py").replace("/", ".")).parse(words)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_parses(script):
    assert subprocess.run(["bash", "-n", str(script)]).returncode == 0


def test_distils_every_trial_and_ends_with_the_table(stub, tmp_path):
    code, calls = stub(
        "run_cifar_distill.sh", "resnet56", "resnet20", "resnet8",
        METHODS="none kd", TRIALS="1 2", ARGS="--epochs 3 --group_size 4",
    )  # fmt: skip
    assert code == 0
    assert [call[0] for call in calls] == ["train_student.py", "train_student.py", "compare.py"]
    for trial, call in enumerate(calls[:2], 1):
        given = understood(call)
        assert (given.distill, given.model_t, given.model_s) == (["none", "kd"], ["resnet56"], ["resnet20", "resnet8"])
        assert (given.trial, given.epochs, given.group_size, given.skip_refused) == ([trial], 3, 4, True)
        assert given.output == tmp_path / "out"
    assert calls[2][1:] == [str(tmp_path / "out")]


def test_every_method_is_the_default(stub):
    _, calls = stub("run_cifar_distill.sh")
    given = understood(calls[0])
    assert (given.distill, given.model_t, given.model_s) == (["all"], ["resnet32x4"], ["resnet8x4"])


def test_mlps_are_distilled_by_std_too(stub):
    _, calls = stub("run_cifar_mlp.sh")
    given = understood(calls[0])
    assert (given.distill, given.model_t) == (["none", "kd", "std"], ["resnet56"])
    assert given.model_s == ["mixer_nano", "mixer_s4"]


def test_networks_are_trained_alone(stub):
    code, calls = stub("run_cifar_vanilla.sh", "resnet8", "vgg8", ARGS="--epochs 2")
    assert code == 0
    assert [(understood(call).model, understood(call).epochs) for call in calls[:2]] == [("resnet8", 2), ("vgg8", 2)]
    assert calls[2][0] == "compare.py"
    assert len(stub("run_cifar_vanilla.sh")[1]) == 7  # RepDistiller's six teachers, and the table


def test_the_demo_gives_each_trial_a_teacher_of_its_own(stub):
    code, calls = stub("demo.sh")
    assert code == 0
    assert [call[0] for call in calls] == ["train_teacher.py", "train_student.py"] * 3 + ["compare.py"]
    for trial in (1, 2, 3):
        teacher, student = (understood(call) for call in calls[2 * trial - 2 : 2 * trial])
        assert (teacher.trial, student.trial, student.distill) == ([trial], [trial], ["none", "kd", "std", "crd"])
        assert f"_trial_{trial}_" in str(student.path_t[0])


def test_photographs_become_a_student_in_a_file(stub, tmp_path):
    """Every path that is named relative to where the script was started is found from its own folder."""
    (tmp_path / "my photos" / "birds").mkdir(parents=True)
    (tmp_path / "new").mkdir()
    (tmp_path / "start.pth").touch()
    code, calls = stub(
        "distil_folder.sh", "my photos/birds", "new",
        SIZE=96, STUDENTS="a b", INIT_S="start.pth none", METHODS="none kd", ARGS="--class_weights balanced", EPOCHS=3,
    )  # fmt: skip
    assert code == 0
    scripts = ["train_teacher.py", "train_student.py", "train_student.py", "scripts/measure_latency.py"]
    scripts += ["scripts/choose_student.py", "scripts/analyse.py", "compare.py", "compare.py", "export.py"]
    assert [call[0] for call in calls] == [*scripts, "predict.py", "predict.py"]
    teacher, *students = (understood(call) for call in calls[:3])
    assert (teacher.model, teacher.init, teacher.recipe) == ("timm:resnet50", "pretrained", "finetune")
    assert [given.init_s for given in students] == [str(tmp_path / "start.pth"), None]
    assert [given.recipe for given in students] == ["finetune", None]
    assert [given.model_s for given in students] == [["a"], ["b"]]
    for given in (teacher, *students):
        assert (given.data_folder, given.dataset) == (tmp_path / "my photos", "folder:birds@96")
        assert (given.epochs, given.class_weights, given.output) == (3, "balanced", tmp_path / "out")
    made = tmp_path / "out" / "models"
    assert {str(*given.path_t) for given in students} == {str(made / "the_teacher")}
    by_script = {call[0]: understood(call) for call in calls[3:]}
    assert by_script["export.py"].path == by_script["scripts/analyse.py"].student[0] == made / "the_student"
    assert by_script["predict.py"].images == [tmp_path / "new"]
    assert by_script["predict.py"].path == by_script["export.py"].out


@pytest.mark.parametrize(
    ("argv", "variables"),
    [((), {}), (("missing",), {}), (("--help",), {}), (("photos",), {"STUDENTS": "a b c", "INIT_S": "x y"})],
)
def test_photographs_that_cannot_be_distilled_are_refused_at_once(stub, tmp_path, argv, variables):
    (tmp_path / "photos").mkdir()
    assert stub("distil_folder.sh", *argv, **variables) == (2, [])


@pytest.mark.parametrize("script", ["run_cifar_distill.sh", "run_cifar_vanilla.sh"])
def test_a_run_that_fails_keeps_no_other_from_running(stub, script):
    """It is a wrong request (2) or Ctrl-C (130) that ends all at once."""
    calls_of = {code: stub(script, "resnet8", "resnet14", CODE=code, TRIALS="1 2") for code in (1, 2, 130)}
    code, calls = calls_of[1]
    assert (code, len(calls), calls[-1][0]) == (1, 3, "compare.py")
    for code in (2, 130):
        assert (calls_of[code][0], len(calls_of[code][1])) == (code, 1)


@pytest.mark.parametrize("script", ["run_cifar_distill.sh", "run_cifar_vanilla.sh"])
def test_where_to_write_is_given_in_one_place(stub, script):
    assert stub(script, "resnet8", ARGS="--epochs 1 --output x") == (2, [])


def test_a_relative_output_is_of_the_folder_that_the_script_is_started_in(stub, tmp_path):
    _, calls = stub("run_cifar_vanilla.sh", "resnet8", OUTPUT="kept")
    assert understood(calls[0]).output == tmp_path / "kept"


def test_fetching_passes_the_names_on(stub):
    code, calls = stub("fetch_pretrained_teachers.sh", "resnet56")
    assert (code, calls) == (0, [["-m", "engine.checkpoints.teachers", "resnet56"]])


def test_checks_come_before_the_tests(tmp_path):
    """Each of them ends the script by failing, and arguments go to pytest."""
    (tmp_path / "python").write_text('#!/usr/bin/env bash\necho "$@"\n[ "$FAILS" != "$2 $3" ]\n')
    (tmp_path / "python").chmod(0o755)
    done = run("test.sh", "-m", "fast", path=tmp_path, FAILS="")
    assert done.returncode == 0
    assert [line.split()[1] for line in done.stdout.splitlines()] == ["ruff", "ruff", "mypy", "pytest"]
    assert done.stdout.splitlines()[-1].endswith("-m fast")
    for fails in ("ruff check", "ruff format", "mypy ", "pytest --numprocesses"):
        assert run("test.sh", path=tmp_path, FAILS=fails).returncode == 1


# --- the python that is there ----------------------------------------------------------------------

# A python that answers as it is asked to, writes down what it is asked for, and cannot make an environment.
PYTHON = r"""#!/usr/bin/env bash
echo "$(dirname "$0") $*" >> "$CALLS"
case "$*" in
    *check_pins.py*) [[ $0 == *"${FITS:-nothing}"* ]] || { echo "it has no torch"; exit 1; } ;;
    *"import engine"*) [[ $0 == *"${FITS:-nothing}"* ]] ;;
    *"-m venv"*) exit 1 ;;
esac
"""


@pytest.fixture
def machine(tmp_path):
    """Starts a script in a copy of the scripts where pythons are stubs: what it ended with, said and asked for."""
    suite = tmp_path / "suite"
    shutil.copytree(ROOT / "scripts", suite / "scripts")
    for folder in ("active/bin", "conda/bin", "path"):
        (tmp_path / folder).mkdir(parents=True)
        for name in ("python", "python3"):
            (tmp_path / folder / name).write_text(PYTHON)
            (tmp_path / folder / name).chmod(0o755)

    def start(script, **variables):
        (tmp_path / "calls").write_text("")
        env = {"PATH": f"{tmp_path / 'path'}{os.pathsep}/usr/bin:/bin", "CALLS": str(tmp_path / "calls")} | variables
        done = subprocess.run(["bash", str(suite / "scripts" / script)], env=env, capture_output=True, text=True)
        calls = [line.removeprefix(f"{tmp_path}/") for line in (tmp_path / "calls").read_text().splitlines()]
        return done.returncode, done.stdout + done.stderr, calls

    return start


@pytest.mark.parametrize(
    ("variable", "fits"), [("", "path/python"), ("VIRTUAL_ENV", "active/bin"), ("CONDA_PREFIX", "conda/bin")]
)
def test_a_python_that_has_the_packages_is_used(machine, tmp_path, variable, fits):
    active = {variable: str((tmp_path / fits).parent)} if variable else {}
    for script, last in (("test.sh", "-m pytest"), ("fetch_pretrained_teachers.sh", "-m engine.checkpoints.teachers")):
        code, said, calls = machine(script, FITS=fits, **active)
        assert code == 0, said
        assert fits.partition("/python")[0] in said  # which it is
        assert not any("venv" in call for call in calls)
        assert calls[-1].startswith(f"{fits.partition('/python')[0]} {last}")


def test_the_packages_are_installed_where_no_python_has_them(machine):
    """But not by a script that fetches files, and PYTHON says what .venv is made by."""
    code, said, calls = machine("demo.sh")
    assert code == 1
    assert "torch" in said  # why the one that is there does not do
    assert calls[-1].endswith("-m venv .venv")
    code, said, calls = machine("fetch_pretrained_teachers.sh")
    assert (code, "pip install" in said) == (2, True)
    assert not any("-m" in call for call in calls)
    code, said, calls = machine("demo.sh", PYTHON="python3", FITS="path/python")
    assert not any("check_pins" in call for call in calls)
    assert calls[-1].endswith("-m venv .venv")


@pytest.mark.runs
def test_one_command_from_runs_to_table(tmp_path):
    """With the real python, on the digits."""
    assert train_alone(tmp_path / "save") == 0
    small = "--dataset digits --recipe repdistiller --epochs 1 --batch_size 130 --precision fp32"
    done = run(
        "run_cifar_distill.sh", "resnet8", "resnet14", cwd=tmp_path,
        METHODS="none kd std", ARGS=small, OUTPUT=tmp_path / "save",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    table = done.stdout[done.stdout.index("### resnet8 → resnet14") :]
    assert "student alone" in table
    assert "| kd " in table or "**kd**" in table


def test_keeps_the_records_of_finished_runs_and_no_weights(tmp_path):
    finished, cut_off = (tmp_path / "save" / "student_model" / name for name in ("finished", "cut_off"))
    repeated = finished / "repetition", ("failure.json",)
    for folder, files in ((finished, ("metrics.jsonl", "result.json", "resnet8_last.pth")), (cut_off, ()), repeated):
        folder.mkdir(parents=True)
        for name in ("config.json", *files):
            (folder / name).write_text("{}")

    def keep():
        return run("keep_records.sh", str(tmp_path / "save"), str(tmp_path / "kept")).returncode

    for _ in range(2):
        assert keep() == 0
        (kept,) = (tmp_path / "kept").iterdir()
        assert sorted(path.name for path in kept.iterdir()) == ["config.json", "metrics.jsonl", "result.json"]
    failed = tmp_path / "kept" / "cut_off"
    for record in ("failure.json", "result.json"):  # it has failed, it has finished since
        (cut_off / "failure.json").unlink(missing_ok=True)
        (cut_off / record).write_text("{}")
        assert keep() == 0
        assert sorted(path.name for path in failed.iterdir()) == ["config.json", record]
    (failed / "config.json").write_text("mine")
    assert keep() == 0
    assert (failed / "config.json").read_text() == "mine"
    assert run("keep_records.sh", str(tmp_path / "nothing"), str(tmp_path / "kept")).returncode == 2
