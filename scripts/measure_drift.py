#!/usr/bin/env python3
"""Measure how far two threads, and two processes, move a run's weights away from one thread of one process.

The same steps on the digits are taken in float32 and in float64. If the difference is rounding, it is smaller in
float64 by nine orders of magnitude or more, as rounding is (2⁻⁵³ against 2⁻²⁴). A wrong gradient differs alike in both.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import count, islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor

from common.command import DONE, at_least, guard, make_parser
from common.errors import RunError
from dataset import DATASETS, Batch, Batching, BatchStream, load_arrays
from engine.checkpoints.inference_network import InferenceNetwork
from engine.device.compute import Compute
from engine.device.processes import process_group
from engine.protocol.plan import SharedSettings, TeacherFile, make_plan
from engine.protocol.recipes import RECIPES
from engine.training.student_run import StudentRun
from engine.training.teacher_pass import teacher_pass
from models import MODELS, create_model

DTYPES = {"float32": torch.float32, "float64": torch.float64}
DATASET, BATCH_SIZE = "digits", 130
Weights = dict[str, Tensor]


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--distill", default="kd", metavar="NAME", help="method (default kd)")
    parser.add_argument("--model", default="resnet8", metavar="NAME", help="student and teacher (default resnet8)")
    parser.add_argument(
        "--steps",
        type=at_least(1),
        nargs="+",
        default=[1, 10, 100],
        metavar="N",
        help="after how many steps the weights are compared (default 1 10 100)",
    )
    # What the processes that this script starts are given.
    for name in ("dtype", "out"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def batches(stream: BatchStream, dtype: torch.dtype) -> Iterator[Batch]:
    for epoch in count(1):
        for batch in stream.epoch(epoch):
            yield replace(batch, images=batch.images.to(dtype))


def train(arguments: argparse.Namespace) -> None:
    """Take the steps and save the student's weights after each of `--steps`; several processes take them together."""
    dtype, model = DTYPES[arguments.dtype], MODELS.canonical(arguments.model)
    entry, arrays, recipe = DATASETS[DATASET], load_arrays(DATASET, "."), RECIPES["repdistiller"]
    torch.manual_seed(0)
    teacher = InferenceNetwork(create_model(model, entry.num_classes, entry.image_size)).eval().requires_grad_(False)
    file = TeacherFile(model, Path("untrained"), "")
    plan = make_plan(arguments.distill, model, recipe, SharedSettings("student", DATASET, "fp32", (file,)))
    with process_group("cpu") as world:
        compute = Compute(torch.device("cpu"), "fp32", world=world)
        run = StudentRun(plan, entry, (teacher.network,), Path("unused"), writes=False)
        for module in (run.student, run.method, teacher):
            module.to(dtype)
        batching = Batching(recipe.augmentation, BATCH_SIZE, plan.seed, recipe.drop_last, channels_last=True)
        stream = BatchStream(arrays.train_images, arrays.train_labels, entry, batching, compute.device)
        compute.place(teacher)
        run.start(compute, stream.labels, stream.steps_per_epoch)
        teach = teacher_pass([teacher], run.method.reads_of_teacher(), compute)
        kept: dict[int, Weights] = {}
        for step, batch in enumerate(islice(batches(stream, dtype), max(arguments.steps)), 1):
            run.position = (batch.epoch, batch.step)
            run.step(batch, teach(batch.images))
            if step in arguments.steps:
                kept[step] = {name: value.clone() for name, value in run.student.named_parameters()}
        if world.is_main:
            torch.save(kept, arguments.out)


def weights_of(arguments: argparse.Namespace, dtype: str, threads: int, processes: int) -> dict[int, Weights]:
    """The weights after each of `--steps`, by processes of their own. Raises RunError if they fail."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "weights.pth"
        command = [sys.executable]
        if processes > 1:
            command += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        command += [__file__, "--distill", arguments.distill, "--model", arguments.model, "--dtype", dtype]
        command += ["--out", str(out), "--steps", *map(str, arguments.steps)]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise RunError((done.stderr.strip().splitlines() or [f"{dtype} ended with {done.returncode}"])[-1])
        return torch.load(out, weights_only=True)


def difference(found: Weights, expected: Weights) -> tuple[float, float]:
    """The largest difference of a weight, and the length of all differences as a share of that of the weights."""
    one, other = (torch.cat([value.flatten().double() for value in weights.values()]) for weights in (found, expected))
    return (one - other).abs().max().item(), ((one - other).norm() / other.norm()).item()


@guard
def main(argv: list[str] | None = None) -> int:
    arguments = parse(argv)
    if arguments.out is not None:
        train(arguments)
        return DONE
    pair = f"{arguments.distill}, {arguments.model} on {DATASET}, {BATCH_SIZE} images a step"
    print(f"{pair}; beside one thread of one process")
    print("| in | by | steps | largest difference of a weight | ‖difference‖ / ‖weights‖ |\n|---|---|---|---|---|")
    for dtype in DTYPES:
        expected = weights_of(arguments, dtype, threads=1, processes=1)
        for what, threads, processes in (("once more", 1, 1), ("2 threads", 2, 1), ("2 processes", 1, 2)):
            found = weights_of(arguments, dtype, threads, processes)
            for step in sorted(expected):
                largest, share = difference(found[step], expected[step])
                print(f"| {dtype} | {what} | {step} | {largest:.1e} | {share:.1e} |", flush=True)
    return DONE


if __name__ == "__main__":
    sys.exit(main())
