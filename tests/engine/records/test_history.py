"""The history of a run: its best epochs, its curves and its result."""

import pytest

from engine.records.history import History, best_of, initial_scalars_of, result_of, scalars_of
from engine.records.run_folder import RunFolder
from tests.helpers import read_metrics


def record(epoch, top1, **more):
    test = {"top1": top1, "top5": 90.0, "loss": 1.5}
    train = {"loss": 3.0, "ce": 1.0, "top1": 40.0}
    timed = {"seconds": 2.0, "images_per_second": 100.0 * epoch}
    return {"epoch": epoch, "learning_rate": 0.1, "train": train, "test": test, **timed, **more}


def test_the_best_epoch_is_the_first_of_equals():
    epochs = [record(1, 50.0), record(2, 60.0), record(3, 60.0)]
    assert best_of(epochs) is epochs[1]


def test_curves_of_an_epoch():
    found = scalars_of(record(1, 50.0, readings={"gap": 0.5}, validation={"top1": 49.0}))
    assert found == {
        "train_loss": 3.0,
        "train_acc": 40.0,
        "test_loss": 1.5,
        "test_acc": 50.0,
        "test_acc_top5": 90.0,
        "learning_rate": 0.1,
        "loss/ce": 1.0,
        "gap": 0.5,
        "validation_top1": 49.0,
    }
    balanced = record(1, 50.0)
    balanced["test"]["balanced"] = 40.0
    assert scalars_of(balanced)["test_acc_balanced"] == 40.0
    assert initial_scalars_of({"train": {"loss": 2.0}}) == {"initial/loss": 2.0}


def test_the_result_of_a_plain_run():
    result = result_of([record(1, 50.0), record(2, 60.0), record(3, 55.0)], [{"seconds": 0.5}])
    assert (result["epochs"], result["last"]["epoch"], result["best"]["epoch"]) == (3, 3, 2)
    assert (result["last"]["top1"], result["best"]["top1"]) == (55.0, 60.0)
    assert (result["wall_seconds"], result["images_per_second"]) == (6.5, 200.0)
    assert not {"by_validation", "answers"} & result.keys()


def test_the_result_with_held_out_images_and_heads():
    epochs = [
        record(1, 50.0, validation={"top1": 9.0}),
        record(2, 40.0, validation={"top1": 8.0}, answers={"class": 1}),
    ]
    result = result_of(epochs, [])
    assert (result["by_validation"]["epoch"], result["by_validation"]["top1"]) == (1, 50.0)
    assert result["validation"] == {"epoch": 1, **epochs[0]["validation"]}
    assert result["answers"] == {"class": 1}


@pytest.mark.parametrize("writes", [True, False])
def test_records_are_written_by_one_process(tmp_path, writes):
    folder = RunFolder(tmp_path / "run", "resnet8", writes)
    history = History(folder)
    history.restore([record(1, 50.0)], [{"epoch": 1, "epochs": 1, "train": {"loss": 2.0}, "seconds": 0.5}])
    history.epochs.append(record(2, 60.0))
    assert history.best is history.epochs[-1]
    history.publish_last()
    assert folder.path.exists() == writes
    if writes:
        assert read_metrics(folder.path) == history.epochs
        assert folder.initial_metrics.read_text().count("\n") == 1
    assert history.result()["epochs"] == 2
