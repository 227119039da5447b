"""Wrong requests end with exit code 2 and one or two lines that name the flag, before data is touched."""

import argparse
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import evaluate as evaluate_script
import train_student
import train_teacher
import transfer_student
from common.errors import RequestError
from dataset import load_arrays
from dataset.cifar import CIFAR100
from distiller_zoo import METHODS
from engine import cli
from engine.records.progress import Progress
from models import create_model
from scripts import ablate_std
from tests.helpers import (
    ROOT,
    SMALL,
    folder_of,
    load,
    run_script,
    save_network,
    stop_at_step,
    train,
    train_alone,
)

DIGITS = ("--dataset", "digits", "--device", "cpu")


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    """So that the defaults ./data and ./save are seen to stay away; and no network."""
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    for scheme in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(scheme, "http://127.0.0.1:9")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    path = tmp_path_factory.mktemp("teacher") / "teacher.pth"
    save_network(path)
    return path


def refused(capsys, main, *argv):
    """Run a script that must refuse its request; returns what it says."""
    code = main([str(part) for part in argv])
    out, errors = capsys.readouterr()
    assert code == 2
    assert out == ""
    assert errors.startswith("error: ")
    assert 1 <= len(errors.splitlines()) <= 2
    assert not Path("data").exists()
    return errors


def assert_mentions(message, *words):
    missing = [str(word) for word in words if str(word) not in message]
    assert not missing, message


# --- wrong requests --------------------------------------------------------------------------------

# The words that the message must have beside the flag.
WRONG = [
    (["--distill", "fitnets"], ["fitnets", "fitnet"]),
    (["--distill", "kd", "sdt"], ["sdt", "std"]),
    (["--model_s", "resnet9"], ["resnet9", "resnet"]),
    (["--dataset", "cifar1000"], ["cifar1000", "cifar100"]),
    (["--recipe", "diet"], ["diet", "deit"]),
    (["--std_modules", "last"], ["--std_modules", "std", "kd"]),
    (["--epochs", "0"], ["--epochs", "0"]),
    (["--batch_size", "-4"], ["--batch_size", "-4"]),
    (["--learning_rate", "-1"], ["--learning_rate", "-1"]),
    (["--lr_decay_epochs", "0,5"], ["--lr_decay_epochs", "0"]),
    (["--momentum", "2"], ["--momentum", "2"]),
    (["--min_lr", "1e-4"], ["--min_lr", "repdistiller"]),
    (["--recipe", "deit", "--schedule", "step"], ["--lr_decay_epochs", "deit"]),
    (["--device", "tpu"], ["--device tpu", "cuda:N"]),
    (["--device", "meta"], ["--device meta", "cuda:N"]),
    (["--device", "cuda:99"], ["--device cuda:99", "cpu"]),
    (["--distill", "hint", "--beta", "nan"], ["--beta", "nan"]),
    (["--distill", "hint", "--beta", "-1"], ["--beta", "-1"]),
    (["--trial", "1", "2", "--seed", "3"], ["--seed", "--trial"]),
]


@pytest.mark.parametrize(("argv", "words"), WRONG, ids=lambda value: " ".join(value))
def test_unknown_names_and_wrong_values(capsys, teacher, argv, words):
    base = [] if "--dataset" in argv else ["--dataset", "digits"]
    argv = [*base, "--model_s", "resnet8", "--path_t", teacher, *argv]
    assert_mentions(refused(capsys, train_student.main, *argv), *words)
    assert not Path("save").exists()


@pytest.mark.parametrize(
    ("main", "argv", "word"),
    [
        (train_teacher.main, ["--dataset", "mnist"], "mnist"),
        (train_teacher.main, ["--model", "resnet9", *DIGITS], "resnet9"),
        (evaluate_script.main, ["--dataset", "mnist", "--path", "x"], "mnist"),
        (evaluate_script.main, ["--model", "resnet9", *DIGITS, "--path", "TEACHER"], "resnet9"),
    ],
)
def test_unknown_names_in_the_other_scripts(capsys, teacher, main, argv, word):
    assert_mentions(refused(capsys, main, *(teacher if part == "TEACHER" else part for part in argv)), word)


@pytest.mark.parametrize(
    "argv",
    [
        ["--epoch", "3"],  # an abbreviation
        ["--no_such_option", "1"],
        ["--epochs", "three"],
        ["--learning_rate", "nan"],
        ["--kd_T", "inf"],
        ["--kd_T", "0"],
        ["--group_size", "0"],
        ["--weight_decay", "inf"],
        ["--lr_decay_epochs", "1;2"],
        ["--trial", "0"],
        ["--save_freq", "-1"],
        ["--precision", "fp8"],
        ["--optimizer", "lamb"],
        ["--distill"],
    ],
    ids=" ".join,
)
def test_usage_errors_are_a_line_that_names_the_flag_and_the_value(capsys, argv):
    assert train_student.main([*DIGITS, *argv]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert_mentions(line, argv[0], "--help")
    assert not any(Path().iterdir())


@pytest.mark.parametrize(
    ("parse", "argv"),
    [
        (train_teacher.parse, ["--trial", "0"]),
        (transfer_student.parse, ["--path_s", "x", "--dataset", "digits", "--trial", "0"]),
        (ablate_std.parse, ["--trials", "1", "0"]),
    ],
    ids=lambda value: value.__module__ if callable(value) else "",
)
def test_trials_count_from_one_in_every_script(parse, argv, capsys):
    with pytest.raises(SystemExit) as stopped:
        parse(argv)
    assert stopped.value.code == 2
    assert_mentions(capsys.readouterr().err, "--trial", "0")


def test_trials_have_their_numbers_as_seeds():
    arguments = train_teacher.parse(["--trial", "1", "2", "1"])
    assert cli.trials_of(arguments) == [(1, 1), (2, 2)]
    assert cli.trials_of(train_teacher.parse(["--trial", "2", "--seed", "9"])) == [(2, 9)]
    with pytest.raises(RequestError):
        cli.trials_of(train_teacher.parse(["--trial", "1", "2", "--seed", "9"]))


def test_missing_required_option(capsys):
    assert evaluate_script.main([]) == 2
    assert_mentions(capsys.readouterr().err, "--path")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--distill", "none", "--model_s", "mixer_s16"], ["patch", "8"]),
        (["--distill", "std", "--model_s", "resnet8", "--path_t", "TEACHER"], ["MLP"]),
        (["--distill", "crd", "--model_s", "resnet8", "--path_t", "TEACHER", "TEACHER"], ["crd", "--path_t", "2"]),
        (["--distill", "none", "--recipe", "light", "--batch_size", "2000"], ["--batch_size", "2000"]),
    ],
    ids=["image size", "pair", "teachers", "batch"],
)
def test_what_cannot_work(capsys, teacher, argv, words):
    argv = ["--model_s", "mixer_pico", *(teacher if part == "TEACHER" else part for part in argv)]
    assert_mentions(refused(capsys, train_student.main, *DIGITS, *argv), *words)
    assert not Path("save").exists()


# --- checkpoints -----------------------------------------------------------------------------------

# The words that the message must have beside the path.
CHECKPOINTS = {
    "missing.pth": [],
    "resnet8_truncated.pth": [],
    "resnet8_foreign.pth": [],
    "resnet8_last.pth": ["--allow_namespace"],
    "resnet8_other.pth": ["resnet8"],
    "resnet8_classes.pth": ["100", "10", "--dataset"],
    "unnamed.pth": ["--model", "resnet8"],
    ".": [],
}


@pytest.fixture(scope="module")
def broken_checkpoints(tmp_path_factory):
    """A folder with the files above."""
    folder = tmp_path_factory.mktemp("broken")
    state = create_model("resnet8", 10, 8).state_dict()
    torch.save({"model": state, "opt": argparse.Namespace(lr=1)}, folder / "resnet8_last.pth")
    torch.save({"weights": [1, 2]}, folder / "resnet8_foreign.pth")
    torch.save(create_model("resnet14", 10, 8).state_dict(), folder / "resnet8_other.pth")
    torch.save(create_model("resnet8", 100, 32).state_dict(), folder / "resnet8_classes.pth")
    torch.save(state, folder / "unnamed.pth")
    content = (folder / "resnet8_other.pth").read_bytes()
    (folder / "resnet8_truncated.pth").write_bytes(content[: len(content) // 2])
    return folder


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoints_that_cannot_be_used(capsys, broken_checkpoints, name):
    path = broken_checkpoints / name
    argv = [*DIGITS, "--model_s", "resnet8", "--path_t", path]
    assert_mentions(refused(capsys, train_student.main, *argv), path, *CHECKPOINTS[name])
    assert not Path("save").exists()
    assert_mentions(refused(capsys, evaluate_script.main, *DIGITS, "--path", path), path, *CHECKPOINTS[name])


def test_a_namespace_on_request(capsys, broken_checkpoints):
    argv = ["--path", broken_checkpoints / "resnet8_last.pth", "--allow_namespace", *DIGITS]
    assert evaluate_script.main([str(part) for part in argv]) == 0
    assert capsys.readouterr().out.startswith("Acc@1 ")


@pytest.mark.runs
def test_the_state_of_an_unfinished_run_is_no_network(capsys, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at_step(patch, 1, 1)
        assert train_alone("save") == 130
    capsys.readouterr()
    argv = ["--path", folder_of("save") / "checkpoint.pth", *DIGITS]
    assert_mentions(refused(capsys, evaluate_script.main, *argv), "checkpoint.pth", "_best.pth")


@pytest.mark.runs
@pytest.mark.parametrize("damage", ["text", "foreign"])
def test_damaged_state_of_an_interrupted_run(capsys, monkeypatch, damage):
    one = ("--epochs", "1")
    with monkeypatch.context() as patch:
        stop_at_step(patch, 1, 2)
        assert train_alone("save", *one) == 130
    checkpoint = folder_of("save") / "checkpoint.pth"
    if damage == "foreign":
        torch.save(load(checkpoint) | {"run_id": "0" * 8}, checkpoint)
    else:
        checkpoint.write_bytes(b"hello")
    capsys.readouterr()
    assert train_alone("save", *one) == 2
    assert_mentions(capsys.readouterr().err, "checkpoint.pth", "--overwrite")
    assert train_alone("save", *one, "--overwrite") == 0


# --- places and network ----------------------------------------------------------------------------


def test_a_bar_while_a_checkpoint_is_measured(capsys, monkeypatch):
    bars = []
    monkeypatch.setattr(Progress, "watched", lambda self, steps, what, total, unit: bars.append((what, total)) or steps)
    save_network(Path("teacher.pth"))
    assert evaluate_script.main([*DIGITS, "--path", "teacher.pth"]) == 0
    assert bars == [("resnet8 on 500 test images", 1)]
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_output_that_cannot_be_written(capsys, tmp_path):
    (tmp_path / "file").write_text("no folder")
    argv = [*DIGITS, "--distill", "none", "--model_s", "resnet8", "--output", tmp_path / "file"]
    assert_mentions(refused(capsys, train_student.main, *argv), "--output")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no /proc, where nobody may write")
def test_output_where_nobody_may_write(capsys):
    argv = [*DIGITS, "--distill", "none", "--model_s", "resnet8", "--output", "/proc/save"]
    assert_mentions(refused(capsys, train_student.main, *argv), "--output")


def test_no_teacher_for_a_data_set(capsys):
    errors = refused(capsys, train_student.main, *DIGITS, "--model_s", "resnet8")
    assert_mentions(errors, "--path_t", "python train_teacher.py --model resnet56 --dataset digits")
    assert not Path("save").exists()


def closing_words(errors, lines=2):
    """The error itself, without the lines on what was tried."""
    found = errors[errors.index("error: ") :]
    assert 1 <= len(found.splitlines()) <= lines
    assert "Traceback" not in errors
    return found


def test_no_network_for_the_teacher_nor_the_data(capsys):
    """Where to put what, with its checksum, in one round: two lines for each thing that is missing."""
    assert train_student.main(["--model_s", "resnet8", "--device", "cpu", "--output", "out", "--data_folder", "d"]) == 2
    errors = closing_words(capsys.readouterr().err, lines=4)
    models = Path("out") / "models"
    places = ("cifar100_resnet56-f2eff4c8.pt", "resnet56_vanilla/ckpt_epoch_240.pth", "cifar_teachers.tar")
    assert_mentions(errors, *(f" as {models / place}" for place in places), "sha256 f2eff4c8")
    assert_mentions(errors, "--path_t", "python train_teacher.py --model resnet56 --dataset cifar100")
    assert_mentions(errors, "cifar-100-python.tar.gz", CIFAR100.archive_md5, " into d", "--data_folder")


def test_several_missing_teachers_are_named_in_one_round(capsys):
    models = ("resnet110", "resnet32x4")
    assert train_student.main(["--model_s", "resnet8", "--device", "cpu", "--model_t", *models]) == 2
    errors = closing_words(capsys.readouterr().err, lines=6)
    for model in models:
        assert_mentions(errors, str(Path("save/models") / f"{model}_vanilla" / "ckpt_epoch_240.pth"))


def test_no_network_for_the_data(capsys):
    argv = ["--distill", "none", "--model_s", "resnet8", "--dataset", "cifar10", "--device", "cpu"]
    assert train_student.main(argv) == 2
    printed = capsys.readouterr().err
    errors = closing_words(printed)
    assert printed == errors  # what was tried is in the error alone
    assert_mentions(errors, "cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a", "--data_folder")


def test_no_network_leaves_a_finished_run_alone(capsys, monkeypatch):
    """--overwrite does not remove what cannot be made again; a run that never began leaves no folder."""
    argv = ["--model", "resnet8", "--dataset", "cifar10", "--device", "cpu"]
    while_loading = []
    monkeypatch.setattr(
        "engine.training.run_plans.load_arrays",
        lambda *where: while_loading.extend(Path("save/models").iterdir()) or load_arrays(*where),
    )
    assert train_teacher.main(argv) == 2
    assert not list(Path("save/models").iterdir())
    (folder,) = while_loading
    folder.mkdir()
    (folder / "result.json").write_text("{}")
    assert train_teacher.main([*argv, "--overwrite"]) == 2
    assert (folder / "result.json").read_text() == "{}"
    capsys.readouterr()


# --- as a user sees it -----------------------------------------------------------------------------


@pytest.mark.runs
def test_a_wrong_request_in_a_process():
    done = run_script("train_student.py", "--distill", "sdt", *DIGITS, cwd=Path.cwd())
    assert (done.returncode, done.stdout) == (2, "")
    assert_mentions(done.stderr, "sdt", "std")
    assert len(done.stderr.splitlines()) == 1
    assert os.listdir() == []


@pytest.mark.runs
def test_a_loss_that_is_not_finite(capsys):
    assert train_teacher.main(["--model", "resnet8", *SMALL, "--learning_rate", "1e30"]) == 1
    errors = capsys.readouterr().err
    assert re.match(r"error: resnet8, trial 1: \w+ is (nan|inf) at epoch 1, step \d+ of 10", errors)
    assert len(errors.splitlines()) == 2
    assert_mentions(errors, str(folder_of("save")), "--learning_rate")


@pytest.mark.parametrize("script", [train_student, train_teacher, evaluate_script, transfer_student, ablate_std])
def test_help(script, capsys, monkeypatch):
    """The common flags are on a screen; each flag has a text, and its default where it has a value."""
    monkeypatch.setenv("COLUMNS", "80")
    first, every = (help_of(script, capsys, *page) for page in ([], ["all"]))
    assert script.__doc__.split(",")[0].split(".")[0] in " ".join(first.split())
    text_of_usage = first.split("\n\n")[0]  # it has what is required
    assert len(text_of_usage.splitlines()) == 1
    assert len(first.splitlines()) <= 60, "put flags that few need into a further_group"
    for text in (first, every):
        assert max(map(len, text.splitlines())) <= 80
        assert not re.search(r"\{[^}]*(\b\w+\b)[^}]*,\1\b", text)  # a choice that holds a comma looks like two
        assert not any(f"--{name}" in text for name in cli.IGNORED)
    entries = re.findall(r"^  (-\S.*?)(?:  +|\n {20,})(\S.*(?:\n {20,}.*)*)", every, re.MULTILINE)
    flags = re.findall(r"^  -.*", every, re.MULTILINE)
    assert len(entries) == len(flags)
    assert all(len(text.split()) > 1 or "default" in text for _, text in entries)
    valued = [(flag, text) for flag, text in entries if " " in re.sub("^-., ", "", flag)]
    for flag, text in valued:
        assert "default" in text or any(word in flag for word in ("--help", "--list")) or flag in text_of_usage, flag


def help_of(script, capsys, *pages):
    assert script.main(["--help", *pages]) == 0
    return capsys.readouterr().out


def test_the_first_page_has_the_common_flags_and_names_the_other_pages(capsys):
    first, recipe = help_of(train_student, capsys), help_of(train_student, capsys, "recipe")
    common = ("--distill", "--model_s", "--path_t", "--dataset", "--output", "--trial", "--epochs", "--beta", "--kd_T")
    assert all(flag in first for flag in (*common, "--help recipe", "--help METHOD", "--help all"))
    assert first.count("python train_student.py") == 3
    assert "--erasing" not in first
    assert all(flag in recipe for flag in ("--epochs", "--erasing", "240"))


@pytest.mark.parametrize("word", ["--help", "--list"])
@pytest.mark.parametrize(
    ("name", "flags"),
    [("std", {"--std_T", "--std_modules"}), ("fitnet", {"--hint_layer"}), ("crd+kd", {"--nce_k"}), ("kd", set())],
)
def test_a_page_for_each_method(capsys, word, name, flags):
    assert train_student.main([word, name]) == 0
    page = capsys.readouterr().out
    methods = [METHODS[part] for part in name.split("+")]
    assert_mentions(" ".join(page.split()), *(text for method in methods for text in (method.paper, method.refuses)))
    assert flags <= set(re.findall(r"--\w+", page))
    assert "--epochs" not in page


@pytest.mark.parametrize(("name", "near"), [("sdt", "std"), ("recpie", "recipe"), ("fitnets", "fitnet"), ("x+kd", "")])
def test_a_page_that_is_not_there(capsys, name, near):
    assert_mentions(refused(capsys, train_student.main, "--help", name), name, near)


def test_evaluate_prints_a_line_or_json(capsys, teacher):
    argv = ["--path", str(teacher), *DIGITS]
    assert evaluate_script.main(argv) == 0
    line = capsys.readouterr().out
    found = re.fullmatch(r"Acc@1 (\d+\.\d\d) Acc@5 (\d+\.\d\d) loss (\d+\.\d{3}) \(500 images\)\n", line)
    assert found
    assert evaluate_script.main([*argv, "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured.keys() == {"top1", "top5", "loss", "images", "balanced", "model"}
    assert (measured["images"], measured["model"]) == (500, "resnet8")
    assert [f"{measured['top1']:.2f}", f"{measured['top5']:.2f}", f"{measured['loss']:.3f}"] == list(found.groups())


def test_evaluate_has_figures_of_each_class(capsys, teacher, tmp_path):
    argv, out = ["--path", str(teacher), *DIGITS, "--per_class", "--json", "--out", str(tmp_path / "c.csv")], tmp_path
    assert evaluate_script.main(argv) == 0
    measured = json.loads(capsys.readouterr().out)
    counts, classes = np.array(measured["confusion"]), measured["per_class"]
    assert counts.sum() == 500
    assert np.trace(counts) / 5 == pytest.approx(measured["top1"])
    assert [c["name"] for c in classes] == list("0123456789")
    assert np.mean([c["recall"] for c in classes]) == pytest.approx(measured["balanced"])
    assert [c["images"] for c in classes] == counts.sum(axis=1).tolist()
    assert (out / "c.csv").read_text().count("\n") == 11
    assert "c.csv" in refused(capsys, evaluate_script.main, *argv)
    assert evaluate_script.main([*argv, "--overwrite"]) == 0
    capsys.readouterr()
    assert evaluate_script.main(argv[:-3]) == 0
    line, *rest = capsys.readouterr().out.splitlines()
    assert line.startswith(f"Acc@1 {measured['top1']:.2f} ")
    assert f"balanced accuracy {measured['balanced']:.2f}" in rest


def test_evaluate_writes_classes_only_where_they_are_asked_for(capsys, tmp_path):
    error = refused(capsys, evaluate_script.main, "--path", "x", "--out", str(tmp_path / "c.csv"))
    assert "--per_class" in error


@pytest.mark.parametrize(("uneven", "end"), [(True, "(9 images) balanced 45.68"), (False, "(9 images)")])
def test_evaluates_line_has_balanced_accuracy_where_classes_are_uneven(uneven, end):
    result = {"top1": 60.0, "top5": 90.0, "loss": 1.0, "images": 9, "balanced": 45.678}
    assert evaluate_script.line(result, uneven).endswith(end)


@pytest.mark.runs
def test_short_flags_and_aliases_of_repdistiller(teacher):
    extra = ["-r", "0.5", "-a", "0.25", "-b", "7", "-t", "3", "--epochs", "1"]
    assert train("fitnet", output="save", teacher=teacher, extra=extra) == 0
    assert re.fullmatch(
        r"S_resnet8_T_resnet8_digits_hint_r_0\.5_a_0\.25_b_7_trial_3_[0-9a-f]{8}", folder_of("save").name
    )


IGNORED = ["--print_freq", "100", "--tb_freq=500"]


@pytest.mark.runs
@pytest.mark.parametrize("train_one", [lambda *extra: train("none", output="save", extra=extra), None])
def test_flags_of_repdistiller_without_effect(train_one, capsys):
    """Its command lines work, a line names the flags, and the run is the same one."""
    train_one = train_one or (lambda *extra: train_alone("save", *extra))
    assert train_one("--epochs", "1") == 0
    assert "--print_freq" not in capsys.readouterr().out
    assert train_one("--epochs", "1", *IGNORED) == 0
    out, errors = capsys.readouterr()
    assert [line for line in out.splitlines() if all(f"--{name}" in line for name in cli.IGNORED)]
    assert errors == ""
    folder_of("save")


SHARED = ["--save_freq", "40", "--batch_size", "64", "--epochs", "240", "--learning_rate", "0.05", "-t", "1"]
SHARED += ["--lr_decay_epochs", "150,180,210", "--lr_decay_rate", "0.1", "--weight_decay", "5e-4", "--trial", "1"]
SHARED += ["--momentum", "0.9", "--dataset", "cifar100", "--num_workers", "8", *IGNORED]
OF_STUDENT = ["--model_s", "resnet8", "--path_t", "x", "--kd_T", "4", "--distill", "crd", "-r", "1", "-a", "0"]
OF_STUDENT += ["-b", "0.8", "--init_epochs", "30", "--feat_dim", "128", "--mode", "exact", "--nce_k", "1"]
OF_STUDENT += ["--nce_t", "0.1", "--nce_m", "0.5", "--hint_layer", "2"]


@pytest.mark.parametrize(("script", "own"), [(train_student, OF_STUDENT), (train_teacher, ["--model", "resnet8"])])
def test_every_flag_of_repdistiller_is_in_the_table_and_accepted(script, own):
    page = (ROOT / "docs" / "other_suites.md").read_text()
    table = page[page.index("## RepDistiller's flags") :].split("\n## ")[0]
    argv = [*own, *SHARED]
    assert script.parse(argv).epochs == 240
    flags = {word.split("=")[0] for word in argv if word.startswith("-")}
    assert [flag for flag in sorted(flags) if f"`{flag}" not in table] == []
