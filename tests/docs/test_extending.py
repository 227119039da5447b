"""docs/extending.md: its network works as it stands, as one file; and what a network lacks is said before it trains."""

import re
import shutil
import subprocess
import sys
from dataclasses import fields
from types import ModuleType
from typing import Literal

import pytest
import torch

import train_student
import train_teacher
from common.errors import RequestError
from dataset import Batch
from distiller_zoo import METHODS, Epochs, Method, checks, register_method
from models import MODELS, Features, create_model
from tests.docs.test_readme import PARTS
from tests.helpers import ROOT, environment, folder_of, folders_of, load, read_json, save_network

PAGE = (ROOT / "docs" / "extending.md").read_text()
(NETWORK,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
SHORT = ("--dataset", "digits", "--epochs", "1", "--device", "cpu", "--precision", "fp32")


@pytest.fixture
def registries(monkeypatch):
    """As they were, when the test ends."""
    for registry in (MODELS, METHODS):
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
        monkeypatch.setattr(registry, "_aliases", dict(registry._aliases))


@pytest.fixture
def register(registries):
    """Registers the page's network with one piece of its source replaced."""

    def register(piece="", by=""):
        assert piece in NETWORK
        exec(compile(NETWORK.replace(piece, by), "tinynet.py", "exec"), ModuleType("models.tinynet").__dict__)

    return register


# --- the page's network ---------------------------------------------------------------------------


def test_the_network_is_one_file_and_nothing_else(tmp_path):
    """Put into a copy of the repository: listed, trained, and teacher and student of methods that read its maps."""
    copy = tmp_path / "repository"
    copy.mkdir()
    for part in (*PARTS, *(path.name for path in ROOT.glob("*.py"))):
        place = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        place(ROOT / part, copy / part)
    (copy / "models" / "tinynet.py").write_text(NETWORK)

    def run(*argv):
        command = [sys.executable, *argv]
        done = subprocess.run(command, cwd=copy, capture_output=True, text=True, env=environment(), timeout=240)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert re.search(r"^  tinynet +three convolutions", run("train_student.py", "--list"), re.MULTILINE)
    run("train_teacher.py", "--model", "tinynet", *SHORT)
    (trained,) = (copy / "save" / "models").glob("*/tinynet_last.pth")
    saved = load(trained)
    assert (saved["arch"], saved["num_classes"], saved["image_size"]) == ("tinynet", 10, 8)
    run("train_student.py", "--distill", "hint", "simkd", "--model_s", "tinynet", "--path_t", str(trained), *SHORT)
    for method in ("hint", "simkd"):
        assert read_json(folder_of(copy / "save", method) / "result.json")["status"] == "finished"


def test_the_command_of_the_page_is_the_one_that_is_tested():
    assert f"python train_teacher.py --model tinynet {' '.join(SHORT[:4])}`" in PAGE


def test_its_shapes_are_those_of_its_images(register):
    register()
    shapes = create_model("tinynet", 10, 8).feature_shapes()
    assert (shapes.stem, shapes.stages, shapes.last_map) == ((16, 8, 8), ((32, 4, 4), (64, 2, 2)), (64, 2, 2))


# --- what a network lacks -------------------------------------------------------------------------

LACKS = {
    "no image size": (
        "        self.image_size = image_size\n", "",
        r"was built for images of 8×8 and says no image_size;\nwrite `self.image_size = image_size` in its constructor",
    ),
    "another image size": ("self.image_size = image_size", "self.image_size = 32", "says that its image_size is 32"),
    "no classifier": (
        'classifier_name = "head"', "pass",
        r"should have its last linear layer as 'fc', and there is no such layer;\nname the layer in the class",
    ),
    "another layer": ('"head"', '"conv2"', "as 'conv2', and there is a Conv2d there"),
    "other classes": ("nn.Linear(64, num_classes)", "nn.Linear(64, 100)", "10 classes, and its head has 100 outputs"),
    "no network": ("Network)", "nn.Module)", "the builder of tinynet returns a TinyNet; return a subclass of"),
}  # fmt: skip
FAULTS = {
    "no stem": ("embedding, stem, (", "embedding, None, (", "gives no stem; it must be a tensor B×C×H×W"),
    "no last map": (", last_map=stage2", "", "gives no last_map; it must be a tensor B×D×H×W"),
    "no embedding": ("(embedding), embedding", "(embedding), None", "gives no embedding; it must be a tensor B×D"),
    "no stages": ("(stage1, stage2), (preact1, preact2)", "(), ()", "gives no stages; there must be one or more"),
    "no preacts": ("(preact1, preact2)", "None", "gives no preacts; it must be a tuple of tensors B×C×H×W"),
    "one preact": ("(preact1, preact2)", "(preact1,)", "gives preacts that are not of the stages' shapes"),
    "a list of stages": ("(stage1, stage2)", "[stage1, stage2]", "gives stages as a list; it must be a tuple"),
    "a map for stages": ("(stage1, stage2)", "stage2", "gives stages as 1×64×2×2; it must be a tuple"),
    "a flat stage": ("(stage1, stage2)", "(stage1, embedding)", r"gives stages\[1\] as 1×64; .* tensor B×C×H×W"),
    "a flat map": ("last_map=stage2", "last_map=embedding", "gives last_map as 1×64; it must be a tensor B×D×H×W"),
    "another last map": ("last_map=stage2", "last_map=stage1", "gives last_map as 1×32×4×4; D must be 64"),
    "another embedding": ("(embedding), embedding", "(embedding), embedding[:, 1:]", "embedding as 1×63; D must be 64"),
    "no batch": ("(embedding), embedding", "(embedding), embedding.T", "embedding as 64×1; .* B×D, here with B = 1"),
    "other logits": ("Features(self.head(embedding)", "Features(embedding", "logits as 1×64; it must have 10 columns"),
    "several blocks": ("last_map=stage2", "last_map=stage2, blocks=(stage1, stage2)", "gives blocks of several shapes"),
    "a head alone": ("last_map=stage2", "last_map=stage2, heads=(embedding[:, :10],)", "gives 1 heads and 0 tokens"),
    "another head": ("last_map=stage2", "last_map=stage2, heads=(embedding,), tokens=(embedding,)",
                     r"gives heads\[0\] as 1×64; it must have 10 columns"),
    "logits alone": ("last_map=stage2)", "last_map=stage2).logits", "gives a Tensor; return a record of models/feat"),
}  # fmt: skip


@pytest.mark.parametrize("case", LACKS)
def test_what_a_new_network_lacks_is_said_where_it_is_created(case, register):
    piece, by, sentence = LACKS[case]
    register(piece, by)
    with pytest.raises(RequestError, match=sentence) as refusal:
        create_model("tinynet", 10, 8)
    assert_short(refusal)


@pytest.mark.parametrize("case", FAULTS)
def test_what_its_features_lack_is_said_where_they_are_first_seen(case, register):
    piece, by, sentence = FAULTS[case]
    register(piece, by)
    network = create_model("tinynet", 10, 8)
    with pytest.raises(RequestError, match=sentence) as refusal:
        network.feature_shapes()
    assert_short(refusal)


def assert_short(refusal):
    said = str(refusal.value)
    assert len(said.splitlines()) <= 2
    assert max(map(len, said.splitlines())) <= 140
    assert "TinyNet" in said
    assert said.startswith("models/tinynet.py: TinyNet") or "builder of tinynet" in said


@pytest.mark.parametrize("case", ["no image size", "no classifier", "no stem"])
def test_the_command_ends_before_it_trains(case, register, tmp_path, capsys):
    register(*(LACKS | FAULTS)[case][:2])
    assert train_teacher.main(["--model", "tinynet", *SHORT, "--output", str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) <= 2
    assert folders_of(tmp_path) == []


@pytest.mark.parametrize("name", ["resnet8", "mixer_pico", "deit_pico_distilled"])
def test_the_checks_draw_nothing_and_change_nothing(name):
    torch.manual_seed(3)
    network = MODELS[name].build(num_classes=10, image_size=8)
    drawn, state = torch.get_rng_state(), {key: value.clone() for key, value in network.state_dict().items()}
    torch.manual_seed(3)
    checked = create_model(name, 10, 8)
    checked.feature_shapes()
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(value, state[key]) for key, value in checked.state_dict().items())
    assert checked.training


# --- what the page says ---------------------------------------------------------------------------


def table_after(sentence):
    """The first cells of the first table behind a sentence."""
    rows = PAGE.split(sentence)[1].split("\n\n")[1].splitlines()[2:]
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])}


def test_it_names_every_field_and_no_other():
    assert table_after("**What it reads of both networks**") == {field.name for field in fields(Features)}


def test_it_names_what_a_batch_has():
    named = table_after("**What it reads of a batch:**")
    assert {field.name for field in fields(Batch)} - {"seed"} <= named - {"generator(purpose)"}
    assert named - {field.name for field in fields(Batch)} == {"main_labels", "generator(purpose)"}
    assert hasattr(Batch, "main_labels")


def test_the_annotations_that_it_names_become_flags(registries):
    @register_method("flagged")
    class Flagged(Method):
        def __init__(
            self,
            pair,
            *,
            flagged_bool: bool = True,
            flagged_int: int = 1,
            flagged_float: float = 1.0,
            flagged_str: str = "x",
            flagged_choice: Literal["a", "b"] = "a",
            flagged_several: tuple[int, ...] = (1,),
            flagged_epochs: Epochs = 3,
        ):
            super().__init__(pair)

    words = "--no-flagged_bool --flagged_int 3 --flagged_float 3 --flagged_str 3 --flagged_choice b"
    words += " --flagged_several 1,2,3 --flagged_epochs 4"
    given = vars(train_student.parse(words.split()))
    found = {name.removeprefix("flagged_"): value for name, value in given.items() if name.startswith("flagged")}
    expected = {"bool": False, "int": 3, "float": 3.0, "str": "3", "choice": "b", "several": (1, 2, 3), "epochs": 4}
    assert found == expected
    for refused in (["--flagged_choice", "c"], ["--flagged_float", "inf"]):
        with pytest.raises(SystemExit):
            train_student.parse(refused)
    assert table_after("and become flags").issuperset({"bool", "int", "float", "str", "tuple[int, ...]", "Epochs"})


BROKEN = """
class Broken(Method):
    def __init__(self, pair):
        super().__init__(pair)
        self.width = pair.student.stages[99][0]
"""


def test_a_mistake_in_a_constructor_is_told_with_its_line_and_is_no_refusal(registries, tmp_path, capsys):
    space = {"Method": Method, "__name__": "distiller_zoo.broken"}
    exec(compile(BROKEN, ROOT / "distiller_zoo" / "broken.py", "exec"), space)
    register_method("broken")(space["Broken"])
    teacher = tmp_path / "teacher.pth"
    save_network(teacher)
    for method in ("broken", "broken+kd"):
        argv = ["--distill", method, "--model_s", "resnet8", "--path_t", str(teacher), *SHORT]
        assert train_student.main([*argv, "--skip_refused", "--output", str(tmp_path)]) == 1
        first, second = capsys.readouterr().err.splitlines()
        assert first == f"error: method {method} cannot be built: IndexError: tuple index out of range at " + (
            "distiller_zoo/broken.py:5"
        )
        assert second == "stages of the student: 16×8×8, 32×4×4, 64×2×2; of the teacher: 16×8×8, 32×4×4, 64×2×2"
    assert folders_of(tmp_path) == []


def test_the_hooks_and_attributes_that_it_names_are_there():
    methods = PAGE.split("## A network")[0]
    called = set(re.findall(r"`(?:self\.)?(\w+)\(", methods)) - {"chunk"}
    assert len(called) > 10
    assert called <= {name for thing in (Method, Batch, checks) for name in dir(thing)}
    attributes = ("needs", "student_needs", "teacher_needs", "views", "max_teachers", "standardises_itself")
    for name in (*attributes, "initial_epochs", "initial_losses", "extra_step"):
        assert hasattr(Method, name)
        assert re.search(rf"`{name}\b", methods), name


def test_files_that_it_names_exist():
    named = set(re.findall(r"(?:distiller_zoo|models|dataset|tests)/\w+\.py|(?<![/\w])\w+\.py\b", PAGE))
    assert len(named) > 15
    for name in named - {"distiller_zoo/NAME.py", "models/NAME.py", "dataset/NAME.py"}:
        assert (ROOT / name).is_file(), name
    for link in re.findall(r"\]\(([^)#]+)", PAGE):
        assert (ROOT / "docs" / link).is_file(), link
    assert len(PAGE.splitlines()) < 175
