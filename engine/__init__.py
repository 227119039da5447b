"""What turns a plan into a finished run: recipes, loop, checkpoints, records. Knows no method by name."""

from engine.records import tensorboard  # noqa: F401  first, see there
