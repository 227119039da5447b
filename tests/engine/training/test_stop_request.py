"""A signal at any moment of a command: it ends with 130, nothing is damaged, and the same command ends the same."""

import contextlib
import os
import signal
import threading

import pytest

import train_student
from common import signals
from common.signals import STOP_SIGNALS
from engine.checkpoints import teachers
from engine.records.run_folder import RunFolder
from engine.training import epoch_end, group, run_plans, student_run
from engine.training.student_run import StudentRun
from tests.engine.training.few import SMALL, train_few
from tests.helpers import arguments, assert_same, at_step, default_stop_signals, folder_of, load, outcome_of

pytestmark = [pytest.mark.runs, pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")]

INTERRUPTED = 130


@pytest.fixture(autouse=True)
def _signals_as_in_a_terminal():
    with default_stop_signals():
        yield


@pytest.fixture(scope="module")
def whole(teacher, tmp_path_factory):
    """The outcome of a run that nobody stopped."""
    output = tmp_path_factory.mktemp("whole")
    assert train_few("kd", output=output, teacher=teacher) == 0
    return outcome_of(folder_of(output))


# The moments of a command, by the function that is called then.
MOMENTS = {
    "the teacher is read": (teachers, "load_network"),
    "networks are built": (student_run, "create_model"),
    "checkpoints are read": (StudentRun, "read_saved"),
    "data is loaded": (run_plans, "load_arrays"),
    "the teachers are measured": (run_plans, "measure_teachers"),
    "a run begins": (run_plans, "begin_run"),
    "a batch is trained on": (StudentRun, "step"),
    "the student is tested": (epoch_end, "evaluate"),
    "a checkpoint is written": (RunFolder, "save_checkpoint"),
    "the final weights are written": (group, "finish_run"),
    "the result is written": (RunFolder, "write_result"),
}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_five_quick_control_c(moment, after, whole, teacher, tmp_path, monkeypatch, capsys):
    stop_where(monkeypatch, *MOMENTS[moment], [signal.SIGINT] * 5, after)
    assert train_few("kd", output=tmp_path, teacher=teacher) == INTERRUPTED
    monkeypatch.undo()
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not list(tmp_path.rglob(".*.tmp"))
    assert train_few("kd", output=tmp_path, teacher=teacher) == 0
    assert_same(outcome_of(folder_of(tmp_path)), whole)
    assert not list(tmp_path.rglob(".lock"))


def stop_where(monkeypatch, owner, name, signums, after):
    """Send signals before or after the first call of a function."""
    original, calls = getattr(owner, name), []

    def stopping(*args, **kwargs):
        calls.append(name)
        due = signums if len(calls) == 1 else []
        for signum in due if not after else []:
            signal.raise_signal(signum)
        result = original(*args, **kwargs)
        for signum in due if after else []:
            signal.raise_signal(signum)
        return result

    monkeypatch.setattr(owner, name, stopping)


@pytest.mark.parametrize("signum", STOP_SIGNALS, ids=lambda signum: signum.name)
def test_each_signal_saves_the_step(signum, whole, teacher, tmp_path, monkeypatch, capsys):
    at_step(monkeypatch, 2, 1, lambda: signal.raise_signal(signum))
    assert train_few("kd", output=tmp_path, teacher=teacher) == INTERRUPTED
    monkeypatch.undo()
    (line,) = capsys.readouterr().err.splitlines()
    assert "same command" in line
    assert load(folder_of(tmp_path) / "checkpoint.pth")["position"] == [2, 2]
    assert train_few("kd", output=tmp_path, teacher=teacher) == 0
    assert_same(outcome_of(folder_of(tmp_path)), whole)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_second_control_c_that_is_no_repeat(overwrite, whole, teacher, tmp_path, monkeypatch, capsys):
    """It does not wait for the step; what is lost was trained since the last checkpoint."""
    monkeypatch.setattr(signals, "REPEAT_SECONDS", 0.0)
    at_step(monkeypatch, 2, 1, lambda: [signal.raise_signal(signal.SIGINT) for _ in range(2)])
    extra = ["--overwrite"] * overwrite
    assert train_few("kd", output=tmp_path, teacher=teacher, extra=extra) == INTERRUPTED
    monkeypatch.undo()
    (line,) = capsys.readouterr().err.splitlines()
    assert ("--overwrite" in line) == overwrite
    assert load(folder_of(tmp_path) / "checkpoint.pth")["position"] == [2, 0]
    assert train_few("kd", output=tmp_path, teacher=teacher) == 0
    assert_same(outcome_of(folder_of(tmp_path)), whole)


def test_a_closed_terminal_is_no_other_end(whole, teacher, tmp_path, monkeypatch):
    """SIGHUP comes with it, and every write to it fails from then on."""
    controller, terminal = os.openpty()
    stream = os.fdopen(terminal, "w")
    monkeypatch.setattr("sys.stdout", stream)
    monkeypatch.setattr("sys.stderr", stream)
    at_step(monkeypatch, 2, 1, lambda: [os.close(controller), signal.raise_signal(signal.SIGHUP)])
    assert train_few("kd", output=tmp_path, teacher=teacher) == INTERRUPTED
    monkeypatch.undo()
    with contextlib.suppress(OSError):
        stream.close()
    assert load(folder_of(tmp_path) / "checkpoint.pth")["position"] == [2, 2]
    assert train_few("kd", output=tmp_path, teacher=teacher) == 0
    assert_same(outcome_of(folder_of(tmp_path)), whole)


def test_main_in_a_thread(whole, teacher, tmp_path):
    """Twice in one process, and refused in between, beside a main thread whose handlers stay."""
    before = [signal.getsignal(signum) for signum in STOP_SIGNALS]
    argv, codes = arguments("kd", output=tmp_path, teacher=teacher, small=SMALL), []

    def work():
        for words in (argv, [*argv, "--epochs", "none"], ["--help"], argv):
            codes.append(train_student.main(words))
            assert [signal.getsignal(signum) for signum in STOP_SIGNALS] == before

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert codes == [0, 2, 0, 0]
    assert_same(outcome_of(folder_of(tmp_path)), whole)
