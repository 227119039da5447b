"""The tables of docs/extending.md name the hooks, fields and annotations that there are."""

import ast
import re
from dataclasses import fields
from typing import Literal

import pytest

import train_student
from dataset import Batch
from distiller_zoo import METHODS, Epochs, Method, register_method
from models import Features
from tests.docs.pages import tables_of, text_of
from tests.helpers import ROOT

PAGE = text_of("docs/extending.md")


def rows_below(heading):
    """The rows of the first table below a heading of the third level."""
    return tables_of(re.split(rf"^### {heading}$", PAGE, flags=re.MULTILINE)[1])[0][1:]


def names_in(cell):
    return [name.removeprefix("self.") for name in re.findall(r"`([\w.]+)", cell)]


def test_hooks_are_those_of_the_base_class_and_examples_have_them():
    for hook, _, example in rows_below("Hooks"):
        (file,) = re.findall(r"`(.*)`", example)
        defined = {node.name for node in ast.walk(ast.parse((ROOT / file).read_text())) if hasattr(node, "name")}
        (name,) = names_in(hook)
        assert hasattr(Method, name)
        assert name in defined, (name, file)


def test_declarations_are_those_of_the_base_class():
    (table,) = [table for table in tables_of(PAGE) if table[0][0] == "attribute"]
    for name in [name for row in table[1:] for name in names_in(row[0])]:
        assert hasattr(Method, name), name


def test_every_field_of_the_features_is_named_and_no_other():
    named = {name for row in rows_below("Fields of the features") for name in names_in(row[0])}
    assert named == {field.name for field in fields(Features)}


def test_the_fields_of_a_batch_are_named():
    named = {name for row in rows_below("Fields of a batch") for name in names_in(row[0])}
    assert {field.name for field in fields(Batch)} - {"seed", "labelled"} <= named
    assert all(hasattr(Batch, name) for name in named - {field.name for field in fields(Batch)})


def test_the_annotations_become_flags():
    with METHODS.temporarily():

        @register_method("flagged")
        class Flagged(Method):
            def __init__(
                self,
                pair,
                *,
                flagged_bool: bool = True,
                flagged_int: int = 1,
                flagged_float: float = 1.0,
                flagged_str: str = "x",
                flagged_choice: Literal["a", "b"] = "a",
                flagged_several: tuple[int, ...] = (1,),
                flagged_epochs: Epochs = 3,
            ):
                super().__init__(pair)

        words = "--no-flagged_bool --flagged_int 3 --flagged_float 3 --flagged_str 3 --flagged_choice b"
        words += " --flagged_several 1,2,3 --flagged_epochs 4"
        given = vars(train_student.parse(words.split()))
        for refused in (["--flagged_choice", "c"], ["--flagged_float", "inf"]):
            with pytest.raises(SystemExit):
                train_student.parse(refused)
    found = {name.removeprefix("flagged_"): value for name, value in given.items() if name.startswith("flagged")}
    expected = {"bool": False, "int": 3, "float": 3.0, "str": "3", "choice": "b", "several": (1, 2, 3), "epochs": 4}
    assert found == expected
    named = {name for row in rows_below("Options") for name in names_in(row[0])}
    assert {"bool", "int", "float", "str", "Literal", "tuple", "Epochs"} <= named
