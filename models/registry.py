"""The registered networks, and what a recipe should know of each."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from common.errors import RequestError
from common.registry import Registry
from models.contract import check_built
from models.network import Network

Builder = TypeVar("Builder", bound=Callable[..., Network])


@dataclass(frozen=True)
class ModelEntry:
    """One named network.

    Attributes:
        build: called as `build(num_classes=..., image_size=...)`.
        family: networks that share a definition ("resnet", "mixer").
        summary: one line for `--list`.
        recipe: the recipe that it is trained with by default.
        learning_rate: RepDistiller's, where it is not 0.05.
    """

    build: Callable[..., Network]
    family: str
    summary: str
    recipe: str = "repdistiller"
    learning_rate: float | None = None


class Library:
    """Networks of another package, named PREFIX:NAME. The package is imported when one of its networks is requested."""

    def canonical(self, name: str) -> str:
        """The canonical form of a NAME (without the prefix); raises RequestError for an unknown one."""
        raise NotImplementedError

    def entry(self, name: str) -> ModelEntry:
        """How to build and train the network of a canonical NAME."""
        raise NotImplementedError


class ModelRegistry(Registry[ModelEntry]):
    """The networks of this package, in order of registration; those of libraries are found but not listed."""

    def __init__(self) -> None:
        super().__init__("model")
        self._libraries: dict[str, Library] = {}

    def add_library(self, prefix: str, library: Library) -> None:
        """Let `library` resolve all names that begin with `prefix` and a colon."""
        self._libraries[prefix] = library

    def canonical(self, name: str) -> str:
        """The registered name behind a name, an alias or PREFIX:NAME; raises RequestError for an unknown one."""
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

    def __contains__(self, name: object) -> bool:
        try:
            return isinstance(name, str) and bool(self.canonical(name))
        except RequestError:
            return False


DEFAULT_STUDENT = "mixer_s4"

MODELS = ModelRegistry()


def register_model(
    name: str, *, family: str, summary: str, aliases: Iterable[str] = (), **hints: Any
) -> Callable[[Builder], Builder]:
    """Decorator that registers a builder `build(num_classes, image_size) -> Network`.

    Args:
        family, summary: as in `ModelEntry`.
        hints: further fields of `ModelEntry`: `recipe`, `learning_rate`.
    """

    def register(build: Builder) -> Builder:
        MODELS.add(name, ModelEntry(build, family, summary, **hints), aliases)
        return build

    return register


def create_model(name: str, num_classes: int = 100, image_size: int = 32) -> Network:
    """Build the network `name` with random weights from torch's global generator.

    Raises:
        RequestError: unknown name, an image size that the network cannot take, or a network that breaks the contract
            of all networks (see `models.contract`).
    """
    network = MODELS[name].build(num_classes=num_classes, image_size=image_size)
    if not isinstance(network, Network):
        raise RequestError(
            f"the builder of {name} returns a {type(network).__name__}; return a subclass of models.network.Network"
        )
    check_built(network, num_classes, image_size)
    return network


def file_name_of(name: str) -> str:
    """Name of a network or data set for use in file names on every system: timm:NAME@224 gives timm_NAME_224."""
    return name.replace(":", "_").replace("@", "_")
