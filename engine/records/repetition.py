"""A finished run that is repeated: the repetition has a folder of its own until it has a result.

What a run's folder RUN holds, one after the other. Each step is a rename, and at every moment one of these folders
holds a whole finished run:

    RUN/             the old run             RUN/repetition/   the new one, in training
    RUN/replacing/   the old run, in part    RUN/repetition/   the new one, whole
    RUN/replaced/    the old run, whole      RUN/              the new one, in part
    RUN/             the new run             RUN/replaced/     the old one, being deleted
"""

import os
import shutil
from pathlib import Path

from common.files import explained_write_errors, make_folder, sync_folder

REPETITION, REPLACING, REPLACED = "repetition", "replacing", "replaced"
RESULT = "result.json"


def is_pending(home: Path) -> bool:
    """True if the run in the folder `home` is to be repeated, or its repetition is not yet in its place."""
    return any(os.path.isdir(home / name) for name in (REPETITION, REPLACING, REPLACED))


def put_in_place(home: Path) -> None:
    """Replace the run in `home` by its repetition, if that is finished; goes on where this was cut off before.

    Raises:
        RunError: a file cannot be moved.
    """
    new, replacing, replaced = (home / name for name in (REPETITION, REPLACING, REPLACED))
    with explained_write_errors(home):
        if not replaced.is_dir():
            if (new / RESULT).is_file():
                make_folder(replacing)
                _move_files(home, replacing)
                os.replace(replacing, replaced)
                sync_folder(home)
            elif replacing.is_dir():  # someone removed the repetition meanwhile
                _move_files(replacing, home)
                replacing.rmdir()
        if replaced.is_dir():
            if new.is_dir():
                _move_files(new, home)
                new.rmdir()
            shutil.rmtree(replaced)


def _move_files(source: Path, target: Path) -> None:
    """Move a run's files and folders, its result last."""
    names = {path.name for path in source.iterdir() if not path.name.startswith(".")}
    for name in sorted(names - {REPETITION, REPLACING, REPLACED}, key=lambda name: (name == RESULT, name)):
        os.replace(source / name, target / name)
    sync_folder(target)
    sync_folder(source)
