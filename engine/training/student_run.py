"""One run in training: student, method, optimizer, records and checkpoint. The group owns batches and teachers."""

import math
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.errors import RequestError, RunError
from common.seeds import derive_seed, isolated_seed
from dataset import UNLABELLED, Batch, DatasetEntry
from distiller_zoo import Method, Pair, create_method, mistakes_as_run_errors
from distiller_zoo.method import Trainee
from engine.checkpoints.frozen_backbone import load_backbone
from engine.checkpoints.inference_network import Renormalise
from engine.checkpoints.start_weights import StartWeights, load_start_weights
from engine.device.compute import Compute
from engine.device.sync_batchnorm import synchronise_batch_norm
from engine.device.timer import Span, moment
from engine.protocol.plan import Code, RunPlan
from engine.records.code_version import code_of
from engine.records.history import History
from engine.records.run_folder import RunFolder, SavedState
from engine.training import code_history
from engine.training.loss import LabelTerms, balanced_weights, batch_for, initial_loss, training_loss
from engine.training.optimizer import learning_rate, make_optimizer
from engine.training.retrospection import Retrospection
from engine.training.running_means import RunningMeans
from models import Features, Network, create_model

# Steps of a CUDA run between two checks that its losses are finite; each check waits for the device.
CUDA_CHECK_INTERVAL = 50


def student_pass(
    student: Network, method: Method, renormalise: Renormalise | None = None
) -> Callable[[Tensor], Features]:
    """Return a function from images B×3×H×W to the student's logits and the fields that the method reads of it.

    Args:
        renormalise: applied to the images first; None if they are normalised as the student expects.
    """
    reads = method.reads_of_student()
    if renormalise is None:
        return lambda images: method.attach(student.features(images)).only(reads)
    return lambda images: method.attach(student.features(renormalise(images))).only(reads)


def accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """Top-1 accuracy in per cent of logits B×K, a scalar on their device."""
    return 100 * (logits.detach().argmax(dim=1) == labels).float().mean()


def measured_on_labels(logits: Tensor, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor] | None]:
    """Return the accuracy on a batch, if images of the training set have labels, by its name.

    Returns:
        The accuracy in per cent, and how many images it and the cross-entropy are means over; None if over all.
    """
    labels = batch.main_labels
    if batch.labelled == "all":
        return {"top1": accuracy(logits, labels)}, None
    if batch.labelled == "no":
        return {}, None
    count = (labels != UNLABELLED).float().sum()
    hits = (logits.detach().argmax(dim=1) == labels).float().sum()  # no prediction equals a missing label
    return {"top1": 100 * hits / count.clamp(min=1)}, {"ce": batch.labelled_images, "top1": count}


def below_classifier(network: Network) -> list[torch.nn.Parameter]:
    """The trained parameters of a network but for those of the layers that give logits."""
    of_classifiers = {parameter for layer in network.classifiers() for parameter in layer.parameters()}
    return [p for p in network.parameters() if p.requires_grad and p not in of_classifiers]


class StudentRun:
    """One run of a group.

    All state is in the checkpoint, and all random numbers are functions of (seed, purpose, epoch, step), so a resumed
    run continues bit for bit.

    Args:
        start: the weights that `plan.backbone` or `plan.init` names.
        writes: False for a process that trains along with the one that writes.

    Attributes:
        student, method: on the CPU until `start`.
        renormalise: turns images into those that the student expects; None if they are as it expects them.
        keeps_classifier: whether the student starts with the classifier of the file that `plan.init` names.
        pair: the shapes that the method was built from.
        compute: where the run computes: the CPU until `start`.
        optimizer: that of the stage in which the run is.
        position: the (epoch, step) that comes next. Epochs of an initial stage come before the first: ..., -1, 0.
        meters: means over the running epoch; empty between two epochs.
        code: the code that trains the run now.
        code_history: the code of each stretch of training so far (`engine.training.code_history`).
        resumed: whether the run goes on from a checkpoint.
        anew: whether the run starts anew, whatever its folder holds.

    Raises:
        RequestError: the method refuses the pair, or the start weights do not fit the network.
        RunError: the method has a mistake that shows before it trains.
    """

    def __init__(
        self,
        plan: RunPlan,
        entry: DatasetEntry,
        teachers: tuple[Network, ...],
        output: Path,
        start: StartWeights | None = None,
        writes: bool = True,
    ):
        self.plan = plan
        networks = (plan.model, *(teacher.model for teacher in plan.teachers))
        self.code = code_of(plan.method, networks) | (plan.backbone.code if plan.backbone else {})
        self.code_history: code_history.CodeHistory = []
        self._code_history_of_step = code_history.extended([], self.code)  # what it becomes with the next step
        with isolated_seed(derive_seed(plan.seed, "student")):
            self.student: Network = create_model(plan.model, entry.num_classes, entry.image_size)
        self.keeps_classifier = False
        if start is not None and plan.backbone is not None:
            load_backbone(self.student, start)
        elif start is not None:
            self.keeps_classifier = load_start_weights(self.student, start, entry)
        self._below_classifier = below_classifier(self.student) if plan.recipe.freeze_epochs else []
        expected = plan.expected_normalisation
        self.renormalise = None if expected is None else Renormalise(entry, *expected)
        shapes = tuple(teacher.feature_shapes() for teacher in teachers)
        self.pair = Pair(self.student.feature_shapes(), shapes, entry.train_size, entry.image_size)
        with isolated_seed(derive_seed(plan.seed, "method")):
            self.method: Method = create_method(plan.method, self.pair, plan.options)
        for part in self.method.modules():
            if isinstance(part, Method):
                part.teacher_weighting = plan.teacher_weighting
                part.logit_standardization = plan.logit_standardization
        with mistakes_as_run_errors(plan.method, self.pair):
            self.method.inspect_networks(self.student, teachers)
        self.retrospection: Retrospection | None = None
        if plan.retrospection is not None:
            sizes = (entry.train_size, entry.num_classes)
            self.retrospection = Retrospection(plan.retrospection, plan.recipe.epochs, *sizes)
        self.folder = RunFolder(output / plan.folder, plan.model, writes)
        self.history = History(self.folder)
        self._terms = LabelTerms(self.retrospection)  # with class weights once the labels are known, at `start`
        self.position: tuple[int, int] = (1 - self.method.initial_epochs, 0)
        self.meters = RunningMeans()
        self.compute = Compute(torch.device("cpu"), plan.precision)
        self.optimizer = self._make_optimizer()
        self.resumed = self.anew = False
        self._forward = student_pass(self.student, self.method, self.renormalise)
        self._steps_per_epoch = 0  # the batches tell, at `start`
        self._data_digest = ""
        self._saved = SavedState(None, (), ())

    # --- life cycle -------------------------------------------------------------------------------

    def read_saved(self) -> list[str]:
        """Read the newest good checkpoint, if there is any, for `start` to continue from.

        Returns:
            What is wrong with newer checkpoints, a line each.

        Raises:
            RequestError: there are checkpoints and none is good, or it is of another run.
        """
        self._saved = self.folder.read_saved_state(self.plan.run_id)
        return list(self._saved.problems)

    @property
    def saved_code(self) -> Code | None:
        """The code that took the last step of what `read_saved` found; None if there is none, or it is unknown."""
        return code_history.last_code((self._saved.content or {}).get("code"))

    def start_anew(self) -> None:
        """Forget what `read_saved` found, if anything."""
        self.anew, self._saved = True, SavedState(None, (), ())

    def data_has_changed(self, data_digest: str) -> bool:
        """True if the checkpoint that `read_saved` found was made on other data."""
        return (self._saved.content or {}).get("data_sha256", data_digest) != data_digest

    def check_data(self, data_digest: str) -> None:
        """Raise RequestError if the checkpoint that `read_saved` found was made on other data."""
        if self.data_has_changed(data_digest):
            raise RequestError(
                f"{self.plan.short_name}: the {self.plan.dataset} files have changed since it was begun; "
                f"bring the former ones back, or start anew with --overwrite changed"
            )

    def start(self, compute: Compute, train_labels: Tensor, steps_per_epoch: int, data_digest: str = "") -> None:
        """Move to the device and continue from the checkpoint that `read_saved` found, if any.

        Args:
            train_labels: int64 N, on the device.
            data_digest: SHA-256 of the data set (`dataset.digest`).
        """
        self.compute, self._steps_per_epoch, self._data_digest = compute, steps_per_epoch, data_digest
        compute.place(self.student)
        compute.place(self.method)
        self.method.prepare(train_labels)
        if self.renormalise is not None:
            compute.place(self.renormalise)
        self._forward = compute.compiled(student_pass(self.student, self.method, self.renormalise))
        if self.retrospection is not None:
            self.retrospection.to(compute.device)
        balanced = self.plan.recipe.class_weights == "balanced"
        weights = balanced_weights(train_labels, self.student.last_linear.out_features) if balanced else None
        self._terms = LabelTerms(self.retrospection, weights)
        self.optimizer = self._make_optimizer()
        if self._saved.content is not None:
            for path in self._saved.damaged:  # the next save must not keep it in the place of the good one
                self.folder.discard(path)
            self._load(self._saved.content)
            self.resumed = True
        self._saved = SavedState(None, (), ())
        synchronise_batch_norm(self.student, compute.world)
        if self.method.attaches:  # the parts that see a piece of the batch only
            synchronise_batch_norm(self.method, compute.world)
        for module in (self.student, self.method):
            compute.world.broadcast(module)
        self.set_mode()

    def release(self) -> None:
        """Let go of all tensors, so that their memory serves other runs. Only names and records are left."""
        del self.student, self.method, self.renormalise, self.retrospection, self.optimizer, self.meters
        del self._forward, self._terms, self._below_classifier
        self._saved = SavedState(None, (), ())

    @property
    def initial(self) -> bool:
        """True until the method's initial stage is over."""
        return self.position[0] < 1

    @property
    def trained(self) -> bool:
        """True after the last epoch."""
        return self.position[0] > self.plan.recipe.epochs

    def steps_left(self, steps_per_epoch: int) -> int:
        """The number of steps that the run has still to take, also before its start."""
        epoch, step = (self._saved.content or {}).get("position", self.position)
        return (self.plan.recipe.epochs + 1 - epoch) * steps_per_epoch - step

    def begin_main_stage(self) -> None:
        """End the method's initial stage: the main one has an optimizer of its own, for other parameters."""
        self.method.end_initial_stage()
        self.optimizer = self._make_optimizer()
        self.set_mode()

    def end_frozen_epochs(self) -> None:
        """Train the whole network from here on, by a new optimizer.

        torch's fused SGD cannot step with parameters of which some have a momentum and some have none yet.
        """
        self.set_mode()
        self.optimizer = self._make_optimizer()

    def _make_optimizer(self) -> torch.optim.Optimizer:
        of_student = [] if self.initial and not self.method.initial_trains_student else [self.student]
        return make_optimizer(self.plan.recipe, [*of_student, self.method])

    @property
    def frozen(self) -> bool:
        """True while only the classifier of the student is trained."""
        return self.plan.backbone is not None or 1 <= self.position[0] <= self.plan.recipe.freeze_epochs

    def set_mode(self) -> None:
        """Training mode, but not below the classifier of a frozen network: its batch-norm statistics and dropout stay.

        To be called where other parts begin to be trained. What the network itself never trains stays as it is.
        """
        self.student.train(not self.frozen)
        self.method.train()
        for parameter in self._below_classifier:
            parameter.requires_grad_(not self.frozen)

    # --- state ------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write all state that the run needs to go on.

        Raises:
            RunError: a loss or a weight is not finite, and the previous checkpoint is kept; or writing fails.
        """
        self.check_finite(self.meters.means())
        for name, value in self.student.state_dict().items():
            # The last step may have broken what its own loss, computed before, does not show.
            if value.is_floating_point() and not value.isfinite().all():
                self.check_finite({name: math.nan})
        self.folder.save_checkpoint(
            {
                "format": 1,
                "run_id": self.plan.run_id,
                "data_sha256": self._data_digest,
                "position": list(self.position),
                "student": self.student.state_dict(),
                "method": self.method.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "retrospection": None if self.retrospection is None else self.retrospection.state_dict(),
                "meters": vars(self.meters) if self.meters.images else None,
                "code": self.code_history,
                "history": self.history.epochs,
                "initial_history": self.history.initial,
            }
        )

    def _load(self, state: dict[str, Any]) -> None:
        epoch, step = state["position"]
        self.position = epoch, step
        self.code_history = state.get("code")
        self._code_history_of_step = code_history.extended(self.code_history, self.code)
        self.student.load_state_dict(state["student"])
        self.method.load_state_dict(state["method"])
        if self.method.initial_epochs and not self.initial:
            self.begin_main_stage()
        if self.retrospection is not None:
            self.retrospection.load_state_dict(state["retrospection"])
        self.optimizer.load_state_dict(state["optimizer"])
        if state["meters"] is not None:
            self.meters = RunningMeans(**state["meters"])
            self.meters.sums = self.meters.sums.to(self.compute.device)
            if self.meters.counts is not None:
                self.meters.counts = self.meters.counts.to(self.compute.device)
        self.history.restore(state["history"], state.get("initial_history", []))

    # --- training ---------------------------------------------------------------------------------

    def step(self, batch: Batch, teachers: tuple[Features, ...], shared: Span | None = None) -> None:
        """One optimizer step on a batch and the teachers' features of it.

        Of several processes each passes its piece of the images through the student; the losses are the whole batch's.

        Args:
            shared: when the group made what the run needs of this batch. Added to the run's own time, it makes the
                seconds of an epoch what they would be alone, whatever the company.

        Raises:
            RunError: a loss is not finite.
        """
        began, world, (epoch, step) = moment(self.compute.device), self.compute.world, self.position
        self.code_history = self._code_history_of_step
        self._set_learning_rate()
        counts = None
        if self.initial:
            student = self._features(batch) if self.method.initial_trains_student else None
            self._seed("loss")
            losses, total = initial_loss(self.method, student, teachers, batch)
            measured = {"loss": total, **losses}
        else:
            student = self._features(batch)
            self._seed("loss")
            losses, total = training_loss(self.plan, self.method, self._terms, student, teachers, batch)
            on_labels, counts = measured_on_labels(student.logits, batch)
            measured = {"loss": total, **losses, **on_labels}
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        world.average_gradients([*self.student.parameters(), *self.method.parameters()])
        self.optimizer.step()
        self.method.after_step()
        if self.method.takes_extra_step:
            self._extra_step(batch)
        self.meters.add(measured, len(batch.labels), counts)
        self.position = (epoch, step + 1)
        self.meters.spans += [(began, moment(self.compute.device)), *([] if shared is None else [shared])]
        if self.compute.device.type == "cpu" or (step + 1) % CUDA_CHECK_INTERVAL == 0:
            self.check_finite(self.meters.means())

    def _set_learning_rate(self) -> None:
        recipe, (epoch, step) = self.plan.recipe, self.position
        if self.initial:  # without warm-up, which such a stage would be over before
            highest = self.method.max_initial_rate
            rate = recipe.learning_rate if highest is None else min(recipe.learning_rate, highest)
        else:
            rate = learning_rate(recipe, epoch, step / self._steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("rate_factor", 1.0)

    def _seed(self, purpose: str, rank: int = 0) -> None:
        """Seed torch's global generator, which dropout and its like read: what they draw depends on the position alone.

        Args:
            rank: of the process, where each sees images of its own.
        """
        torch.manual_seed(derive_seed(self.plan.seed, purpose, *self.position) + rank)

    def _features(self, batch: Batch) -> Features:
        """The student's features of a batch, with their gradients."""
        world = self.compute.world
        self._seed("forward", world.rank)
        with self.compute.autocast():
            features = self._forward(world.shard(batch.images))
        return world.gather_features(features, len(batch.labels))

    def _extra_step(self, batch: Batch) -> None:
        """Hand the student to a method that updates it by a rule of its own."""
        world, renormalise = self.compute.world, self.renormalise
        self._seed("extra step", world.rank)

        def look(images: Tensor) -> Features:
            with self.compute.autocast():
                piece = world.shard(images)
                seen = piece if renormalise is None else renormalise(piece)
                features = self.method.attach(self.student.features(seen))
            # All fields, in float32, like those of the main step.
            return world.gather_features(features.only([f.name for f in fields(features)]), len(images))

        parameters = [p for group in self.optimizer.param_groups for p in group["params"] if p.requires_grad]
        self.method.extra_step(Trainee(look, parameters, world.average_gradients), batch_for(self.method, batch))

    def check_finite(self, values: dict[str, float]) -> None:
        """Raise RunError if one of these named numbers is nan or infinite."""
        for name, value in values.items():
            if not math.isfinite(value):
                epoch, step = self.position
                raise RunError(
                    f"{self.plan.short_name}: {name} is {value} at epoch {epoch}, "
                    f"step {step} of {self._steps_per_epoch}; the run is stopped.\n"
                    f"Its last good state is in {self.folder.place}; a smaller --learning_rate or loss weight may help"
                )
