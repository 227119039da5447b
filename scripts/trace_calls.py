#!/usr/bin/env python3
"""How much of this code a reader meets: files and functions that a run and a table go through, and the way to a loss.

It trains none, kd and crd on the digits for one epoch, makes the table of these runs, and counts what was called. Only
files of the repository count. Lambdas, comprehensions and generators are functions, bodies of modules and classes are
not; a file counts from its import on. Last it lists all functions with more parameters than MOST_PARAMETERS.
"""

import argparse
import ast
import contextlib
import importlib
import inspect
import io
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType

# All that is known of the code that is looked at: commands and functions by name, no file.
TRAINING, TEACHING, TABLES = "train_student", "train_teacher", "compare"
LOOP = "train_group"  # the function with the training loop
FORMULAS = ("kd_loss", "nce_loss")  # the functions with losses' formulas; the first is called once a step
SMALL = "--dataset digits --recipe repdistiller --epochs 1 --batch_size 130 --device cpu --precision fp32"
METHODS = "--distill none kd crd --nce_k 64 --model_s resnet8"
MOST_PARAMETERS = 6

Function = tuple[str, str, int]  # file, qualified name, line


class Trace:
    """Notes each call of the repository's own code; to be given to `sys.setprofile`.

    Attributes:
        calls: the functions, in the order of their calls; a generator that goes on is called again.
        files: all files of which anything was executed.
        steps: how many calls there had been at each call of the first formula.
        chains: for each formula the functions from the loop to it, at each of its calls.
    """

    def __init__(self, root: Path, loop: str, formulas: tuple[str, ...]):
        self.root, self.loop, self.formulas = f"{root}{os.sep}", loop, formulas
        self.calls: list[Function] = []
        self.files: set[str] = set()
        self.steps: list[int] = []
        self.chains: dict[str, list[list[Function]]] = {name: [] for name in formulas}

    def __call__(self, frame: FrameType, event: str, _) -> None:
        if event != "call" or not self._is_own(frame.f_code):
            return
        function = self._named(frame.f_code)
        self.files.add(function[0])
        if not frame.f_code.co_flags & inspect.CO_OPTIMIZED:  # the body of a module or a class
            return
        self.calls.append(function)
        name = frame.f_code.co_name
        if name in self.chains:
            self.chains[name].append(self._chain(frame))
            if name == self.formulas[0]:
                self.steps.append(len(self.calls))

    def _is_own(self, code: CodeType) -> bool:
        return code.co_filename.startswith(self.root) and "site-packages" not in code.co_filename

    def _named(self, code: CodeType) -> Function:
        return code.co_filename.removeprefix(self.root), code.co_qualname, code.co_firstlineno

    def _chain(self, frame: FrameType | None) -> list[Function]:
        """The own functions on the stack from the loop, or else from the command, to this frame."""
        chain = []
        while frame is not None:
            if self._is_own(frame.f_code):
                chain.append(self._named(frame.f_code))
                if frame.f_code.co_name == self.loop:
                    break
            frame = frame.f_back
        return chain[::-1]


def traced(root: Path, folder: Path, script: str, words: list[str], loop: str, formulas: tuple[str, ...]) -> Trace:
    """One command, called in `folder` by this process, which has imported nothing of the repository before."""
    os.chdir(folder)
    sys.path.insert(0, str(root))
    trace, said = Trace(root, loop, formulas), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        sys.setprofile(trace)
        try:
            status = importlib.import_module(script).main(words)
        finally:
            sys.setprofile(None)
    if status:
        raise RuntimeError(f"{script}.py {' '.join(words)} ended with {status}:\n{said.getvalue()}")
    return trace


def in_new_process(*arguments) -> Trace:
    """`traced` in a process of its own, so that every command imports all that it needs."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(traced, arguments)


def describe_run(trace: Trace) -> list[str]:
    lines = [f"  from the command to its end: {_counted(trace.files, trace.calls)}"]
    lines += _describe_steps(trace)
    for name, chains in trace.chains.items():
        if not chains or trace.loop not in chains[0][0][1]:
            lines.append(f"  {name} was not called below {trace.loop}: say --loop and --formulas")
            continue
        chain = chains[len(chains) // 2]
        lines.append(f"  frames from {trace.loop}, which is not counted, to {name}, which is: {len(chain) - 1}")
        lines += [f"    {qualified}  ({file}:{line})" for file, qualified, line in chain]
    return lines


def _describe_steps(trace: Trace) -> list[str]:
    """The steps of the middle half of the epoch; each is what lies between two calls of the first formula."""
    spans = [trace.calls[a:b] for a, b in zip(trace.steps, trace.steps[1:], strict=False)]
    spans = spans[len(spans) // 4 : len(spans) - len(spans) // 4]
    if not spans:
        return []
    functions = statistics.mean(len(set(span)) for span in spans)
    files = statistics.mean(len({file for file, *_ in span}) for span in spans)
    calls = statistics.mean(map(len, spans))
    what = f"mean of {len(spans)} steps, of all three runs together"
    return [f"  in a steady step ({what}): {files:.1f} files, {functions:.1f} functions, {calls:.1f} calls"]


def calls_of_a_step(trace: Trace) -> list[str]:
    """Calls of each function in a step amid the epoch, by file."""
    middle = len(trace.steps) // 2
    counts = Counter(trace.calls[trace.steps[middle] : trace.steps[middle + 1]])
    return [f"    {count:4} {file} {qualified}" for (file, qualified, _), count in sorted(counts.items())]


def files_of(trace: Trace) -> list[str]:
    """Every file with a function that was called, with these functions."""
    names: dict[str, list[str]] = {}
    for file, name, _ in sorted(set(trace.calls)):
        names.setdefault(file, []).append(name)
    return [f"    {len(called):4} {file}: {', '.join(called)}" for file, called in names.items()]


def _counted(files: set[str], calls: list[Function]) -> str:
    called_in = {file for file, *_ in calls}
    return f"{len(files)} files ({len(called_in)} with a function that was called), {len(set(calls))} functions"


def long_signatures(root: Path) -> list[str]:
    """Functions with too many parameters, the longest first; self and cls, *NAME and **NAME are not counted."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"]
    files = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout.split()
    found = []
    for file in files:
        if file.startswith("tests/") or not (root / file).is_file():
            continue
        for node in ast.walk(ast.parse((root / file).read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                name, count = getattr(node, "name", "lambda"), parameters_of(node.args)
                found += [(-count, file, node.lineno, name)] if count > MOST_PARAMETERS else []
    return [f"  {-count:3} {file}:{line} {name}" for count, file, line, name in sorted(found)]


def parameters_of(arguments: ast.arguments) -> int:
    """How many there are, keyword-only ones included, without the object or class that a method is called on."""
    names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    return len(names) - (names[:1] in (["self"], ["cls"])) + len(arguments.kwonlyargs)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", type=Path, default=Path(__file__).parents[1], help="another copy of this code")
    parser.add_argument(
        "--teacher", type=Path, help="a resnet8 for the digits; by default one is trained for one epoch"
    )
    parser.add_argument("--loop", default=LOOP, help=f"the function with the training loop (default {LOOP})")
    parser.add_argument(
        "--formulas",
        nargs="+",
        default=FORMULAS,
        help=f"functions with losses' formulas (default {' '.join(FORMULAS)})",
    )
    parser.add_argument("--calls", action="store_true", help="also list the calls of a step")
    parser.add_argument("--files", action="store_true", help="also list the files of each command")
    arguments = parser.parse_args(argv)
    if not (arguments.repository / f"{TRAINING}.py").is_file():
        parser.error(f"--repository {arguments.repository} holds no {TRAINING}.py")
    if arguments.teacher is not None and not arguments.teacher.is_file():
        parser.error(f"--teacher {arguments.teacher} is no file")
    return arguments


def main(argv: list[str] | None = None) -> None:
    arguments = parse(argv)
    root, names = arguments.repository.resolve(), (arguments.loop, tuple(arguments.formulas))
    with tempfile.TemporaryDirectory() as name:
        folder, teacher = Path(name), arguments.teacher
        if teacher is None:
            words = ["--model", "resnet8", *SMALL.split(), "--output", "teachers"]
            in_new_process(root, folder, TEACHING, words, *names)
            (teacher,) = folder.glob("teachers/*/*/*_last.pth")
        words = [*METHODS.split(), *SMALL.split(), "--path_t", str(teacher.resolve()), "--output", "save"]
        print(f"{TRAINING}.py {METHODS} ...")
        trace = in_new_process(root, folder, TRAINING, words, *names)
        print(*describe_run(trace), sep="\n")
        if arguments.calls:
            print("  calls in a step:", *calls_of_a_step(trace), sep="\n")
        if arguments.files:
            print("  functions called, by file:", *files_of(trace), sep="\n")
        print(f"{TABLES}.py save")
        trace = in_new_process(root, folder, TABLES, ["save"], *names)
        print(f"  from the command to its end: {_counted(trace.files, trace.calls)}")
        if arguments.files:
            print("  functions called, by file:", *files_of(trace), sep="\n")
    found = long_signatures(root)
    print(f"functions with more than {MOST_PARAMETERS} parameters: {len(found)}", *found, sep="\n")


if __name__ == "__main__":
    main()
