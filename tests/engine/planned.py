"""What the runs of a command line are called, found out without training.

`python -m tests.engine.planned FILE` computes anew the runs of all commands in FILE (tests/fixtures/run_ids.json), and
writes them there. That is right only where the identities are meant to change.
"""

import importlib
import json
import shlex
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from engine.protocol.identity import protocol_id
from models import MODELS
from models.timm_models import published_normalisation
from tests.helpers import ROOT

# All that this file knows of the code behind the commands: a command imports two functions under these names. The first
# takes the plans; the second reads teachers' files, and stands in one module with the classes of what it returns.
RUN, LOAD = "run_plans", "load_teachers"
TEACHER, TEACHER_FILE = "Teacher", "TeacherFile"
# A real file, for the command that reads one before it plans.
BACKBONE = ROOT / "tests" / "fixtures" / "unfinished_run" / "teacher.pth"


class Planned(BaseException):
    """Ends a command once it has made its plans."""


def plans_of(command):
    """The plans that a command line makes, in order. Teachers' files are not read, so that there need be none."""
    script, *words = shlex.split(command)
    module = importlib.import_module(script.removesuffix(".py"))
    made = []

    def keep(plans, *others, **options):
        made.extend(plans)
        raise Planned

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, RUN, keep)
        if hasattr(module, LOAD):
            home = sys.modules[getattr(module, LOAD).__module__]
            patch.setattr(module, LOAD, _named_teachers(home))
        with pytest.raises(Planned):
            module.main(words)
    return made


def _named_teachers(home):
    """Stands for the reading of teachers' files: the name of a file is its content."""

    def load(files, entry, *others):
        teachers = []
        for path, name in files:
            override = published_normalisation(name)
            override = None if override == (entry.mean, entry.std) else override
            digest = sha256(str(path).encode()).hexdigest()
            file = getattr(home, TEACHER_FILE)(MODELS.canonical(name), path, digest, normalisation_override=override)
            teachers.append(getattr(home, TEACHER)(file, None))
        return tuple(teachers)

    return load


def described(plan):
    """What identifies a run: its folder, its hash, the hash of what it is compared under, its name in tables."""
    return [plan.folder.as_posix(), plan.run_id, protocol_id(plan), plan.label]


def make_place(folder):
    """The files that the commands find in the folder that they are called in."""
    for name in ("train/cat", "train/dog", "val/cat", "val/dog"):
        (folder / "data" / "pets" / name).mkdir(parents=True)
        (folder / "data" / "pets" / name / "1.png").touch()  # nobody looks into it
    (folder / "backbone.pth").write_bytes(BACKBONE.read_bytes())


def write_anew(file, folder):
    """Replace what FILE says of its commands' runs by what they are now."""
    make_place(folder)
    entries = json.loads(file.read_text())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        parts = [_lines_of(entry["command"]) for entry in entries]
    file.write_text("[\n" + ",\n".join(parts) + "\n]\n")


def _lines_of(command):
    """One command of the file, a line for each run."""
    runs = ",\n    ".join(json.dumps(described(plan), ensure_ascii=False) for plan in plans_of(command))
    return f'  {{\n   "command": {json.dumps(command)},\n   "runs": [\n    {runs}\n   ]\n  }}'


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        write_anew(Path(sys.argv[1]).resolve(), Path(place))
