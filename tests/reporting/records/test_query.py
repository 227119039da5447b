"""compare.py --where and --by: conditions on any field of the config, and groups by one."""

import pytest

import compare
from common.errors import RequestError
from reporting.formats.markdown import to_markdown
from reporting.tables.build_report import build_report
from tests.reporting.fake_runs import VGG, row_of, write_run


@pytest.fixture(scope="module")
def save(tmp_path_factory):
    root = tmp_path_factory.mktemp("save")
    write_run(root, "none", 50.0, method="none")
    write_run(root, "kd", 53.0)
    write_run(root, "last", 55.0, method="std", label="std", options={"std_modules": "last"})
    write_run(root, "both", 56.0, method="std", label="std both", options={"std_modules": "4,7", "std_mine": True})
    write_run(root, "vgg", 57.0, method="crd", teachers=[VGG], model="resnet20")
    return root


def report_of(root, *where, **options):
    return build_report([str(root)], where, **options)


def groups_of(report):
    return {group: set(rows.method) - {"teacher"} for group, rows in report.table.groupby("group")}


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (["method=std,kd"], {"kd", "std", "std both"}),
        (["distill=none"], {"none"}),
        (["model_s=resnet20"], {"crd"}),
        (["model_t=vgg13"], {"crd"}),
        (["teachers.sha256=cc"], {"crd"}),
        (["recipe.epochs=2", "method=kd"], {"kd"}),
        (["recipe.epochs=2.0", "method=kd"], {"kd"}),
        (["options.std_modules=last"], {"std"}),
        (["options.std_modules=4,7"], {"std both"}),  # a value with a comma in it
        (["options.std_mine=true"], {"std both"}),
        (["weights.alpha=0", "trial=1", "method=kd"], {"kd"}),
    ],
)
def test_conditions_choose_runs_by_any_field(save, where, expected):
    assert set(report_of(save, *where).table.method) - {"teacher"} == expected


def test_what_is_left_out_is_counted(save):
    report = report_of(save, "method=kd")
    (note,) = report.notes
    assert all(word in note for word in ("--where", "4", "5"))
    assert len(report.runs) == 1


@pytest.mark.parametrize(
    ("where", "words"),
    [
        (["methd=kd"], ["--where methd", "method"]),
        (["method=sdt"], ["--where method=sdt", "std"]),
        (["recipe.epochs=240"], ["--where recipe.epochs=240", "2"]),
        (["method=kd", "trial=1", "model_s=resnet20"], ["method=kd", "trial=1", "model_s=resnet20"]),
        (["method"], ["--where method", "key=value"]),
        (["=kd"], ["key=value"]),
        (["method="], ["key=value"]),
    ],
)
def test_conditions_that_cannot_hold_are_one_line_of_advice(save, capsys, where, words):
    assert compare.main([str(save), *(part for each in where for part in ("--where", each))]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert all(word in captured.err for word in words), captured.err


def test_one_misspelt_value_of_several_is_noted(save):
    def noted(*where):
        return [note for note in report_of(save, *where).notes if "kdd" in note or "std_modules" in note]

    assert len(noted("method=std,kdd")) == 1
    assert noted("options.std_modules=4,7") == []


def test_a_condition_on_the_teacher_keeps_its_students_alone(tmp_path):
    for model in ("mixer_nano", "resnet20"):
        write_run(tmp_path, f"none_{model}", 50.0, method="none", model=model)
    write_run(tmp_path, "kd", 53.0, teachers=[VGG])
    report = report_of(tmp_path, "teacher=vgg13")
    assert row_of(report.table, "kd").gain == pytest.approx(3.0)
    assert set(report.table.student) == {"mixer_nano"}


def test_groups_have_tables_of_their_own_with_the_references_in_each(save):
    report = report_of(save, "model_s=mixer_nano", by="options.std_modules")
    assert sorted(set(report.table.group)) == ["options.std_modules = 4,7", "options.std_modules = last"]
    for group, method, gain in (("last", "std", 5.0), ("4,7", "std both", 6.0)):
        of_group = report.table[report.table.group == f"options.std_modules = {group}"]
        assert set(of_group.method) == {"teacher", "none", "kd", method}
        assert row_of(of_group, method).gain == gain
        assert row_of(of_group, method).gain_over_kd == gain - 3.0
    assert "options.std_modules = last" in to_markdown(report)


def test_other_runs_without_the_field_are_a_group_of_their_own(save):
    table = report_of(save, by="options.std_mine").table
    assert set(table[table.method == "crd"].group) == {"no options.std_mine"}


def test_groups_of_an_unknown_field_are_refused(save):
    with pytest.raises(RequestError) as raised:
        report_of(save, by="recipe.epoch")
    assert "--by recipe.epoch" in str(raised.value)


def test_a_sweep_over_a_weight_has_the_one_kd_in_each_table(tmp_path):
    write_run(tmp_path, "none", 50.0, method="none")
    write_run(tmp_path, "kd", 53.0)
    for beta in (0.4, 0.8):
        write_run(tmp_path, f"crd{beta}", 54.0, method="crd", label=f"crd beta={beta}", weights={"beta": beta})
    found = groups_of(report_of(tmp_path, by="weights.beta"))
    assert found == {f"weights.beta = {beta}": {"none", "kd", f"crd beta={beta}"} for beta in (0.4, 0.8)}


def test_methods_without_the_field_keep_their_references(tmp_path):
    write_run(tmp_path, "none", 50.0, method="none")
    write_run(tmp_path, "kd", 53.0)
    write_run(tmp_path, "std", 54.0, method="std", options={"std_modules": "last"})
    write_run(tmp_path, "crd", 55.0, method="crd")
    assert groups_of(report_of(tmp_path, by="options.std_modules")) == {
        "options.std_modules = last": {"none", "kd", "std"},
        "no options.std_modules": {"none", "kd", "crd"},
    }


def test_a_group_is_made_only_where_a_method_has_the_value(tmp_path):
    for name, protocol in (("short", "aa"), ("long", "bb")):
        write_run(tmp_path, f"kd_{name}", 53.0, protocol_id=protocol, protocol=name)
    write_run(tmp_path, "std", 54.0, method="std", options={"std_modules": "last"}, protocol_id="aa", protocol="short")
    table = report_of(tmp_path, by="options.std_modules").table
    assert set(table[table.protocol == "short"].group) == {"options.std_modules = last"}
    assert set(table[table.protocol == "long"].group) == {"no options.std_modules"}


def test_a_field_of_the_training_keeps_each_reference_in_its_own_table(tmp_path):
    for model in ("mixer_nano", "resnet20"):
        write_run(tmp_path, f"none_{model}", 50.0, method="none", model=model)
        write_run(tmp_path, f"std_{model}", 54.0, method="std", model=model)
    found = report_of(tmp_path, by="model_s").table
    assert {(row.group, row.student) for row in found.itertuples()} == {
        ("model_s = mixer_nano", "mixer_nano"),
        ("model_s = resnet20", "resnet20"),
    }


def test_a_root_of_unfinished_runs_allows_any_query(tmp_path):
    write_run(tmp_path, "a", result=None)
    report = report_of(tmp_path, "anything=1", by="anything")
    assert report.table.empty
    assert len(report.skipped) == 1
