"""Teachers that others published: fetched into OUTPUT/models, and kept only if they load."""

import lzma
import os
import sys
import tarfile
import tempfile
import zlib
from pathlib import Path

from common.archives import tar_content
from common.download import download
from common.errors import RequestError
from common.files import write_bytes
from common.output_places import check_output_folder
from common.user_paths import file_is_there
from dataset import DATASETS
from engine.checkpoints.weights import load_network
from models.published_checkpoints import DATASET, PUBLISHED, PublishedCheckpoint

LARGEST = 1 << 30  # bytes of a teacher's file; ResNet50's has 95 MB


def fetch(teacher: PublishedCheckpoint, output: Path) -> Path:
    """Fetch one published teacher, unless its file exists, and check that it loads; returns its path.

    Raises:
        RequestError: every source failed; the message says where to put a file that was fetched by other means, and
            gives the command that trains the network instead.
    """
    path = output / "models" / teacher.file
    if file_is_there(path, "move it away, or name a teacher with --path_t", "teacher"):
        return path
    check_output_folder("--output", output)
    advice = (
        f"fetch {by_hand(teacher, output)}; "
        f"or train it here: python train_teacher.py --model {teacher.model} --dataset {DATASET}"
    )
    if teacher.archive:
        try:
            _fetch_archive(teacher.archive, output, advice)
        except RequestError as error:
            print(f"{error}".splitlines()[0], file=sys.stderr)
    if not os.path.isfile(path):
        download([teacher.url], path, sha256_prefix=teacher.sha256_prefix, advice=advice)
        _check_fetched(teacher, path)
    return path


def by_hand(teacher: PublishedCheckpoint, output: Path) -> str:
    """Where to put what one fetches by other means: "URL as PATH (sha256 …)", for each source."""
    known = f" (sha256 {teacher.sha256_prefix}…)" if teacher.sha256_prefix else ""
    text = f"{teacher.url} as {output / 'models' / teacher.file}{known}"
    return text if teacher.archive is None else f"{text}, or {teacher.archive} as {_archive(teacher.archive, output)}"


def _archive(url: str, output: Path) -> Path:
    """Where an archive is looked for before it is fetched."""
    return output / "models" / url.rpartition("/")[2]


def _fetch_archive(url: str, output: Path, advice: str) -> None:
    """Take every missing teacher from an archive, so that it is downloaded once; prints which do not load."""
    with tempfile.TemporaryDirectory() as folder:
        archive = _archive(url, output)
        if not file_is_there(archive, "move it away"):
            archive = download([url], Path(folder) / archive.name, advice=advice)
        try:
            with tarfile.open(archive) as tar:
                for teacher in PUBLISHED:
                    path = output / "models" / teacher.file
                    if teacher.archive == url and teacher.member is not None and not path.exists():
                        write_bytes(path, tar_content(tar, teacher.member, LARGEST))
                        try:
                            _check_fetched(teacher, path)
                        except RequestError as error:
                            print(f"{error}".splitlines()[0], file=sys.stderr)
        except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError):
            place = archive if archive.parent != Path(folder) else url
            raise RequestError(f"{place} is not the expected archive of teachers\n{advice}") from None


def _check_fetched(teacher: PublishedCheckpoint, path: Path) -> None:
    """Load a file that was just written; delete it if that fails, for later commands take existing files unchecked."""
    try:
        load_network(path, DATASETS[DATASET], arch=teacher.model)
    except RequestError:
        path.unlink()
        raise
