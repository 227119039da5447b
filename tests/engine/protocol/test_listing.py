"""`--list` has a line with a summary for everything that can be named."""

import itertools
import re

import train_student
from dataset import DATASETS
from distiller_zoo import METHODS
from engine.protocol.presets import preset_names
from engine.protocol.recipes import RECIPES
from models import MODELS


def test_it_names_everything(capsys):
    assert train_student.main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    headings = [i for i, line in enumerate(lines) if not line.startswith(" ")] + [len(lines)]
    sections = [lines[i + 1 : j] for i, j in itertools.pairwise(headings)]
    for names, section in zip((METHODS, MODELS, DATASETS, RECIPES, preset_names()), sections, strict=True):
        for name in names:
            (line,) = [line for line in section if re.match(rf"  {re.escape(name)}( \(|  )", line)]
            assert len(line.split()) > 3
    for name in METHODS:
        assert all(alias in "\n".join(sections[0]) for alias in METHODS.aliases_of(name))
