"""One run in training: student, method, optimizer, records and checkpoint. The group owns batches and teachers."""

import math
from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.errors import RequestError, RunError
from common.seeds import derive_seed, isolated_seed
from dataset import DATASETS, Arrays, Batch, DatasetEntry
from distiller_zoo import Method, Pair, create_method, mistakes_told
from distiller_zoo.method import Trainee
from engine.checkpoints.inference_network import InferenceNetwork
from engine.checkpoints.weights import Backbone, load_backbone
from engine.device.compute import Compute
from engine.device.memory import count_parameters, peak_memory_mib
from engine.device.sync_batchnorm import synchronise_batch_norm
from engine.device.timer import Span, moment
from engine.protocol.plan import Code, RunPlan
from engine.records.code_version import code_of
from engine.records.history import History
from engine.records.run_folder import RunFolder, SavedState
from engine.training.evaluation import evaluate, evaluate_by_head
from engine.training.loss import initial_objective, objective
from engine.training.optimizer import learning_rate, make_optimizer
from engine.training.retrospection import Retrospection
from engine.training.running_means import RunningMeans
from models import Features, Network, create_model

# How often a CUDA run looks whether its losses are finite; each look waits for the device.
CUDA_CHECK_INTERVAL = 50


def student_pass(student: Network, method: Method) -> Callable[[Tensor], Features]:
    """What turns images B×3×H×W into what the method reads of the student, and its logits."""
    reads = method.reads_of_student()
    return lambda images: method.attach(student.features(images)).only(reads)


class StudentRun:
    """One run of a group.

    `position` is the (epoch, step) that comes next, `code` the code that makes it. All state is in the checkpoint,
    all random numbers are functions of (seed, purpose, epoch, step), so a resumed run continues bit for bit.

    Args:
        backbone: the weights that `plan.backbone` names.
        writes: False for a process that trains along with the one that writes.

    Raises:
        RequestError: the method refuses the pair, or the backbone is none of such a network.
        RunError: the method has a mistake that shows before it trains.
    """

    def __init__(
        self,
        plan: RunPlan,
        entry: DatasetEntry,
        teachers: tuple[Network, ...],
        output: Path,
        backbone: Backbone | None = None,
        writes: bool = True,
    ):
        self.plan = plan
        networks = (plan.model, *(teacher.model for teacher in plan.teachers))
        self.code = code_of(plan.method, networks) | (plan.backbone.code if plan.backbone else {})
        self.trained_by: list[Code] | None = []  # the code of each stretch of training; None: an older checkpoint
        with isolated_seed(derive_seed(plan.seed, "student")):
            self.student: Network = create_model(plan.model, entry.num_classes, entry.image_size)
        if backbone is not None:
            load_backbone(self.student, backbone)
        shapes = tuple(teacher.feature_shapes() for teacher in teachers)
        self.pair = Pair(self.student.feature_shapes(), shapes, entry.train_size)
        with isolated_seed(derive_seed(plan.seed, "method")):
            self.method: Method = create_method(plan.method, self.pair, plan.options)
        for part in self.method.modules():
            if isinstance(part, Method):
                part.teacher_weighting = plan.teacher_weighting
                part.logit_standardization = plan.logit_standardization
        with mistakes_told(plan.method, self.pair):
            self.method.inspect_networks(self.student, teachers)
        self.retrospection: Retrospection | None = None
        if plan.retrospection is not None:
            sizes = (entry.train_size, entry.num_classes)
            self.retrospection = Retrospection(plan.retrospection, plan.recipe.epochs, *sizes)
        self.folder = RunFolder(output / plan.folder, plan.model, writes)
        self.history = History(self.folder)
        # The epochs of an initial stage come before the first.
        self.position = (1 - self.method.initial_epochs, 0)
        self.meters: RunningMeans | None = None
        self.resumed = False  # whether it goes on from a checkpoint
        self._saved: SavedState | None = None

    # --- life cycle -------------------------------------------------------------------------------

    def read_saved(self) -> list[str]:
        """Read the checkpoint that the run will continue from, where there is one; a damaged one gives way to the last.

        Returns:
            What was wrong with newer checkpoints, a line each.

        Raises:
            RequestError: none is good, or it is of another run.
        """
        self._saved = self.folder.read_saved_state(self.plan.run_id)
        return list(self._saved.problems)

    def check_data(self, data_digest: str) -> None:
        """Raises RequestError where the checkpoint that `read_saved` found was made on other data."""
        content = None if self._saved is None else self._saved.content
        if content is not None and content.get("data_sha256", data_digest) != data_digest:
            raise RequestError(
                f"the {self.plan.dataset} files have changed since {self.folder.path} was begun; "
                f"bring the former ones back, or start anew with --overwrite"
            )

    def start(self, compute: Compute, train_labels: Tensor, steps_per_epoch: int, data_digest: str = "") -> None:
        """Move to the device and continue from the checkpoint that `read_saved` found, if it did.

        Args:
            data_digest: what identifies the data (see `dataset.digest`).
        """
        self.compute, self.steps_per_epoch, self.data_digest = compute, steps_per_epoch, data_digest
        saved = self._saved
        content = None if saved is None else saved.content
        compute.place(self.student)
        compute.place(self.method)
        self.method.prepare(train_labels)
        self._forward = compute.compiled(student_pass(self.student, self.method))
        if self.retrospection is not None:
            self.retrospection.to(compute.device)
        self.optimizer = self._make_optimizer()
        if content is not None:
            for path in saved.damaged:  # the next save must not keep it in the place of the good one
                self.folder.discard(path)
            self._load(content)
            self.resumed = True
        self._saved = None
        synchronise_batch_norm(self.student, compute.world)
        if self.method.attaches:  # the parts that see a piece of the batch only
            synchronise_batch_norm(self.method, compute.world)
        for module in (self.student, self.method):
            compute.world.broadcast(module)
        self._set_mode()

    def _set_mode(self) -> None:
        """Training mode, but not for a frozen backbone: its batch-norm statistics and dropout stand still."""
        self.student.train(self.plan.backbone is None)
        self.method.train()

    def _make_optimizer(self) -> torch.optim.Optimizer:
        """For the stage that the run is in."""
        of_student = [] if self.initial and not self.method.initial_trains_student else [self.student]
        return make_optimizer(self.plan.recipe, [*of_student, self.method])

    def _begin_main_stage(self) -> None:
        self.method.end_initial_stage()
        self.optimizer = self._make_optimizer()

    @property
    def initial(self) -> bool:
        """Whether the method's initial stage is not over."""
        return self.position[0] < 1

    @property
    def _initial_rate(self) -> float:
        """The learning rate of the initial stage: the recipe's first, or the highest that the method allows."""
        rate, highest = self.plan.recipe.learning_rate, self.method.max_initial_rate
        return rate if highest is None else min(rate, highest)

    @property
    def finished(self) -> bool:
        return self.position[0] > self.plan.recipe.epochs

    def save(self) -> None:
        """Write all state that the run needs to go on.

        Raises:
            RunError: a loss is not finite, and the checkpoint of better days stands; or it cannot be written.
        """
        if self.meters is not None:
            self._check_finite(self.meters.means())
        for name, value in self.student.state_dict().items():
            # The last step may have broken what its own loss, computed before, does not show.
            if value.is_floating_point() and not value.isfinite().all():
                self._check_finite({name: math.nan})
        self.folder.save_checkpoint(
            {
                "format": 1,
                "run_id": self.plan.run_id,
                "data_sha256": self.data_digest,
                "position": list(self.position),
                "student": self.student.state_dict(),
                "method": self.method.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "retrospection": None if self.retrospection is None else self.retrospection.state_dict(),
                "meters": None if self.meters is None else vars(self.meters),
                "code": self.trained_by,
                "history": self.history.epochs,
                "initial_history": self.history.initial,
            }
        )

    def _load(self, state: dict[str, Any]) -> None:
        self.position = tuple(state["position"])
        self.trained_by = state.get("code")
        self.student.load_state_dict(state["student"])
        self.method.load_state_dict(state["method"])
        if self.method.initial_epochs and not self.initial:
            self._begin_main_stage()
        if self.retrospection is not None:
            self.retrospection.load_state_dict(state["retrospection"])
        self.optimizer.load_state_dict(state["optimizer"])
        if state["meters"] is not None:
            self.meters = RunningMeans(**state["meters"])
            self.meters.sums = self.meters.sums.to(self.compute.device)
        self.history.restore(state["history"], state.get("initial_history", []))

    # --- training ---------------------------------------------------------------------------------

    def step(self, batch: Batch, teachers: tuple[Features, ...], shared: Span | None = None) -> None:
        """One optimizer step on a batch and the teachers' features of it.

        Of several processes each passes its piece of the images through the student; the losses are the whole batch's.

        Args:
            shared: when the group made of this batch what the member needs. Added to the member's own time, it makes
                the seconds of an epoch what they would be alone, whatever the company.

        Raises:
            RunError: a loss is not finite.
        """
        began = moment(self.compute.device)
        if self.trained_by is not None and self.trained_by[-1:] != [self.code]:
            self.trained_by.append(self.code)
        world, (epoch, step) = self.compute.world, self.position
        recipe = self.plan.recipe
        rate = self._initial_rate if self.initial else learning_rate(recipe, epoch, step / self.steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        features = None
        if not self.initial or self.method.initial_trains_student:
            # Dropout and its like read the global generator; so they too depend on the position alone.
            torch.manual_seed(derive_seed(self.plan.seed, "forward", epoch, step) + world.rank)
            with self.compute.autocast():
                features = self._forward(world.shard(batch.images))
            features = world.gather_features(features, len(batch.labels))
        torch.manual_seed(derive_seed(self.plan.seed, "loss", epoch, step))
        teachers = tuple(teacher.only(self.method.reads_of_teacher()) for teacher in teachers)
        if self.initial:
            losses, total = initial_objective(self.method, features, teachers, batch)
        else:
            losses, total = objective(self.plan, self.method, self.retrospection, features, teachers, batch)
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        world.average_gradients([*self.student.parameters(), *self.method.parameters()])
        self.optimizer.step()
        self.method.after_step()
        if self.method.takes_extra_step:
            self._extra_step(batch)
        self._record(losses, total, features, batch)
        self.position = (epoch, step + 1)
        self.meters.spans += [(began, moment(self.compute.device)), *([] if shared is None else [shared])]
        if self.compute.device.type == "cpu" or (step + 1) % CUDA_CHECK_INTERVAL == 0:
            self._check_finite(self.meters.means())

    def _extra_step(self, batch: Batch) -> None:
        """Hand the student to a method that updates it by a rule of its own."""
        world, (epoch, step) = self.compute.world, self.position
        torch.manual_seed(derive_seed(self.plan.seed, "extra step", epoch, step) + world.rank)

        def look(images: Tensor) -> Features:
            with self.compute.autocast():
                features = self.method.attach(self.student.features(world.shard(images)))
            # All fields, in float32, like those of the main step.
            return world.gather_features(features.only([f.name for f in fields(features)]), len(images))

        trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.method.extra_step(Trainee(look, trained, world.average_gradients), batch)

    def _record(self, losses: dict[str, Tensor], total: Tensor, features: Features | None, batch: Batch) -> None:
        values = {"loss": total, **losses}
        if not self.initial:
            values["top1"] = 100 * (features.logits.detach().argmax(dim=1) == batch.main_labels).float().mean()
        if self.meters is None:
            self.meters = RunningMeans.of(values)
        self.meters.add(values, len(batch.labels))

    def _check_finite(self, values: dict[str, float]) -> None:
        for name, value in values.items():
            if not math.isfinite(value):
                epoch, step = self.position
                raise RunError(
                    f"{self.plan.label}: {name} is {value} at epoch {epoch}, step {step} of {self.steps_per_epoch}; "
                    f"the run is stopped.\nIts last good state is in {self.folder.path}; a smaller --learning_rate "
                    f"or loss weight may help"
                )

    # --- the end of an epoch ----------------------------------------------------------------------

    def finish_epoch(self, data: Arrays, held_out: Arrays | None, entry: DatasetEntry) -> None:
        """Evaluate on the test set, and on what is held out of the training set; record and save.

        The checkpoint comes after all weights that belong to the epoch: a run cut off before it repeats
        the epoch and writes them again, one cut off after it has them.
        """
        epoch, means, meters = self.position[0], self.meters.means(), self.meters
        self._check_finite(means)
        if self.initial:
            self._finish_initial_epoch(means)
            return
        test = self.evaluate(data, entry)
        self._check_finite({"the test loss": test["loss"]})  # the epoch's last step may have broken the weights
        record = {
            "epoch": epoch,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "train": means,
            "test": {key: test[key] for key in ("top1", "top5", "loss")},
            "seconds": round(meters.seconds, 3),
            "images_per_second": round(meters.images / self.method.views / meters.seconds, 1),
        }
        if held_out is not None:
            on_held_out = self.evaluate(held_out, entry)
            record["validation"] = {key: on_held_out[key] for key in ("top1", "top5", "loss")}
        if readings := self.method.extra_metrics():
            record["readings"] = {name: value.item() for name, value in readings.items()}
        if epoch == self.plan.recipe.epochs and (answers := self._evaluate_answers(data, entry)):
            record["answers"] = answers
        self.history.epochs.append(record)
        if self.history.best is record:
            self._save_weights(self.folder.best)
        if self.plan.save_freq and epoch % self.plan.save_freq == 0:
            self._save_weights(self.folder.at_epoch(epoch))
        self.position, self.meters = (epoch + 1, 0), None
        self.save()
        self.history.publish_last()

    def _finish_initial_epoch(self, means: dict[str, float]) -> None:
        """Record and save; nothing is tested, for the classifier has learned nothing."""
        epochs, number = self.method.initial_epochs, self.position[0] + self.method.initial_epochs
        seconds = round(self.meters.seconds, 3)
        self.history.initial.append({"epoch": number, "epochs": epochs, "train": means, "seconds": seconds})
        self.position, self.meters = (self.position[0] + 1, 0), None
        if not self.initial:
            self._begin_main_stage()
        self.save()
        self.history.publish_last_initial()

    def evaluate(self, data: Arrays, entry: DatasetEntry) -> dict[str, float]:
        """Accuracy and loss of the deployed student on the test set."""
        deployed = InferenceNetwork(self.student, self.method).eval()
        result = evaluate(deployed, data, entry, self.compute)
        self._set_mode()
        return result

    def _evaluate_answers(self, data: Arrays, entry: DatasetEntry) -> dict[str, dict[str, float]]:
        """Accuracy and loss by each way in which the student could answer, where the method knows several."""
        if not self.method.changes_predictions:
            return {}
        deployed = InferenceNetwork(self.student, self.method).eval()
        results = evaluate_by_head(deployed.predictions_by_head, data, entry, self.compute)
        self._set_mode()
        return {name: {key: result[key] for key in ("top1", "top5", "loss")} for name, result in results.items()}

    def _save_weights(self, path: Path) -> None:
        record = self.history.epochs[-1]
        self.folder.write_weights(
            path,
            self.student,
            arch=self.plan.model,
            entry=DATASETS[self.plan.dataset],
            epoch=record["epoch"],
            measured=record["test"],
            method=self.method,
            pair=self.pair,
            options=self.plan.options,
        )

    def finish(self) -> dict[str, Any]:
        """Write the final weights and result.json, which marks the run as finished; returns the result."""
        self._save_weights(self.folder.last)
        result = {
            "status": "finished",
            "finished": datetime.now(UTC).isoformat(timespec="milliseconds"),
            **self.history.result(),
            "peak_memory_mib": peak_memory_mib(self.compute.device),
            "parameters": count_parameters(self.student),
            "method_parameters": count_parameters(self.method),
        }
        self.history.write_metrics()
        self.folder.write_result(result)
        self.folder.remove_checkpoints()
        return result
