"""Which networks exist, and what a recipe should know of each."""

from collections.abc import Callable
from dataclasses import dataclass

from common.registry import Registry
from models.network import Network


@dataclass(frozen=True)
class ModelEntry:
    """One named network.

    Attributes:
        build: called as `build(num_classes=..., image_size=...)`.
        family: networks that share a definition ("resnet", "mixer").
        summary: one line for `--list`.
        recipe: the recipe that such a network is trained with by default.
        learning_rate: what the RepDistiller protocol uses where it departs from its 0.05.
    """

    build: Callable[..., Network]
    family: str
    summary: str
    recipe: str = "repdistiller"
    learning_rate: float | None = None


DEFAULT_STUDENT = "mixer_s4"

MODELS: Registry[ModelEntry] = Registry("model")


def register_model(name: str, *, family: str, summary: str, aliases=(), **hints):
    """Decorator for a builder `build(num_classes, image_size) -> Network`."""

    def register(build: Callable[..., Network]):
        MODELS.add(name, ModelEntry(build, family, summary, **hints), aliases)
        return build

    return register


def create_model(name: str, num_classes: int = 100, image_size: int = 32) -> Network:
    """Build the network `name` with random weights from torch's global generator.

    Raises:
        RequestError: unknown name, or an image size that the network cannot take.
    """
    return MODELS[name].build(num_classes=num_classes, image_size=image_size)
