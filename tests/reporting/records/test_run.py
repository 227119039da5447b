"""What a run knows of itself beside its fields."""

import pytest

from reporting.records.read_run import read_folder
from reporting.records.run import history_of
from tests.reporting.fake_runs import TEACHER, VGG, write_run


def test_epochs_are_read_when_asked_for(tmp_path):
    run = read_folder(write_run(tmp_path, "kd", 60.0, 61.0))
    assert [line["epoch"] for line in run.metrics()] == [1, 2]
    assert run.history() == {1: 61.0, 2: 60.0}
    (run.folder / "metrics.jsonl").unlink()
    assert run.metrics() == []


def test_the_order_of_teachers_is_no_part_of_their_name(tmp_path):
    runs = [
        read_folder(write_run(tmp_path, name, teachers=t)) for name, t in (("a", [VGG, TEACHER]), ("b", [TEACHER, VGG]))
    ]
    assert [run.teacher for run in runs] == ["resnet56+vgg13"] * 2


@pytest.mark.parametrize(
    ("config", "changes"),
    [
        ({"recipe_changes": {"learning_rate": 0.1}}, {"learning_rate": 0.1}),
        ({"recipe_changes": {}, "protocol": "deit schedule=step, 1 epoch"}, {}),  # the record counts, not the text
        ({"protocol": "deit, 2 epochs, batch 128, fp32"}, {}),
        (
            {"protocol": "repdistiller schedule=cosine lr_decay_epochs=2,3, 4 epochs, batch 64, fp32"},
            {"schedule": "cosine", "lr_decay_epochs": "2,3"},
        ),
        ({"recipe_changes": "none", "protocol": ""}, {}),
    ],
)
def test_changes_of_the_recipe_are_those_on_record_or_in_the_text_of_older_ones(tmp_path, config, changes):
    assert read_folder(write_run(tmp_path, "a", **config)).recipe_changes == changes


def test_a_history_has_only_what_can_be_an_epoch_and_an_accuracy():
    good = [(2, 20.0), (1, 10.0), (2, 30.0), (0, 0.0), (3, 100)]
    bad = [
        (True, 5.0),
        (10**30, 50.0),
        (-4, 50.0),
        ("5", 50.0),
        (5, 1e308),
        (6, -1.0),
        (7, 101.0),
        (8, None),
        (9, True),
    ]
    lines = [{"epoch": epoch, "test": {"top1": top1}} for epoch, top1 in good + bad]
    lines += [{}, {"epoch": 4}, {"epoch": 4, "test": 50.0}, {"test": {"top1": 50.0}}]
    assert list(history_of(lines).items()) == [(0, 0.0), (1, 10.0), (2, 30.0), (3, 100.0)]
