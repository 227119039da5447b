"""What holds for every registered method, whatever it computes: it trains, resumes, and reads what it declares.

A new method needs no entry here. What it refuses, and what its losses are, is its own test's to say.
"""

import contextlib
import copy
import importlib
import itertools
import math
import sys
from functools import cache
from typing import Literal, get_args, get_origin

import pytest
import torch
from torch import nn

import distiller_zoo
from common.errors import RequestError, RunError
from common.registry import import_all_modules
from dataset import WithoutLabels
from distiller_zoo import METHODS, Method, Pair, Weights, create_method, method_class, options_of
from distiller_zoo.method import Trainee
from models import Features
from tests import golden_cases as gold
from tests.distiller_zoo.one_step import (
    DIGITS,
    KINDS,
    OneRun,
    batch_of_digits,
    features_of,
    plan_for,
    teacher_of,
)
from tests.helpers import assert_same, folder_of, read_json, read_metrics, train

every_method = pytest.mark.parametrize("name", list(METHODS))
every_kind = pytest.mark.parametrize("kind", KINDS)
RECORDED_BY_THE_RUN = {"loss", "ce", "kl", "top1"}


def weights_for(name, gamma=0.7, alpha=0.3, beta=1.9):
    """Weights of which each counts, but for the KL of a method without a teacher."""
    return Weights(gamma, alpha if METHODS[name].max_teachers else 0, beta)


@cache
def accepted_kinds(name):
    """The kinds of pairs that a method takes, as far as it says before any data is loaded."""
    return [kind for kind, pair in KINDS.items() if refusal_of(name, *pair) is None]


def refusal_of(name, teacher, student):
    """Why a method does not take a pair; None if it does."""
    networks = teacher_of(student), (teacher_of(teacher),) * METHODS[name].min_teachers
    try:
        method = create_method(name, pair_of(networks))
        method.inspect_networks(*networks)
    except RequestError as refusal:
        return str(refusal)
    return None


@cache
def pair_of(networks):
    student, teachers = networks
    return Pair(student.feature_shapes(), tuple(t.feature_shapes() for t in teachers), DIGITS.train_size)


def first_pair(name):
    """Teacher and student of a pair that a method takes."""
    return KINDS[accepted_kinds(name)[0]]


# --- one real step --------------------------------------------------------------------------------


@every_kind
@every_method
def test_one_step_or_one_sentence(name, kind, tmp_path):
    """It takes a step, of its initial stage too, or it refuses the pair in a message with its name or an option's."""
    if kind not in accepted_kinds(name):
        refusal = refusal_of(name, *KINDS[kind])
        assert len(refusal.splitlines()) <= 2
        assert name in refusal or any(f"--{option}" in refusal for option in options_of(name))
        return
    weights = weights_for(name)
    run = OneRun(plan_for(name, *KINDS[kind], weights), tmp_path)
    if run.run.initial:
        assert run.step()
        run.begin_main_stage()
    changed = run.step()
    assert any(key.startswith("student") for key in changed)
    assert run.without_gradient() == []
    assert all(p.grad.isfinite().all() for p in run.run.student.parameters() if p.grad is not None)
    means = run.means()
    assert all(map(math.isfinite, means.values())), means
    own = sum(value for key, value in means.items() if key not in RECORDED_BY_THE_RUN)
    expected = weights.gamma * means["ce"] + weights.alpha * means.get("kl", 0) + weights.beta * own
    assert means["loss"] == pytest.approx(expected, rel=1e-5)
    assert ("kl" in means) == bool(weights.alpha)


@every_method
def test_takes_some_kind_of_pair(name):
    assert accepted_kinds(name)


# What some of the methods with golden numbers refuse; all others take every kind of pair.
KNOWN_REFUSALS = {
    "std": {"equal CNNs", "unequal CNNs", "MLP to CNN"},
    "deit": set(KINDS) - {"CNN to ViT"},
    "fsp": set(KINDS) - {"equal CNNs"},
    "kdsvd": set(KINDS) - {"equal CNNs"},
}


@pytest.mark.parametrize("name", sorted({stem.split("__")[0] for stem in gold.STEPS} & set(METHODS)))
def test_known_methods_refuse_no_more_than_they_did(name):
    assert set(KINDS) - set(accepted_kinds(name)) == KNOWN_REFUSALS.get(name, set())


@every_method
def test_resumes_to_the_bit(name, tmp_path):
    """A run that is read back from its checkpoint takes the next step as the one that wrote it."""
    plan = plan_for(name, *first_pair(name), weights_for(name))
    run = OneRun(plan, tmp_path)
    run.begin_main_stage()
    run.step()
    run.save()
    resumed = OneRun(plan, tmp_path)
    for each in (run, resumed):
        each.step(1)
    for part in ("student", "method"):
        assert_same(getattr(resumed.run, part).state_dict(), getattr(run.run, part).state_dict())


def one_small_batch(name, pair, folder, size):
    run = OneRun(plan_for(name, *pair, weights_for(name)), folder, size)
    run.begin_main_stage()
    run.step()
    assert math.isfinite(run.means()["loss"])


@every_method
def test_a_batch_of_two(name, tmp_path):
    """The last batch of an epoch may be as small as it likes (batch norm needs two)."""
    one_small_batch(name, first_pair(name), tmp_path, size=2)


def has_batch_norm(name):
    networks = teacher_of("mixer_pico"), (teacher_of("resnet8"),) * METHODS[name].min_teachers
    method = create_method(name, pair_of(networks))
    return any(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in method.modules())


@every_method
def test_a_batch_of_one(name, tmp_path):
    """A student without batch norm, and a method without it, train even on a single image."""
    if "CNN to MLP" not in accepted_kinds(name) or has_batch_norm(name):
        pytest.skip("has batch norm, or takes no MLP")
    one_small_batch(name, KINDS["CNN to MLP"], tmp_path, size=1)


@every_method
def test_beta_zero_leaves_the_method_out(name, tmp_path):
    """γ·CE + α·KL alone, as an ablation: a method that is not asked for its loss must bear a step."""
    weights = weights_for(name, beta=0)
    run = OneRun(plan_for(name, *first_pair(name), weights), tmp_path)
    run.begin_main_stage()
    run.step()
    assert set(run.means()) == RECORDED_BY_THE_RUN - (set() if weights.alpha else {"kl"})


# --- what it reads --------------------------------------------------------------------------------


class Watched:
    """Features that remember which of their fields were read."""

    def __init__(self, features: Features):
        self.features, self.read = features, set()

    def __getattr__(self, name):
        self.read.add(name)
        return getattr(self.features, name)


def read_by(name, options):
    """Fields of student and of teacher that a method's losses read; None if it refuses the options."""
    teacher, student = first_pair(name)
    cls, count = METHODS[name], METHODS[name].min_teachers
    networks = teacher_of(student), (teacher_of(teacher),) * count
    batch = batch_of_digits(6, cls.views)
    try:
        method = create_method(name, pair_of(networks), options)
    except RequestError:
        return None
    method.inspect_networks(*networks)
    method.prepare(torch.arange(DIGITS.train_size) % DIGITS.num_classes)
    watched_s = Watched(method.attach(networks[0].features(batch.images)))
    watched_t = tuple(Watched(features_of(teacher, 6, cls.views).only(cls.reads_of_teacher())) for _ in range(count))
    method.losses(watched_s, watched_t, batch)
    if method.initial_epochs:
        method.initial_losses(watched_s, watched_t, batch)
    of_teacher = set().union(*(watched.read for watched in watched_t))
    return watched_s.read - {"logits"}, of_teacher - {"logits"}


def variants(name):
    """Options, one at a time away from their defaults."""
    for option, parameter in options_of(name).items():
        if get_origin(parameter.annotation) is Literal:
            values = get_args(parameter.annotation)
        else:
            values = {bool: (True, False), int: (0, 1)}.get(parameter.annotation, ())
        yield from ({option: value} for value in values if value != parameter.default)


@every_method
def test_reads_what_it_declares_and_nothing_else(name):
    """What is declared is kept alive through the step, so it has to be read, if only with some option."""
    cls = METHODS[name]
    of_student, of_teacher = set(cls.reads_of_student()), set(cls.reads_of_teacher() if cls.min_teachers else ())
    unread_s, unread_t = set(of_student), set(of_teacher)
    for options in itertools.chain([{}], variants(name)):
        if not options or unread_s or unread_t:
            found = read_by(name, options)
            if found is not None:
                assert found[0] <= of_student, options
                assert found[1] <= of_teacher, options
                unread_s, unread_t = unread_s - found[0], unread_t - found[1]
    assert not unread_s
    assert not unread_t


def with_another_head(model, classes):
    """A teacher with its body and a new random head."""
    network = copy.deepcopy(teacher_of(model))
    head = torch.nn.Linear(network.last_linear.in_features, classes)
    torch.nn.init.normal_(head.weight, generator=torch.Generator().manual_seed(1))
    network.set_submodule(network.classifier_name, head)
    return network


def taught_by(teacher, name, options):
    """Losses of a method by name, those of its initial stage too, and the sum of the logits that it predicts by.

    None if it refuses the options.
    """
    cls, student = METHODS[name], teacher_of(first_pair(name)[1])
    teachers, batch = (teacher,) * cls.min_teachers, batch_of_digits(6, cls.views)
    torch.manual_seed(3)
    try:
        method = create_method(name, pair_of((student, teachers)), options)
    except RequestError:
        return None
    method.inspect_networks(student, teachers)
    method.prepare(torch.arange(DIGITS.train_size) % DIGITS.num_classes)
    with torch.no_grad():
        seen = tuple(each.features(batch.images) for each in teachers)
        attached = method.attach(student.features(batch.images))
    if method.needs_training_set_pass:
        method.fit_on_training_set(tuple(map(method.declared_fields_of, seen)), batch.labels)
    torch.manual_seed(4)  # for those that draw from the global generator
    learned = method.own_losses(attached, seen, batch) | {"predictions": method.predict(attached).sum()}
    if method.initial_epochs:
        learned |= method.initial_losses(*method.declared_inputs(attached, seen), batch)
    return learned


@every_method
def test_declares_whether_it_reads_a_teachers_logits(name):
    """Logits that it does not read are guarded, and a teacher of other classes teaches the same."""
    model, reads = first_pair(name)[0], METHODS[name].reads_teacher_logits
    if not METHODS[name].weights.beta:
        pytest.skip("has no loss of its own")
    other = with_another_head(model, DIGITS.num_classes if reads else 7)
    differ = set()
    for options in itertools.chain([{}], variants(name)):
        learned = taught_by(teacher_of(model), name, options)
        if learned is not None and not (reads and True in differ):  # one option that reads them is enough
            differ.add(learned != taught_by(other, name, options))
    assert (True in differ) == reads


def reads_labels(name, options):
    """True if a method's losses read labels; None if it refuses the options."""
    teacher, student = first_pair(name)
    cls, count = METHODS[name], METHODS[name].min_teachers
    networks = teacher_of(student), (teacher_of(teacher),) * count
    batch = batch_of_digits(6, cls.views)
    try:
        method = create_method(name, pair_of(networks), options)
    except RequestError:
        return None
    method.inspect_networks(*networks)
    method.prepare(torch.arange(DIGITS.train_size) % DIGITS.num_classes)
    features_s = method.attach(networks[0].features(batch.images))
    features_t = tuple(features_of(teacher, 6, cls.views).only(cls.reads_of_teacher()) for _ in range(count))
    trainee = Trainee(lambda images: method.attach(networks[0].features(images)), list(method.parameters()), list)
    guarded = WithoutLabels(name, batch)
    try:
        method.losses(features_s, features_t, guarded)
        if method.initial_epochs:
            method.initial_losses(features_s, features_t, guarded)
        if method.takes_extra_step:
            method.extra_step(trainee, guarded)
    except RunError:
        return True
    return False


@every_method
def test_says_whether_it_reads_labels(name):
    """In each variant: one that says it does not must never do so, for images without labels."""
    found = [reads_labels(name, options) for options in itertools.chain([{}], variants(name))]
    assert METHODS[name].needs_labels() == any(found)


def test_a_method_that_is_given_labels_beforehand_needs_them():
    class Prepared(Method):
        def prepare(self, labels):
            super().prepare(labels)

    class Fitted(Method):
        def fit_on_training_set(self, teachers, labels):
            super().fit_on_training_set(teachers, labels)

    assert [cls.needs_labels() for cls in (Method, Prepared, Fitted)] == [False, True, True]


@pytest.mark.parametrize(("name", "expected"), [("kd+rrd", False), ("crd+kd", True), ("dkd+hint", True)])
def test_a_combination_needs_labels_if_a_part_does(name, expected):
    assert method_class(name).needs_labels() == expected
    shapes = teacher_of("resnet8").feature_shapes()
    assert create_method(name, Pair(shapes, (shapes,), DIGITS.train_size)).needs_labels() == expected


@every_method
def test_names_its_paper_and_annotates_its_options(name):
    assert METHODS[name].name == name
    assert METHODS[name].paper
    assert METHODS[name].__doc__
    for option, parameter in options_of(name).items():
        assert parameter.annotation is not parameter.empty, option
        assert option in METHODS[name].__doc__, f"{option} is not documented"


@every_method
def test_takes_several_teachers_if_it_says_so(name):
    """At most as many as it says; one that takes two may want an option for it, which it names."""
    teacher, student = (teacher_of(model).feature_shapes() for model in first_pair(name))
    most = METHODS[name].most_teachers()
    with pytest.raises(RequestError, match=name):
        create_method(name, Pair(student, (teacher,) * (most + 1), 50))
    if most >= 2:
        with contextlib.suppress(RequestError):
            create_method(name, Pair(student, (teacher,) * 2, 50))


# --- a new method is one file ---------------------------------------------------------------------

NEW_METHOD = '''"""Mean of each channel of the last stage, compared through a linear layer."""

from torch import nn

from distiller_zoo.method import Method, Pair, Weights
from distiller_zoo.registry import register_method


@register_method("channel_means", aliases=("cm",))
class ChannelMeans(Method):
    paper = "none yet"
    weights = Weights(gamma=1, alpha=0, beta=3)
    needs = ("stages",)

    def __init__(self, pair: Pair, *, power: int = 2):
        super().__init__(pair)
        self.power = power
        self.translate = nn.Linear(pair.student.stages[-1][0], pair.teacher.stages[-1][0])

    def loss(self, student, teacher, batch):
        means = self.translate(student.stages[-1].mean(dim=(2, 3)))
        return (means - teacher.stages[-1].mean(dim=(2, 3))).abs().pow(self.power).mean()
'''


@pytest.fixture
def new_method(monkeypatch, tmp_path):
    """The file, put where the package finds its methods; gone when the test ends."""
    folder = tmp_path / "zoo"
    folder.mkdir()
    (folder / "channel_means.py").write_text(NEW_METHOD)
    monkeypatch.setattr(distiller_zoo, "__path__", [*distiller_zoo.__path__, str(folder)])
    importlib.invalidate_caches()
    with METHODS.temporarily():
        import_all_modules("distiller_zoo", [str(folder)])
        yield "channel_means"
    del sys.modules["distiller_zoo.channel_means"], distiller_zoo.channel_means


@pytest.mark.runs
@pytest.mark.parametrize("student", ["resnet8", "mixer_pico"])
def test_a_new_method_is_one_file(student, new_method, teacher, tmp_path):
    """From the file alone: its weights, its option, and a run with all that a run leaves behind."""
    assert METHODS["cm"].weights == Weights(1, 0, 3)
    assert issubclass(METHODS["cm"], Method)
    assert [(o, p.default) for o, p in options_of(new_method).items()] == [("power", 2)]
    output = tmp_path / "save"
    extra = ["--epochs", "1", "--power", "3"]
    assert train("cm", output=output, teacher=teacher, student=student, extra=extra) == 0
    folder = folder_of(output, new_method)
    assert read_json(folder / "config.json")["options"] == {"power": 3}
    result = read_json(folder / "result.json")
    assert result["method_parameters"] == 64 * 64 + 64  # both last stages have 64 channels
    assert result["epochs"] == 1
    assert "channel_means" in read_metrics(folder)[0]["train"]
    assert (folder / f"{student}_last.pth").is_file()
