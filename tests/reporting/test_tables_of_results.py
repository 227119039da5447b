"""The figures that tables give for the runs in results/ stay those that commit d84c5ec gave, in tests/fixtures/tables.

`python -m tests.reporting.test_tables_of_results` writes these files anew, for when figures are meant to
change.
"""

import contextlib
import csv
import io
import json
import re

import pytest

import compare
from tests.helpers import ROOT

STORED = ROOT / "tests" / "fixtures" / "tables"
# What compare.py is asked for, by the name of the file that has the answer.
COMMANDS = {
    "all": ["results"],
    "cifar100_one_epoch": ["results/cifar100_one_epoch"],
    "cifar100_short": ["results/cifar100_short"],
    "digits_demo": ["results/digits_demo"],
    "precision": ["results/precision"],
    "std_ablation": ["results/std_ablation"],
    "published": ["results/published"],
    "beside_published": ["results", "--published"],
    "best_of_digits_demo": ["results/digits_demo", "--select", "best"],
    "best_of_std_ablation": ["results/std_ablation", "--select", "best"],
    "by_std_modules": ["results/std_ablation", "--by", "options.std_modules"],
    "by_precision": ["results/precision", "--by", "precision"],
    "one_pair": ["results", "--where", "model_s=resnet20", "--where", "epochs=1"],
}
# Columns of words for people, and of places, are free to change.
WORDS = {"protocol", "hardware", "differs", "source", "paths"}
# Processors may round the last of sixteen digits differently.
EXACT = {"rel": 1e-12, "abs": 1e-12}


def printed(words, form):
    """What compare.py prints in a format, called in the repository's folder."""
    said = io.StringIO()
    with contextlib.chdir(ROOT), contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()):
        assert compare.main([*words, "--format", form]) == 0
    return said.getvalue()


def rows_of_csv(text):
    return [_without_words(row) for row in csv.DictReader(io.StringIO(text))]


def rows_of_json(text):
    """The same rows with every value as CSV writes it: nothing for what is not known, semicolons within a list."""
    return [_without_words({key: _as_field(value) for key, value in row.items()}) for row in json.loads(text)]


def _without_words(row):
    """One row, without the SHIELD before a name such as +CTKD."""
    return {key: re.sub("^'(?=[+])", "", value) for key, value in row.items() if key not in WORDS}


def _as_field(value):
    if isinstance(value, list):
        return ";".join(map(str, value))
    return "" if value is None else str(value)


def _values(field):
    """The numbers of a field, and whatever else stands in it as text."""
    return [_number(part) for part in field.split(";")]


def _number(text):
    try:
        return float(text)
    except ValueError:
        return text


def assert_equal(found, expected):
    """All rows in the same order, with the same columns in the same order, and every value; columns may be added."""
    for one, other in zip(found, expected, strict=True):
        assert [name for name in one if name in other] == list(other)
        for name, field in other.items():
            values = zip(_values(one[name]), _values(field), strict=True)
            for value, wanted in values:
                same = value == (pytest.approx(wanted, **EXACT) if isinstance(wanted, float) else wanted)
                assert same, f"{other.get('method')}, {name}: {one[name]}, and was {field}"


def stored(name):
    return rows_of_csv((STORED / f"{name}.csv").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", COMMANDS)
def test_csv(name):
    assert_equal(rows_of_csv(printed(COMMANDS[name], "csv")), stored(name))


@pytest.mark.parametrize("name", COMMANDS)
def test_json(name):
    assert_equal(rows_of_json(printed(COMMANDS[name], "json")), stored(name))


def test_every_folder_of_runs_has_a_file():
    folders = {path.parts[-3] for path in ROOT.glob("results/*/*/config.json")}
    assert folders <= COMMANDS.keys()
    assert {path.stem for path in STORED.iterdir()} == COMMANDS.keys()


def write_anew():
    for name, words in COMMANDS.items():
        rows = rows_of_csv(printed(words, "csv"))
        with (STORED / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    write_anew()
