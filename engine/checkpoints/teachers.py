"""The teachers of a run: which checkpoints they are, and the loaded networks.

python -m engine.checkpoints.teachers [--output save] [NAME ...]     fetches published teachers; without names, all
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common import script

if __name__ == "__main__":
    script.begin(__file__)  # the imports below take seconds

from common.command import guard, make_parser, say
from common.errors import RequestError, RunError
from common.messages import did_you_mean
from common.output_places import check_output_folder
from common.user_paths import file_is_there
from dataset import DATASETS, DatasetEntry, load_arrays
from engine.checkpoints.class_fit import FITS, ClassFit, compare_classes
from engine.checkpoints.find_weights import ONLY_WEIGHTS, WeightsChoice
from engine.checkpoints.inference_network import InferenceNetwork
from engine.checkpoints.published_teachers import by_hand, fetch
from engine.checkpoints.run_weights import weights_file
from engine.checkpoints.trained_teachers import TeacherRun, teacher_runs
from engine.checkpoints.weights import load_network
from engine.protocol.plan import TeacherFile
from models import MODELS
from models.by_image_size import default_teacher as default_network
from models.published_checkpoints import DATASET, DEFAULT_TEACHER, PUBLISHED


class MissingTeacherError(RequestError):
    """There is no checkpoint of a teacher, and none can be fetched."""


@dataclass(frozen=True)
class Teacher:
    """A loaded teacher and its file.

    Attributes:
        fit: how its classes fit those of the data set; where they do not, no method may read its logits.
    """

    file: TeacherFile
    network: InferenceNetwork
    fit: ClassFit = FITS


def load_teachers(
    files: Sequence[tuple[Path, str | None]],
    entry: DatasetEntry,
    allow_namespace: bool = False,
    choices: Sequence[WeightsChoice] = (ONLY_WEIGHTS,),
) -> tuple[Teacher, ...]:
    """Read teacher checkpoints, of any classes; prints what was done beyond reading plain weights.

    Args:
        files: path of each, and the name of its network, None if the file gives it.
        choices: which weights, one for all files or one for each.

    Raises:
        RequestError: as `load_network` for any classes; or the number of choices is wrong.
    """
    choices = list(choices) * len(files) if len(choices) == 1 else list(choices)
    if len(choices) != len(files):
        raise RequestError(f"--weights_key has {len(choices)} keys for {len(files)} teachers; give one, or one a file")
    teachers = []
    for (path, arch), choice in zip(files, choices, strict=True):
        loaded = load_network(path, entry, arch=arch, allow_namespace=allow_namespace, choice=choice, any_classes=True)
        if loaded.note:
            say(loaded.note)
        file = TeacherFile(loaded.arch, path, loaded.sha256, loaded.normalisation_override, loaded.weights_key)
        fit = compare_classes(loaded, entry, path)
        teachers.append(Teacher(file, loaded.network, fit))
    return tuple(teachers)


def teacher_files(
    dataset: str,
    models: Sequence[str] | None,
    paths: Sequence[Path] | None,
    output: Path,
    data_folder: Path,
) -> list[tuple[Path, str | None]]:
    """The requested teacher checkpoints, each with the name of its network as it was typed, None if it was not.

    One name holds for all paths. The folder of a run stands for the weights of its last epoch. Without paths each
    name's default is taken (see `default_teacher`).

    Raises:
        RequestError: the numbers of names and paths differ, or checkpoints are missing: the message has all of them,
            and the data set if that is missing too.
    """
    names: list[str | None] = [*models] if models else [None]
    if not paths:
        return _default_files(dataset, names, output, data_folder)
    paths = [weights_file(path, "--path_t") for path in paths]
    names = names * len(paths) if len(names) == 1 else names
    if len(names) != len(paths):
        raise RequestError(
            f"--model_t names {len(names)} networks and --path_t {len(paths)} files; give one name, or one a file"
        )
    return list(zip(paths, names, strict=True))


def _default_files(
    dataset: str, names: Sequence[str | None], output: Path, data_folder: Path
) -> list[tuple[Path, str | None]]:
    found: list[tuple[Path, str | None]] = []
    missing = []
    for name in names:
        try:
            found.append((default_teacher(dataset, name, output), name))
        except MissingTeacherError as error:
            missing.append(str(error))
    if not missing:
        return found
    if not DATASETS[dataset].at_hand(data_folder):
        try:
            load_arrays(dataset, data_folder)
        except (RequestError, RunError) as error:
            missing.append(str(error))
    raise RequestError("\n".join(missing))


def default_teacher(dataset: str, model: str | None, output: Path) -> Path:
    """The checkpoint to learn from when `--path_t` is not given.

    For CIFAR-100 it is the published file of the network (`DEFAULT_TEACHER` if `model` is None) if it lies in
    `output`/models, else the network trained there, else the published file, fetched. For other data sets it is the
    network trained there, of any name if `model` is None. Several trials under one protocol count as one teacher, of
    which the first trial is taken. Alternatives are printed.

    Raises:
        MissingTeacherError: there is none; the message says where to put one, and gives the command that trains one.
        RequestError: several were trained, by different protocols or of different networks, and the choice is open.
    """
    models = output / "models"
    if model is not None:
        model = MODELS.canonical(model)
    elif dataset == DATASET:
        model = DEFAULT_TEACHER
    published = [t for t in PUBLISHED if dataset == DATASET and t.model == model]
    trained = teacher_runs(dataset, model, models)
    for checkpoint in published:
        path = models / checkpoint.file
        if file_is_there(path, "move it away, or name a teacher with --path_t", "teacher"):
            if trained:
                say(f"teacher {model}: the published file; --path_t takes one trained here: {_listed(trained)}")
            return path
    if trained:
        return _only_one(trained, dataset).weights
    reasons = []
    for checkpoint in published:
        try:
            return fetch(checkpoint, output)
        except RequestError as error:
            reasons.append(str(error).splitlines()[0])
    sources = "; or ".join(by_hand(checkpoint, output) for checkpoint in published)
    raise MissingTeacherError(
        f"no teacher{f' {model}' if model else ''} for {dataset} in {models}"
        f"{''.join(f'; {reason}' for reason in reasons)}\n"
        f"{f'fetch {sources}; or ' if sources else ''}name a file with --path_t, or train one: "
        f"python train_teacher.py --model {model or default_network(DATASETS[dataset].image_size)} --dataset {dataset}"
    )


def _only_one(trained: Sequence[TeacherRun], dataset: str) -> TeacherRun:
    """The first trial of the one network under one protocol. A short test run must not be taken for the real one."""
    if len({(run.model, run.protocol_id) for run in trained}) > 1:
        raise RequestError(
            f"several teachers for {dataset} were trained here: {_listed(trained)}\nchoose one with --path_t FILE"
        )
    if len(trained) > 1:
        say(f"teacher {trained[0].model}: trial {trained[0].trial} of {len(trained)}; --path_t takes another")
    return trained[0]


def _listed(trained: Sequence[TeacherRun]) -> str:
    """Each protocol's first trial."""
    firsts: dict[tuple[str, str], TeacherRun] = {}
    for run in trained:
        firsts.setdefault((run.model, run.protocol_id), run)
    return "; ".join(map(str, firsts.values()))


@guard
def main(argv: list[str] | None = None) -> int:
    """Fetch published teachers; returns 1 if one of them cannot be fetched."""
    parser = make_parser("Fetch published CIFAR-100 teachers into OUTPUT/models.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="networks; all by default")
    parser.add_argument("--output", type=Path, default=Path("save"), help="root of what is written")
    arguments = parser.parse_args(argv)
    known = sorted({checkpoint.model for checkpoint in PUBLISHED})
    for name in arguments.names:
        if name not in known:
            raise RequestError(f"no published teacher {name}; {did_you_mean(name, known)}")
    check_output_folder("--output", arguments.output / "models")
    missing = []
    for checkpoint in PUBLISHED:
        if arguments.names and checkpoint.model not in arguments.names:
            continue
        try:
            print(f"{checkpoint.model:<12} published top-1 {checkpoint.top1}  {fetch(checkpoint, arguments.output)}")
        except RequestError as error:
            missing.append(checkpoint.model)
            print(error, file=sys.stderr)
    if missing:
        print(f"\n{len(missing)} teachers could not be fetched. All can be trained here:", file=sys.stderr)
        print("  bash scripts/run_cifar_vanilla.sh", *sorted(set(missing)), file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    script.run(main, __file__)
