"""Distillation methods, a file per method: the paper on top, a pure loss function, a small module."""

from distiller_zoo.building import canonical_method, create_method, method_class, mistakes_as_run_errors, options_of
from distiller_zoo.method import Method, Pair, Weights
from distiller_zoo.option_texts import option_texts
from distiller_zoo.option_types import Epochs
from distiller_zoo.own_loop import SimpleBatch, distillation_loss, initial_stage_loss, method_for
from distiller_zoo.registry import METHODS, register_method

METHODS.add_package(__name__, __path__)

__all__ = [
    "METHODS",
    "Epochs",
    "Method",
    "Pair",
    "SimpleBatch",
    "Weights",
    "canonical_method",
    "create_method",
    "distillation_loss",
    "initial_stage_loss",
    "method_class",
    "method_for",
    "mistakes_as_run_errors",
    "option_texts",
    "options_of",
    "register_method",
]
