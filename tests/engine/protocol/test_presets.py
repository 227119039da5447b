"""Presets: each is a command line that works, flags beside it win, and a wrong one says what is wrong."""

import tomllib
from dataclasses import replace

import pytest

import train_student
from common.errors import RequestError
from dataset import DATASETS
from distiller_zoo import Pair, create_method, method_class
from engine import cli
from engine.protocol.options import default_options, resolve_options
from engine.protocol.presets import FOLDER, preset_names, read_preset, with_preset
from engine.protocol.recipes import RECIPES
from models import MODELS, create_model
from models.published_checkpoints import PUBLISHED
from tests.helpers import folder_of, read_json, run_script, save_network

ALONE = "std-53"
IMAGENET = replace(DATASETS["cifar100"], name="folder:imagenet@224", num_classes=1000, image_size=224)


def test_those_of_std_are_there():
    assert set(preset_names()) >= {"std-52", "std-53", "std-56", "std-57", "std-paper"}


@pytest.mark.parametrize("name", preset_names())
def test_each_is_a_command_line_that_works(name):
    """All flags are known, the method takes them for this student and these teachers, which are published ones."""
    arguments = train_student.parse(["--preset", name])
    (method,) = arguments.distill
    student = arguments.model_s[0]
    recipe = cli.recipes_of(arguments, {student: MODELS[student]})[student]
    options = resolve_options(method, recipe, cli.given_method_options(arguments, [method]))
    of_cifar = arguments.dataset == "cifar100"
    entry = DATASETS["cifar100"] if of_cifar else IMAGENET
    assert entry.name == arguments.dataset
    teachers = arguments.model_t or []
    # Others are at hand for those who have the data.
    assert set(teachers) <= (
        {teacher.model for teacher in PUBLISHED} if of_cifar else {"timm:resnet50", "timm:resnet101"}
    )
    assert bool(teachers) == bool(method_class(method).max_teachers)
    shapes = [
        create_model(n, entry.num_classes, entry.image_size).feature_shapes() for n in (*arguments.model_s, *teachers)
    ]
    create_method(method, Pair(shapes[0], tuple(shapes[1:]), 100), options)
    assert (recipe.epochs, recipe.batch_size, arguments.recipe) == (300, 128 if of_cifar else 1024, "deit")


@pytest.mark.parametrize("name", preset_names())
def test_each_value_says_where_it_is_known_from(name):
    lines = (FOLDER / f"{name}.toml").read_text().splitlines()
    values = [line for line in lines[lines.index("[flags]") + 1 :] if "=" in line.split("#")[0]]
    assert len(values) == len(read_preset(name).flags)
    silent = [line for line in values if "#" not in line and line.split(" ")[0] not in ("distill", "dataset")]
    assert silent == []
    assert read_preset(name).summary


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("std-52", {"std_modules": "last", "std_propagate": False, "std_teachers": "each"}),
        ("std-56", {"std_modules": "last", "std_propagate": False, "std_teachers": "all"}),
        ("std-57", {"std_modules": "6+8", "std_propagate": True, "std_teachers": "all", "std_heads": "last"}),
        ("std-imagenet", {"std_modules": "last+intermediate", "std_teachers": "each", "std_mine_pairs": "random"}),
        ("std-paper", {"std_modules": "last+intermediate", "std_teachers": "each", "std_mine_pairs": "random"}),
    ],
)
def test_what_sets_them_apart(name, options):
    given = cli.given_method_options(train_student.parse(["--preset", name]), ["std"])
    found = default_options("std", RECIPES["deit"]) | given
    assert {key: found[key] for key in options} == options
    assert found["std_mine"]


def test_flags_beside_it_win():
    arguments = train_student.parse(["--epochs", "3", "--preset", "std-56", "--model_t", "resnet20", "--no-std_mine"])
    assert (arguments.epochs, arguments.model_t, arguments.std_mine) == (3, ["resnet20"], False)
    assert arguments.std_teachers == "all"


def test_without_one_nothing_changes():
    assert with_preset(["--distill", "kd"]) == ["--distill", "kd"]


def test_a_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        'summary = "x"\n[flags]\ndistill = ["kd", "crd"]\nstd_mine = false\ndeterministic = true\nkd_T = 2.5\n'
    )
    words = ["--distill", "kd", "crd", "--no-std_mine", "--deterministic", "--kd_T", "2.5"]
    assert with_preset(["--preset", str(path), "-t", "2"]) == [*words, "--preset", str(path), "-t", "2"]
    assert tomllib.loads(path.read_text())["flags"] == read_preset(str(path)).flags


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, r"^--preset .*none.toml: there is no such file; check the path"),
        ("flags = 3", r"is no preset; it holds summary"),
        ("[flags]\n[more]\n", r"is no preset; it holds summary"),
        ("[flags", r"none.toml is no TOML file: "),
        ('[flags]\npreset = "std-52"', r"names another preset; write its flags out$"),
    ],
)
def test_wrong_files(content, sentence, tmp_path):
    path = tmp_path / "none.toml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(RequestError, match=sentence):
        read_preset(str(path))


def test_near_names_are_offered():
    with pytest.raises(RequestError, match=r"^there is no preset std-5; did you mean std-5"):
        read_preset("std-5")


def test_as_a_user_runs_it(tmp_path):
    """The reproduction's best setting on the digits, with two teachers of the user's own."""
    teachers = []
    for seed, arch in enumerate(("resnet8", "resnet20")):
        teachers.append(tmp_path / f"{arch}.pth")
        save_network(teachers[-1], arch, seed=seed)
    small = [
        "--dataset",
        "digits",
        "--model_s",
        "mixer_pico",
        "--epochs",
        "1",
        "--batch_size",
        "260",
        "--device",
        "cpu",
    ]
    own = [
        "--std_modules",
        "3+4",
        "--model_t",
        "resnet8",
        "resnet20",
        "--path_t",
        *teachers,
        "--output",
        tmp_path / "save",
    ]
    done = run_script("train_student.py", "--preset", "std-57", *small, *own)
    assert done.returncode == 0, done.stderr
    config = read_json(folder_of(tmp_path / "save") / "config.json")
    assert config["options"]["std_propagate"] is True
    assert config["options"]["std_modules"] == "3+4"
    assert [teacher["model"] for teacher in config["teachers"]] == ["resnet8", "resnet20"]
    done = run_script("train_student.py", "--preset", "std-58")
    assert done.returncode == 2
    assert done.stderr.startswith("error: there is no preset std-58; did you mean std-5")


def test_names_and_files_of_teachers_must_go_together(tmp_path):
    path = tmp_path / "a.pth"
    save_network(path)
    with pytest.raises(RequestError, match=r"^--model_t names 2 networks and --path_t 1 files; give one name"):
        train_student.main.__wrapped__(
            ["--dataset", "digits", "--model_t", "resnet8", "resnet20", "--path_t", str(path)]
        )
