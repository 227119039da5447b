"""Runs by the recipe of published tables, as the engine records them, and the stored figures."""

import csv

from reporting.tables.build_report import build_report
from tests.helpers import ROOT
from tests.reporting.fake_runs import TEACHER, write_run

RESNET56 = {**TEACHER, "top1": 72.34}


def write_published_run(root, name, top1, epochs=240, recipe=(), **config):
    """A run by the published recipe, resnet56 → resnet20 by default."""
    at = {"epoch": epochs, "top1": top1, "top5": 90.0}
    config = {"model": "resnet20", "protocol": "repdistiller", "protocol_id": f"{epochs}", **config}
    if config.get("method") != "none":
        config.setdefault("teachers", [RESNET56])
    whole = {"name": "repdistiller", "epochs": epochs, "batch_size": 64, **dict(recipe)}
    return write_run(root, name, top1, result={"last": at, "best": at}, recipe=whole, **config)


def published_rows(root, **options):
    """The rows of compare.py --published by method."""
    return build_report([str(root)], published=True, **options).published.set_index("method")


def stored():
    """The rows of the file of published figures, as they are in it."""
    with open(ROOT / "results/published/cifar100.csv", newline="") as file:
        return list(csv.DictReader(file))
