"""What every network must be: checked once where one is created, and where its features are first seen.

A network that breaks the contract would otherwise fail an epoch later, or never: methods are built for the shapes that
it gives, and many take wrong ones silently. No check draws a random number, changes the network or costs a pass.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import Tensor, nn

from common.errors import RequestError
from models.features import Features

if TYPE_CHECKING:
    from models.network import Network

# The form of each field of `Features`: one tensor, or a tuple of them.
TENSORS = {"logits": "B×K", "embedding": "B×D", "stem": "B×C×H×W", "last_map": "B×D×H×W"}
TUPLES = {"stages": "B×C×H×W", "preacts": "B×C×H×W", "blocks": "B×C×H×W", "heads": "B×K", "tokens": "B×D"}


def check_built(network: "Network", num_classes: int, image_size: int) -> None:
    """Check what a network declares about itself after it was built for `num_classes` and `image_size`.

    Raises:
        RequestError: it names another image size, or no linear layer with so many outputs.
    """
    size = getattr(network, "image_size", None)
    if size != image_size:
        found = "has no image_size" if size is None else f"has the image_size {size}"
        raise RequestError(
            f"{_place(network)} was built for images of {image_size}×{image_size} and {found};\n"
            f"write `self.image_size = image_size` in its constructor"
        )
    name = network.classifier_name
    try:
        layer = network.last_linear
    except (AttributeError, TypeError) as error:
        found = "does not exist" if isinstance(error, AttributeError) else f"is a {_kind_of(network, name)}"
        raise RequestError(
            f"{_place(network)}: {name} should be the last linear layer and {found};\n"
            f'name that layer in the class, for example classifier_name = "head"'
        ) from None
    if layer.out_features != num_classes:
        raise RequestError(
            f"{_place(network)} was built for {num_classes} classes, and its {name} has {layer.out_features} "
            f"outputs;\nmake it nn.Linear(..., num_classes)"
        )


def check_features(network: "Network", features: object) -> None:
    """Check what `network.features` gave for one image: which fields, their types, ranks and sizes.

    Raises:
        RequestError: the first field that is not as `Features` says.
    """
    if not isinstance(features, Features):
        fault = f"a {type(features).__name__}; return a record of models/features.py: Features(logits=..., ...)"
        raise RequestError(f"{_place(network)}.features gives {fault}")
    for fault in _faults(features, network.last_linear):
        raise RequestError(f"{_place(network)}.features gives {fault}")


def _faults(features: Features, classifier: nn.Linear) -> Iterator[str]:
    """One fault after the other; a later one may be asked for only where there is none before it."""
    for name, form in TENSORS.items():
        yield from _fault(name, getattr(features, name), form)
    for name, form in TUPLES.items():
        parts = getattr(features, name)
        if not isinstance(parts, tuple):
            yield f"{_described(name, parts)}; it must be a tuple of tensors {form}"
        for place, part in enumerate(parts):
            yield from _fault(f"{name}[{place}]", part, form)
    classes, width = classifier.out_features, classifier.in_features
    for place, logits in enumerate((features.logits, *features.heads)):
        if logits.shape[1] != classes:
            name = f"heads[{place - 1}]" if place else "logits"
            yield f"{_described(name, logits)}; it must have {classes} columns, one for each class"
    for name, tensor in (("embedding", features.embedding), ("last_map", features.last_map)):
        if tensor.shape[1] != width:
            yield f"{_described(name, tensor)}; D must be {width}, the inputs of the last linear layer"
    if not features.stages:
        yield "no stages; there must be one or more"
    if [stage.shape for stage in features.stages] != [preact.shape for preact in features.preacts]:
        yield "preacts that are not of the stages' shapes; stages that end in no activation are their own preacts"
    if len({block.shape for block in features.blocks}) > 1:
        yield "blocks of several shapes; they must have one, or be left out"
    if len(features.heads) != len(features.tokens):
        yield f"{len(features.heads)} heads and {len(features.tokens)} tokens; each head reads one"


def _fault(name: str, value: object, form: str) -> Iterator[str]:
    rank = form.count("×") + 1
    if not isinstance(value, Tensor) or value.ndim != rank or len(value) != 1:
        yield f"{_described(name, value)}; it must be a tensor {form}, here with B = 1"


def _described(name: str, value: object) -> str:
    if value is None:
        return f"no {name}"
    found = "×".join(map(str, value.shape)) or "a scalar" if isinstance(value, Tensor) else f"a {type(value).__name__}"
    return f"{name} as {found}"


def _kind_of(network: nn.Module, name: str) -> str:
    return type(network.get_submodule(name)).__name__


def _place(network: nn.Module) -> str:
    """Where the network is written: its file in the repository, and its class."""
    return f"{type(network).__module__.replace('.', '/')}.py: {type(network).__name__}"
