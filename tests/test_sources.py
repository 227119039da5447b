"""Which code made a run: what counts as changed code, what config.json says, and what a changed method file does."""

import json

import pytest

import train_student
from distiller_zoo import METHODS
from engine.sources import ROOT, changed_files, digest, sources_of
from tests.helpers import arguments, folder_of, read_json, stop_at_step, train

CODE = '''"""A loss."""

SCALE = 2.0


def loss(a, b):
    """Of two numbers."""
    return SCALE * (a - b) ** 2
'''
SAME = {
    "a comment": CODE.replace("SCALE = 2.0", "SCALE = 2.0  # of the paper"),
    "another docstring": CODE.replace("Of two numbers.", "Scaled square of the difference."),
    "no docstring": CODE.replace('    """Of two numbers."""\n', ""),
    "layout": CODE.replace("(a - b) ** 2", "(\n        a - b\n    ) ** 2"),
}
OTHER = {
    "a number": CODE.replace("2.0", "3.0"),
    "a sign": CODE.replace("a - b", "a + b"),
    "a name": CODE.replace("SCALE", "FACTOR"),
    "the type of a number": CODE.replace("2.0", "2"),
    "a text": CODE + 'MODE = "mean"\n',
}


@pytest.mark.parametrize("change", SAME)
def test_what_does_nothing_changes_nothing(change):
    assert SAME[change] != CODE
    assert digest(SAME[change]) == digest(CODE)


@pytest.mark.parametrize("change", OTHER)
def test_what_does_something_changes_the_digest(change):
    assert digest(OTHER[change]) != digest(CODE)
    assert digest(CODE + 'MODE = "sum"\n') != digest(OTHER["a text"])


def test_a_digest_is_of_the_text_alone():
    """Records of all machines and Python versions share it: ast.dump would write the same tree in other ways."""
    assert digest("x = 1\n") == digest("x = 1\n", "other.py") == "6149d3e2d7459b6a"


def test_a_method_is_its_file_and_what_it_imports_of_the_zoo():
    found = set(sources_of("ctkd", "mixer_pico"))
    assert {"distiller_zoo/ctkd.py", "distiller_zoo/kd.py", "models/mixer.py", "models/tokens.py"} <= found
    assert not found & {"distiller_zoo/method.py", "distiller_zoo/crd.py", "models/resnet.py", "common/errors.py"}


def test_a_combination_is_all_its_parts():
    both = sources_of("crd+dkd", "resnet20")
    assert both == sources_of("crd", "resnet20") | sources_of("dkd", "resnet20")


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_its_own_file_on_record(method):
    found = sources_of(method, "resnet8")
    file = METHODS[method].__module__.replace(".", "/") + ".py"
    assert found[file] == digest((ROOT / file).read_text())
    assert "models/resnet.py" in found


def test_changed_files_are_those_that_differ_came_or_went():
    before, now = {"a.py": "1", "b.py": "2", "c.py": "3"}, {"a.py": "1", "b.py": "4", "d.py": "3"}
    assert changed_files(before, now) == ["b.py", "c.py", "d.py"]


# --- runs ---


def test_config_says_what_made_the_run(tmp_path, teacher):
    assert train("kd", output=tmp_path, teacher=teacher) == 0
    config = read_json(folder_of(tmp_path, "kd") / "config.json")
    assert config["sources"] == sources_of("kd", "resnet8")
    assert config["earlier_sources"] == []


def edited(folder):
    """Make the record of a run say that distiller_zoo/kd.py was other code."""
    config = read_json(folder / "config.json")
    config["sources"]["distiller_zoo/kd.py"] = "0123456789abcdef"
    (folder / "config.json").write_text(json.dumps(config))
    return config["sources"]


def test_a_finished_run_of_former_code_is_said_to_be_one(tmp_path, teacher, capsys):
    assert train("none", "kd", output=tmp_path, teacher=teacher) == 0
    edited(folder_of(tmp_path, "kd"))
    capsys.readouterr()
    assert train("none", "kd", output=tmp_path, teacher=teacher) == 0
    told = capsys.readouterr().err
    assert told.count("changed since") == 1
    assert "kd: distiller_zoo/kd.py changed since" in told
    assert "--overwrite repeats it" in told
    assert train("kd", output=tmp_path, teacher=teacher, extra=["--overwrite"]) == 0
    assert read_json(folder_of(tmp_path, "kd") / "config.json")["earlier_sources"] == []
    capsys.readouterr()
    assert train("kd", output=tmp_path, teacher=teacher) == 0
    assert "changed since" not in capsys.readouterr().err


def test_a_continued_run_says_all_code_that_trained_it(tmp_path, teacher, capsys):
    extra = ["--save_freq", "1"]
    with pytest.MonkeyPatch.context() as patch:
        stop_at_step(patch, 1, 5)
        assert train("kd", output=tmp_path, teacher=teacher, extra=extra) == 130
        first = edited(folder_of(tmp_path, "kd"))
        stop_at_step(patch, 2, 5)
        assert train_student.main(arguments("kd", output=tmp_path, teacher=teacher, extra=extra)) == 130
    assert "kd: distiller_zoo/kd.py changed since" in capsys.readouterr().err
    config = read_json(folder_of(tmp_path, "kd") / "config.json")
    assert (config["sources"], config["earlier_sources"]) == (sources_of("kd", "resnet8"), [first])
    assert train("kd", output=tmp_path, teacher=teacher, extra=extra) == 0
    assert "changed since" not in capsys.readouterr().err
    config = read_json(folder_of(tmp_path, "kd") / "config.json")
    assert (config["sources"], config["earlier_sources"]) == (sources_of("kd", "resnet8"), [first])
