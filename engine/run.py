"""From plans to finished runs: everything that can be wrong is found before data is loaded."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import RequestError
from dataset import DATASETS, Arrays, BatchStream, DatasetEntry, load_arrays
from engine.compute import Compute
from engine.deployed import Deployed
from engine.environment import describe_environment
from engine.evaluate import evaluate
from engine.member import Member
from engine.plan import RunPlan, TeacherFile
from engine.progress import Progress
from engine.recipes import Recipe
from engine.train import Outcome, train_group
from engine.weights import Backbone, load_network
from models import FeatureShapes


@dataclass(frozen=True)
class Teacher:
    """A loaded teacher and the file that it came from."""

    file: TeacherFile
    network: Deployed
    shapes: FeatureShapes


def load_teachers(
    paths: Sequence[Path], arch: str | None, entry: DatasetEntry, allow_namespace: bool
) -> tuple[Teacher, ...]:
    """Read teacher checkpoints.

    Raises:
        RequestError: as `load_network`.
    """
    teachers = []
    for path in paths:
        loaded = load_network(path, entry, arch=arch, allow_namespace=allow_namespace)
        file = TeacherFile(loaded.arch, path, loaded.sha256)
        teachers.append(Teacher(file, loaded.network, loaded.network.feature_shapes()))
    return tuple(teachers)


def run_group(
    plans: Sequence[RunPlan],
    teachers: Sequence[Teacher],
    *,
    output: Path,
    data_folder: Path,
    compute: Compute,
    overwrite: bool = False,
    skip_refused: bool = False,
    backbone: Backbone | None = None,
) -> Outcome:
    """Train all plans as one group; they share data set, recipe, seed and teachers.

    Args:
        overwrite: start runs anew that are there; otherwise finished ones are left alone, others continued.
        skip_refused: leave out methods that refuse the pair, saying so, instead of ending there.
        backbone: the frozen weights below the classifiers of the plans that name it.

    Raises:
        RequestError: a method refuses the pair, the backbone does not fit, the output cannot be written, or the data is
            not to be had.
        Interrupted: after SIGINT or SIGTERM.
    """
    entry, progress = DATASETS[plans[0].dataset], Progress()
    recipe = plans[0].recipe
    _check_batches(recipe, entry)
    members = []
    for plan in plans:
        shapes = tuple(teacher.shapes for teacher in teachers) if plan.teachers else ()
        try:
            members.append(Member(plan, entry, shapes, output, backbone if plan.backbone else None))
        except RequestError as refusal:
            if not skip_refused:
                raise
            progress.line(f"left out: {plan.label}: {refusal}")
    if not overwrite:
        members = _unfinished(members, progress)
    if not members:
        return Outcome()
    for member in members:
        member.folder.create()

    data = load_arrays(entry.name, data_folder)
    needed = [teacher for teacher in teachers if any(member.plan.teachers for member in members)]
    measured = [_measure(teacher, data, entry, compute, progress) for teacher in needed]
    stream = BatchStream(
        data.train_images,
        data.train_labels,
        entry,
        recipe.augmentation,
        recipe.batch_size,
        plans[0].seed,
        recipe.drop_last,
        compute.device,
        channels_last=True,
    )
    environment = describe_environment(compute.device)
    for member in members:
        if overwrite:
            member.folder.clear()  # not before all else is known to be right
        member.start(compute, stream.labels, stream.steps_per_epoch)
        member.folder.write_config(member.plan.config(measured if member.plan.teachers else [], environment))
        progress.line(f"{member.plan.label}: {member.folder.path}{_place(member)}")
    return train_group(members, [teacher.network for teacher in needed], stream, data, entry, compute, progress)


def _check_batches(recipe: Recipe, entry: DatasetEntry) -> None:
    if recipe.drop_last and recipe.batch_size > entry.train_size:
        raise RequestError(
            f"--batch_size {recipe.batch_size} is more than the {entry.train_size} training images of {entry.name}; "
            f"give a smaller one"
        )
    if not recipe.drop_last and entry.train_size % recipe.batch_size == 1:
        raise RequestError(
            f"--batch_size {recipe.batch_size} leaves a last batch of one image, on which batch normalisation cannot "
            f"train; choose another one or add --drop_last"
        )


def _unfinished(members: list[Member], progress: Progress) -> list[Member]:
    """Those that have something to do, their checkpoints read."""
    remaining = []
    for member in members:
        if member.folder.is_finished():
            progress.line(f"already finished: {member.plan.label} in {member.folder.path} (--overwrite starts anew)")
        else:
            member.read_saved()
            remaining.append(member)
    return remaining


def _measure(teacher: Teacher, data: Arrays, entry: DatasetEntry, compute: Compute, progress: Progress):
    """Test a teacher before anyone learns from it: published checkpoints are not always what they claim."""
    compute.place(teacher.network)
    result = evaluate(teacher.network, data, entry, compute)
    progress.line(f"teacher {teacher.file.model} ({teacher.file.path}): Acc@1 {result['top1']:.2f}")
    return {key: result[key] for key in ("top1", "top5", "loss")}


def _place(member: Member) -> str:
    epoch, step = member.position
    return "" if (epoch, step) == (1, 0) else f" (continues at epoch {epoch}, step {step})"
