"""Several values of a flag: a run for each combination, and one alone where a method does not have the option."""

import pytest

import train_student
from common.errors import RequestError
from engine.protocol.names import distinct_names
from engine.protocol.sweep import swept_flags, variants
from scripts import ablate_std
from tests.engine.planned import BACKBONE, plans_of
from tests.helpers import assert_same, folder_of, folders_of, outcome_of, train

BASE = "train_student.py --dataset digits --model_s resnet8 --model_t resnet8 --path_t t.pth --device cpu"


def labels(words, base=BASE):
    plans = plans_of(f"{base} {words}")
    assert len({plan.run_id for plan in plans}) == len(plans)
    return [plan.label for plan in plans]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--distill kd --kd_T 2 4", ["kd kd_T=2", "kd"]),
        ("--distill dkd --dkd_beta 2 4 8", ["dkd dkd_beta=2.0", "dkd dkd_beta=4.0", "dkd"]),
        ("--distill dkd --dkd_beta 8 8.0", ["dkd"]),
        ("--distill none dkd --dkd_beta 2 8", ["none", "dkd dkd_beta=2.0", "dkd"]),
        ("--distill none kd dkd --kd_T 2 4", ["none", "kd kd_T=2", "kd", "dkd"]),
        ("--distill crd --mode exact relax", ["crd", "crd mode=relax"]),
        ("--distill rkd --rkd_angle 1 2 -b 1 3",
         ["rkd rkd_angle=1.0", "rkd rkd_angle=2.0", "rkd beta=3 rkd_angle=1.0", "rkd beta=3 rkd_angle=2.0"]),
        ("--distill none kd --lwr 1 2", ["none lwr=1", "none lwr=2", "kd lwr=1", "kd lwr=2"]),
        # What cannot act beside the others makes no runs.
        ("--distill rrd crd --nce_m 0.4 0.5", ["rrd", "crd nce_m=0.4", "crd"]),
        ("--distill rrd --memory_type fifo momentum --nce_m 0.4 0.5 --distill rrd",
         ["rrd", "rrd memory_type=momentum nce_m=0.4", "rrd memory_type=momentum"]),
    ],
)  # fmt: skip
def test_methods_vary(words, expected):
    assert sorted(labels(words)) == sorted(expected)


@pytest.mark.parametrize(
    ("words", "name", "values"),
    [
        ("--learning_rate .05 .1", "learning_rate", [0.05, 0.1]),
        ("--weight_decay 0 1e-4", "weight_decay", [0, 1e-4]),
        ("--batch_size 32 64", "batch_size", [32, 64]),
        ("--epochs 10 20", "epochs", [10, 20]),
        ("--lr_decay_epochs 10,20 15 --epochs 30", "lr_decay_epochs", [(10, 20), (15,)]),
        ("--recipe repdistiller light", "name", ["repdistiller", "light"]),
    ],
)
@pytest.mark.parametrize(
    "base",
    [
        f"{BASE} --distill kd",
        "train_teacher.py --model resnet8 --dataset digits",
        f"transfer_student.py --path_s {BACKBONE} --dataset digits",
    ],
)
def test_recipes_vary_in_every_script(words, name, values, base):
    plans = plans_of(f"{base} {words}")
    assert [getattr(plan.recipe, name) for plan in plans] == values


def test_a_value_that_one_variant_reads_is_no_mistake():
    plans = plans_of(f"{BASE} --distill none --schedule step cosine --min_lr 1e-4 1e-3")
    assert [(plan.recipe.schedule, plan.recipe.min_lr) for plan in plans] == [
        ("step", 0), ("cosine", 1e-4), ("cosine", 1e-3)
    ]  # fmt: skip
    assert train_student.main(f"{BASE} --distill none --learning_rate .1 .2 --min_lr 1e-4".split()[1:]) == 2


def test_the_grid_of_all_flags_is_the_product():
    arguments = train_student.parse(["--kd_T", "2", "4", "--epochs", "1", "2", "--dkd_T", "3"])
    assert swept_flags(arguments) == {"kd_T", "epochs"}
    assert [(one.kd_T, one.epochs, one.dkd_T) for one in variants(arguments)] == [
        (2, 1, 3), (2, 2, 3), (4, 1, 3), (4, 2, 3)
    ]  # fmt: skip


def test_a_flag_beside_a_preset_replaces_its_value():
    assert train_student.parse(["--preset", "std-53", "--epochs", "3"]).epochs == 3


def test_a_script_that_makes_no_variants_refuses_them():
    arguments = ablate_std.parse(["--learning_rate", "0.1", "0.2"])
    with pytest.raises(RequestError, match="--learning_rate"):
        ablate_std.cli.recipes_of(arguments, {})


def test_epochs_without_commas_are_no_sweep(capsys):
    with pytest.raises(SystemExit):
        train_student.parse(["--lr_decay_epochs", "150", "180", "210"])
    assert "150,180,210" in capsys.readouterr().err


def test_runs_of_one_label_are_told_apart():
    plans = plans_of(f"{BASE} --distill none kd --learning_rate .05 .1 --kd_T 2 4 --trial 1 2")
    names = distinct_names(plans)
    assert names[plans[0].run_id] == "resnet8 none learning_rate=0.05"
    assert len({(name, plan.trial) for plan in plans for name in [names[plan.run_id]]}) == len(plans)
    assert distinct_names(plans_of(f"{BASE} --distill none kd --trial 1 2")) == {}


@pytest.mark.runs
def test_runs_of_a_sweep_are_those_of_single_commands(teacher, tmp_path, capsys):
    """Also where they have different lengths: the shorter one leaves the group."""
    sweep = ["--epochs", "1", "2", "--learning_rate", "0.05", "0.1", "--kd_T", "2", "4"]
    assert train("kd", output=tmp_path / "all", teacher=teacher, extra=sweep) == 0
    out = capsys.readouterr().out
    assert "8 runs" in out
    assert "kd kd_T=2 epochs=1 learning_rate=0.1" in out
    one = ["--epochs", "1", "--learning_rate", "0.1", "--kd_T", "2"]
    assert train("kd", output=tmp_path / "one", teacher=teacher, extra=one) == 0
    folder = folder_of(tmp_path / "one")
    assert len(folders_of(tmp_path / "all")) == 8
    assert_same(outcome_of(tmp_path / "all" / folder.relative_to(tmp_path / "one")), outcome_of(folder))
