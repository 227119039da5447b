"""Presets: each is a command line that works, flags beside it win, and a wrong one says what is wrong."""

import os
import re
import tomllib
from dataclasses import replace

import pytest
import torch

import train_student
from common.errors import RequestError
from dataset import DATASETS
from distiller_zoo import Pair, create_method, method_class
from engine.protocol.method_flags import given_method_options
from engine.protocol.options import default_options, resolve_options
from engine.protocol.presets import FOLDER, preset_names, read_preset, with_preset
from engine.protocol.recipe_flags import recipes_of
from engine.protocol.recipes import RECIPES
from models import MODELS, create_model
from models.published_checkpoints import PUBLISHED
from tests.helpers import folder_of, read_json, save_network

ALONE = "std-53"
IMAGENET = replace(DATASETS["cifar100"], name="folder:imagenet@224", num_classes=1000, image_size=224)


def test_those_of_std_are_there():
    assert set(preset_names()) >= {"std-52", "std-53", "std-56", "std-57", "std-paper"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.runs] * ("imagenet" in name)) for name in preset_names()]
)
def test_each_is_a_command_line_that_works(name):
    """All flags are known, the method takes them for this student and these teachers, which are published ones."""
    arguments = train_student.parse(["--preset", name])
    (method,) = arguments.distill
    student = arguments.model_s[0]
    recipe = recipes_of(arguments, {student: MODELS[student]})[student]
    options = resolve_options(method, recipe, given_method_options(arguments, [method]))
    of_cifar = arguments.dataset == "cifar100"
    entry = DATASETS["cifar100"] if of_cifar else IMAGENET
    assert entry.name == arguments.dataset
    teachers = arguments.model_t or []
    # Others are at hand for those who have the data.
    assert set(teachers) <= (
        {teacher.model for teacher in PUBLISHED} if of_cifar else {"timm:resnet50", "timm:resnet101"}
    )
    assert bool(teachers) == bool(method_class(method).max_teachers)
    shapes = []
    for network in (*arguments.model_s, *teachers):
        # timm's networks are looked at with numbers.
        with torch.device("cpu" if network.startswith("timm:") else "meta"):
            shapes.append(create_model(network, entry.num_classes, entry.image_size).feature_shapes())
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
    given = given_method_options(train_student.parse(["--preset", name]), ["std"])
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


WRONG_FILES = {
    "missing": None,
    "no table": b"flags = 3",
    "another table": b"[flags]\n[more]\n",
    "no TOML": b"[flags",
    "another preset": b'[flags]\npreset = "std-52"',
    "deep lists": b"[flags]\nx = " + b"[" * 5000 + b"]" * 5000,
    "deep tables": b"[flags]\nx = " + b"{a=" * 3000 + b"1" + b"}" * 3000,
    "a number of 5,000 digits": b"[flags]\nepochs = " + b"9" * 5000,
    "a hexadecimal number": b"[flags]\nepochs = 0x" + b"f" * 9000,
    "a date": b"[flags]\nepochs = 2020-01-01",
    "a time": b"[flags]\nepochs = 07:32:00",
    "a table as a value": b"[flags.distill]\na = 1",
    "lists in a list": b'[flags]\ndistill = [["kd"]]',
    "true in a list": b"[flags]\ndistill = [true]",
    "an empty list": b"[flags]\ndistill = []",
    "tables": b"[[flags]]\na = 1",
    "a flag with hyphens": b'[flags]\n"--distill" = "kd"',
    "a flag without a name": b'[flags]\n"" = "kd"',
    "UTF-16": "[flags]".encode("utf-16"),
    "Latin-1": b"[flags]\nsummary = '\xe9'",
    "a long file": b"#" * 100_000,
}


@pytest.mark.parametrize("kind", WRONG_FILES)
def test_wrong_files_are_named(kind, tmp_path):
    path = tmp_path / "mine.toml"
    if WRONG_FILES[kind] is not None:
        path.write_bytes(WRONG_FILES[kind])
    with pytest.raises(RequestError) as refusal:
        read_preset(str(path))
    assert str(path) in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 1
    assert len(str(refusal.value)) < 400


def test_a_file_of_notepad(tmp_path):
    (tmp_path / "mine.toml").write_bytes(b"\xef\xbb\xbf[flags]\r\nepochs = 3\r\n")
    assert read_preset(str(tmp_path / "mine.toml")).flags == {"epochs": 3}


def test_what_is_no_file_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.toml")
    os.symlink("/dev/zero", "endless.toml")
    os.symlink("circle.toml", "circle.toml")
    os.mkdir("folder.toml")
    odd = ("é" * 130 + ".toml", "a\nb.toml", "../x", "a/b")
    for name in ("pipe.toml", "endless.toml", "circle.toml", "folder.toml", *odd):
        with pytest.raises(RequestError) as refusal:
            read_preset(name)
        assert len(str(refusal.value).splitlines()) == 1


def test_near_names_are_offered():
    with pytest.raises(RequestError) as refusal:
        read_preset("std-5")
    assert re.search(r"'std-5'.*std-5\d", str(refusal.value))


def test_an_unknown_one_is_a_wrong_request(capsys):
    assert train_student.main(["--preset", "std-58"]) == 2
    assert "std-5" in capsys.readouterr().err


@pytest.mark.runs
def test_as_a_user_runs_it(tmp_path):
    """The reproduction's best setting on the digits, with two teachers of the user's own."""
    teachers = []
    for seed, arch in enumerate(("resnet8", "resnet20")):
        teachers.append(tmp_path / f"{arch}.pth")
        save_network(teachers[-1], arch, seed=seed)
    small = ["--dataset", "digits", "--model_s", "mixer_pico", "--epochs", "1", "--batch_size", "650"]
    own = ["--std_modules", "3+4", "--model_t", "resnet8", "resnet20", "--path_t", *map(str, teachers)]
    argv = ["--preset", "std-57", *small, "--device", "cpu", *own, "--output", str(tmp_path / "save")]
    assert train_student.main(argv) == 0
    config = read_json(folder_of(tmp_path / "save") / "config.json")
    assert config["options"]["std_propagate"] is True
    assert config["options"]["std_modules"] == "3+4"
    assert [teacher["model"] for teacher in config["teachers"]] == ["resnet8", "resnet20"]


def test_names_and_files_of_teachers_must_go_together(tmp_path, capsys):
    path = tmp_path / "a.pth"
    save_network(path)
    assert train_student.main(["--dataset", "digits", "--model_t", "resnet8", "resnet20", "--path_t", str(path)]) == 2
    message = capsys.readouterr().err
    assert all(flag in message for flag in ("--model_t", "--path_t"))


@pytest.mark.parametrize("name", ["kd.yaml", "configs/cifar100/dkd.YML", "x.json", "", " "])
def test_files_of_other_suites_and_empty_names(name, capsys):
    assert train_student.main(["--preset", name]) == 2
    message = capsys.readouterr().err
    assert "--preset" in message
    assert ("docs/other_suites.md" in message) == bool(name.strip())


def test_a_list_in_a_preset_is_a_sweep(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("[flags]\ndkd_beta = [2, 4.5]\n")
    assert train_student.parse(["--preset", str(path)]).dkd_beta == (2, 4.5)
