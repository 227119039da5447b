"""Which code made a run: what counts as changed code, what config.json says, and what a changed method file does."""

import json
import shutil
import subprocess
import sys
from collections import defaultdict

import pytest
import torch

from common.definitions import Definitions
from distiller_zoo import METHODS
from engine.records import code_version as sources
from engine.records.code_version import ROOT, changed_files, sources_of
from engine.training.student_run import StudentRun
from tests.docs.test_readme import PARTS
from tests.helpers import environment, folder_of, load, read_json, stop_at_step, train

CODE = '''"""A loss."""

SCALE = 2.0


def loss(a, b):
    """Of two numbers."""
    return SCALE * (a - b) ** 2
'''
SAME = {
    "a comment": CODE.replace("SCALE = 2.0", "SCALE = 2.0  # of the paper"),
    "another docstring": CODE.replace("Of two numbers.", "Scaled square of the difference."),
    "no docstring": CODE.replace('    """Of two numbers."""\n', ""),
    "layout": CODE.replace("(a - b) ** 2", "(\n        a - b\n    ) ** 2"),
}
OTHER = {
    "a number": CODE.replace("2.0", "3.0"),
    "a sign": CODE.replace("a - b", "a + b"),
    "a name": CODE.replace("SCALE", "FACTOR"),
    "the type of a number": CODE.replace("2.0", "2"),
    "a text": CODE + 'MODE = "mean"\n',
}


def digest(code, name=None):
    """Of what a name of a file is made of, within that file."""
    found, chosen, waiting = Definitions(code), set(), [name]
    while waiting:
        new = set(found.of(waiting.pop())) - chosen
        chosen |= new
        waiting += [own for each in new for own in found.own_names(each)]
    return found.digest(chosen)


@pytest.mark.parametrize("change", SAME)
def test_what_does_nothing_changes_nothing(change):
    assert SAME[change] != CODE
    assert digest(SAME[change]) == digest(CODE)


@pytest.mark.parametrize("change", OTHER)
def test_what_does_something_changes_the_digest(change):
    assert digest(OTHER[change]) != digest(CODE)
    assert digest(CODE + 'MODE = "sum"\n') != digest(OTHER["a text"])


def test_a_digest_is_of_the_text_alone():
    """Records of all machines and Python versions share it: ast.dump would write the same tree in other ways."""
    assert digest("x = 1\n") == "9a1e4952d3f75190"


SEVERAL = """
import math
from math import tau

SCALE = tau
OTHER = 1.0


def scaled(x):
    return SCALE * x


def other(x):
    return OTHER * math.sin(x)


class Loss:
    def __call__(self, x):
        return scaled(x)


if OTHER:
    LATE = 3
"""


def test_a_definition_is_what_it_uses_and_no_more():
    whole = digest(SEVERAL, "Loss")
    aside = [
        ("OTHER = 1.0", "OTHER = 2.0 - 1.0 * 1"),
        ("math.sin(x)", "math.cos(x)"),
        ("class Loss", "def new(): 1\n\n\nclass Loss"),
    ]
    assert {digest(SEVERAL.replace(*change), "Loss") == whole for change in aside[1:]} == {True}
    inside = [
        ("import tau", "import e as tau"),
        ("SCALE * x", "SCALE + x"),
        ("scaled(x)\n\n", "-scaled(x)\n\n"),
        ("LATE = 3", "LATE = 4"),
    ]
    # The last one is run by whoever imports the file, and so is what it uses.
    for change in [*inside, aside[0]]:
        assert change[0] in SEVERAL
        assert digest(SEVERAL.replace(*change), "Loss") != whole, change
    assert digest(SEVERAL, "nothing of this name") == digest(SEVERAL)


def test_a_method_is_its_file_and_what_it_imports_of_the_zoo():
    found = set(sources_of("ctkd", ["mixer_pico"]))
    assert {"distiller_zoo/ctkd.py", "distiller_zoo/kd.py", "models/mixer.py", "models/tokens.py"} <= found
    assert not found & {"distiller_zoo/method.py", "distiller_zoo/crd.py", "models/resnet.py", "common/errors.py"}


def test_a_combination_is_all_its_parts_and_what_combines_them():
    both = sources_of("crd+dkd", ["resnet20"])
    parts = sources_of("crd", ["resnet20"]) | sources_of("dkd", ["resnet20"])
    assert both.keys() - parts.keys() == {"distiller_zoo/combination.py"}
    assert parts.items() < both.items()


def test_teachers_and_timm_are_known_too():
    assert {"models/resnet.py", "models/mixer.py"} <= set(sources_of("kd", ["mixer_pico", "resnet8"]))
    timm = pytest.importorskip("timm")
    assert sources_of("none", ["timm:mixer_s32_224"])["timm"] == timm.__version__


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_its_own_file_on_record(method):
    found = sources_of(method, ["resnet8"])
    file = METHODS[method].__module__.replace(".", "/") + ".py"
    assert found[file] == digest((ROOT / file).read_text(), METHODS[method].__name__)
    assert "models/resnet.py" in found


def test_a_package_is_its_files(tmp_path, monkeypatch):
    """Relative imports, of a module and of a package; other code than the user's own is none of it."""
    files = {
        "zoo/__init__.py": "",
        "zoo/mine/__init__.py": "from .loss import f\nimport json\n",
        "zoo/mine/loss.py": "from ..shared import g\nfrom . import other, unused\n\nf = g, other\n",
        "zoo/mine/other.py": "x = 1\n",
        "zoo/mine/unused.py": "x = 1\n",
        "zoo/shared.py": "import helper_of_a_test.deep\n\ng = helper_of_a_test\n",
        "helper_of_a_test/__init__.py": "",
        "helper_of_a_test/deep.py": "x = 1\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(sources, "ROOT", tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    used = defaultdict(set)
    sources._follow([("zoo.mine", None)], "zoo", used)
    found = {file.relative_to(tmp_path).as_posix() for file in used}
    of_zoo = {"zoo/mine/__init__.py", "zoo/mine/loss.py", "zoo/mine/other.py", "zoo/shared.py"}
    assert found == of_zoo | {"helper_of_a_test/deep.py"}


def test_what_is_edited_later_is_not_what_runs(tmp_path):
    """A process reads a file once, when it has imported it."""
    copy = tmp_path / "repository"
    for part in PARTS:
        shutil.copytree(ROOT / part, copy / part)
    code = (
        "import pathlib\n"
        "from engine.records.code_version import sources_of\n"
        "pathlib.Path('distiller_zoo/kd.py').write_text('def half(:')\n"
        "print(sources_of('kd', ['resnet8'])['distiller_zoo/kd.py'])\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [sources_of("kd", ["resnet8"])["distiller_zoo/kd.py"]]


def test_changed_files_are_those_that_differ_came_or_went():
    before, now = {"a.py": "1", "b.py": "2", "c.py": "3"}, {"a.py": "1", "b.py": "4", "d.py": "3"}
    assert changed_files(before, now) == ["b.py", "c.py", "d.py"]


# --- runs ---


def test_config_says_what_made_the_run(tmp_path, teacher):
    assert train("kd", output=tmp_path, teacher=teacher) == 0
    config = read_json(folder_of(tmp_path, "kd") / "config.json")
    assert config["sources"] == sources_of("kd", ["resnet8"])
    assert config["earlier_sources"] == []


def edited(folder):
    """Make the record of a run say that distiller_zoo/kd.py was other code."""
    config = read_json(folder / "config.json")
    config["sources"]["distiller_zoo/kd.py"] = "0123456789abcdef"
    (folder / "config.json").write_text(json.dumps(config))
    return config["sources"]


def test_a_finished_run_of_former_code_is_said_to_be_one(tmp_path, teacher, capsys):
    assert train("none", "kd", output=tmp_path, teacher=teacher) == 0
    edited(folder_of(tmp_path, "kd"))
    capsys.readouterr()
    assert train("none", "kd", output=tmp_path, teacher=teacher) == 0
    told = capsys.readouterr().err
    assert told.count("changed since") == 1
    assert "kd: distiller_zoo/kd.py changed since" in told
    assert "--overwrite repeats it" in told
    assert train("kd", output=tmp_path, teacher=teacher, extra=["--overwrite"]) == 0
    assert read_json(folder_of(tmp_path, "kd") / "config.json")["earlier_sources"] == []
    capsys.readouterr()
    assert train("kd", output=tmp_path, teacher=teacher) == 0
    assert "changed since" not in capsys.readouterr().err


def test_a_continued_run_says_all_code_that_trained_it(tmp_path, teacher, capsys):
    extra = ["--save_freq", "1"]
    first = sources_of("kd", ["resnet8"]) | {"distiller_zoo/kd.py": "0123456789abcdef"}
    with pytest.MonkeyPatch.context() as patch:
        stop_at_step(patch, 1, 5)
        patch.setattr("engine.training.student_run.sources_of", lambda method, models: first)
        assert train("kd", output=tmp_path, teacher=teacher, extra=extra) == 130
        patch.undo()
        patch.setattr(StudentRun, "step", lambda *arguments: 1 / 0)  # code that takes no step has trained nothing
        assert train("kd", output=tmp_path, teacher=teacher, extra=extra) == 1
        assert load(folder_of(tmp_path, "kd") / "checkpoint.pth")["trained_by"] == [first]
        patch.undo()
        stop_at_step(patch, 2, 5)
        assert train("kd", output=tmp_path, teacher=teacher, extra=extra) == 130
    assert "kd: distiller_zoo/kd.py changed since" in capsys.readouterr().err
    config = read_json(folder_of(tmp_path, "kd") / "config.json")
    assert (config["sources"], config["earlier_sources"]) == (sources_of("kd", ["resnet8"]), [first])
    assert train("kd", output=tmp_path, teacher=teacher, extra=extra) == 0
    assert "changed since" not in capsys.readouterr().err
    config = read_json(folder_of(tmp_path, "kd") / "config.json")
    assert (config["sources"], config["earlier_sources"]) == (sources_of("kd", ["resnet8"]), [first])


def test_nothing_is_said_of_a_run_whose_checkpoint_does_not_say(tmp_path, teacher):
    """One that was begun before checkpoints did."""
    with pytest.MonkeyPatch.context() as patch:
        stop_at_step(patch, 1, 5)
        assert train("kd", output=tmp_path, teacher=teacher) == 130
    path = folder_of(tmp_path, "kd") / "checkpoint.pth"
    state = load(path)
    assert state.pop("trained_by") == [sources_of("kd", ["resnet8"])]
    torch.save(state, path)
    assert train("kd", output=tmp_path, teacher=teacher) == 0
    config = read_json(folder_of(tmp_path, "kd") / "config.json")
    assert (config["sources"], config["earlier_sources"]) == (None, [])
