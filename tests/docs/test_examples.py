"""README's method and the network of docs/extending.md work as they stand, each as one file and nothing else."""

import re
import shutil
import subprocess
import sys
from types import ModuleType

import pytest

import train_student
from distiller_zoo import METHODS
from models import MODELS, create_model
from tests.docs.pages import code_of
from tests.helpers import (
    ROOT,
    SMALL,
    environment,
    folder_of,
    load,
    read_json,
    read_metrics,
    save_network,
    stop_at_step,
)

PARTS = ("common", "models", "distiller_zoo", "dataset", "engine", "reporting", "presets")  # what training takes
(METHOD,) = code_of("README.md")
(NETWORK,) = code_of("docs/extending.md")
# For this process, under a name that a repository which has README's method has not.
RENAMED = METHOD.replace('register_method("logits")', 'register_method("example")')


@pytest.mark.runs
def test_the_method_is_listed_trains_continues_and_takes_its_option(tmp_path, capsys, monkeypatch):
    with METHODS.temporarily():
        exec(compile(RENAMED, "README.md", "exec"), ModuleType("example").__dict__)
        assert train_student.main(["--list"]) == 0
        assert METHODS["example"].paper in capsys.readouterr().out
        save_network(tmp_path / "teacher.pth")
        command = ["--distill", "none", "example", "--path_t", str(tmp_path / "teacher.pth"), "--model_s", "resnet8"]
        command += [*SMALL, "--logit_power", "1", "--output", str(tmp_path / "save")]
        with monkeypatch.context() as patch:
            stop_at_step(patch, 2, 3)
            assert train_student.main(command) == 130
        assert train_student.main(command) == 0
    folder = folder_of(tmp_path / "save", "example")
    assert read_json(folder / "config.json")["label"] == "example logit_power=1.0"
    first, last = read_metrics(folder)
    assert last["train"]["example"] < first["train"]["example"]


def test_the_network_has_the_shapes_of_its_images():
    with MODELS.temporarily():
        exec(compile(NETWORK, "extending.md", "exec"), ModuleType("models.tinynet").__dict__)
        shapes = create_model("tinynet", 10, 8).feature_shapes()
    assert (shapes.stem, shapes.stages, shapes.last_map) == ((16, 8, 8), ((32, 4, 4), (64, 2, 2)), (64, 2, 2))


# What a user types, in one process: it is started in a copy of the repository that has two files more.
SESSION = """
import sys, train_student, train_teacher, compare
short = ["--dataset", "digits", "--recipe", "repdistiller", "--epochs", "1", "--device", "cpu", "--precision", "fp32"]
assert train_student.main(["--list"]) == 0
assert train_teacher.main(["--model", "tinynet", *short]) == 0
distill = ["--distill", "none", "logits", "hint", "simkd"]
assert train_student.main([*distill, "--model_t", "tinynet", "--model_s", "tinynet", *short]) == 0
sys.exit(compare.main(["save"]))
"""


@pytest.mark.runs
def test_each_is_one_file_and_nothing_else(tmp_path):
    """Listed, trained, a teacher and a student of methods that read maps, and tabulated."""
    for part in (*PARTS, *(path.name for path in ROOT.glob("*.py"))):
        place = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        place(ROOT / part, tmp_path / part)
    (tmp_path / "distiller_zoo" / "logits.py").write_text(METHOD)
    (tmp_path / "models" / "tinynet.py").write_text(NETWORK)
    command = [sys.executable, "-c", SESSION]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment(), timeout=240)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^  logits .*Ba & Caruana", done.stdout, re.MULTILINE)
    assert re.search(r"^  tinynet ", done.stdout, re.MULTILINE)
    for method in ("none", "logits", "hint", "simkd"):
        assert len(list((tmp_path / "save" / "student_model").glob(f"*_{method}_*/result.json"))) == 1
        assert re.search(rf"^\| \**{method.replace('none', 'student alone')}\** ", done.stdout, re.MULTILINE)
    (trained,) = (tmp_path / "save" / "models").glob("*/tinynet_last.pth")
    saved = load(trained)
    assert (saved["arch"], saved["num_classes"], saved["image_size"]) == ("tinynet", 10, 8)
