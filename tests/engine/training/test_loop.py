"""Students that share batches and teachers: none is changed by its company, and none falls with another."""

import itertools
import math
import traceback

import pytest

from dataset import BatchStream
from distiller_zoo import METHODS, Method, Weights, register_method
from engine.training.student_run import StudentRun
from reporting.records.runs import read_runs
from tests.engine.training.few import STEPS, train_few
from tests.helpers import (
    assert_same,
    folder_of,
    folders_of,
    load,
    outcome_of,
    read_json,
    read_metrics,
    stop_at_step,
    train_alone,
)

pytestmark = pytest.mark.runs

METHOD_NAMES = ("none", "kd", "crd", "std")


@pytest.fixture(scope="module")
def alone(teacher, tmp_path_factory):
    """Each method's outcome in a run of its own."""
    output = tmp_path_factory.mktemp("alone")
    for method in METHOD_NAMES:
        assert train_few(method, output=output, teacher=teacher, student="mixer_pico") == 0
    return {method: outcome_of(folder_of(output, method)) for method in METHOD_NAMES}


def test_company_changes_nothing(alone, teacher, tmp_path):
    assert train_few(*METHOD_NAMES, output=tmp_path, teacher=teacher, student="mixer_pico") == 0
    for method in METHOD_NAMES:
        assert_same(outcome_of(folder_of(tmp_path, method)), alone[method], method)


def test_a_group_size_divides_the_runs_and_changes_nothing(alone, teacher, tmp_path, capsys):
    options = {"output": tmp_path, "teacher": teacher, "student": "mixer_pico"}
    assert train_few(*METHOD_NAMES, extra=("--group_size", "3"), **options) == 0
    ends = [line.split()[1:4:2] for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    first, last = METHOD_NAMES[:3], METHOD_NAMES[3:]
    assert ends == [[f"{epoch}/2", method] for group in (first, last) for epoch in (1, 2) for method in group]
    for method in METHOD_NAMES:
        assert_same(outcome_of(folder_of(tmp_path, method)), alone[method], method)


def test_several_trials_of_a_command_are_those_of_a_command_each(alone, teacher, tmp_path):
    options = {"teacher": teacher, "student": "mixer_pico"}
    assert train_few("none", "crd", output=tmp_path / "both", extra=("--trial", "2", "1"), **options) == 0
    assert train_few("none", "crd", output=tmp_path / "second", extra=("--trial", "2"), **options) == 0
    found = {(config["method"], config["trial"]): folder for folder, config in configs_below(tmp_path / "both")}
    assert set(found) == {(method, trial) for method in ("none", "crd") for trial in (1, 2)}
    for method in ("none", "crd"):
        assert_same(outcome_of(found[method, 1]), alone[method], method)
        assert_same(outcome_of(found[method, 2]), outcome_of(folder_of(tmp_path / "second", method)), method)


def configs_below(output):
    return [(folder, read_json(folder / "config.json")) for folder in folders_of(output)]


def test_trials_of_a_network_trained_alone(tmp_path):
    assert train_alone(tmp_path, "--trial", "3", "1") == 0
    assert sorted(config["seed"] for _, config in configs_below(tmp_path)) == [1, 3]


def test_one_seed_is_not_for_several_trials(teacher, tmp_path, capsys):
    assert train_few("none", output=tmp_path, extra=("--trial", "1", "2", "--seed", "5")) == 2
    assert "--seed" in capsys.readouterr().err
    assert not folders_of(tmp_path)
    assert train_few("none", output=tmp_path, extra=("--trial", "2", "2", "--seed", "5")) == 0
    assert [(config["trial"], config["seed"]) for _, config in configs_below(tmp_path)] == [(2, 5)]


def test_beta_weighs_methods_that_have_a_loss_of_their_own(teacher, tmp_path):
    """It is for crd here; the kd beside it stays the kd that tables compare with."""
    assert train_few("none", "kd", "crd", output=tmp_path, teacher=teacher, extra=("--beta", "0.5", "1")) == 0
    labels = [read_json(folder / "config.json")["label"] for folder in folders_of(tmp_path)]
    assert sorted(labels) == ["crd beta=0.5 nce_k=64", "crd beta=1 nce_k=64", "kd", "none"]


def test_runs_join_at_their_own_places(alone, teacher, tmp_path, monkeypatch):
    """One was cut in the first epoch, one in the second, one is finished, one is new."""
    options = {"output": tmp_path, "teacher": teacher, "student": "mixer_pico"}
    for method, epoch, step in (("crd", 1, 2), ("kd", 2, 1)):
        with monkeypatch.context() as patch:
            stop_at_step(patch, epoch, step)
            assert train_few(method, **options) == 130
    assert train_few("none", **options) == 0
    made = []
    original = BatchStream._batch
    monkeypatch.setattr(BatchStream, "_batch", lambda *where: made.append(where[-2:]) or original(*where))
    assert train_few(*METHOD_NAMES, **options) == 0
    assert made == [(epoch, step) for epoch in (1, 2) for step in range(STEPS)]  # each batch once, for all
    for method in METHOD_NAMES:
        assert_same(outcome_of(folder_of(tmp_path, method)), alone[method], method)


def test_all_runs_are_cut_and_go_on_together(alone, teacher, tmp_path, monkeypatch):
    options = {"output": tmp_path, "teacher": teacher, "student": "mixer_pico"}
    with monkeypatch.context() as patch:
        stop_at_step(patch, 2, 2)
        assert train_few("kd", "std", **options) == 130
    assert [load(folder / "checkpoint.pth")["position"] for folder in folders_of(tmp_path)] == [[2, 3]] * 2
    assert train_few("kd", "std", **options) == 0
    for method in ("kd", "std"):
        assert_same(outcome_of(folder_of(tmp_path, method)), alone[method], method)


def test_the_student_alone_is_not_charged_the_teachers_pass(teacher, tmp_path, monkeypatch):
    """The clock moves by a second at each look of the group: after the batch, and after the teacher's pass."""
    looks = itertools.count()
    monkeypatch.setattr("engine.training.loop.moment", lambda device: float(next(looks)))
    monkeypatch.setattr("engine.training.student_run.moment", lambda device: 0.0)
    assert train_few("none", "kd", output=tmp_path, teacher=teacher) == 0
    for method, seconds in (("none", STEPS), ("kd", 2 * STEPS)):
        assert [record["seconds"] for record in read_metrics(folder_of(tmp_path, method))] == [seconds] * 2


def test_a_second_view_is_no_second_image(teacher, tmp_path, monkeypatch):
    monkeypatch.setattr("engine.training.loop.moment", lambda device: 0.0)
    looks = itertools.count()
    monkeypatch.setattr("engine.training.student_run.moment", lambda device: float(next(looks)))
    assert train_few("mlkd", output=tmp_path, teacher=teacher) == 0
    (folder,) = folders_of(tmp_path)
    assert [record["images_per_second"] for record in read_metrics(folder)] == [round(126 / STEPS, 1)] * 2


class Breaking(Method):
    """Distils well until its loss is no number."""

    weights = Weights(gamma=1, alpha=0, beta=1)

    def loss(self, student, teacher, batch):
        value = math.nan if (batch.epoch, batch.step) == (2, 3) else 1.0
        return student.logits.square().mean() * value


@pytest.fixture
def breaking():
    with METHODS.temporarily():
        register_method("breaking")(Breaking)
        yield


def test_one_that_fails_leaves_the_others_alone(alone, teacher, tmp_path, breaking, capsys):
    options = {"output": tmp_path, "teacher": teacher, "student": "mixer_pico"}
    assert train_few("kd", "breaking", "std", **options) == 1
    errors = capsys.readouterr().err
    assert len(errors.splitlines()) == 2
    for word in ("breaking", "nan", "epoch 2", "--learning_rate"):
        assert word in errors
    for method in ("kd", "std"):
        assert_same(outcome_of(folder_of(tmp_path, method)), alone[method], method)
    folder = folder_of(tmp_path, "breaking")
    assert not (folder / "result.json").exists()
    runs, (failed,) = read_runs([tmp_path])
    assert len(runs) == 2
    assert failed.state == "failed"
    assert "nan" in failed.reason
    saved = load(folder / "checkpoint.pth")
    assert saved["position"] == [2, 0]
    assert all(tensor.isfinite().all() for tensor in saved["student"].values())


def test_a_failed_run_goes_on_from_its_last_good_state(teacher, tmp_path, breaking, capsys):
    options = {"output": tmp_path, "teacher": teacher, "student": "mixer_pico"}
    assert train_few("breaking", **options) == 1
    capsys.readouterr()
    assert train_few("breaking", **options) == 1
    captured = capsys.readouterr()
    assert "epoch 2, step 0" in captured.out
    assert len(captured.err.splitlines()) == 2


def test_broken_weights_are_not_saved(tmp_path, monkeypatch, capsys):
    """The last step of an epoch breaks the weights: its loss was still finite, the test shows it."""
    original = StudentRun.step

    def step(self, batch, teachers, shared):
        original(self, batch, teachers, shared)
        if self.position == (2, STEPS):
            next(self.student.parameters()).data.fill_(math.nan)

    monkeypatch.setattr(StudentRun, "step", step)
    assert train_few("none", output=tmp_path) == 1
    assert "test loss is nan" in capsys.readouterr().err
    folder = folder_of(tmp_path)
    assert len(load(folder / "checkpoint.pth")["history"]) == 1
    assert not (folder / "result.json").exists()


def test_a_stop_does_not_save_what_is_broken(tmp_path, monkeypatch, capsys):
    """CUDA runs look at their losses now and then; a stop before the next look must not spoil the checkpoint."""
    original = StudentRun.step

    def step(self, batch, teachers, shared):
        original(self, batch, teachers, shared)
        if self.position == (2, 2):
            self.meters.sums.fill_(math.inf)

    monkeypatch.setattr(StudentRun, "step", step)
    stop_at_step(monkeypatch, 2, 1)
    assert train_few("none", output=tmp_path) == 1
    assert "loss is inf" in capsys.readouterr().err
    assert load(folder_of(tmp_path) / "checkpoint.pth")["position"] == [2, 0]


def test_absurd_weight(teacher, tmp_path, capsys):
    extra = ["--beta", "1e9", "--learning_rate", "1e9"]
    assert train_few("hint", output=tmp_path, teacher=teacher, extra=extra) == 1
    errors = capsys.readouterr().err
    assert "epoch 1, step" in errors
    assert "hint beta=1e+09" in errors
    assert len(errors.splitlines()) == 2


def test_second_that_is_refused_spoils_nothing_of_the_first(teacher, tmp_path, capsys):
    """--overwrite removes a finished run only when the request as a whole is right."""
    assert train_few("kd", output=tmp_path, teacher=teacher) == 0
    before = outcome_of(folder_of(tmp_path))
    assert train_few("kd", "std", output=tmp_path, teacher=teacher, extra=["--overwrite"]) == 2  # std refuses a CNN
    assert "MLP" in capsys.readouterr().err
    assert_same(outcome_of(folder_of(tmp_path)), before)


def test_refused_ones_are_left_out_on_request(teacher, tmp_path, capsys):
    assert train_few("kd", "std", output=tmp_path, teacher=teacher, extra=["--skip_refused"]) == 0
    assert "resnet8 std: " in capsys.readouterr().out
    assert len(folders_of(tmp_path)) == 1


def test_a_formula_is_five_frames_below_the_loop(teacher, tmp_path):
    """StudentRun.step, training_loss, losses and loss of the method, and the formula itself."""
    frames = []

    def formula(logits):
        names = [frame.name for frame in traceback.extract_stack()]
        frames.append(names[names.index("train_group") + 1 :])
        return logits.square().mean()

    class Flat(Method):
        weights = Weights(gamma=1, alpha=0, beta=1)

        def loss(self, student, teacher, batch):
            return formula(student.logits)

    with METHODS.temporarily():
        register_method("flat")(Flat)
        assert train_few("flat", output=tmp_path, teacher=teacher) == 0
    assert {tuple(names) for names in frames} == {("step", "training_loss", "losses", "loss", "formula")}
