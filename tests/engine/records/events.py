"""TensorBoard events of a run, read back, and those that follow from its metrics file."""

import pytest

from tests.helpers import read_metrics


def events_of(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    import engine  # noqa: F401  chooses the protobuf that tensorboard_logger can work with

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def expected_events(folder):
    found = {}
    for record in read_metrics(folder):
        train, test = record["train"], record["test"]
        values = {"train_loss": train["loss"], "train_acc": train["top1"], "learning_rate": record["learning_rate"]}
        values |= {"test_loss": test["loss"], "test_acc": test["top1"], "test_acc_top5": test["top5"]}
        values["test_acc_balanced"] = test["balanced"]
        values |= {f"loss/{name}": train[name] for name in train.keys() - {"loss", "top1"}}
        for tag, value in values.items():
            found.setdefault(tag, []).append((record["epoch"], pytest.approx(value, rel=1e-6)))
    return found
