"""Learning with retrospection (LWR) as a setting of a run, and its flags. The loss is in engine/training."""

import argparse
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from common.command import Parser
from common.errors import RequestError
from common.messages import cut
from engine.protocol.flags import OneOrSeveral, finite
from engine.protocol.recipes import Recipe


@dataclass(frozen=True)
class RetrospectionPlan:
    """Settings of the base loss of LWR.

    Attributes:
        k: epochs from one refresh of the kept predictions to the next.
        rate: weight that the labels lose by the end of the run.
        temperature: of the kept predictions.
    """

    k: int = 5
    rate: float = 0.9
    temperature: float = 5.0

    def changes(self) -> dict[str, float]:
        """The fields that differ from the paper's values."""
        return {key: value for key, value in asdict(self).items() if value != getattr(RetrospectionPlan(), key)}


def add_retrospection_arguments(parser: Parser) -> None:
    """Add --lwr, which is off by default, with its rate and temperature."""
    default = RetrospectionPlan()
    group = parser.further_group("learning with retrospection (LWR, AAAI 2021)")
    group.add_argument(
        "--lwr",
        action=OneOrSeveral,
        type=int,
        metavar="K",
        help=f"learn from the run's own predictions of every K-th epoch too (default: off; the paper's is {default.k})",
    )
    group.add_argument(
        "--lwr_rate",
        action=OneOrSeveral,
        type=finite,
        default=default.rate,
        metavar="FLOAT",
        help=f"weight that the labels lose by the end (default {default.rate:g})",
    )
    group.add_argument(
        "--lwr_T",
        action=OneOrSeveral,
        type=finite,
        default=default.temperature,
        metavar="FLOAT",
        help=f"temperature of the past predictions (default {default.temperature:g})",
    )


def retrospection_of(arguments: argparse.Namespace, recipes: Iterable[Recipe]) -> RetrospectionPlan | None:
    """Read the flags of LWR; None where it is off.

    Raises:
        RequestError: a value is out of range or acts in no epoch, or a recipe mixes images.
    """
    if arguments.lwr is None:
        default = RetrospectionPlan()
        for flag, usual in (("lwr_rate", default.rate), ("lwr_T", default.temperature)):
            if getattr(arguments, flag) != usual:
                raise RequestError(f"--{flag} is a setting of --lwr; add --lwr {default.k}, or leave --{flag} out")
        return None
    if arguments.lwr < 1:
        raise RequestError(f"--lwr is {cut(arguments.lwr)}; give 1 or more epochs")
    if not 0 <= arguments.lwr_rate <= 1:
        raise RequestError(f"--lwr_rate is {arguments.lwr_rate}; give a number in [0, 1]")
    if arguments.lwr_T <= 0:
        raise RequestError(f"--lwr_T is {arguments.lwr_T}; give a positive number")
    for recipe in recipes:
        if recipe.augmentation.mixup or recipe.augmentation.cutmix:
            raise RequestError(
                f"--lwr keeps a prediction for each image, and recipe {recipe.name} mixes images; "
                f"add --mixup 0 --cutmix 0 or choose --recipe light"
            )
        if arguments.lwr >= recipe.epochs:
            raise RequestError(
                f"--lwr is {cut(arguments.lwr)}: predictions would be kept after the run's {recipe.epochs} epochs and "
                f"never used; give fewer than the epochs"
            )
    return RetrospectionPlan(arguments.lwr, arguments.lwr_rate, arguments.lwr_T)
