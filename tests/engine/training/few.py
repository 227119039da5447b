"""A data set of a few digits, on which a run takes a fraction of a second."""

from dataclasses import replace

from dataset import Arrays, load_arrays
from dataset.registry import register_dataset
from distiller_zoo import METHODS
from distiller_zoo.method import Method
from tests.helpers import DIGITS, train

TRAIN_SIZE, TEST_SIZE = 126, 60
STEPS = 4  # of an epoch of `SMALL`
SMALL = ("--dataset", "few", "--recipe", "repdistiller", "--epochs", "2", "--batch_size", "32")
SMALL += ("--device", "cpu", "--precision", "fp32")
TWO_STEPS = tuple("63" if part == "32" else part for part in SMALL)

HOOKS = ("prepare", "initial_losses", "after_step", "extra_metrics")
FLAGS = ("attaches", "changes_predictions", "needs_training_set_pass", "takes_extra_step", "initial_trains_student")


def few_digits(folder=None):
    arrays = load_arrays("digits", ".")
    sizes = (TRAIN_SIZE, TRAIN_SIZE, TEST_SIZE, TEST_SIZE)
    return Arrays(*(array[:size] for array, size in zip(arrays, sizes, strict=True)))


def register_few():
    sizes = {"train_size": TRAIN_SIZE, "test_size": TEST_SIZE}
    register_dataset(replace(DIGITS, name="few", summary="a few digits", load=few_digits, **sizes))


def train_few(*methods, small=SMALL, **options):
    """train_student.py in this process, on the few digits; its exit code."""
    return train(*methods, small=small, **options)


def kind_of(name):
    """What the engine does with a method beyond its losses: the hooks that it has, its views, its teachers."""
    cls = METHODS[name]
    hooks = [hook for hook in HOOKS if getattr(cls, hook) is not getattr(Method, hook)]
    return *hooks, *(flag for flag in FLAGS if getattr(cls, flag)), cls.views, cls.max_teachers


# The first method of each kind. The others of a kind meet no other line of the engine.
OF_EACH_KIND = tuple(reversed({kind_of(name): name for name in reversed(list(METHODS))}.values()))
