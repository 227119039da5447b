"""A process that trains in children of its own, forked off, which die at a chosen call to the file system.

`python -m tests.engine.training.crash_run` reads a request from each line of stdin and replies in a line of stdout,
both JSON.
Importing and warming up take seconds; a fork of what is warm takes milliseconds, so hundreds of deaths are affordable.
"""

import atexit
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import traceback
from functools import cache
from pathlib import Path

import torch

import train_student
from tests.engine.training.few import TWO_STEPS, register_few, train_few
from tests.helpers import ROOT, environment, save_network

# --- the process that forks --------------------------------------------------------------------------


class Deaths:
    """All moments at which the disk may hold another state, in order; at one of them the process kills itself."""

    def __init__(self, at):
        self.at, self.seen = at, []

    def moment(self, name, before_death=None):
        if len(self.seen) == self.at:
            if before_death is not None:
                before_death()
            os.kill(os.getpid(), signal.SIGKILL)
        self.seen.append(name)

    def watch(self):
        """Before and after each call that changes a folder, after each that flushes, amid each writing."""
        for name in ("replace", "unlink", "rmdir"):
            setattr(os, name, self._watched(name, getattr(os, name), before=True))
        os.mkdir = self._watched("mkdir", os.mkdir, before=False)
        os.open, os.fsync, os.fdopen = self._making(os.open), self._flushed, self._torn(os.fdopen)

    def _watched(self, name, call, before):
        def watched(*arguments, **options):
            words = " ".join([name, *(os.path.basename(part) for part in map(str, arguments[:2]))])
            if before:
                self.moment(f"before {words}")
            result = call(*arguments, **options)
            self.moment(f"after {words}")
            return result

        return watched

    def _making(self, call):
        def opened(path, flags, *arguments, **options):
            result = call(path, flags, *arguments, **options)
            if flags & os.O_CREAT:
                self.moment(f"after open {os.path.basename(path)}")
            return result

        return opened

    def _flushed(self, descriptor):
        """Nothing is flushed: a kill loses nothing that was written; only a power cut does."""
        self.moment(f"after fsync of a {'folder' if stat.S_ISDIR(os.fstat(descriptor).st_mode) else 'file'}")

    def _torn(self, fdopen):
        """Files that may end amid a writing, with half of its bytes on the disk."""

        def opened(*arguments, **options):
            file = fdopen(*arguments, **options)
            write = file.write

            def torn(content):
                def half():
                    write(content[: len(content) // 2])
                    file.flush()

                self.moment("amid a writing", half)
                return write(content)

            file.write = torn
            return file

        return opened


def begin(request, start):
    """Train in a child, with its words in a file, from the moment at which the pipe `start` is closed.

    Returns:
        The child's process id, and a pipe that tells the moments it passed when it ends by itself.
    """
    reads, writes = os.pipe()
    child = os.fork()
    if child:
        os.close(writes)
        return child, reads
    os.close(start[1])
    os.read(start[0], 1)
    with open(request["log"], "wb") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    deaths, code = Deaths(request.get("at")), 70
    deaths.watch()
    try:
        code = train_student.main(request["argv"])
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    with open(writes, "w") as pipe:
        json.dump(deaths.seen, pipe)
    os._exit(code)


def reply(requests):
    """Train in as many children at once; tells of each how it ended."""
    start = os.pipe()
    begun = [begin(request, start) for request in requests]
    for end in start:
        os.close(end)
    replies = []
    for child, pipe in begun:
        with open(pipe) as file:
            seen = file.read()
        _, status = os.waitpid(child, 0)
        replies.append([os.waitstatus_to_exitcode(status), json.loads(seen or "[]")])
    return replies


def serve():
    torch.set_num_threads(1)
    register_few()
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    with tempfile.TemporaryDirectory() as place:
        save_network(f"{place}/teacher.pth")
        train_few("none", "crd", output=place, teacher=f"{place}/teacher.pth", small=TWO_STEPS)
    assert threading.active_count() == 1  # forks are safe
    print("ready", file=replies)
    for line in sys.stdin:
        print(json.dumps(reply(json.loads(line))), file=replies)


# --- its user ----------------------------------------------------------------------------------------


class Server:
    """The process above, seen from a test."""

    def __init__(self):
        self.place = tempfile.TemporaryDirectory()
        command = [sys.executable, "-m", "tests.engine.training.crash_run"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        no_gpu = environment() | {"CUDA_VISIBLE_DEVICES": ""}
        self.process = subprocess.Popen(command, text=True, bufsize=1, cwd=ROOT, env=no_gpu, **pipes)
        assert self.process.stdout.readline() == "ready\n"

    def run(self, *commands, at=None):
        """train_student.py with these arguments, once or several at the same time; `at` is the moment of death.

        Returns:
            The exit code and the moments that were passed, for each command.
        """
        requests = [
            {"argv": [str(part) for part in argv], "log": self._log(number), "at": at}
            for number, argv in enumerate(commands)
        ]
        print(json.dumps(requests), file=self.process.stdin)
        return json.loads(self.process.stdout.readline())

    def words(self, number=0):
        """What a command of the last request printed."""
        return Path(self._log(number)).read_text()

    def _log(self, number):
        return f"{self.place.name}/{number}"

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.place.cleanup()


@cache
def the_server():
    """One for all tests."""
    server = Server()
    atexit.register(server.close)
    return server


if __name__ == "__main__":
    serve()
