"""What holds for every registered method, whatever it computes: it trains, it reads what it declares, it is listed."""

import contextlib
import importlib
import sys
from dataclasses import asdict, fields
from functools import cache
from pathlib import Path

import pytest
import torch

import distiller_zoo
from common.errors import RequestError
from common.registry import import_all_modules
from dataset import DATASETS, Batching, BatchStream, load_arrays
from distiller_zoo import METHODS, Method, Pair, Weights, create_method, options_of, register_method
from engine.checkpoints.inference_network import InferenceNetwork
from engine.checkpoints.teachers import Teacher
from engine.device.compute import Compute
from engine.protocol.plan import RunPlan, TeacherFile
from engine.protocol.recipes import resolve_recipe
from engine.training.run_plans import run_plans
from engine.training.session import RunSettings
from engine.training.student_run import StudentRun
from models import MODELS, Features, FeatureShapes, create_model
from tests.helpers import assert_same

ENTRY = DATASETS["digits"]
COMPUTE = Compute(torch.device("cpu"), "fp32")
PAIRS = [("resnet20", "resnet8"), ("resnet20", "mixer_pico"), ("wrn_16_1", "ShuffleV1"), ("mixer_pico", "resnet8")]
# γ, α, β (-r -a -b) of RepDistiller's scripts; std: half and half, by its paper
PUBLISHED_WEIGHTS = {
    "none": (1, 0, 0),
    "kd": (0.1, 0.9, 0),
    "hint": (1, 0, 100),
    "attention": (1, 0, 1000),
    "similarity": (1, 0, 3000),
    "vid": (1, 0, 1),
    "rkd": (1, 0, 1),
    "pkt": (1, 0, 30000),
    "crd": (1, 0, 0.8),
    "std": (0.5, 0, 0.5),
}
PUBLISHED_OPTIONS = {
    "hint": {"hint_layer": 2, "hint_epochs": 0},
    "rkd": {"rkd_distance": 25.0, "rkd_angle": 50.0},
    "crd": {"feat_dim": 128, "nce_k": 16384, "nce_t": 0.07, "nce_m": 0.5, "mode": "exact"},
    "std": {
        "std_modules": "last",
        "std_teachers": "each",
        "std_heads": "each",
        "std_propagate": False,
        "std_tokens": "both",
        "std_layers": 1,
        "std_labels": "hard",
        "std_T": 1.0,
        "std_reweighting": "negative_entropy",
        "std_predict": "average",
        "std_mine": False,
        "std_mine_every": 0,
        "std_mine_samples": 0,
        "std_mine_pairs": "random",
        "std_mine_lr": 0.01,
        "std_mine_student_lr": 0.01,
    },
}
every_method = pytest.mark.parametrize("name", list(METHODS))
# Which of PAIRS a method refuses, and why; all others take all of them.
REFUSED = {
    "std": {("resnet20", "resnet8"), ("wrn_16_1", "ShuffleV1"), ("mixer_pico", "resnet8")},  # needs an MLP
    "fsp": set(PAIRS[1:]),  # needs equal channels
    "kdsvd": set(PAIRS[1:]),
    "deit": set(PAIRS),  # needs a distillation token
}
CASES = [(m, *pair) for m in METHODS for pair in PAIRS if pair not in REFUSED.get(m, ())]
CASES.append(("deit", "resnet20", "deit_pico_distilled"))


# --- one real step --------------------------------------------------------------------------------


@cache
def teacher_of(model: str) -> Teacher:
    """An untrained teacher; the tests need its features, not its knowledge."""
    torch.manual_seed(0)
    network = create_model(model, ENTRY.num_classes, ENTRY.image_size).eval()
    if model.startswith("mixer"):
        torch.nn.init.normal_(network.head.weight)
    return Teacher(TeacherFile(model, Path(f"{model}.pth"), "0" * 64), InferenceNetwork(network))


@cache
def stream(batch_size: int) -> BatchStream:
    data = load_arrays("digits", Path())
    augmentation = resolve_recipe("light", MODELS["resnet8"], {}).augmentation
    batching = Batching(augmentation, batch_size, seed=1, drop_last=False, channels_last=True)
    return BatchStream(data.train_images, data.train_labels, ENTRY, batching, "cpu")


def make_plan(method, teachers, student, weights=None, options=None, **given):
    options = {name: p.default for name, p in options_of(method).items()} | (options or {})
    recipe = resolve_recipe("light", MODELS[student], given)
    teachers = tuple(teacher_of(teacher).file for teacher in teachers)
    weights = weights or METHODS[method].weights
    return RunPlan("student", "digits", student, method, options, weights, 4.0, teachers, recipe, "fp32", 1, 1)


def teach(teachers, images, method):
    with torch.no_grad():
        seen = [teacher_of(teacher).network.features(images) for teacher in teachers]
    return tuple(features.only(method.reads_of_teacher()) for features in seen)


def make_member(folder, plan, teachers, batch_size=12):
    """A run at its start, or at its checkpoint where there is one."""
    member = StudentRun(plan, ENTRY, tuple(teacher_of(teacher).network.network for teacher in teachers), folder)
    source = stream(batch_size)
    member.read_saved()
    member.start(COMPUTE, source.labels, source.steps_per_epoch)
    if member.method.needs_training_set_pass and not member.resumed:
        batch = next(iter(source.epoch(1)))
        member.method.fit_on_training_set(teach(teachers, batch.images, member.method), batch.labels)
    return member


def take_step(folder, plan, teachers, batch_size=12):
    """One optimizer step; returns the member and the student's parameters before it."""
    member, source = make_member(folder, plan, teachers, batch_size), stream(batch_size)
    if member.initial:  # tests/engine/training/test_initial_stage.py is about that
        member.position = (1, 0)
        member.begin_main_stage()
    before = {key: value.clone() for key, value in member.student.named_parameters()}
    batch = next(iter(source.epoch(1)))
    member.step(batch, teach(teachers, batch.images, member.method))
    return member, before


def student_for(name):
    """An MLP where the method takes one, DeiT where it takes nothing else."""
    if REFUSED.get(name) == set(PAIRS):
        return "deit_pico_distilled"
    return "resnet8" if ("resnet20", "mixer_pico") in REFUSED.get(name, ()) else "mixer_pico"


@pytest.mark.parametrize(("name", "pair"), [(name, pair) for name in METHODS for pair in PAIRS])
def test_refusals_are_known(name, pair):
    """Before any data is loaded, in a sentence; and nothing is refused that is not known here."""
    networks = [teacher_of(model).network.network for model in pair]
    count = METHODS[name].min_teachers
    shapes = [network.feature_shapes() for network in networks]
    with pytest.raises(RequestError) if pair in REFUSED.get(name, ()) else contextlib.nullcontext() as refusal:
        method = create_method(name, Pair(shapes[1], (shapes[0],) * count, ENTRY.train_size))
        method.inspect_networks(networks[1], (networks[0],) * count)
    assert refusal is None or len(str(refusal.value).splitlines()) <= 2


def teachers_for(name, teacher):
    return (teacher,) * METHODS[name].min_teachers


@pytest.mark.parametrize(("name", "teacher", "student"), CASES)
def test_one_step_one_save_one_resume(name, teacher, student, tmp_path):
    """A run that is read back from its checkpoint takes the next step as the one that wrote it, to the bit."""
    teachers = teachers_for(name, teacher)
    # With the KL term beside its own loss, as published for CRD+KD: every part of the sum is computed.
    weights = Weights(1, 1 if teachers else 0, METHODS[name].weights.beta)
    plan = make_plan(name, teachers, student, weights, warmup_lr=1e-3)
    member, before = take_step(tmp_path, plan, teachers)
    means = member.meters.means()
    assert all(torch.tensor(value).isfinite() for value in means.values()), means
    assert {"loss", "ce", "top1"} | ({"kl"} if teachers else set()) <= set(means)
    moved = [key for key, value in member.student.named_parameters() if not torch.equal(value, before[key])]
    assert moved
    without = [key for key, p in member.method.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    assert all(p.grad.isfinite().all() for p in member.student.parameters() if p.grad is not None)
    assert member.position == (1, 1)
    member.folder.path.mkdir(parents=True, exist_ok=True)
    member.save()
    resumed = make_member(tmp_path, plan, teachers)
    assert resumed.position == (1, 1)
    batch = next(iter(stream(12).epoch(1, 1)))
    for one in (member, resumed):
        one.step(batch, teach(teachers, batch.images, one.method))
    for found, expected in ((resumed.student, member.student), (resumed.method, member.method)):
        assert_same(found.state_dict(), expected.state_dict())


@every_method
def test_a_batch_of_two(name, tmp_path):
    """The last batch of an epoch may be as small as it likes (batch norm needs two)."""
    student = student_for(name) if ("resnet20", "resnet8") in REFUSED.get(name, ()) else "resnet8"
    teachers = teachers_for(name, "resnet20")
    member, _ = take_step(tmp_path, make_plan(name, teachers, student), teachers, batch_size=2)
    assert torch.tensor(member.meters.means()["loss"]).isfinite()


@pytest.mark.parametrize("name", ["none", "kd", "attention", "similarity", "rkd", "pkt", "crd", "std"])
def test_a_batch_of_one(name, tmp_path):
    """A student without batch norm, and a method without it, train even on a single image."""
    teachers = teachers_for(name, "resnet20")
    member, _ = take_step(tmp_path, make_plan(name, teachers, "mixer_pico"), teachers, batch_size=1)
    assert torch.tensor(member.meters.means()["loss"]).isfinite()


@pytest.mark.parametrize(("name", "options"), [("hint", {"hint_layer": 0}), ("crd", {"mode": "relax"})])
def test_one_step_with_other_options(name, options, tmp_path):
    plan = make_plan(name, ("resnet20",), "resnet8", options=options)
    member, _ = take_step(tmp_path, plan, ("resnet20",))
    assert torch.tensor(member.meters.means()[name]).isfinite()


@pytest.mark.parametrize("name", ["kd", "std"])
def test_one_step_with_two_teachers(name, tmp_path):
    teachers = ("resnet20", "wrn_16_1")
    options = {"std_modules": "last+intermediate"} if name == "std" else {}
    member, _ = take_step(tmp_path, make_plan(name, teachers, "mixer_pico", options=options), teachers)
    assert torch.tensor(member.meters.means()["loss"]).isfinite()


@every_method
def test_beta_zero_leaves_the_method_out(name, tmp_path):
    """γ·CE + α·KL alone, as an ablation: a method that is not asked for its loss must bear a step."""
    teachers = teachers_for(name, "resnet20")
    plan = make_plan(name, teachers, student_for(name), Weights(1, 1 if teachers else 0, 0))
    member, _ = take_step(tmp_path, plan, teachers)
    assert set(member.meters.names) == {"loss", "ce", "top1"} | ({"kl"} if teachers else set())


@every_method
def test_the_loss_is_the_weighted_sum(name, tmp_path):
    weights = Weights(0.7, 0.3 if METHODS[name].max_teachers else 0, 1.9)
    teachers = teachers_for(name, "resnet20")
    member, _ = take_step(tmp_path, make_plan(name, teachers, student_for(name), weights), teachers)
    means = member.meters.means()
    own = sum(value for key, value in means.items() if key not in ("loss", "ce", "kl", "top1"))
    expected = 0.7 * means["ce"] + 0.3 * means.get("kl", 0) + 1.9 * own
    assert means["loss"] == pytest.approx(expected, rel=1e-5)


# --- what it reads --------------------------------------------------------------------------------


class Watched:
    """Features that remember which of their fields were read."""

    def __init__(self, features: Features):
        self.features, self.read = features, set()

    def __getattr__(self, name):
        self.read.add(name)
        return getattr(self.features, name)


@every_method
def test_reads_what_it_declares_and_nothing_else(name):
    """What is declared is kept alive through the step, so it has to be read; what is not declared is gone."""
    method_class, batch = METHODS[name], next(iter(stream(6).epoch(1)))
    count = method_class.min_teachers
    student = create_model(student_for(name), ENTRY.num_classes, ENTRY.image_size)
    teacher = teacher_of("resnet20")
    pair = Pair(student.feature_shapes(), (teacher.network.feature_shapes(),) * count, ENTRY.train_size)
    layers = [{"hint_layer": 0}, {"hint_layer": 1}] if name == "hint" else [{}]
    read_of_student, read_of_teacher = set(), set()
    for options in layers:
        method = create_method(name, pair, options)
        method.inspect_networks(student, (teacher.network.network,) * count)
        method.prepare(stream(6).labels)
        watched_s = Watched(method.attach(student.features(batch.images)))
        watched_t = tuple(Watched(f) for f in teach(("resnet20",) * count, batch.images, method))
        method.losses(watched_s, watched_t, batch)
        if method.initial_epochs:
            method.initial_losses(watched_s, watched_t, batch)
        read_of_student |= watched_s.read
        for watched in watched_t:
            read_of_teacher |= watched.read
    assert read_of_student - {"logits"} == set(method_class.reads_of_student())
    assert read_of_teacher - {"logits"} == (set(method_class.reads_of_teacher()) if count else set())


@every_method
def test_declares_fields_that_exist(name):
    known = {f.name for f in fields(Features)}
    assert set(METHODS[name].reads_of_student()) | set(METHODS[name].reads_of_teacher()) <= known


# --- refusals -------------------------------------------------------------------------------------


def pair_of(teachers, student):
    shapes = create_model(student, ENTRY.num_classes, ENTRY.image_size).feature_shapes()
    return Pair(shapes, tuple(teacher_of(teacher).network.feature_shapes() for teacher in teachers), ENTRY.train_size)


REFUSALS = [
    ("std", 1, "resnet8", {}, "std distils into MLPs: its tokens read patches × channels, which this CNN student does"),
    (
        "std",
        2,
        "mixer_pico",
        {},
        "std with 2 teachers needs 2 modules with heads; name as many blocks with --std_modules",
    ),
    ("hint", 1, "resnet8", {"hint_layer": 4}, r"--hint_layer 4 is not there for this pair; choose 0 \(stem\) to 3"),
    ("hint", 1, "resnet8", {"hint_layer": -1}, "--hint_layer -1 is not there for this pair"),
    ("crd", 1, "resnet8", {"nce_k": 0}, "--nce_k is 0; it must be positive"),
    ("kd", 0, "resnet8", {}, r"method kd learns from up to 8 teacher\(s\), but 0 were given with --path_t"),
    ("pkt", 2, "resnet8", {}, r"method pkt learns from 1 teacher\(s\), but 2 were given with --path_t"),
    ("none", 1, "resnet8", {}, r"method none learns from 0 teacher\(s\), but 1 were given with --path_t"),
    ("kd", 1, "resnet8", {"nce_k": 5}, "method kd has no option --nce_k; it has no options"),
    ("rkd", 1, "resnet8", {"x": 5}, "method rkd has no option --x; its options are --rkd_distance, --rkd_angle"),
    ("sp", 1, "resnet8", {"x": 5}, "method similarity has no option --x"),
    ("kdd", 1, "resnet8", {}, r"unknown method 'kdd'; did you mean .*kd.*\?"),
]


@pytest.mark.parametrize(("name", "teachers", "student", "options", "sentence"), REFUSALS)
def test_refusals(name, teachers, student, options, sentence):
    with pytest.raises(RequestError, match=sentence):
        create_method(name, pair_of(("resnet20",) * teachers, student), options)


# --- the registry ---------------------------------------------------------------------------------


@pytest.fixture
def registry(monkeypatch):
    """The registry, put back as it was when the test ends."""
    monkeypatch.setattr(METHODS, "_entries", dict(METHODS._entries))
    monkeypatch.setattr(METHODS, "_aliases", dict(METHODS._aliases))
    return METHODS


def test_published_weights():
    for name, (gamma, alpha, beta) in PUBLISHED_WEIGHTS.items():
        assert asdict(METHODS[name].weights) == {"gamma": gamma, "alpha": alpha, "beta": beta}, name


@pytest.mark.parametrize("name", PUBLISHED_WEIGHTS)
def test_published_options(name):
    defaults = {option: parameter.default for option, parameter in options_of(name).items()}
    assert defaults == PUBLISHED_OPTIONS.get(name, {})


@every_method
def test_names_its_paper_and_annotates_its_options(name):
    assert METHODS[name].name == name
    assert METHODS[name].paper
    assert METHODS[name].__doc__
    for option, parameter in options_of(name).items():
        assert parameter.annotation is not parameter.empty, option
        assert option in METHODS[name].__doc__, f"{option} is not documented"


@pytest.mark.parametrize(
    ("alias", "name"), [("fitnet", "hint"), ("at", "attention"), ("sp", "similarity"), ("vanilla", "none")]
)
def test_aliases(alias, name):
    assert METHODS[alias] is METHODS[name]
    assert METHODS.canonical(alias) == name
    assert alias in METHODS
    assert alias not in list(METHODS)
    assert alias in METHODS.aliases_of(name)


@pytest.mark.parametrize(("name", "aliases"), [("kd", ()), ("at", ()), ("new", ("fitnet",)), ("new", ("rkd",))])
def test_a_name_taken_twice_is_an_error(name, aliases, registry):
    with pytest.raises(ValueError, match=r"registered twice, first in distiller_zoo/\w+\.py; rename"):
        register_method(name, aliases=aliases)(type("Other", (Method,), {}))
    assert "new" not in registry


@pytest.mark.parametrize(("typed", "meant"), [("fitnets", "fitnet"), ("simlarity", "similarity"), ("crdd", "crd")])
def test_unknown_names_suggest_neighbours(typed, meant):
    with pytest.raises(RequestError, match=rf"unknown method '{typed}'; did you mean .*\b{meant}\b"):
        METHODS[typed]


def test_a_name_like_no_other_gets_a_few_and_where_to_find_all():
    with pytest.raises(RequestError, match=r"there is abound, .* and \d+ more .*--list") as refusal:
        METHODS["qqqqqq"]
    assert len(str(refusal.value)) < 200


def test_a_method_without_a_loss_says_so(registry):
    register_method("empty")(type("Empty", (Method,), {}))
    shapes = FeatureShapes(10, 4, (3, 4, 4), (), ())
    with pytest.raises(NotImplementedError, match="Empty defines neither loss nor losses"):
        create_method("empty", Pair(shapes, (shapes,), 10)).losses(None, (None,), None)


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
def new_method(registry, monkeypatch, tmp_path):
    """The file, put where the package finds its methods; gone when the test ends."""
    folder = tmp_path / "zoo"
    folder.mkdir()
    (folder / "channel_means.py").write_text(NEW_METHOD)
    monkeypatch.setattr(distiller_zoo, "__path__", [*distiller_zoo.__path__, str(folder)])
    importlib.invalidate_caches()
    import_all_modules("distiller_zoo", [str(folder)])
    yield "channel_means"
    del sys.modules["distiller_zoo.channel_means"], distiller_zoo.channel_means


@pytest.mark.parametrize("student", ["resnet8", "mixer_pico"])
def test_a_new_method_is_one_file(student, new_method, tmp_path):
    """From the file alone: its weights, its option and a run of one step with all that a run leaves behind."""
    assert METHODS["cm"].weights == Weights(1, 0, 3)
    assert [(o, p.default) for o, p in options_of(new_method).items()] == [("power", 2)]
    plan = make_plan(new_method, ("resnet20",), student, epochs=1, batch_size=ENTRY.train_size)
    assert plan.label == "channel_means"
    outcome = run_plans([plan], [teacher_of("resnet20")], RunSettings(tmp_path, tmp_path, COMPUTE))
    assert outcome.failures == {}
    result = outcome.results[plan.name]
    assert result["method_parameters"] == 64 * 64 + 64  # both last stages have 64 channels
    assert result["epochs"] == 1
    folder = tmp_path / plan.folder
    record = (folder / "metrics.jsonl").read_text()
    assert '"channel_means": ' in record
    assert (folder / f"{student}_last.pth").is_file()
