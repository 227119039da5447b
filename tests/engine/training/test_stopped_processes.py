"""Real processes, with all that reaches them from outside: signals, terminals, pipes and places that are missing.

`python -m pytest tests/engine/training/test_stopped_processes.py -s -m slow` prints what it did, in a line each.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from tests.helpers import ROOT, arguments, assert_same, environment, folder_of, load, outcome_of, read_json, train

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.path.exists("/dev/full"), reason="made for Linux"),
]

INTERRUPTED = 130
# Some seconds of training.
LONG = ("--dataset", "digits", "--recipe", "repdistiller", "--epochs", "8", "--batch_size", "250")
LONG += ("--device", "cpu", "--precision", "fp32")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The outcome of the run when nothing reaches it."""
    output = tmp_path_factory.mktemp("whole")
    assert train("none", output=output, small=LONG) == 0
    return outcome_of(folder_of(output))


def command(output, script="train_student.py"):
    return [sys.executable, str(ROOT / script), *arguments("none", output=output, small=LONG)]


def wait_for_epoch(output, count):
    """Wait until a run has written the record of so many epochs."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for path in output.glob("*/*/metrics.jsonl"):
            if len(path.read_text().splitlines()) >= count:
                return
        time.sleep(0.02)
    raise AssertionError("the run does not begin")


def start(output, **options):
    """A run in a session of its own, as a shell would start it, but for `options` of Popen."""
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    return subprocess.Popen(command(output), **{"env": environment(), "cwd": ROOT, **settings, **options})


def finish(process, timeout=120):
    """Output and exit code of a process. Nothing of it is left behind."""
    out, errors = process.communicate(timeout=timeout)
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    return process.returncode, out or "", errors or ""


def assert_continues(output, whole):
    """The same command ends as the run that nobody stopped."""
    assert train("none", output=output, small=LONG) == 0
    folder = folder_of(output)
    assert_same(outcome_of(folder), whole)
    assert [path.name for path in folder.iterdir() if path.name.startswith((".", "checkpoint"))] == []


def report(what, code, errors):
    print(f"\n{what}: exit code {code}, {len(errors.splitlines())} lines on stderr: {errors.strip()[:150]}")


# --- signals -----------------------------------------------------------------------------------------

FIVE = [signal.SIGINT] * 5
SIGNALS = {
    "SIGINT": [signal.SIGINT],
    "SIGTERM": [signal.SIGTERM],
    "SIGHUP": [signal.SIGHUP],
    "SIGUSR1": [signal.SIGUSR1],
    "SIGUSR2": [signal.SIGUSR2],
    "SIGXCPU": [signal.SIGXCPU],
    "five quick Ctrl-C": FIVE,
    "SIGTERM and SIGINT": [signal.SIGTERM, signal.SIGINT, signal.SIGTERM],
    "SIGHUP and SIGCONT and SIGTERM, as systemd": [signal.SIGTERM, signal.SIGCONT, signal.SIGHUP],
}


@pytest.mark.parametrize("group", [False, True], ids=["to the process", "to its group"])
@pytest.mark.parametrize("name", SIGNALS)
def test_signals(name, group, whole, tmp_path):
    process = start(tmp_path)
    wait_for_epoch(tmp_path, 2)
    for signum in SIGNALS[name]:
        (os.killpg if group else os.kill)(process.pid, signum)
        time.sleep(0.02)
    code, _, errors = finish(process)
    report(name, code, errors)
    assert (code, len(errors.splitlines())) == (INTERRUPTED, 1)
    assert "same command" in errors
    assert load(folder_of(tmp_path) / "checkpoint.pth")["position"][0] >= 3
    assert_continues(tmp_path, whole)


def ignoring(*signums):
    """For Popen: what `nohup` and shell scripts do before they start a command."""
    return lambda: [signal.signal(signum, signal.SIG_IGN) for signum in signums]


def test_nohup(whole, tmp_path):
    process = start(tmp_path, preexec_fn=ignoring(signal.SIGHUP))
    wait_for_epoch(tmp_path, 2)
    process.send_signal(signal.SIGHUP)
    code, _, errors = finish(process)
    report("SIGHUP after nohup", code, errors)
    assert (code, errors) == (0, "")
    assert_same(outcome_of(folder_of(tmp_path)), whole)


def test_started_by_a_script_in_the_background(whole, tmp_path):
    process = start(tmp_path, preexec_fn=ignoring(signal.SIGINT, signal.SIGQUIT))
    wait_for_epoch(tmp_path, 2)
    process.send_signal(signal.SIGINT)
    code, _, errors = finish(process)
    report("kill -INT of what a script started with &", code, errors)
    assert (code, len(errors.splitlines())) == (INTERRUPTED, 1)
    assert_continues(tmp_path, whole)


def test_stopped_and_continued(whole, tmp_path):
    """Ctrl-Z and fg, twice."""
    process = start(tmp_path)
    for epoch in (1, 3):
        wait_for_epoch(tmp_path, epoch)
        process.send_signal(signal.SIGSTOP if epoch == 3 else signal.SIGTSTP)
        time.sleep(0.3)
        process.send_signal(signal.SIGCONT)
    code, _, errors = finish(process)
    report("Ctrl-Z and fg", code, errors)
    assert (code, errors) == (0, "")
    assert_same(outcome_of(folder_of(tmp_path)), whole)


# compare.py is none of them: it imports nothing slow before its command line is right.
SCRIPTS = ("train_student", "train_teacher", "transfer_student", "evaluate")
SCRIPTS += ("scripts/analyse", "scripts/ablate_std", "scripts/benchmark", "scripts/benchmark_methods")
SCRIPTS += ("scripts/measure_latency", "scripts/write_methods_page")


@pytest.mark.parametrize("script", SCRIPTS)
def test_control_c_amid_the_imports(script, tmp_path):
    """As long as a script imports, again and again; none of them is a traceback."""
    moments = []
    for delay in (0.15, 0.4, 1.0):
        process = subprocess.Popen(
            [sys.executable, str(ROOT / f"{script}.py"), "--help"],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment(), cwd=tmp_path,
        )  # fmt: skip
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(delay)
        for signum in FIVE:
            process.send_signal(signum)
        _, errors = process.communicate(timeout=60)
        moments.append((process.returncode, errors))
    print(f"\nfive Ctrl-C amid the imports of {script}: {moments}")
    for code, errors in moments:
        assert code in (INTERRUPTED, 0)
        assert len(errors.splitlines()) <= 1
    assert moments[0][0] == INTERRUPTED


# --- terminals ---------------------------------------------------------------------------------------


class Terminal:
    """A terminal with a run in its foreground."""

    def __init__(self, output):
        self.controller, far_end = os.openpty()
        self.seen = bytearray()
        self.process = start(output, stdin=far_end, stdout=far_end, stderr=far_end, text=None, preexec_fn=self._own)
        os.close(far_end)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @staticmethod
    def _own():
        import fcntl
        import termios

        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def _read(self):
        with contextlib.suppress(OSError):
            while piece := os.read(self.controller, 4096):
                self.seen += piece

    def type(self, keys):
        os.write(self.controller, keys)

    def close(self):
        os.close(self.controller)


@pytest.mark.parametrize("presses", [1, 5])
def test_control_c_in_a_terminal(presses, whole, tmp_path):
    """The line about it is a line, not the rest of the bar's."""
    terminal = Terminal(tmp_path)
    wait_for_epoch(tmp_path, 2)
    for _ in range(presses):
        terminal.type(b"\x03")
    code = terminal.process.wait(60)
    time.sleep(0.2)
    shown = terminal.seen.decode()
    last = shown.rstrip().splitlines()[-1].split("\r")[-1]
    report(f"{presses} Ctrl-C in a terminal", code, last)
    assert code == INTERRUPTED
    assert "Traceback" not in shown
    assert last.startswith("interrupted; ")
    terminal.close()
    assert_continues(tmp_path, whole)


def test_a_terminal_that_is_closed(whole, tmp_path):
    terminal = Terminal(tmp_path)
    wait_for_epoch(tmp_path, 2)
    terminal.close()
    code = terminal.process.wait(60)
    report("a closed terminal", code, "")
    assert code == INTERRUPTED
    assert_continues(tmp_path, whole)


# --- streams and places --------------------------------------------------------------------------------


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)], ids=str)
def test_closed_streams(closed, whole, tmp_path):
    """Nothing of the run is lost, and no file gets what libraries print."""
    streams = {0: "stdin", 1: "stdout", 2: "stderr"}
    process = start(tmp_path, **{streams[number]: None for number in closed},
                    preexec_fn=lambda: [os.close(number) for number in closed])  # fmt: skip
    code, _, errors = finish(process)
    report(f"closed {', '.join(streams[number] for number in closed)}", code, errors)
    assert (code, errors) == (0, "")
    assert_same(outcome_of(folder_of(tmp_path)), whole)


def test_a_full_disk_behind_the_output(whole, tmp_path):
    with open("/dev/full", "w") as full:
        code, _, errors = finish(start(tmp_path, stdout=full))
    report("stdout is full", code, errors)
    assert (code, len(errors.splitlines())) == (1, 1)
    assert_continues(tmp_path, whole)


@pytest.mark.parametrize("which", ["| head -1", "2>&1 | head -1"])
def test_a_reader_that_leaves(which, whole, tmp_path):
    process = start(tmp_path, **({} if which == "| head -1" else {"stderr": subprocess.STDOUT}))
    process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read() if process.stderr else ""
    code = process.wait(60)
    report(which, code, errors)
    assert (code, len(errors.splitlines())) == (1, 1 if process.stderr else 0)
    assert_continues(tmp_path, whole)


PLACES = {
    "no HOME": {"HOME": None},
    "a HOME that is missing": {"HOME": "/nowhere"},
    "no TMPDIR": {"TMPDIR": None},
    "a TMPDIR that is missing": {"TMPDIR": "/nowhere"},
    "a TMPDIR that cannot be written": {"TMPDIR": "/proc"},
    "nothing but a PATH": dict.fromkeys(os.environ) | {"PATH": os.environ.get("PATH")},
}


@pytest.mark.parametrize("name", PLACES)
def test_places(name, whole, tmp_path):
    env = {key: value for key, value in {**environment(), **PLACES[name]}.items() if value is not None}
    code, _, errors = finish(start(tmp_path, env={"OMP_NUM_THREADS": "1", **env}))
    report(name, code, errors)
    assert (code, errors) == (0, "")
    assert_same(outcome_of(folder_of(tmp_path)), whole)


def test_a_limit_of_cpu_seconds(whole, tmp_path):
    """As clusters and `ulimit -t` set it: SIGXCPU comes at the soft limit, then each second."""
    import resource

    process = start(tmp_path)
    wait_for_epoch(tmp_path, 2)
    resource.prlimit(process.pid, resource.RLIMIT_CPU, (1, resource.RLIM_INFINITY))
    code, _, errors = finish(process)
    report("a limit of CPU seconds", code, errors)
    assert (code, len(errors.splitlines())) == (INTERRUPTED, 1)
    assert_continues(tmp_path, whole)


# --- several processes ---------------------------------------------------------------------------------


def ranks(output, size=2):
    """The processes of a run, as srun would start them, without torchrun's watch over them."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = environment() | {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [start(output, env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}) for rank in range(size)]


@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM], ids=lambda signum: signum.name)
def test_one_of_several_processes_is_ended(victim, signum, tmp_path):
    """Killed, it takes the others with it, in a line each; asked to end, it stops them all and the state is saved."""
    processes = ranks(tmp_path)
    wait_for_epoch(tmp_path, 1)
    processes[victim].send_signal(signum)
    ends = [finish(process, timeout=60) for process in processes]
    for rank, (code, _, errors) in enumerate(ends):
        report(f"{signum.name} to rank {victim}; rank {rank}", code, errors)
    for rank, (code, _, errors) in enumerate(ends):
        if signum == signal.SIGTERM:
            assert (code, len(errors.splitlines())) == (INTERRUPTED, 1)
        elif rank == victim:
            assert code == -signal.SIGKILL
        else:
            assert (code, len(errors.splitlines())) == (1, 1)
            assert f"rank {rank}" in errors
    assert train("none", output=tmp_path, small=LONG) == 0
    assert read_json(folder_of(tmp_path) / "result.json")["epochs"] == 8


def test_a_rank_that_is_missing(tmp_path):
    began = time.monotonic()
    process, other = ranks(tmp_path)
    other.kill()
    other.communicate()
    code, _, errors = finish(process)
    report("rank 1 is missing", code, errors)
    assert (code, len(errors.splitlines())) == (2, 1)
    assert "rank 1" in errors
    assert time.monotonic() - began < 90  # an hour, by torch's defaults
    assert not tmp_path.exists() or not any(tmp_path.iterdir())


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM], ids=lambda signum: signum.name)
def test_torchrun_and_its_processes_are_asked_to_end(signum, tmp_path):
    """As a terminal or a cluster does it: torchrun passes on to its processes what they have got already."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    process = subprocess.Popen(
        [*launcher, *command(tmp_path)[1:]],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(), start_new_session=True,
    )  # fmt: skip
    wait_for_epoch(tmp_path, 1)
    os.killpg(process.pid, signum)
    _, errors = process.communicate(timeout=60)
    report(f"{signum.name} to torchrun and its processes", process.returncode, errors)
    assert errors.count("interrupted; the state is saved") == 2
    assert load(folder_of(tmp_path) / "checkpoint.pth")["position"][0] >= 2
    assert train("none", output=tmp_path, small=LONG) == 0
