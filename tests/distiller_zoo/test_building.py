"""From names on the command line to methods: aliases, combinations, options, and what is refused."""

import pytest
import torch

import train_student
from common.errors import RequestError, RunError
from distiller_zoo import (
    METHODS,
    Method,
    Pair,
    Weights,
    building,
    canonical_method,
    create_method,
    method_class,
    options_of,
    register_method,
)
from tests.distiller_zoo.cases import CNN, WIDE
from tests.helpers import ROOT, SMALL, folders_of


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("fitnet", "hint"),
        ("kd+crd", "crd+kd"),
        ("crd+kd", "crd+kd"),
        ("at*500+kd", "attention*500+kd"),
        ("crd*0.8+kd*1", "crd+kd"),  # what is published anyway
        ("kd*0.5+fitnet+sp", "hint+kd*0.5+similarity"),
        ("crd", "crd"),
    ],
)
def test_one_name_for_all_ways_to_write_it(written, name):
    assert canonical_method(written) == name


@pytest.mark.parametrize(
    ("written", "mentions"),
    [
        ("crd+crd", "crd"),
        ("none+kd", "none"),
        ("crd*0+kd", "'0'"),
        ("crd*x+kd", "'x'"),
        ("crd*inf+kd", "'inf'"),
        ("crd*0.5", "--beta"),
        ("crd+kp", "'kp'"),
        ("+kd", "--distill +kd"),
        ("kd+", "--distill kd+"),
        ("*2+kd", "--distill *2+kd"),
    ],
)
def test_names_that_are_refused(written, mentions):
    with pytest.raises(RequestError) as refusal:
        canonical_method(written)
    assert mentions in str(refusal.value)


def test_weights_of_the_published_rows():
    assert method_class("crd+kd").weights == Weights(1, 1, 1)
    assert method_class("crd+kd*0.9").weights == Weights(1, 0.9, 1)
    assert method_class("hint+attention").weights == Weights(1, 0, 1)
    assert set(method_class("hint+crd+kd").reads_of_student()) == {"stem", "stages", "embedding"}


@pytest.mark.parametrize(
    ("name", "teachers", "options", "mentions"),
    [
        ("kd", 0, {}, ["kd", "--path_t"]),
        ("pkt", 2, {}, ["pkt", "--path_t"]),
        ("none", 1, {}, ["none", "--path_t"]),
        ("kd", 1, {"nce_k": 5}, ["kd", "--nce_k"]),
        ("rkd", 1, {"x": 5}, ["rkd", "--x", "--rkd_distance", "--rkd_angle"]),
        ("sp", 1, {"x": 5}, ["similarity", "--x"]),
        ("kdd", 1, {}, ["kdd", "kd"]),
    ],
)
def test_what_create_method_refuses(name, teachers, options, mentions):
    with pytest.raises(RequestError) as refusal:
        create_method(name, Pair(CNN, (WIDE,) * teachers, 50), options)
    assert all(word in str(refusal.value) for word in mentions)


def test_a_mistake_in_a_constructor_is_no_refusal():
    """The message has the method, the exception's words and the sizes of both networks' stages."""

    class Broken(Method):
        def __init__(self, pair):
            super().__init__(pair)
            self.wide = pair.student.stages[7]

    with METHODS.temporarily():
        register_method("broken")(Broken)
        with pytest.raises(RunError) as mistake:
            create_method("broken", Pair(CNN, (WIDE,), 50))
    assert all(word in str(mistake.value) for word in ("broken", "IndexError", "6×2×2", "7×4×4"))


def test_options_of_a_combination():
    """One that two parts have with different defaults is METHOD.OPTION in each."""

    class Left(Method):
        def __init__(self, pair, *, power: float = 2.0, left_only: int = 3):
            super().__init__(pair)

    class Right(Method):
        def __init__(self, pair, *, power: float = 1.0):
            super().__init__(pair)

    with METHODS.temporarily():
        register_method("left")(Left)
        register_method("right")(Right)
        options = {name: parameter.default for name, parameter in options_of("left+right").items()}
    assert options == {"left.power": 2.0, "left_only": 3, "right.power": 1.0}
    assert set(options_of("kd+rkd")) == {"rkd_distance", "rkd_angle"}


BROKEN = """
class Broken(Method):
    def __init__(self, pair):
        super().__init__(pair)
        self.width = pair.student.stages[99][0]
"""


@pytest.mark.runs
@pytest.mark.parametrize("method", ["broken", "broken+kd"])
def test_a_mistake_in_a_constructor_is_reported_with_its_line(method, teacher, tmp_path, capsys):
    space = {"Method": Method, "__name__": "distiller_zoo.broken"}
    exec(compile(BROKEN, ROOT / "distiller_zoo" / "broken.py", "exec"), space)
    argv = ["--distill", method, "--model_s", "resnet8", "--path_t", str(teacher), *SMALL, "--skip_refused"]
    with METHODS.temporarily():
        register_method("broken")(space["Broken"])
        assert train_student.main([*argv, "--output", str(tmp_path)]) == 1
    first, second = capsys.readouterr().err.splitlines()
    for word in (method, "IndexError", "distiller_zoo/broken.py:5"):
        assert word in first
    assert "16×8×8, 32×4×4, 64×2×2" in second  # the stages' shapes
    assert folders_of(tmp_path) == []


@pytest.mark.parametrize(
    ("method", "options"),
    [("semckd", {"semckd_group": 65536}), ("crd", {"feat_dim": 65536}), ("crd+kd", {"feat_dim": 65536})],
)
def test_counts_that_do_not_fit_in_memory(method, options, monkeypatch):
    monkeypatch.setattr(building, "memory_bytes", lambda: 2**28)
    state = torch.get_rng_state()
    with pytest.raises(RequestError) as refusal:
        create_method(method, Pair(CNN, (WIDE,), 50_000), options)
    assert all(f"--{name} {value}" in str(refusal.value) for name, value in options.items())
    assert torch.equal(torch.get_rng_state(), state)
