"""Which networks exist, and what a recipe should know of each."""

from collections.abc import Callable
from dataclasses import dataclass

from common.errors import RequestError
from common.registry import Registry
from models.contract import check_built
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


class Library:
    """Networks of another package, named PREFIX:NAME. Nothing of that package is imported before one is asked for."""

    def canonical(self, name: str) -> str:
        """The one way to write a NAME (without the prefix); raises RequestError where there is no such network."""
        raise NotImplementedError

    def entry(self, name: str) -> ModelEntry:
        """What is registered of a canonical NAME."""
        raise NotImplementedError


class ModelRegistry(Registry[ModelEntry]):
    """The networks of this package, in order, and behind prefixes those of libraries, which are not counted out."""

    def __init__(self):
        super().__init__("model")
        self._libraries: dict[str, Library] = {}

    def add_library(self, prefix: str, library: Library) -> None:
        """Open all names that begin with `prefix` and a colon."""
        self._libraries[prefix] = library

    def canonical(self, name: str) -> str:
        prefix, colon, rest = name.partition(":")
        if name not in self._entries and colon and prefix in self._libraries:
            return f"{prefix}:{self._libraries[prefix].canonical(rest)}"
        return super().canonical(name)

    def __getitem__(self, name: str) -> ModelEntry:
        name = self.canonical(name)
        if name in self._entries:
            return self._entries[name]
        prefix, _, rest = name.partition(":")
        return self._libraries[prefix].entry(rest)

    def __contains__(self, name: str) -> bool:
        try:
            self.canonical(name)
        except RequestError:
            return False
        return True


DEFAULT_STUDENT = "mixer_s4"

MODELS = ModelRegistry()


def register_model(name: str, *, family: str, summary: str, aliases=(), **hints):
    """Decorator for a builder `build(num_classes, image_size) -> Network`."""

    def register(build: Callable[..., Network]):
        MODELS.add(name, ModelEntry(build, family, summary, **hints), aliases)
        return build

    return register


def create_model(name: str, num_classes: int = 100, image_size: int = 32) -> Network:
    """Build the network `name` with random weights from torch's global generator.

    Raises:
        RequestError: unknown name, an image size that the network cannot take, or a network that does not say of
            itself what every one must (see `models.contract`).
    """
    network = MODELS[name].build(num_classes=num_classes, image_size=image_size)
    if not isinstance(network, Network):
        raise RequestError(
            f"the builder of {name} returns a {type(network).__name__}; return a subclass of models.network.Network"
        )
    check_built(network, num_classes, image_size)
    return network


def file_name_of(name: str) -> str:
    """The name of a network or data set as a part of file names, safe everywhere: timm:NAME@224 gives timm_NAME_224."""
    return name.replace(":", "_").replace("@", "_")
