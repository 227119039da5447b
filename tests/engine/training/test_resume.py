"""A run that is cut off and started again ends where it would have ended: every bit of it, for every method."""

import signal
import subprocess
import sys
import time
from functools import cache

import pytest

from common.errors import RequestError
from distiller_zoo import METHODS, Pair, create_method
from engine.training import loop
from models import create_model
from tests.engine.training.few import OF_EACH_KIND, STEPS, train_few
from tests.helpers import (
    DIGITS,
    ROOT,
    arguments,
    assert_same,
    environment,
    folder_of,
    folders_of,
    load,
    outcome_of,
    read_json,
    read_metrics,
    stop_after_epoch,
    stop_at_step,
    train,
)

pytestmark = pytest.mark.runs

INTERRUPTED = 130


def student_for(method):
    """A CNN with batch normalisation, or an MLP or DeiT where the method asks for one."""
    teachers = (create_model("resnet8", 10, 8),) * METHODS[method].min_teachers
    for name in ("resnet8", "mixer_pico"):
        student = create_model(name, 10, 8)
        shapes = tuple(teacher.feature_shapes() for teacher in teachers)
        try:
            create_method(method, Pair(student.feature_shapes(), shapes, DIGITS.train_size)).inspect_networks(
                student, teachers
            )
        except RequestError:
            continue
        return name
    return "deit_pico_distilled"


CUTS = {"after_an_epoch": (stop_after_epoch, 1), "within_an_epoch": (stop_at_step, 2, 2)}


@pytest.fixture(scope="module")
def cut_runs(teacher, tmp_path_factory):
    """A function that trains methods, whole and cut, as groups; returns their outcomes by kind of cut and method."""

    @cache
    def runs_of(methods):
        found = {kind: {} for kind in ("whole", *CUTS)}
        for student, own in groups(methods):
            for kind in found:
                output = tmp_path_factory.mktemp(kind)
                options = {"output": output, "teacher": teacher, "student": student, "extra": ["--save_freq", "1"]}
                if kind != "whole":
                    stop, *when = CUTS[kind]
                    with pytest.MonkeyPatch.context() as patch:
                        stop(patch, *when)
                        # Methods with other batches form a group of their own, which is cut in its turn.
                        cuts = 0
                        while train_few(*own, **options) == INTERRUPTED:
                            cuts += 1
                        assert cuts == len({METHODS[method].views for method in own})
                else:
                    assert train_few(*own, **options) == 0
                for method in own:
                    found[kind][method] = outcome_of(folder_of(output, method))
        return found

    return runs_of


def groups(methods):
    """Methods by the student that they are tried with."""
    found = {}
    for method in methods:
        found.setdefault(student_for(method), []).append(method)
    return found.items()


OTHERS = tuple(method for method in METHODS if method not in OF_EACH_KIND)
EVERY = [*OF_EACH_KIND, *(pytest.param(method, marks=pytest.mark.slow) for method in OTHERS)]


@pytest.mark.parametrize("method", EVERY)
def test_a_cut_changes_nothing(method, cut_runs):
    runs = cut_runs(OF_EACH_KIND if method in OF_EACH_KIND else OTHERS)
    expected = runs["whole"][method]
    assert len(expected["weights"]) == 4  # two epochs, the best, the last
    assert len(expected["metrics"]) == 2
    for kind in CUTS:
        assert_same(runs[kind][method], expected, kind)


def test_where_a_cut_run_goes_on(teacher, tmp_path, monkeypatch, capsys):
    for stop, when, position in ((stop_after_epoch, (1,), [2, 0]), (stop_at_step, (2, 2), [2, 3])):
        output = tmp_path / stop.__name__
        with monkeypatch.context() as patch:
            stop(patch, *when)
            assert train_few("kd", output=output, teacher=teacher) == INTERRUPTED
        folder = folder_of(output)
        assert load(folder / "checkpoint.pth")["position"] == position
        assert not (folder / "result.json").exists()
        capsys.readouterr()
        assert train_few("kd", output=output, teacher=teacher) == 0
        assert f"continues at epoch {position[0]}, step {position[1]}" in capsys.readouterr().out


@pytest.mark.parametrize("method", ["crd", "std"])
def test_the_checkpoint_holds_the_same_state(method, teacher, tmp_path, monkeypatch):
    """Optimizer, method and its memories after a cut and the next, against one cut alone."""
    student = student_for(method)

    def cut(output, step):
        with monkeypatch.context() as patch:
            stop_at_step(patch, 2, step)
            assert train_few(method, output=tmp_path / output, teacher=teacher, student=student) == INTERRUPTED

    cut("once", 2)
    cut("twice", 0)
    cut("twice", 2)
    states = [load(folder_of(tmp_path / output) / "checkpoint.pth") for output in ("once", "twice")]
    for state in states:
        state["meters"].pop("seconds")
        for record in state["history"]:
            del record["seconds"], record["images_per_second"]
    assert_same(states[1], states[0])
    assert states[0]["method"]
    assert any(key.endswith("bank") for key in states[0]["method"]) == (method == "crd")


def test_a_cut_before_the_first_and_after_the_last_step_of_an_epoch(tmp_path, monkeypatch):
    assert train_few("none", output=tmp_path / "whole") == 0
    expected = outcome_of(folder_of(tmp_path / "whole"))
    for step in (0, STEPS - 1):
        with monkeypatch.context() as patch:
            stop_at_step(patch, 1, step)
            assert train_few("none", output=tmp_path / f"cut{step}") == INTERRUPTED
        assert train_few("none", output=tmp_path / f"cut{step}") == 0
        assert_same(outcome_of(folder_of(tmp_path / f"cut{step}")), expected)


def test_a_cut_between_the_last_epoch_and_the_result(tmp_path, monkeypatch):
    """The machine dies when the final weights are to be written."""
    assert train_few("none", output=tmp_path / "whole") == 0

    def die(run):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("engine.training.group.finish_run", die)
        assert train_few("none", output=tmp_path / "cut") == INTERRUPTED
    folder = folder_of(tmp_path / "cut")
    assert not (folder / "result.json").exists()
    assert train_few("none", output=tmp_path / "cut") == 0
    assert_same(outcome_of(folder), outcome_of(folder_of(tmp_path / "whole")))


def test_a_stop_that_comes_when_all_is_done(tmp_path, monkeypatch, capsys):
    """The run is finished; the exit code still keeps a script around it from going on to its next command."""
    with monkeypatch.context() as patch:
        stop_after_epoch(patch, 2)
        assert train_few("none", output=tmp_path) == INTERRUPTED
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert (folder_of(tmp_path) / "result.json").exists()
    assert train_few("none", output=tmp_path) == 0


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_in_the_last_evaluation_of_a_group(signum, teacher, tmp_path, monkeypatch, capsys):
    """The group is finished, and the next one is not begun; mlkd wants two views of each image, kd one."""
    original, asked = loop.finish_epoch, []

    def finish_epoch(run, session):
        if not asked:
            asked.append(run)
            signal.raise_signal(signum)
        original(run, session)

    options = {"output": tmp_path, "teacher": teacher, "extra": ["--epochs", "1"]}
    monkeypatch.setattr(loop, "finish_epoch", finish_epoch)
    assert train_few("kd", "mlkd", **options) == INTERRUPTED
    assert len(capsys.readouterr().err.splitlines()) == 1
    (folder,) = folders_of(tmp_path)
    assert read_json(folder / "config.json")["method"] == "kd"
    assert (folder / "result.json").exists()
    assert train_few("kd", "mlkd", **options) == 0
    assert all((folder / "result.json").exists() for folder in folders_of(tmp_path))
    assert len(folders_of(tmp_path)) == 2


LONG = ("--dataset", "digits", "--recipe", "repdistiller", "--epochs", "8", "--batch_size", "250")
LONG += ("--device", "cpu", "--precision", "fp32")


def start(output):
    """A run of some seconds as a user starts it."""
    command = [sys.executable, str(ROOT / "train_student.py"), *arguments("none", output=output, small=LONG)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(), bufsize=1
    )


def epochs_seen(process, count):
    """Wait until the run has printed so many epochs."""
    for line in process.stdout:
        count -= line.startswith("epoch ")
        if not count:
            return
    raise AssertionError(process.stderr.read())


@pytest.fixture(scope="module")
def long_run(tmp_path_factory):
    output = tmp_path_factory.mktemp("long")
    assert train("none", output=output, small=LONG) == 0
    return outcome_of(folder_of(output))


def test_control_c_and_the_same_command_again(long_run, tmp_path, capsys):
    process = start(tmp_path)
    epochs_seen(process, 2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED
    assert len(errors.splitlines()) == 1
    folder = folder_of(tmp_path)
    epoch, _step = load(folder / "checkpoint.pth")["position"]
    assert 3 <= epoch <= 8
    assert len(read_metrics(folder)) == epoch - 1

    assert train("none", output=tmp_path, small=LONG) == 0
    out, errors = capsys.readouterr()
    assert errors == ""
    assert f"epoch {epoch}, step" in out
    assert_same(outcome_of(folder), long_run)


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0, 0.06, 0.13])  # seconds; an epoch takes about a quarter of one
def test_killed_at_any_moment(delay, long_run, tmp_path):
    process = start(tmp_path)
    epochs_seen(process, 1)
    time.sleep(delay)
    process.kill()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    folder = folder_of(tmp_path)
    done = len(load(folder / "checkpoint.pth")["history"])
    assert 1 <= done < 8
    assert train("none", output=tmp_path, small=LONG) == 0
    assert_same(outcome_of(folder), long_run)
    assert not list(folder.glob(".*.tmp"))


def test_overwrite_is_left_out_to_continue(tmp_path, monkeypatch, capsys):
    """The same command would throw away what it has."""
    for extra in ((), ("--overwrite",)):
        stop_at_step(monkeypatch, 2, 1)
        assert train_few("none", output=tmp_path, extra=extra) == INTERRUPTED
        monkeypatch.undo()
        advice = capsys.readouterr().err
    assert "without --overwrite" in advice
    assert train_few("none", output=tmp_path) == 0
    assert "epoch 2, step 2" in capsys.readouterr().out
