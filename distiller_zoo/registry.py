"""Which methods exist, which options each takes, and how one is built for a pair."""

import inspect
from collections.abc import Mapping

from common.errors import RequestError
from common.registry import Registry
from distiller_zoo.method import Method, Pair

METHODS: Registry[type[Method]] = Registry("method")


def register_method(name: str, *, aliases: tuple[str, ...] = ()):
    """Class decorator: makes a Method available as `--distill NAME`."""

    def register(cls: type[Method]) -> type[Method]:
        cls.name = name
        METHODS.add(name, cls, aliases)
        return cls

    return register


def options_of(name: str) -> dict[str, inspect.Parameter]:
    """The options of a method: the keyword-only parameters of its constructor, with annotation and default."""
    parameters = inspect.signature(METHODS[name].__init__).parameters.values()
    return {p.name: p for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


def create_method(name: str, pair: Pair, options: Mapping[str, object] | None = None) -> Method:
    """Build a method for a pair, with random weights from torch's global generator.

    Raises:
        RequestError: unknown method or option, wrong number of teachers, or a pair that it cannot serve.
    """
    cls, options = METHODS[name], dict(options or {})
    known = options_of(name)
    for option in options:
        if option not in known:
            has = f"its options are {', '.join('--' + o for o in known)}" if known else "it has no options"
            raise RequestError(f"method {cls.name} has no option --{option}; {has}")
    count = len(pair.teachers)
    if not cls.min_teachers <= count <= cls.max_teachers:
        wants = f"{cls.min_teachers}" if cls.min_teachers == cls.max_teachers else f"up to {cls.max_teachers}"
        raise RequestError(f"method {cls.name} learns from {wants} teacher(s), but {count} were given with --path_t")
    return cls(pair, **options)
