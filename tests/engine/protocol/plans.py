"""Plans for tests: any plan as a strategy, and one of a network alone."""

from dataclasses import replace
from pathlib import Path

from hypothesis import strategies as st

from distiller_zoo import METHODS, Weights, options_of
from engine.protocol.plan import BackboneFile, RunPlan, TeacherFile
from engine.protocol.recipes import RECIPES, resolve_recipe
from engine.protocol.retrospection_plan import RetrospectionPlan
from engine.protocol.unlabelled_plan import UnlabelledPlan
from models import MODELS

UNLABELLED = UnlabelledPlan(Path("u"), 7, "ab" * 32)
BACKBONE = BackboneFile("resnet8", Path("b"), "another", "kd")
HASHES = st.text("0123456789abcdef", min_size=64, max_size=64)
NUMBERS = st.one_of(st.floats(0, allow_infinity=False, allow_nan=False), st.sampled_from([0.1, 0.5, 0.9, 1.0, 1e-7]))


@st.composite
def plans(draw):
    method = draw(st.sampled_from(list(METHODS)))
    options = {name: parameter.default for name, parameter in options_of(method).items()}
    for name, value in options.items():
        if type(value) in (int, float):
            options[name] = draw(st.one_of(st.just(value), st.integers(1, 99), NUMBERS))
    teachers = st.builds(TeacherFile, model=st.sampled_from(list(MODELS)), path=st.just(Path("t")), sha256=HASHES)
    backbones = st.builds(replace, st.just(BACKBONE), sha256=HASHES)
    recipe = RECIPES[draw(st.sampled_from(list(RECIPES)))]
    return RunPlan(
        kind=draw(st.sampled_from(["teacher", "student"])),
        dataset=draw(st.sampled_from(["cifar100", "digits"])),
        model=draw(st.sampled_from(list(MODELS))),
        method=method,
        options=options,
        weights=Weights(draw(NUMBERS), draw(NUMBERS), draw(NUMBERS)),
        kd_T=draw(NUMBERS),
        teachers=tuple(draw(st.lists(teachers, max_size=8))),
        recipe=replace(recipe, epochs=draw(st.integers(1, 999)), learning_rate=draw(NUMBERS)),
        precision=draw(st.sampled_from(["fp32", "bf16"])),
        trial=draw(st.integers(0, 10**6)),
        seed=draw(st.integers(0, 2**63)),
        backbone=draw(st.none() | backbones),
        retrospection=draw(st.none() | st.builds(RetrospectionPlan, k=st.integers(1, 99))),
        validation=draw(st.integers(0, 999)),
        unlabelled=draw(st.sampled_from([None, UNLABELLED])),
    )


def plan_alone(model, kind="student", **given):
    """A network alone on CIFAR-100 by the recipe of the published tables, with these values given."""
    recipe = resolve_recipe("repdistiller", MODELS[model], given)
    return RunPlan(kind, "cifar100", model, "none", {}, Weights(1, 0, 0), 4.0, (), recipe, "fp32", 1, 1)
