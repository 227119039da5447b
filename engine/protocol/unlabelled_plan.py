"""Images without labels as a setting of a run, and its flags. The images are in `dataset.unlabelled`."""

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.command import Parser, say
from common.errors import RequestError
from common.user_paths import reachable_path
from dataset import Unlabelled, open_unlabelled
from distiller_zoo import method_class

if TYPE_CHECKING:
    from engine.protocol.plan import RunPlan


@dataclass(frozen=True)
class UnlabelledPlan:
    """A folder of images without labels that a run trains on.

    Attributes:
        images: their number.
        sha256: of their names and sizes; the path does not count.
        only: the training set's own images are left out.
    """

    path: Path = field(compare=False)
    images: int
    sha256: str
    only: bool = False

    def as_dict(self) -> dict[str, Any]:
        """All fields, as config.json has them."""
        return asdict(self) | {"path": str(self.path)}

    @property
    def label(self) -> str:
        """The word for it in tables: "unlabelled=5000"."""
        return f"unlabelled{'_only' * self.only}={self.images}"


def add_unlabelled_arguments(parser: Parser) -> None:
    """Add --unlabelled and --unlabelled_only."""
    group = parser.further_group("images without labels")
    group.add_argument(
        "--unlabelled",
        type=reachable_path,
        metavar="FOLDER",
        help="train on the images in and below it too, by losses that read no labels (default: none)",
    )
    group.add_argument(
        "--unlabelled_only",
        action="store_true",
        help="leave out the training set's own images; --gamma is then 0",
    )


def unlabelled_of(arguments: argparse.Namespace, size: int) -> Unlabelled | None:
    """The images without labels that a command names, of `size` pixels; None for none.

    Under --unlabelled_only it sets --gamma, which has nothing to weigh.

    Raises:
        RequestError: the folder has no images, or another flag needs labels.
    """
    if arguments.unlabelled is None:
        if arguments.unlabelled_only:
            raise RequestError("--unlabelled_only needs images to train on; add --unlabelled FOLDER, or leave it out")
        return None
    if arguments.lwr is not None:
        raise RequestError("--lwr mixes the labels with predictions, and --unlabelled has none; leave one of them out")
    if arguments.unlabelled_only:
        if any(arguments.gamma or ()):
            raise RequestError("--gamma weighs the loss on labels, and --unlabelled_only has none; leave --gamma out")
        if arguments.gamma is None:
            say("--unlabelled_only: no image has a label, so --gamma is 0")
        arguments.gamma = [0.0]
    return open_unlabelled(arguments.unlabelled, size, arguments.unlabelled_only)


def plan_of(unlabelled: Unlabelled | None, arguments: argparse.Namespace) -> UnlabelledPlan | None:
    """What runs record of their images without labels; None for none."""
    if unlabelled is None:
        return None
    return UnlabelledPlan(arguments.unlabelled, len(unlabelled.files), unlabelled.sha256, unlabelled.only)


def methods_for(unlabelled: Unlabelled | None, methods: Sequence[str], skip_refused: bool) -> list[str]:
    """The methods that can learn from images without labels, where there are any; otherwise all.

    Args:
        skip_refused: leave out the others with a line each, instead of raising.

    Raises:
        RequestError: a method learns from labels, or all do.
    """
    refusals = {} if unlabelled is None else {method: reason for method in methods if (reason := _refusal(method))}
    if refusals and (not skip_refused or len(refusals) == len(methods)):
        raise RequestError(next(iter(refusals.values())))
    for reason in refusals.values():
        say(f"left out: {reason}")
    return [method for method in methods if method not in refusals]


def _refusal(method: str) -> str:
    """Why a method cannot learn from images without labels; "" if it can."""
    cls = method_class(method)
    if not cls.max_teachers:
        return f"--unlabelled: {method} learns from labels alone; train it in a command without --unlabelled"
    if cls.needs_labels():
        return f"--unlabelled: {method} reads labels in its own loss; train it without --unlabelled, or choose kd"
    return ""


def check_taught(plans: Iterable["RunPlan"]) -> None:
    """Raise RequestError for a run that has images without labels and no loss that could learn from them."""
    for plan in plans:
        if plan.unlabelled is not None and not (plan.weights.alpha or plan.weights.beta):
            raise RequestError(f"--unlabelled: {plan.label} learns from labels alone; give it an --alpha")
