"""Settings that cannot act are refused where no run reads them, and named in a line where some do."""

from collections import namedtuple
from pathlib import Path

import pytest

import train_student
from engine.protocol.plan import TeacherFile
from tests.engine.planned import plans_of

TEACHER = TeacherFile("resnet8", Path("t.pth"), "ab" * 32)
Taught = namedtuple("Taught", "file")
BASE = "--dataset digits --model_s resnet8 --model_t resnet8 --path_t t.pth --device cpu"


@pytest.mark.parametrize(
    ("words", "flags"),
    [
        ("--distill kd -b 2", ["--beta", "--alpha"]),
        ("--distill none -b 2", ["--beta", "none"]),
        ("--distill kd none -b 128", ["--beta", "--batch_size"]),
        ("--distill none -a 1", ["--alpha", "none"]),
        ("--distill kd -r 0 -a 0", ["--gamma", "--alpha", "--beta", "kd"]),
        ("--distill dkd -r 0 -b 0 1", ["dkd", "--beta"]),
        ("--distill none -r 0", ["none", "--gamma"]),
        ("--distill simkd -b 0", ["simkd", "--beta"]),
        ("--distill std --std_mine_lr 0.1", ["--std_mine_lr", "--std_mine"]),
        ("--distill std --std_mine_every 2 3", ["--std_mine_every", "--std_mine"]),
        ("--distill std --std_T 2", ["--std_T", "--std_labels soft"]),
        ("--distill rrd --nce_m 0.9", ["--nce_m", "--memory_type momentum"]),
        ("--distill deit rrd --nce_m 0.9", ["--nce_m", "--memory_type momentum"]),
        ("--distill std --std_reweighting uniform", ["--std_reweighting", "--path_t"]),
        ("--distill kd --lwr_rate 0.5", ["--lwr_rate", "--lwr"]),
        ("--distill kd --lwr_T 2", ["--lwr_T", "--lwr"]),
        ("--distill kd --lwr 9 --epochs 9", ["--lwr", "9"]),
        ("--distill kd --mix_probability 0.5", ["--mix_probability"]),
    ],
)
def test_refused(words, flags, capsys, monkeypatch):
    monkeypatch.setattr(train_student, "load_teachers", lambda *_: (Taught(TEACHER),))
    assert train_student.main([*BASE.split(), *words.split()]) == 2
    message = capsys.readouterr().err
    assert all(flag in message for flag in flags), message


@pytest.mark.parametrize(
    ("words", "mentions"),
    [
        ("--distill none kd dkd -b 2", ["--beta", "none, kd"]),
        ("--distill none kd -a 0.5", ["--alpha", "none"]),
        ("--distill dkd -b 128", ["-b 128", "--batch_size"]),
        ("--distill dkd --kd_T 2", ["--kd_T"]),
        ("--distill none --logit_standardization", ["--logit_standardization"]),
        ("--distill kd --teacher_weighting confidence", ["--teacher_weighting"]),
        ("--distill none", ["--model_t, --path_t"]),
        ("--distill none --ema", ["--ema"]),
        ("--distill none --weights_key student", ["--weights_key"]),
    ],
)
def test_said(words, mentions, capsys):
    assert plans_of(f"train_student.py {BASE} {words}")
    lines = capsys.readouterr().out.splitlines()
    assert any(all(word in line for word in mentions) for line in lines), lines


@pytest.mark.parametrize(
    "words",
    [
        "--distill kd -r 0.1 -a 0.9 -b 0",  # RepDistiller's own lines
        "--distill crd -r 1 -a 0 -b 0.8",
        "--distill none kd -a 0 -b 0",
        *(f"--distill {method} -b {beta}" for method, beta in [
            ("semckd", 400), ("attention", 1000), ("similarity", 3000), ("pkt", 30000), ("catkd", 600), ("hint", 100),
        ]),
        "--distill dkd -b 128 --batch_size 64",
        "--distill dkd -b 32 64 128",
        "--distill rrd --memory_type momentum --nce_m 0.9",
        "--distill std --model_s mixer_pico --std_mine --std_mine_lr 0.1",
        "--distill std --model_s mixer_pico --std_mine_lr 0.01",
        "--distill kd --kd_T 2",
    ],
)  # fmt: skip
def test_nothing_is_said_of_what_acts(words, capsys):
    assert plans_of(f"train_student.py {BASE} {words}")
    assert capsys.readouterr().out == ""


def test_a_preset_whose_flags_are_overridden_is_no_mistake(tmp_path):
    (plan,) = plans_of(f"train_student.py --preset std-52 --no-std_mine {BASE} --model_s mixer_pico")
    assert not plan.options["std_mine"]
