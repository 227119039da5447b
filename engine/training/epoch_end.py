"""The end of an epoch and of a run: what is measured, recorded and written."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dataset import DATASETS
from engine.checkpoints.deployed_size import deployed_size
from engine.checkpoints.inference_network import InferenceNetwork
from engine.checkpoints.weights import TrainedMethod, WeightsHeader
from engine.device.memory import peak_memory_mib
from engine.records.history import Record
from engine.training.evaluation import evaluate, evaluate_by_head
from engine.training.running_means import RunningMeans
from engine.training.session import Session
from engine.training.student_run import StudentRun
from models.network import count_parameters


def finish_epoch(run: StudentRun, session: Session) -> None:
    """Test the student, record the epoch and save.

    The checkpoint comes after all weights that belong to the epoch: a run cut off before it repeats the epoch and
    writes them again, one cut off after it has them.

    Raises:
        RunError: a loss is not finite, or something cannot be written.
    """
    means = run.meters.means()
    run.check_finite(means)
    if run.initial:
        _finish_initial_epoch(run, means)
        return
    epoch, record = run.position[0], _measured(run, means, session)
    run.history.epochs.append(record)
    if run.history.best is record:
        save_weights(run, run.folder.best)
    if run.plan.save_freq and epoch % run.plan.save_freq == 0:
        save_weights(run, run.folder.at_epoch(epoch))
    run.position, run.meters = (epoch + 1, 0), RunningMeans()
    if epoch == run.plan.recipe.freeze_epochs:
        run.end_frozen_epochs()
    run.save()
    run.history.publish_last()


def _finish_initial_epoch(run: StudentRun, means: dict[str, float]) -> None:
    """Record and save an epoch of the initial stage. Nothing is tested: the classifier has learned nothing yet."""
    epoch, epochs = run.position[0], run.method.initial_epochs
    seconds = round(run.meters.seconds, 3)
    run.history.initial.append({"epoch": epoch + epochs, "epochs": epochs, "train": means, "seconds": seconds})
    run.position, run.meters = (epoch + 1, 0), RunningMeans()
    if not run.initial:
        run.begin_main_stage()
    run.save()
    run.history.publish_last_initial()


def _measured(run: StudentRun, means: dict[str, float], session: Session) -> Record:
    """The record of the epoch; raises RunError if the test loss is not finite."""
    entry, last = session.entry, run.position[0] == run.plan.recipe.epochs
    deployed = InferenceNetwork(run.student, run.method, run.renormalise).eval()
    test = evaluate(deployed, session.data, entry, run.compute)
    run.check_finite({"the test loss": test["loss"]})  # the epoch's last step may have broken the weights
    held_out, by_head = session.held_out, {}
    validation = None if held_out is None else evaluate(deployed, held_out, entry, run.compute)
    if last and run.method.changes_predictions:
        by_head = evaluate_by_head(deployed.predictions_by_head, session.data, entry, run.compute)
    run.set_mode()
    record = {
        "epoch": run.position[0],
        "learning_rate": run.optimizer.param_groups[0]["lr"],
        "train": means,
        "test": _accuracy_and_loss(test),
        "seconds": round(run.meters.seconds, 3),
        "images_per_second": round(run.meters.images / run.method.views / run.meters.seconds, 1),
    }
    if validation is not None:
        record["validation"] = _accuracy_and_loss(validation)
    if metrics := run.method.extra_metrics():
        record["readings"] = {name: value.item() for name, value in metrics.items()}
    if left_out := run.history.not_recorded(session.left_out.reasons):
        record["left_out"] = left_out
    if by_head:
        record["answers"] = {name: _accuracy_and_loss(result) for name, result in by_head.items()}
    return record


def _accuracy_and_loss(result: dict[str, Any]) -> dict[str, float]:
    """What a record keeps of an evaluation."""
    return {key: result[key] for key in ("top1", "top5", "loss", "balanced")}


def save_weights(run: StudentRun, path: Path) -> None:
    """Write the deployed student of the last epoch; raises RunError if that fails."""
    record = run.history.epochs[-1]
    trained = TrainedMethod(run.method, run.pair, run.plan.options)
    entry, expected = DATASETS[run.plan.dataset], run.plan.expected_normalisation
    header = WeightsHeader(run.plan.model, entry, record["epoch"], record["test"], trained, expected)
    run.folder.write_weights(path, run.student, header)


def finish_run(run: StudentRun) -> dict[str, Any]:
    """Write the final weights and result.json, which marks the run as finished; return the result.

    Raises:
        RunError: something cannot be written.
    """
    save_weights(run, run.folder.last)
    result = {
        "status": "finished",
        "finished": datetime.now(UTC).isoformat(timespec="milliseconds"),
        **run.history.result(),
        "peak_memory_mib": peak_memory_mib(run.compute.device),
        **deployed_size(InferenceNetwork(run.student, run.method, run.renormalise)),
        "method_parameters": count_parameters(run.method),
        "file_bytes": run.folder.size_of(run.folder.last),
    }
    run.history.write_metrics()
    run.folder.write_result(result)
    run.folder.remove_checkpoints()
    run.folder.replace_former()
    return result
