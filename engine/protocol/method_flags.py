"""The flags of methods: which methods, the weights of their losses, and one flag for each option of each method."""

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from common.command import Parser
from common.errors import RequestError
from distiller_zoo import METHODS, Weights, canonical_method, method_class, option_texts, options_of
from distiller_zoo.option_types import AnyWeight, check_option
from engine.protocol.flags import Flags, add_flag, in_words


def chosen_methods(names: Iterable[str]) -> list[str]:
    """The canonical names of the methods in --distill, each once; "all" stands for every registered one.

    Raises:
        RequestError: unknown method, or parts of a combination that do not go together.
    """
    every = [name for given in names for name in (METHODS if given == "all" else [given])]
    return list(dict.fromkeys(canonical_method(name) for name in every))


def add_weight_arguments(flags: Flags) -> None:
    """Add -r/--gamma, -a/--alpha and -b/--beta, the weights of the losses."""
    for short, name, loss in (
        ("-r", "gamma", "cross-entropy"),
        ("-a", "alpha", "KL term"),
        ("-b", "beta", "method's loss"),
    ):
        text = f"weights of the {loss} (default: method's)"
        flags.add_argument(short, f"--{name}", type=float, nargs="+", metavar="W", help=text)


def weights_of(method: str, arguments: argparse.Namespace) -> list[Weights]:
    """The published weights of a method with those that the user gave, in all combinations.

    Given weights of losses that the method does not have are left out: α without a teacher, β without an own loss.

    Raises:
        RequestError: a weight is negative or not finite, or all are 0.
    """
    cls = method_class(method)
    given = {key: getattr(arguments, key) for key in ("gamma", "alpha", "beta") if getattr(arguments, key) is not None}
    for key, values in given.items():
        for value in values:
            check_option(key, value, AnyWeight)
    if cls.max_teachers == 0:
        given = {key: values for key, values in given.items() if key == "gamma"}
    if cls.weights.beta == 0:  # published for methods without a loss of their own
        given.pop("beta", None)
    found = []
    for values in product(*given.values()):
        # 1.0 in place of a published 1 would be another digest.
        changed = {k: v for k, v in zip(given, values, strict=True) if v != getattr(cls.weights, k)}
        weights = replace(cls.weights, **changed)
        if not (weights.gamma or weights.alpha or weights.beta):
            raise RequestError(
                f"{method}: --gamma, --alpha and --beta are all 0, so nothing is learned; give one of them"
            )
        found.append(weights)
    return list(dict.fromkeys(found))


def add_option_arguments(parser: Parser) -> None:
    """Add a flag for each option of each method, in a group for the methods that have it; call it last.

    Raises:
        RequestError: an option has the name of another flag.
    """
    owners: dict[str, list[str]] = {}
    for method in METHODS:
        for option in options_of(method):
            owners.setdefault(option, []).append(method)
    for option, methods in owners.items():
        group = parser.further_group(f"options of {', '.join(methods)}")
        add_option(group, option, methods)


def add_option(flags: Flags, option: str, methods: Sequence[str]) -> None:
    """Add the flag of an option that these methods have, with the text that each gives it.

    Raises:
        RequestError: there is such a flag.
    """
    method = methods[0]
    parameter, cls = options_of(method)[option], METHODS[method]
    texts: dict[str, list[str]] = {}
    for name in methods:
        default = in_words(options_of(name)[option].default)
        meaning = option_texts(METHODS[name]).get(option, "").replace("`", "")
        text = f"{meaning} (default {default})".strip()
        texts.setdefault(text, []).append(name)
    text = next(iter(texts)) if len(texts) == 1 else "; ".join(f"{', '.join(of)}: {text}" for text, of in texts.items())
    try:
        add_flag(flags, option, parameter.annotation, text)
    except argparse.ArgumentError:
        raise RequestError(
            f"{cls.__module__.replace('.', '/')}.py: {cls.__name__} has an option {option}, which is a flag of the "
            f"suite; rename it, for example to {method}_{option}"
        ) from None


def given_method_options(arguments: argparse.Namespace, methods: list[str]) -> dict[str, Any]:
    """The options that the user gave, by name.

    Raises:
        RequestError: none of the methods has an option that was given, or one may not have the value.
    """
    known = {option for method in METHODS for option in options_of(method)}
    given = {key: value for key, value in vars(arguments).items() if key in known}
    for option in given:
        annotations = [
            parameter.annotation
            for method in methods
            for name, parameter in options_of(method).items()
            if name.split(".")[-1] == option
        ]
        if not annotations:
            owners = ", ".join(method for method in METHODS if option in options_of(method))
            raise RequestError(f"--{option} is an option of {owners}, not of {', '.join(methods)}; leave it out")
        for annotation in annotations:
            check_option(option, given[option], annotation)
    return given
