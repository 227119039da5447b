"""The flags of LWR: off by default, and refused where they cannot work."""

import pytest

import train_student
from common.errors import RequestError
from engine.protocol.recipes import RECIPES
from engine.protocol.retrospection_plan import RetrospectionPlan, retrospection_of


def plan_of(*argv, recipe="repdistiller"):
    return retrospection_of(train_student.parse(list(argv)), [RECIPES[recipe]])


def test_it_is_off_by_default():
    assert plan_of() is None


def test_values():
    assert plan_of("--lwr", "5") == RetrospectionPlan()
    plan = plan_of("--lwr", "3", "--lwr_rate", "0.5", "--lwr_T", "2")
    assert plan == RetrospectionPlan(3, 0.5, 2.0)
    assert plan.changes() == {"k": 3, "rate": 0.5, "temperature": 2.0}


@pytest.mark.parametrize(
    ("flag", "argv", "recipe"),
    [
        ("--lwr", ["--lwr", "0"], "repdistiller"),
        ("--lwr_rate", ["--lwr", "5", "--lwr_rate", "1.5"], "repdistiller"),
        ("--lwr_T", ["--lwr", "5", "--lwr_T", "0"], "repdistiller"),
        ("--mixup", ["--lwr", "5"], "deit"),
    ],
)
def test_wrong_values(flag, argv, recipe):
    with pytest.raises(RequestError) as refusal:
        plan_of(*argv, recipe=recipe)
    assert flag in str(refusal.value)
