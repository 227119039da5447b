"""Teachers that others published, where they are kept, and which one a run takes when none is named.

python -m engine.checkpoints.teachers [--output save] [NAME ...]     fetches them; without names, all
"""

import json
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.command import guard, make_parser, say
from common.download import download
from common.errors import RequestError
from common.files import write_bytes
from common.messages import counted, did_you_mean
from dataset import DATASETS, DatasetEntry
from engine.checkpoints.inference_network import InferenceNetwork
from engine.checkpoints.weights import load_network
from engine.protocol.plan import TeacherFile
from models import MODELS
from models.published_checkpoints import DATASET, DEFAULT_TEACHER, PUBLISHED, PublishedTeacher
from models.registry import file_name_of


@dataclass(frozen=True)
class Teacher:
    """A loaded teacher and the file that it came from."""

    file: TeacherFile
    network: InferenceNetwork


def load_teachers(
    files: Sequence[tuple[Path, str | None]], entry: DatasetEntry, allow_namespace: bool = False
) -> tuple[Teacher, ...]:
    """Read teacher checkpoints, each with the name of its network where the file does not say.

    Raises:
        RequestError: as `load_network`.
    """
    teachers = []
    for path, arch in files:
        loaded = load_network(path, entry, arch=arch, allow_namespace=allow_namespace)
        file = TeacherFile(loaded.arch, path, loaded.sha256, normalisation_override=loaded.normalisation_override)
        teachers.append(Teacher(file, loaded.network))
    return tuple(teachers)


@dataclass(frozen=True)
class TrainedTeacher:
    """A finished run of train_teacher.py below an output root.

    Attributes:
        path: its last weights.
        protocol_id: what two runs share that differ in their trial alone.
        top1: accuracy of the last epoch in per cent, None where the run does not say.
    """

    path: Path
    model: str
    protocol_id: str
    trial: int
    epochs: int
    top1: float | None

    def __str__(self) -> str:
        accuracy = "accuracy unknown" if self.top1 is None else f"Acc@1 {self.top1:.2f}"
        return f"{self.model}, {counted(self.epochs, 'epoch')}, {accuracy} ({self.path})"


def default_teacher(dataset: str, model: str | None, output: Path) -> Path:
    """The checkpoint to learn from when `--path_t` is not given.

    For CIFAR-100 that is the published file of the network (`DEFAULT_TEACHER` without a name) where it lies in
    `output`/models, else the one trained there, else the published file, fetched. For other data sets it is the one
    trained there, of any network without a name. Several trials under one protocol count as one teacher, whose first
    trial is taken; what was left aside is printed.

    Raises:
        RequestError: there is none, with the commands that would make one; or several were trained, by different
            protocols or of different networks, and none of them is meant more than the others.
    """
    models = output / "models"
    model = DEFAULT_TEACHER if model is None and dataset == DATASET else model and MODELS.canonical(model)
    published = [t for t in PUBLISHED if dataset == DATASET and t.model == model]
    trained = trained_here(dataset, model, models)
    for teacher in published:
        path = models / teacher.file
        if path.is_file():
            if trained:
                say(f"teacher {model}: the published file; --path_t takes one trained here: {_listed(trained)}")
            return path
    if trained:
        return _only_one(trained, dataset).path
    reasons = []
    for teacher in published:
        try:
            return fetch(teacher, output)
        except RequestError as error:
            reasons.append(str(error).splitlines()[0])
    name = model or DEFAULT_TEACHER
    raise RequestError(
        f"there is no teacher{f' {model}' if model else ''} for {dataset} in {models}"
        f"{''.join(f'; {reason}' for reason in reasons)}\n"
        f"name one with --path_t, or train it: python train_teacher.py --model {name} --dataset {dataset}"
    )


def _only_one(trained: Sequence[TrainedTeacher], dataset: str) -> TrainedTeacher:
    """The first trial of the one network under one protocol. A short trial run must not stand in for the real one."""
    if len({(teacher.model, teacher.protocol_id) for teacher in trained}) > 1:
        raise RequestError(
            f"several teachers for {dataset} were trained here: {_listed(trained)}\nname the one with --path_t FILE"
        )
    if len(trained) > 1:
        say(f"teacher {trained[0].model}: trial {trained[0].trial} of {len(trained)}; --path_t takes another")
    return trained[0]


def _listed(trained: Sequence[TrainedTeacher]) -> str:
    """Each protocol's first trial."""
    firsts: dict[tuple, TrainedTeacher] = {}
    for teacher in trained:
        firsts.setdefault((teacher.model, teacher.protocol_id), teacher)
    return "; ".join(map(str, firsts.values()))


def teacher_files(
    dataset: str, models: Sequence[str] | None, paths: Sequence[Path] | None, output: Path
) -> list[tuple[Path, str | None]]:
    """The checkpoints of the teachers that were asked for, each with its network's name, as typed, where one was given.

    One name stands for all paths. Without paths each name's default is taken (see `default_teacher`).

    Raises:
        RequestError: other numbers of names and paths, or no checkpoint.
    """
    if not paths:
        return [(default_teacher(dataset, name, output), name) for name in models or [None]]
    names = list(models or [None])
    names = names * len(paths) if len(names) == 1 else names
    if len(names) != len(paths):
        raise RequestError(
            f"--model_t names {len(names)} networks and --path_t {len(paths)} files; give one name, or one a file"
        )
    return list(zip(paths, names, strict=True))


def trained_here(dataset: str, model: str | None, models: Path) -> list[TrainedTeacher]:
    """The finished runs of train_teacher.py that fit, by their trials; of any network where `model` is None."""
    found = []
    for config_file in sorted(models.glob("*/config.json")):
        folder = config_file.parent
        try:
            config = json.loads(config_file.read_text())
            weights = folder / f"{file_name_of(config['model'])}_last.pth"
            if config["dataset"] != dataset or model not in (None, config["model"]) or not weights.is_file():
                continue
            run = (config["protocol_id"], int(config["trial"]), int(config["recipe"]["epochs"]))
            found.append(TrainedTeacher(weights, config["model"], *run, _top1(folder)))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return sorted(found, key=lambda teacher: (teacher.trial, teacher.path))


def _top1(folder: Path) -> float | None:
    try:
        return float(json.loads((folder / "result.json").read_text())["last"]["top1"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def fetch(teacher: PublishedTeacher, output: Path) -> Path:
    """Fetch one published teacher, unless it is there, and check that it loads; returns its path.

    Raises:
        RequestError: every source failed; its last words are how to train the network here.
    """
    path = output / "models" / teacher.file
    if path.is_file():
        return path
    mend = f"Train it here instead: python train_teacher.py --model {teacher.model} --dataset {DATASET}"
    if teacher.archive:
        try:
            _fetch_from_archive(teacher, output, mend)
        except RequestError as error:
            print(f"{error}".splitlines()[0], file=sys.stderr)
    if not path.is_file():
        download([teacher.url], path, sha256_prefix=teacher.sha256_prefix, advice=mend)
        _check_fetched(teacher, path)
    return path


def _check_fetched(teacher: PublishedTeacher, path: Path) -> None:
    """Load what was just written to `path`; if that fails it goes, for a file that is there is taken unchecked."""
    try:
        load_network(path, DATASETS[DATASET], arch=teacher.model)
    except RequestError:
        path.unlink()
        raise


def _fetch_from_archive(teacher: PublishedTeacher, output: Path, mend: str) -> None:
    """Take every teacher of the archive that is not there yet, so that it is downloaded once; say which don't load."""
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "teachers.tar"
        download([teacher.archive], archive, advice=mend)
        try:
            with tarfile.open(archive) as tar:
                for other in PUBLISHED:
                    target = output / "models" / other.file
                    if other.archive == teacher.archive and not target.exists():
                        content = tar.extractfile(other.member).read()
                        write_bytes(target, content)
                        try:
                            _check_fetched(other, target)
                        except RequestError as error:
                            print(f"{error}".splitlines()[0], file=sys.stderr)
        except (tarfile.TarError, KeyError, AttributeError, EOFError):
            raise RequestError(f"{teacher.archive} is not the expected archive of teachers\n{mend}") from None


@guard
def main(argv: list[str] | None = None) -> int:
    parser = make_parser("Fetch published CIFAR-100 teachers into OUTPUT/models.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="networks; all by default")
    parser.add_argument("--output", type=Path, default=Path("save"))
    arguments = parser.parse_args(argv)
    known = sorted({teacher.model for teacher in PUBLISHED})
    for name in arguments.names:
        if name not in known:
            raise RequestError(f"no published teacher {name}; {did_you_mean(name, known)}")
    missing = []
    for teacher in PUBLISHED:
        if arguments.names and teacher.model not in arguments.names:
            continue
        try:
            print(f"{teacher.model:<12} published top-1 {teacher.top1}  {fetch(teacher, arguments.output)}")
        except RequestError as error:
            missing.append(teacher)
            print(error, file=sys.stderr)
    if missing:
        print(f"\n{len(missing)} teachers could not be fetched. All can be trained here:", file=sys.stderr)
        print("  bash scripts/run_cifar_vanilla.sh", *sorted({t.model for t in missing}), file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
