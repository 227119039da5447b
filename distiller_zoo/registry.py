"""Which methods exist."""

import inspect

from common.registry import Registry
from distiller_zoo.method import Method

METHODS: Registry[type[Method]] = Registry("method")


def register_method(name: str, *, aliases: tuple[str, ...] = ()):
    """Class decorator: makes a Method available as `--distill NAME`."""

    def register(cls: type[Method]) -> type[Method]:
        cls.name = name
        METHODS.add(name, cls, aliases)
        return cls

    return register


def declared_options(cls: type[Method]) -> dict[str, inspect.Parameter]:
    """The keyword-only parameters of a method's constructor, with annotation and default."""
    parameters = inspect.signature(cls.__init__).parameters.values()
    return {p.name: p for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
