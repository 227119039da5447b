"""compare.py --where and --by: conditions on any field of the config."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reporting.formats.render import markdown

import compare
from common.errors import RequestError
from reporting.records.query import Condition, values_at
from tests.reporting.test_compare import TEACHER, row_of, write_run


@pytest.fixture
def save(tmp_path):
    write_run(tmp_path, "none", 50.0, method="none")
    write_run(tmp_path, "kd", 53.0)
    write_run(tmp_path, "last", 55.0, method="std", label="std", options={"std_modules": "last"})
    write_run(tmp_path, "both", 56.0, method="std", label="std both", options={"std_modules": "4,7", "std_mine": True})
    vgg = {**TEACHER, "model": "vgg13", "sha256": "cc"}
    write_run(tmp_path, "vgg", 57.0, method="crd", teachers=[vgg], model="resnet20")
    return tmp_path


def methods(save, *where, **options):
    table = compare.build_report([str(save)], where, **options).table
    return sorted(set(table.method) - {"teacher"})


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (["method=std,kd"], ["kd", "std", "std both"]),
        (["distill=none"], ["none"]),
        (["model_s=resnet20"], ["crd"]),
        (["model_t=vgg13"], ["crd"]),
        (["teachers.sha256=cc"], ["crd"]),
        (["recipe.epochs=2", "method=kd"], ["kd"]),
        (["recipe.epochs=2.0", "method=kd"], ["kd"]),
        (["options.std_modules=last"], ["std"]),
        (["options.std_modules=4,7"], ["std both"]),  # a value with a comma in it
        (["options.std_mine=true"], ["std both"]),
        (["weights.alpha=0", "trial=1", "method=kd"], ["kd"]),
    ],
)
def test_conditions_choose_runs_by_any_field(save, where, expected):
    assert methods(save, *where) == expected


def test_what_is_left_out_is_counted(save):
    report = compare.build_report([str(save)], ["method=kd"])
    assert report.notes == ["--where leaves out 4 of 5 finished runs"]
    assert len(report.runs) == 1


@pytest.mark.parametrize(
    ("where", "words"),
    [
        (["methd=kd"], ["--where methd", "did you mean method"]),
        (["std_modules=last"], ["did you mean options.std_modules"]),
        (["recipe.epoch=2"], ["recipe.epochs"]),
        (["zzzzzz=1"], ["there is ", "method, ", "model_s", "config.json"]),
        (["method=sdt"], ["no run has this value", "std"]),
        (["recipe.epochs=240"], ["no run has this value", "2"]),
        (["method=kd", "trial=1", "model_s=resnet20"], ["no run meets all of"]),
        (["method"], ["key=value"]),
        (["=kd"], ["key=value"]),
        (["method="], ["key=value"]),
    ],
)
def test_conditions_that_cannot_hold_are_one_line_with_a_mend(save, capsys, where, words):
    assert compare.main([str(save), *(part for each in where for part in ("--where", each))]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert all(word in captured.err for word in words), captured.err


def test_groups_have_tables_of_their_own_with_the_references_in_each(save):
    report = compare.build_report([str(save)], ["model_s=mixer_nano"], by="options.std_modules")
    assert sorted(set(report.table.group)) == ["options.std_modules = 4,7", "options.std_modules = last"]
    for group, method, gain in (("last", "std", 5.0), ("4,7", "std both", 6.0)):
        of_group = report.table[report.table.group == f"options.std_modules = {group}"]
        assert sorted(of_group.method) == sorted(["teacher", "none", "kd", method])
        assert row_of(of_group, method).gain == gain
        assert row_of(of_group, method).gain_over_kd == gain - 3.0
    page = markdown(report)
    assert "32×32, options.std_modules = last: deit" in page
    assert report.notes == ["--where leaves out 1 of 5 finished runs"]


def test_other_runs_without_the_field_are_a_group_of_their_own(save):
    table = compare.build_report([str(save)], by="options.std_mine").table
    assert set(table[table.method == "crd"].group) == {"no options.std_mine"}


def test_groups_of_an_unknown_field_are_refused(save):
    with pytest.raises(
        RequestError, match=r"--by recipe\.epoch: no run's config has such a field; did you mean recipe"
    ):
        compare.build_report([str(save)], by="recipe.epoch")


def test_a_root_of_unfinished_runs_answers_any_query(tmp_path):
    write_run(tmp_path, "a", result=None)
    report = compare.build_report([str(tmp_path)], ["anything=1"], by="anything")
    assert report.table.empty
    assert len(report.skipped) == 1


plain = st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False)


@given(plain | st.text("abc_-.", min_size=1))
def test_a_value_is_found_by_what_the_file_shows(value):
    config = json.loads(json.dumps({"outer": [{"inner": value}, {"inner": "other"}, "no object"]}))
    shown = value if isinstance(value, str) else json.dumps(value)
    assert values_at(config, "outer.inner") == [value, "other"]
    assert Condition.parse(f"outer.inner={shown}").holds(config)
    assert not Condition.parse("outer.inner=something else").holds(config)
    assert not Condition.parse(f"outer.missing={shown}").holds(config)
