"""From names on the command line to methods: aliases, combinations, options, and the method built for a pair."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from inspect import Parameter
from pathlib import Path

import torch

from common.errors import RequestError, RunError
from common.memory import gibibytes, memory_bytes, tensor_bytes
from common.messages import place_raised, words_of
from common.seeds import isolated_seed
from distiller_zoo.combination import CombinationSpec, Part, combine
from distiller_zoo.method import Method, Pair
from distiller_zoo.option_types import OnlyWith, check_options, marks_of
from distiller_zoo.registry import METHODS, constructor_arguments, declared_options
from models import FeatureShapes


def method_class(name: str) -> type[Method] | CombinationSpec:
    """The class behind a name or an alias, or the combination that `crd+kd` or `crd*0.5+kd` names.

    Raises:
        RequestError: an unknown name, an empty part, or parts that do not go together.
    """
    if "+" not in name and "*" not in name:
        return METHODS[name]
    if not all(text.partition("*")[0].strip() for text in name.split("+")):
        raise RequestError(f"--distill {name} has an empty part; name a method on each side of +, as in crd+kd")
    parts = [_part(text) for text in name.split("+")]
    if len(parts) == 1:
        raise RequestError(f"--distill {parts[0]}: the weight of a method alone is given by --beta, or --alpha for kd")
    return combine(parts)


def _part(text: str) -> Part:
    name, _, weight = text.partition("*")
    cls = METHODS[name.strip()]
    if not weight:
        return Part(cls)
    try:
        given = float(weight)
    except ValueError:
        given = -1.0
    if not 0 < given < float("inf"):
        raise RequestError(f"--distill {text}: {weight!r} is no weight; give a positive number, as in {cls.name}*0.5")
    published = 1.0 if Part(cls).is_kl else cls.weights.beta
    return Part(cls, None if given == published else given)


def canonical_method(name: str) -> str:
    """The one name for all ways to write a method or a combination; raises RequestError for an unknown one."""
    return method_class(name).name


def options_of(name: str) -> Mapping[str, Parameter]:
    """The options of a method by name, with annotation and default (see `declared_options`).

    Of a combination those of all its parts; one that two parts have with different defaults is METHOD.OPTION in each.
    """
    method = method_class(name)
    if not isinstance(method, CombinationSpec):
        return declared_options(method)
    options: dict[str, Parameter] = {}
    of_parts = {part.cls.name: declared_options(part.cls) for part in method.parts}
    for part, own in of_parts.items():
        for option, parameter in own.items():
            defaults = {repr(other[option].default) for other in of_parts.values() if option in other}
            key = option if len(defaults) == 1 else f"{part}.{option}"
            # One that acts in one part whatever the others' options are acts in the combination.
            if key not in options or not marks_of(parameter.annotation, OnlyWith):
                options[key] = parameter
    return options


def create_method(name: str, pair: Pair, options: Mapping[str, object] | None = None) -> Method:
    """Build a method for a pair, with random weights from torch's global generator.

    Raises:
        RequestError: unknown method or option, wrong number of teachers, or a pair that the method refuses.
        RunError: any other exception of the method's constructor, which is a mistake in it and no refusal.
    """
    method, options = method_class(name), dict(options or {})
    known = options_of(name)
    for option in options:
        if option not in known:
            has = f"its options are {', '.join('--' + o for o in known)}" if known else "it has no options"
            raise RequestError(f"method {method.name} has no option --{option}; {has}")
    check_options(options, known)
    count = len(pair.teachers)
    fewest, most = method.min_teachers, method.most_teachers()
    if not fewest <= count <= most:
        wants = f"{fewest}" if fewest == most else f"up to {most}"
        raise RequestError(
            f"method {method.name} learns from {wants} teacher(s), but {count} were given with --path_t or --model_t"
        )

    def build() -> Method:
        arguments = options if isinstance(method, CombinationSpec) else constructor_arguments(method, options)
        return method(pair, **arguments)

    check_size(method.name, build, larger_counts(options, known))
    with mistakes_as_run_errors(method.name, pair):
        return build()


def larger_counts(options: Mapping[str, object], known: Mapping[str, Parameter]) -> dict[str, int]:
    """The options that count something and are above their defaults."""
    return {
        name: value
        for name, value in options.items()
        if isinstance(value, int) and not isinstance(value, bool) and value > known[name].default
    }


def check_size(name: str, build: Callable[[], Method], counts: Mapping[str, int]) -> None:
    """Raise RequestError if a method with larger counts than published ones does not fit in memory.

    Found without memory, on torch's meta device; a method that cannot be built there is not checked.
    """
    available = memory_bytes()
    if not counts or available is None:
        return
    needed = 0
    with suppress(Exception), isolated_seed(0), torch.device("meta"):
        needed = tensor_bytes(build())
    if needed > available:
        flags = " ".join(f"--{option.split('.')[-1]} {count}" for option, count in counts.items())
        raise RequestError(
            f"{flags}: parameters and memories of {name} take {gibibytes(needed)}, and there are "
            f"{gibibytes(available)}; give less"
        )


@contextmanager
def mistakes_as_run_errors(name: str, pair: Pair) -> Iterator[None]:
    """Context for what a method does before it trains: an exception that is no refusal is a mistake in the method.

    Raises:
        RunError: in place of that exception, with its message, file and line, and the shapes of the pair.
    """
    try:
        yield
    except (RequestError, RunError):
        raise
    except Exception as error:
        raise RunError(
            f"method {name} cannot be built: {words_of(error)} at {place_raised(error, Path(__file__).parent)}\n"
            f"stages of the student: {_sizes(pair.student)}; of the teacher: {_sizes(*pair.teachers) or 'none'}"
        ) from error


def _sizes(*networks: FeatureShapes) -> str:
    """C×H×W of the stages of each network."""
    return "; ".join(", ".join("×".join(map(str, stage)) for stage in network.stages) for network in networks)
