"""Parts of messages: numbers, near names, and places in code."""

from pathlib import Path

import pytest

from common.messages import SHOWN, counted, cut, did_you_mean, place_raised, with_long_words_cut, words_of


def test_counts():
    assert [counted(n, "epoch") for n in (0, 1, 2)] == ["0 epochs", "1 epoch", "2 epochs"]


def test_near_names_and_aliases_are_suggested():
    known, aliases = ["hint", "crd", "kd"], ["fitnet"]
    assert "fitnet" in did_you_mean("fitnets", known, aliases)
    assert "hint" in did_you_mean("HINT", known, aliases)


@pytest.mark.parametrize("number", [1, SHOWN, SHOWN + 3])
def test_without_a_near_one_the_first_are_listed_and_the_others_counted(number):
    known = [f"name{letter}" for letter in "abcdefghi"[:number]]
    text = did_you_mean("xyz", known)
    assert [name in text for name in known] == [i < SHOWN for i in range(number)]
    assert ("3 more" in text) == (number > SHOWN)


@pytest.mark.parametrize("text", ["kd,crd", "kd, crd", "kd;crd", "KD,crd,", "fitnet,kd"])
def test_several_names_in_one_word_are_separated(text):
    assert "spaces" in did_you_mean(text, ["kd", "crd"], ["fitnet"])
    assert "spaces" not in did_you_mean(text + "x", ["kd", "crd"], ["fitnet"])


@pytest.mark.parametrize(
    "value", ["a" * 10_000, 10**300, 10**5000, ["x" * 999]], ids=lambda value: type(value).__name__
)
def test_long_values_are_cut(value):
    assert len(cut(value)) < 100
    assert cut("short") == "short"


def test_messages_are_cut_but_paths_are_whole():
    path = "/".join(["folder" * 20] * 3) + "/x.pth"
    message = with_long_words_cut(f"error: {path}: 'y{'y' * 5000}'; give less\nsecond line")
    assert path in message
    assert "give less\nsecond line" in message
    assert len(message) < 600
    assert len(with_long_words_cut("word " * 9999)) < 600


def test_the_place_is_the_users_file_rather_than_a_helper():
    def helper():
        raise ValueError

    folder = Path(__file__).parent
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        helper()
    inner = place_raised(raised.value, folder)
    assert inner is not None
    assert place_raised(raised.value, folder, own=[__file__]) == inner
    assert place_raised(raised.value, folder, own=["/elsewhere.py"]) == inner


def test_an_exception_is_its_type_and_first_line():
    assert words_of(ValueError("one\ntwo")) == "ValueError: one"
    assert words_of(KeyError()) == "KeyError"


def test_the_place_is_the_innermost_line_below_the_folder(tmp_path):
    file = tmp_path / "zoo" / "mine.py"
    file.parent.mkdir()
    file.write_text("import json\n\n\ndef f():\n    json.loads('')\n")
    space = {}
    exec(compile(file.read_text(), str(file), "exec"), space)
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        space["f"]()
    assert place_raised(raised.value, file.parent) == "zoo/mine.py:5"
    assert place_raised(raised.value, tmp_path / "elsewhere") is None
