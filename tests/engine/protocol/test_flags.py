"""Flags made from annotations: what they accept, and that only given ones are in the namespace."""

import argparse
from typing import Literal

import pytest

from common.command import make_parser
from distiller_zoo import Epochs
from engine.protocol.flags import add_flag, finite, integers, temperature

KINDS = {
    "switch": (bool, ["--switch"], True),
    "form": (Literal["a", "b"], ["--form", "b"], "b"),
    "several": (Literal["1", "1,2"], ["--several", "1,2"], "1,2"),
    "numbers": (tuple[int, ...], ["--numbers", "1,2"], (1, 2)),
    "rate": (float, ["--rate", "1e-3"], 1e-3),
    "count": (int, ["--count", "3"], 3),
    "phase": (Epochs, ["--phase", "3"], 3),
    "name": (str, ["--name", "x"], "x"),
}


@pytest.fixture
def parser():
    parser = make_parser("Description.")
    for name, (annotation, _, _) in KINDS.items():
        add_flag(parser, name, annotation, "50 % of all")
    return parser


@pytest.mark.parametrize("name", KINDS)
def test_a_flag_of_each_annotation(parser, name):
    _, argv, value = KINDS[name]
    assert vars(parser.parse_args(argv)) == {name: value}


def test_help(parser):
    assert parser.format_help().count("50 % of all") == len(KINDS)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (finite, "2.5", 2.5),
        (temperature, "0.5", 0.5),
        (integers, "150,180,210", (150, 180, 210)),
        (integers, "", ()),
        *((finite, text, None) for text in ("nan", "inf", "hot", "1e400", "1_0", "１")),
        *((temperature, text, None) for text in ("0", "-1", "nan", "1e9")),
        *((integers, text, None) for text in ("10,b", "1;2")),
    ],
)
def test_types(kind, text, value):
    if value is not None:
        assert kind(text) == value
        return
    with pytest.raises(argparse.ArgumentTypeError):
        kind(text)
