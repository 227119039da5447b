"""What goes wrong is said in one or two lines that name the mend, with the right exit code, before data is touched."""

import argparse
import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import evaluate as evaluate_script
import train_student
import train_teacher
from common.command import guard
from common.flag_names import OTHER_NAMES
from dataset import DATASETS, load_arrays
from distiller_zoo import METHODS
from engine import cli
from engine.protocol.presets import preset_names
from engine.protocol.recipes import AUGMENTATION_FIELDS, RECIPE_FIELDS, RECIPES
from models import MODELS, create_model
from tests.helpers import (
    ROOT,
    SMALL,
    environment,
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


@pytest.fixture
def teacher(tmp_path):
    path = tmp_path / "teacher.pth"
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


# --- wrong requests --------------------------------------------------------------------------------

UNKNOWN = [
    (["--distill", "fitnets"], "unknown method 'fitnets'; did you mean fitnet"),
    (["--distill", "kd", "sdt"], "unknown method 'sdt'; did you mean std"),
    (["--model_s", "resnet9"], "unknown model 'resnet9'; did you mean resnet"),
    (["--dataset", "cifar1000"], "unknown data set 'cifar1000'; did you mean cifar100"),
    (["--recipe", "diet"], "unknown recipe 'diet'; did you mean deit"),
    (["--std_modules", "last"], "--std_modules is an option of std, not of kd; leave it out"),
    (["--kd_T", "0"], "--kd_T is 0.0; it must be positive"),
    (["--group_size", "0"], "--group_size is 0; it must be at least 1"),
    (["--epochs", "0"], "--epochs is 0; it must be positive"),
    (["--batch_size", "-4"], "--batch_size is -4; it must be positive"),
    (["--learning_rate", "-1"], "--learning_rate is -1.0; it must be positive"),
    (["--lr_decay_epochs", "0,5"], "--lr_decay_epochs holds 0"),
    (["--momentum", "2"], "--momentum is 2.0"),
    (["--min_lr", "1e-4"], "--min_lr changes nothing in the recipe repdistiller (schedule step); leave it out"),
    (["--recipe", "light", "--momentum", "0.8"], "--momentum changes nothing in the recipe light (optimizer adamw)"),
    (["--mixup", "0.2", "--switch_probability", "0.1"], "--switch_probability changes nothing"),
    (["--recipe", "deit", "--schedule", "step"], "the recipe deit has none; give some"),
    (["--device", "tpu"], "choose auto, cpu, cuda or cuda:N"),
    (["--device", "meta"], "choose auto, cpu, cuda or cuda:N"),
    (["--device", "cuda:99"], "is not there"),
    (["--distill", "hint", "--beta", "nan"], "--beta is nan"),
    (["--distill", "hint", "--beta", "-1"], "--beta is -1"),
]


@pytest.mark.parametrize(("argv", "message"), UNKNOWN, ids=lambda value: " ".join(value) if type(value) is list else "")
def test_unknown_names_and_values(capsys, teacher, argv, message):
    base = [] if "--dataset" in argv else ["--dataset", "digits"]
    argv = [*base, "--model_s", "resnet8", "--path_t", teacher, *argv]
    assert message in refused(capsys, train_student.main, *argv)
    assert not Path("save").exists()


@pytest.mark.parametrize("main", [train_teacher.main, lambda argv: evaluate_script.main([*argv, "--path", "x"])])
def test_unknown_names_in_the_other_scripts(capsys, main):
    assert "unknown data set 'mnist'" in refused(capsys, main, "--dataset", "mnist")


def test_unknown_model_of_the_other_scripts(capsys, teacher):
    assert "unknown model 'resnet9'" in refused(capsys, train_teacher.main, "--model", "resnet9", *DIGITS)
    argv = ["--path", teacher, "--model", "resnet9", *DIGITS]
    assert "unknown model 'resnet9'" in refused(capsys, evaluate_script.main, *argv)


@pytest.mark.parametrize(
    "argv",
    [
        ["--epoch", "3"],  # an abbreviation
        ["--learn", "0.1"],
        ["--no_such_option", "1"],
        ["--epochs", "three"],
        ["--learning_rate", "nan"],
        ["--kd_T", "inf"],
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
def test_usage_errors(capsys, argv):
    with pytest.raises(SystemExit) as stopped:
        train_student.main([*DIGITS, *argv])
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert line.endswith(" (see --help)")
    assert argv[0] in line
    assert not any(Path().iterdir())


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--epoch", "3"], "unknown flag --epoch, did you mean --epochs?"),
        (["--method", "kd"], "unknown flag --method, did you mean --distill?"),
        (["--teacher", "resnet56"], "unknown flag --teacher, did you mean --model_t or --path_t?"),
        (["--student=resnet8"], "unknown flag --student, did you mean --model_s?"),
        (["--lr", "0.1"], "unknown flag --lr, did you mean --learning_rate?"),
        (["--batch-size", "8"], "unknown flag --batch-size, did you mean --batch_size?"),
        (["--distil", "kd"], "unknown flag --distil, did you mean --distill"),
        (["--learn=0.1"], "unknown flag --learn, did you mean --learning_rate?"),
        (["--no_such_option", "1"], "unknown flag --no_such_option (see"),
        (["--print_frq", "1"], "unknown flag --print_frq (see"),  # what has no effect is not offered
        (["--epochs", "3", "4"], "unexpected '4'"),
        (["--lr_decay_epochs", "10,b"], "--lr_decay_epochs: '10,b' is no list of integers such as 150,180,210"),
        (["--epochs", "three"], "--epochs: 'three' is not an integer"),
        (["-t", "-3"], "-t/--trial: -3 is too small; give 1 or more"),
        (["--trial", "one"], "--trial: 'one' is not an integer"),
        (["--save_freq", "-1"], "--save_freq: -1 is too small; give 0 or more"),
        (["--kd_T", "hot"], "--kd_T: 'hot' is not a finite number"),
        (["-r", "much"], "-r/--gamma: 'much' is not a number"),
    ],
    ids=lambda value: " ".join(value) if type(value) is list else "",
)
def test_what_usage_errors_say(capsys, argv, message):
    with pytest.raises(SystemExit):
        train_student.main([*DIGITS, *argv])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("script", "argv"),
    [
        ("train_teacher.py", ["--trial", "0"]),
        ("transfer_student.py", ["--path_s", "x", "--trial", "0"]),
        ("scripts/ablate_std.py", ["--trials", "1", "0"]),
    ],
)
def test_trials_count_from_one_in_every_script(script, argv):
    done = seen(script, *argv, "--dataset", "digits", cwd=Path.cwd())
    assert done.returncode == 2
    assert "0 is too small; give 1 or more" in done.stderr


def test_other_names_of_flags_mean_flags_that_are_there():
    source = "".join(path.read_text() for path in (*ROOT.glob("*.py"), ROOT / "engine" / "cli.py"))
    known = {*RECIPE_FIELDS, *AUGMENTATION_FIELDS, "gamma", "alpha", "beta"}
    assert [flag for flag in sorted(OTHER_NAMES) if flag not in known and f'"--{flag}"' not in source] == []


def test_missing_required_option(capsys):
    with pytest.raises(SystemExit) as stopped:
        evaluate_script.main([])
    assert stopped.value.code == 2
    assert "--path" in capsys.readouterr().err


def test_image_size_that_a_network_cannot_take(capsys, teacher):
    argv = [*DIGITS, "--distill", "none", "--model_s", "mixer_s16"]
    assert "choose a Mixer whose patch size divides 8" in refused(capsys, train_student.main, *argv)


def test_pair_that_cannot_work(capsys, teacher):
    argv = [*DIGITS, "--distill", "std", "--model_s", "resnet8", "--path_t", teacher]
    assert "choose an MLP" in refused(capsys, train_student.main, *argv)
    assert not Path("save").exists()


def test_too_many_teachers(capsys, teacher):
    argv = [*DIGITS, "--distill", "crd", "--model_s", "resnet8", "--path_t", teacher, teacher]
    errors = refused(capsys, train_student.main, *argv)
    assert "crd learns from 1 teacher(s), but 2 were given with --path_t or --model_t" in errors


def test_batch_larger_than_the_data(capsys, teacher):
    argv = [*DIGITS, "--distill", "none", "--model_s", "mixer_pico", "--recipe", "light", "--batch_size", "2000"]
    assert "--batch_size 2000" in refused(capsys, train_student.main, *argv)


# --- checkpoints -----------------------------------------------------------------------------------


def broken_checkpoints(folder):
    state = create_model("resnet8", 10, 8).state_dict()
    torch.save({"model": state, "opt": argparse.Namespace(lr=1)}, folder / "resnet8_last.pth")
    torch.save({"weights": [1, 2]}, folder / "resnet8_foreign.pth")
    torch.save(create_model("resnet14", 10, 8).state_dict(), folder / "resnet8_other.pth")
    torch.save(create_model("resnet8", 100, 32).state_dict(), folder / "resnet8_classes.pth")
    torch.save(state, folder / "unnamed.pth")
    content = (folder / "resnet8_other.pth").read_bytes()
    (folder / "resnet8_truncated.pth").write_bytes(content[: len(content) // 2])


CHECKPOINTS = {
    "missing.pth": "is not there; check the path",
    "resnet8_truncated.pth": "is truncated or no PyTorch checkpoint",
    "resnet8_foreign.pth": "holds no state dict",
    "resnet8_last.pth": "--allow_namespace",
    "resnet8_other.pth": "does not hold a resnet8",
    "resnet8_classes.pth": "trained for 100 classes, but the data set has 10",
    "unnamed.pth": "--model_t",
    ".": "a folder, not a file",
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoints(capsys, tmp_path, name):
    broken_checkpoints(tmp_path)
    argv = [*DIGITS, "--model_s", "resnet8", "--path_t", tmp_path / name]
    assert CHECKPOINTS[name] in refused(capsys, train_student.main, *argv)
    assert not Path("save").exists()
    assert CHECKPOINTS[name] in refused(capsys, evaluate_script.main, *DIGITS, "--path", tmp_path / name)


def test_namespace_on_request(capsys, tmp_path):
    broken_checkpoints(tmp_path)
    argv = ["--path", tmp_path / "resnet8_last.pth", "--allow_namespace", *DIGITS]
    assert evaluate_script.main([str(part) for part in argv]) == 0
    assert capsys.readouterr().out.startswith("Acc@1 ")


def test_the_state_of_an_unfinished_run_is_no_network(capsys, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at_step(patch, 2, 1)
        assert train_alone("save") == 130
    capsys.readouterr()
    argv = ["--path", folder_of("save") / "checkpoint.pth", *DIGITS]
    assert "unfinished run" in refused(capsys, evaluate_script.main, *argv)


@pytest.mark.parametrize("damage", ["cut", "text", "foreign"])
def test_damaged_state_of_an_interrupted_run(capsys, monkeypatch, damage):
    with monkeypatch.context() as patch:
        stop_at_step(patch, 1, 2)
        assert train_alone("save") == 130
    checkpoint = folder_of("save") / "checkpoint.pth"
    content = checkpoint.read_bytes()
    checkpoint.write_bytes({"cut": content[:1000], "text": b"hello"}.get(damage, content))
    if damage == "foreign":
        torch.save(load(checkpoint) | {"run_id": "0" * 8}, checkpoint)
    capsys.readouterr()
    assert train_alone("save") == 2
    assert "--overwrite starts this run anew" in capsys.readouterr().err
    assert train_alone("save", "--overwrite") == 0


# --- places and network ----------------------------------------------------------------------------


def test_output_that_cannot_be_written(capsys, tmp_path):
    (tmp_path / "file").write_text("no folder")
    argv = [*DIGITS, "--distill", "none", "--model_s", "resnet8", "--output", tmp_path / "file"]
    assert "choose another place with --output" in refused(capsys, train_student.main, *argv)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no /proc, where nobody may write")
def test_output_where_nobody_may_write(capsys):
    argv = [*DIGITS, "--distill", "none", "--model_s", "resnet8", "--output", "/proc/save"]
    assert "choose another place with --output" in refused(capsys, train_student.main, *argv)


def test_no_teacher_for_a_data_set(capsys):
    errors = refused(capsys, train_student.main, *DIGITS, "--model_s", "resnet8")
    assert "--path_t" in errors
    assert "python train_teacher.py --model resnet56 --dataset digits" in errors
    assert not Path("save").exists()


def closing_words(errors):
    """The error itself, without the lines on what was tried."""
    found = errors[errors.index("error: ") :]
    assert 1 <= len(found.splitlines()) <= 2
    assert "Traceback" not in errors
    return found


def test_no_network_for_the_teacher(capsys):
    assert train_student.main(["--model_s", "resnet8", "--device", "cpu"]) == 2
    errors = closing_words(capsys.readouterr().err)
    assert "--path_t" in errors
    assert "no connection" in errors
    assert "python train_teacher.py --model resnet56 --dataset cifar100" in errors
    assert not Path("data").exists()


def test_no_network_for_the_data(capsys):
    argv = ["--distill", "none", "--model_s", "resnet8", "--dataset", "cifar10", "--device", "cpu"]
    assert train_student.main(argv) == 2
    said = capsys.readouterr().err
    errors = closing_words(said)
    assert said == errors  # what was tried stands in the error alone
    assert "no connection" in errors
    assert "put cifar-10-python.tar.gz (md5 c58f30108f718f92721af3b95e74349a) into data" in errors
    assert "--data_folder" in errors


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


def seen(script, *argv, cwd):
    done = run_script(script, *argv, cwd=cwd)
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.parametrize(
    ("script", "argv", "message"),
    [
        ("train_student.py", ["--distill", "sdt"], "unknown method 'sdt'"),
        ("train_student.py", ["--distill", "kd", "--path_t", "missing.pth"], "missing.pth is not there"),
        ("train_teacher.py", ["--model", "resnet8", "--epochs", "-1"], "--epochs is -1"),
        ("evaluate.py", ["--path", "empty.pth"], "truncated or no PyTorch checkpoint"),
    ],
)
def test_wrong_requests_in_a_process(script, argv, message):
    Path("empty.pth").touch()
    done = seen(script, *argv, *DIGITS, cwd=Path.cwd())
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) <= 2
    assert os.listdir() == ["empty.pth"]


@pytest.mark.parametrize(("script", "flag"), [("train_student.py", "--list"), ("evaluate.py", "--help")])
def test_a_reader_that_has_seen_enough_is_no_error(script, flag):
    """As with `| head`: the pipe is closed amid the lines, or before the interpreter's own flush."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as pipe:
        command = [sys.executable, str(ROOT / script), flag]
        env = environment() | {"PYTHONUNBUFFERED": ""}
        done = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, text=True, env=env)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_command_that_nobody_reads_any_more_says_so():
    code = (
        "import sys\nfrom common.command import guard, say\n"
        "sys.exit(guard(lambda argv: [say('x' * 999) for _ in range(999)] and 0)([]))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        told = process.stderr.read()
    assert process.returncode == 1
    assert told == "error: nobody reads the output any more, so the command has stopped\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_behind_the_output_is_one_line():
    env = environment() | {"PYTHONUNBUFFERED": ""}
    command = [sys.executable, str(ROOT / "train_student.py"), "--list"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=env)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "cannot be written" in done.stderr


def test_the_end_of_another_pipe_is_an_error():
    def main(argv):
        raise BrokenPipeError("a worker died")

    with pytest.raises(BrokenPipeError, match="a worker died"):
        guard(main)([])


def test_non_finite_loss_in_a_process():
    argv = list(SMALL)
    done = seen("train_teacher.py", "--model", "resnet8", *argv, "--learning_rate", "1e30", cwd=Path.cwd())
    assert done.returncode == 1
    assert re.match(r"error: none: \w+ is (nan|inf) at epoch 1, step \d+ of 10", done.stderr)
    assert len(done.stderr.splitlines()) == 2


def test_list_names_everything(capsys):
    assert train_student.main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    headings = [i for i, line in enumerate(lines) if not line.startswith(" ")] + [len(lines)]
    sections = [lines[i + 1 : j] for i, j in itertools.pairwise(headings)]
    for names, section in zip((METHODS, MODELS, DATASETS, RECIPES, preset_names()), sections, strict=True):
        for name in names:
            (line,) = [line for line in section if re.match(rf"  {re.escape(name)}( \(|  )", line)]
            assert len(line.split()) > 3
    assert "  hint (fitnet)" in "\n".join(lines)


@pytest.mark.parametrize("script", [train_student, train_teacher, evaluate_script])
def test_help(capsys, script):
    with pytest.raises(SystemExit) as stopped:
        script.main(["--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert script.__doc__.split(",")[0].split(".")[0] in " ".join(text.split())
    assert "--dataset" in text
    usage = text.split("\n\n")[0]
    assert len(usage.splitlines()) == 1
    assert ("--path CKPT" in usage) == (script is evaluate_script)  # what must be given
    assert not re.search(r"\{[^}]*(\b\w+\b)[^}]*,\1\b", text)  # a choice that holds a comma looks like two
    assert not any(flag in text for flag in ("--print_freq", "--tb_freq", "--num_workers"))


def test_evaluate_prints_a_line_or_json(capsys, teacher):
    argv = ["--path", str(teacher), *DIGITS]
    assert evaluate_script.main(argv) == 0
    line = capsys.readouterr().out
    found = re.fullmatch(r"Acc@1 (\d+\.\d\d) Acc@5 (\d+\.\d\d) loss (\d+\.\d{3}) \(500 images\)\n", line)
    assert found
    assert evaluate_script.main([*argv, "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured.keys() == {"top1", "top5", "loss", "images", "model"}
    assert (measured["images"], measured["model"]) == (500, "resnet8")
    assert [f"{measured['top1']:.2f}", f"{measured['top5']:.2f}", f"{measured['loss']:.3f}"] == list(found.groups())


def test_short_flags_and_aliases_of_repdistiller(teacher, capsys):
    extra = ["-r", "0.5", "-a", "0.25", "-b", "7", "-t", "3"]
    assert train("fitnet", output="save", teacher=teacher, extra=extra) == 0
    assert re.fullmatch(
        r"S_resnet8_T_resnet8_digits_hint_r_0\.5_a_0\.25_b_7_trial_3_[0-9a-f]{8}", folder_of("save").name
    )
    assert (ROOT / "train_student.py").is_file()


@pytest.mark.parametrize(
    ("given", "more"), [(["all"], []), (["all", "kd"], []), (["crd+kd", "fitnet", "all"], ["crd+kd"])]
)
def test_all_methods_beside_others(given, more):
    assert sorted(cli.chosen_methods(given)) == sorted([*METHODS, *more])


MEANINGLESS = ["--print_freq", "100", "--num_workers", "8", "--tb_freq=500"]


@pytest.mark.parametrize("train_one", [lambda *extra: train("none", output="save", extra=extra), None])
def test_flags_of_repdistiller_that_mean_nothing_here(train_one, capsys):
    """Its command lines work, it is said once, and the run is the same one."""
    train_one = train_one or (lambda *extra: train_alone("save", *extra))
    assert train_one() == 0
    assert "without effect" not in capsys.readouterr().out
    assert train_one(*MEANINGLESS) == 0
    out, errors = capsys.readouterr()
    assert out.count("without effect here: --print_freq, --num_workers, --tb_freq (docs/other_suites.md)") == 1
    assert "already finished: none in " in out
    assert errors == ""
    folder_of("save")


@pytest.mark.parametrize("script", [train_student, train_teacher])
def test_every_flag_of_repdistiller_is_in_the_table_and_accepted(script, capsys):
    page = (ROOT / "docs" / "other_suites.md").read_text()
    table = page[page.index("## RepDistiller's flags") :].split("\n## ")[0]
    own = ["--model", "resnet8"]
    if script is train_student:
        own = [
            "--model_s",
            "resnet8",
            "--path_t",
            "x",
            "--kd_T",
            "4",
            "--distill",
            "crd",
            "-r",
            "1",
            "-a",
            "0",
            "-b",
            "0.8",
            "--trial",
            "1",
            "--init_epochs",
            "30",
        ]
        own += ["--feat_dim", "128", "--mode", "exact", "--nce_k", "1", "--nce_t", "0.1", "--nce_m", "0.5"]
        own += ["--hint_layer", "2"]
    shared = ["--save_freq", "40", "--batch_size", "64", "--epochs", "240", "--learning_rate", "0.05", "-t", "1"]
    shared += ["--lr_decay_epochs", "150,180,210", "--lr_decay_rate", "0.1", "--weight_decay", "5e-4"]
    argv = [*own, *shared, "--momentum", "0.9", "--dataset", "cifar100", *MEANINGLESS]
    assert script.parse(argv).epochs == 240
    flags = {word.split("=")[0] for word in argv if word.startswith("-")}
    assert [flag for flag in sorted(flags) if f"`{flag}" not in table] == []
