"""Runs that are killed where it hurts and at random, and end as if nothing had happened."""

import contextlib
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

import compare
from distiller_zoo import METHODS
from tests.engine.records.events import events_of
from tests.engine.training.crash_run import the_server
from tests.engine.training.few import TWO_STEPS
from tests.helpers import (
    ROOT,
    arguments,
    assert_same,
    environment,
    folder_of,
    folders_of,
    outcome_of,
    read_json,
    train,
)

pytestmark = pytest.mark.runs

# They differ by nature.
NOT_COMPARED = ("seconds_per_epoch", "initial_seconds", "images_per_second", "peak_memory_mib", "paths")
KILLED = -signal.SIGKILL
SEED = 7


def table_of(output, capsys):
    """What compare.py says of all runs below an output root, but for times and places."""
    capsys.readouterr()
    assert compare.main([str(output), "--format", "json"]) == 0
    report = json.loads(capsys.readouterr().out)
    return [{key: row[key] for key in row if key not in NOT_COMPARED} for row in report]


def outcomes_of(output):
    """The outcome of every run below an output root, by method, with its curves and its method's initial stage."""
    found = {}
    for folder in folders_of(output):
        initial = folder / "initial_metrics.jsonl"
        records = [json.loads(line) for line in initial.read_text().splitlines()] if initial.exists() else []
        more = {"initial": [record["train"] for record in records], "events": events_of(folder)}
        found[read_json(folder / "config.json")["method"]] = outcome_of(folder) | more
    return found


def leftovers(output):
    """All that only an unfinished run, or one in the making, has."""
    found = [path for path in output.rglob("*") if re.search(r"^checkpoint|^\.", path.name)]
    return [str(path.relative_to(output)) for path in found]


# --- every moment ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server():
    return the_server()


def group(output, teacher):
    """Runs of a few steps that save at each: one with a memory, one whose method has an initial stage."""
    methods, extra = ("crd", "factor"), ["--lwr", "1", "--checkpoint_seconds", "0"]
    return arguments(*methods, output=output, teacher=teacher, small=TWO_STEPS, extra=extra)


@pytest.fixture(scope="module")
def whole(server, teacher, tmp_path_factory):
    """An uninterrupted run's folder and the moments that it passes."""
    output = tmp_path_factory.mktemp("whole")
    ((code, moments),) = server.run(group(output, teacher))
    assert code == 0, server.words()
    return output, moments


class Expected:
    """The outcomes of runs that nobody killed, and their table."""

    def __init__(self, output, capsys):
        self.outcomes, self.table = outcomes_of(output), table_of(output, capsys)


def same_as(expected, output, capsys):
    """What is wrong with the runs below an output root, in a line; None where nothing is."""
    try:
        assert_same(outcomes_of(output), expected.outcomes)
        assert table_of(output, capsys) == expected.table, "another table"
        assert leftovers(output) == []
    except (AssertionError, OSError) as error:
        return str(error).splitlines()[0]


def die_at(numbers, server, whole, teacher, place, capsys):
    """Kill at each of these moments, continue, and compare with runs that nobody killed."""
    output, moments = whole
    expected, wrong = Expected(output, capsys), []
    for at in numbers:
        folder = place / str(at)
        ((code, _),) = server.run(group(folder, teacher), at=at)
        assert code == KILLED
        ((code, _),) = server.run(group(folder, teacher))
        problem = same_as(expected, folder, capsys) if code == 0 else server.words()
        if problem:
            wrong.append(f"{at} ({moments[at]}): {problem}")
        shutil.rmtree(folder)
    assert not wrong, f"{len(wrong)} moments:\n" + "\n".join(wrong)


def test_the_moments_are_those_that_matter(whole):
    """Else the other tests test nothing: every file of a run is written, and every writing can be cut in the middle."""
    _, moments = whole
    names = ["config.json", "checkpoint.pth", "resnet8_best.pth", "resnet8_last.pth", "result.json"]
    for file in (*names, "metrics.jsonl", "initial_metrics.jsonl"):
        assert any(re.fullmatch(rf"before replace \.{file}\.\w+\.tmp {file}", moment) for moment in moments)
    assert "before replace checkpoint.pth checkpoint_former.pth" in moments
    assert "before unlink checkpoint_former.pth" in moments
    assert moments.count("amid a writing") == sum(moment.startswith("before replace .") for moment in moments)


def test_a_power_cut_finds_whole_files_too(whole):
    """What is written is on the disk before it gets its name, and the name is, before anything else is written."""
    _, moments = whole
    for index, moment in enumerate(moments):
        if moment.startswith("before replace ."):
            written = len(moments) - 1 - moments[::-1].index("amid a writing", len(moments) - index)
            assert "after fsync of a file" in moments[written:index]
            assert moments[index + 1].startswith("after replace .")
            assert moments[index + 2] == "after fsync of a folder"


def test_killed_at_a_moment_of_each_kind(server, whole, teacher, tmp_path, capsys):
    """Before each kind of call that changes a folder, and amid a writing."""
    draw, kinds = random.Random(SEED), {}
    for number, moment in enumerate(whole[1]):
        if not moment.startswith("after"):
            kinds.setdefault(re.sub(r"\.\w+\.tmp|S_\S+", "", moment), []).append(number)
    die_at(sorted(map(draw.choice, kinds.values())), server, whole, teacher, tmp_path, capsys)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_at_every_moment(server, whole, teacher, tmp_path, capsys):
    die_at(range(len(whole[1])), server, whole, teacher, tmp_path, capsys)


def die_again_and_again(chains, server, whole, teacher, place, capsys):
    """Kill a run, kill what continues it, and so on, each at a moment drawn anew, until one comes to its end."""
    output, moments = whole
    expected, draw = Expected(output, capsys), random.Random(SEED)
    for chain in range(chains):
        folder, ends, code = place / str(chain), [], KILLED
        while code == KILLED:
            ends.append(draw.randrange(len(moments)))
            ((code, _),) = server.run(group(folder, teacher), at=ends[-1])
        assert code == 0, server.words()
        assert same_as(expected, folder, capsys) is None, f"chain {chain}, killed at {ends}"
        shutil.rmtree(folder)


def test_killed_again_and_again(server, whole, teacher, tmp_path, capsys):
    die_again_and_again(2, server, whole, teacher, tmp_path, capsys)


@pytest.mark.slow
def test_killed_again_and_again_many_times(server, whole, teacher, tmp_path, capsys):
    die_again_and_again(30, server, whole, teacher, tmp_path, capsys)


# --- repetitions -------------------------------------------------------------------------------------


def repeated(output, teacher, *extra):
    """One of these runs, which is finished, as a command repeats it or continues its repetition."""
    options = {"output": output, "teacher": teacher, "small": TWO_STEPS}
    return arguments("crd", extra=["--checkpoint_seconds", "0", *extra], **options)


@pytest.fixture(scope="module")
def repetition(server, teacher, tmp_path_factory):
    """An output root with a finished run, the moments that its repetition passes, and the first after its result."""
    output = tmp_path_factory.mktemp("repeated")
    ((code, _),) = server.run(repeated(output / "whole", teacher))
    assert code == 0, server.words()
    shutil.copytree(output / "whole", output / "again")
    ((code, moments),) = server.run(repeated(output / "again", teacher, "--overwrite"))
    assert code == 0, server.words()
    (result,) = (n for n, moment in enumerate(moments) if re.match(r"after replace \.result\.json\.", moment))
    return output / "whole", moments, result


def die_while_repeated(numbers, server, repetition, teacher, place, capsys):
    """Kill at each of these moments: the table stays, and the command without --overwrite ends the repetition."""
    whole, moments, _ = repetition
    expected, wrong = Expected(whole, capsys), []
    for at in numbers:
        folder = place / str(at)
        shutil.copytree(whole, folder)
        ((code, _),) = server.run(repeated(folder, teacher, "--overwrite"), at=at)
        assert code == KILLED
        if table_of(folder, capsys) != expected.table:
            wrong.append(f"{at} ({moments[at]}): the result is gone")
        ((code, _),) = server.run(repeated(folder, teacher))
        problem = same_as(expected, folder, capsys) if code == 0 else server.words()
        left = [path for path in folder_of(folder).iterdir() if path.is_dir() and path.name != "tensorboard"]
        if problem or left:
            wrong.append(f"{at} ({moments[at]}): {problem} {left}")
        shutil.rmtree(folder)
    assert not wrong, f"{len(wrong)} moments:\n" + "\n".join(wrong)


def test_a_repeated_run_is_never_gone(server, repetition, teacher, tmp_path, capsys):
    """Killed in the middle of its training, and where the repetition takes its place."""
    _, moments, result = repetition
    names = ("config.json", "metrics.jsonl", "tensorboard", "result.json")
    assert all(moments[result:].count(f"before replace {name} {name}") == 2 for name in names)  # out, and in
    change = [n for n, moment in enumerate(moments) if n > result and not moment.startswith("after")]
    at = [result // 2, *random.Random(SEED).sample(change, 4)]
    die_while_repeated(sorted(at), server, repetition, teacher, tmp_path, capsys)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_repeated_run_is_never_gone_at_any_moment(server, repetition, teacher, tmp_path, capsys):
    die_while_repeated(range(len(repetition[1])), server, repetition, teacher, tmp_path, capsys)


# --- random moments ----------------------------------------------------------------------------------


class Killer:
    """Starts a group of runs, kills it, starts it again and so on; counts what it met.

    Attributes:
        kills: how many there were; `aimed` of them at a saving.
        hits: kills that left a half-written file.
        resumes: starts that found something to go on from; `within` an epoch at least one run did.
    """

    COUNTS = ("kills", "aimed", "hits", "resumes", "within")

    def __init__(self, methods, student, place, teacher, draw):
        self.methods, self.student, self.place, self.teacher, self.draw = methods, student, place, teacher, draw
        self.kills = self.aimed = self.hits = self.resumes = self.within = self.attempts = 0
        self.story, self.errors = [], place / "errors"
        began = time.monotonic()
        assert train(*methods, **self.options(place / "whole")) == 0
        self.span = (time.monotonic() - began) / 3  # so that a run survives some kills
        self.trained = set(outcomes_of(place / "whole"))

    def options(self, output):
        extra = ["--checkpoint_seconds", "0.05", "--skip_refused"]
        return {"output": output, "teacher": self.teacher, "student": self.student, "extra": extra}

    def session(self, output, delay=None, aimed=False):
        """The runs as a user starts them, in a process group; killed some time after the first checkpoint, or never."""
        command = [sys.executable, str(ROOT / "train_student.py"), *arguments(*self.methods, **self.options(output))]
        pipes = {"stdout": subprocess.PIPE, "text": True, "env": environment(), "start_new_session": True}
        with open(self.errors, "w") as errors, subprocess.Popen(command, stderr=errors, **pipes) as process:
            try:
                words = "" if delay is None else self._killed(process, output, delay, aimed)
                words += process.stdout.read()
            except BaseException:  # the test itself is stopped, perhaps while the process stands still
                process.kill()
                raise
        places = re.findall(r"continues at epoch -?\d+, step (\d+)", words)
        self.resumes += bool(places)
        self.within += any(step != "0" for step in places)
        errors = self.errors.read_text()
        assert errors == "", f"{errors}; seed {SEED}, {self.student}: {self.story}"
        return process.returncode

    def _killed(self, process, output, delay, aimed):
        """Kill, and tell what was printed until training began."""
        words = ""
        for line in process.stdout:
            words += line
            if "/student_model/" in line and not line.startswith("already finished"):
                break
        while process.poll() is None and not any(output.rglob("*.pth")):
            time.sleep(0.01)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(delay)  # an end comes earlier
        if aimed:
            stop_at_a_saving(process, output)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        return words

    def chain(self, kills):
        """Start anew, kill at most so often, then let the runs come to their end."""
        self.attempts += 1
        output = self.place / str(self.attempts)
        while kills and self.kill(output):
            kills -= 1
        code = self.session(output)
        assert code == 0, f"seed {SEED}, {self.student}: {self.story}"
        return output

    def kill(self, output):
        """Kill at a random moment; False where the runs came to their end before."""
        delay, aimed = self.draw.uniform(0, self.span), self.kills % 2 == 0
        self.story.append(f"{output.name}: killed after {delay:.3f} s{' and at a saving' * aimed}")
        code = self.session(output, delay, aimed)
        assert code in (KILLED, 0)
        if code == KILLED:
            self.kills += 1
            self.aimed += aimed
            self.hits += any(output.rglob(".*.tmp"))
        return code == KILLED


def stop_at_a_saving(process, output):
    """Let the process stand still with a half-written file on the disk, if it comes to that before its end."""
    while process.poll() is None:
        if any(output.rglob(".*.tmp")):
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            if any(output.rglob(".*.tmp")):
                return
            process.send_signal(signal.SIGCONT)


def kill_at_random(kills, killers, capsys):
    """So many kills, shared by the groups; each end is compared with that of runs that nobody killed."""
    done = 0
    for killer in itertools.cycle(killers):
        output = killer.chain(min(kills - done, 1 + kills // len(killers)))
        problem = same_as(Expected(killer.place / "whole", capsys), output, capsys)
        assert problem is None, f"{problem}; seed {SEED}, {killer.student}: {killer.story}"
        done = sum(killer.kills for killer in killers)
        if done == kills:
            break
    total = {key: sum(getattr(killer, key) for killer in killers) for key in Killer.COUNTS}
    with capsys.disabled():
        print(
            "\n{kills} kills ({aimed} of them aimed at a saving), {hits} amid a saving; "
            "{resumes} resumes, {within} within an epoch; all ends the same".format(**total)
        )


@pytest.mark.slow
def test_killed_at_random_moments(teacher, tmp_path, capsys):
    draw = random.Random(SEED)
    kill_at_random(3, [Killer(("none", "kd", "crd"), "resnet8", tmp_path, teacher, draw)], capsys)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_all_methods_killed_at_random_moments(teacher, tmp_path, capsys):
    """A CNN for the methods that take one, an MLP or DeiT for the others."""
    draw = random.Random(SEED)
    convolutional = Killer(tuple(METHODS), "resnet8", tmp_path / "resnet8", teacher, draw)
    others = tuple(method for method in METHODS if method not in convolutional.trained)
    killers = [convolutional]
    for student in ("mixer_pico", "deit_pico_distilled"):
        killers.append(Killer(others, student, tmp_path / student, teacher, draw))
        others = tuple(method for method in others if method not in killers[-1].trained)
    assert set.union(*(killer.trained for killer in killers)) == set(METHODS)
    kill_at_random(20, killers, capsys)
