"""The registry of methods, and the checks of what each declares."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from inspect import Parameter
from types import MappingProxyType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from common.registry import Registry
from distiller_zoo.method import HOOK_CALLS, Method
from distiller_zoo.option_types import OnlyWith, kind_of, marks_of
from models import Features

METHODS: Registry[type[Method]] = Registry("method")
FIELDS = [field.name for field in fields(Features)]
KINDS = "bool, int, float, str, Literal[...], tuple[int, ...] or a type of distiller_zoo/option_types.py such as Epochs"

MethodClass = TypeVar("MethodClass", bound=type[Method])


def register_method(name: str, *, aliases: tuple[str, ...] = ()) -> Callable[[MethodClass], MethodClass]:
    """Class decorator: makes a Method available as `--distill NAME`.

    Raises:
        TypeError: the class declares a field that no network has, a hook that it lacks, or an option that cannot
            become a flag.
        ValueError: the name or an alias is taken.
    """

    def register(cls: MethodClass) -> MethodClass:
        _check_needs(cls)
        _check_hooks(cls)
        _check_options(cls)
        cls.name = name
        METHODS.add(name, cls, aliases)
        return cls

    return register


def declared_options(cls: type[Method]) -> Mapping[str, Parameter]:
    """The options of a method by name, with annotation and default.

    They are the keyword-only parameters of its constructor. One that is annotated by a dataclass stands for the fields
    of that dataclass.
    """
    return _options_of(cls.__init__)


def constructor_arguments(cls: type[Method], options: Mapping[str, object]) -> dict[str, object]:
    """The keyword arguments with which a method is built, from its options by name; the others keep their defaults."""
    arguments: dict[str, object] = {}
    for parameter in _keyword_only(cls.__init__):
        if (group := _group_of(parameter)) is not None:
            given = {field.name: options[field.name] for field in fields(group) if field.name in options}
            arguments[parameter.name] = group(**given)
        elif parameter.name in options:
            arguments[parameter.name] = options[parameter.name]
    return arguments


@cache  # each registration compares with all before it
def _options_of(constructor: Callable[..., None]) -> Mapping[str, Parameter]:
    options: dict[str, Parameter] = {}
    for parameter in _keyword_only(constructor):
        group = _group_of(parameter)
        options |= {parameter.name: parameter} if group is None else _fields_as_options(group)
    return MappingProxyType(options)


def _keyword_only(constructor: Callable[..., None]) -> list[Parameter]:
    parameters = inspect.signature(constructor, eval_str=True).parameters.values()
    return [parameter for parameter in parameters if parameter.kind is Parameter.KEYWORD_ONLY]


def _group_of(parameter: Parameter) -> type[Any] | None:
    """The dataclass whose fields are options, if the parameter is annotated by one."""
    annotation = parameter.annotation
    return annotation if isinstance(annotation, type) and is_dataclass(annotation) else None


def _fields_as_options(group: type[Any]) -> dict[str, Parameter]:
    annotations = get_type_hints(group, include_extras=True)
    return {
        field.name: Parameter(
            field.name,
            Parameter.KEYWORD_ONLY,
            default=Parameter.empty if field.default is MISSING else field.default,
            annotation=annotations[field.name],
        )
        for field in fields(group)
    }


def _check_needs(cls: type[Method]) -> None:
    for needs in (cls.needs, cls.student_needs, cls.teacher_needs):
        if isinstance(needs, str):  # ("embedding") would be read letter by letter
            raise TypeError(f'{cls.__name__}: needs is the text {needs!r}; make it a tuple, ("{needs}",)')
        for name in needs or ():
            if name not in FIELDS:
                raise TypeError(f"{cls.__name__}: needs has the unknown field {name!r}; available: {', '.join(FIELDS)}")
    if not cls.reads_teacher_logits and "logits" in cls.reads_of_teacher():
        raise TypeError(f"{cls.__name__} needs the teacher's logits; leave reads_teacher_logits = False out")


# Hooks that cost a pass, a file or a check, and the flag that declares each.
DECLARED_BY = {
    "attach": "attaches",
    "predict": "changes_predictions",
    "predictions_by_head": "changes_predictions",
    "fit_on_training_set": "needs_training_set_pass",
    "extra_step": "takes_extra_step",
}
# Flags that mean nothing without their hook; `attach` alone may change predictions.
MEANINGLESS_ALONE = ("attaches", "needs_training_set_pass", "takes_extra_step")
FORMER_HOOKS = {
    "meet": "inspect_networks",
    "survey": "fit_on_training_set",
    "answers": "predictions_by_head",
    "readings": "extra_metrics",
}


def _check_hooks(cls: type[Method]) -> None:
    for former, name in FORMER_HOOKS.items():
        if hasattr(cls, former):
            raise TypeError(f"{cls.__name__}: the hook {former} is now called {name}; rename it")
    for hook, flag in DECLARED_BY.items():
        if _has(cls, hook) and not getattr(cls, flag):
            raise TypeError(f"{cls.__name__} has {hook} and does not declare it; write `{flag} = True` in the class")
        if getattr(cls, flag) and not _has(cls, hook) and flag in MEANINGLESS_ALONE:
            raise TypeError(f"{cls.__name__} declares {flag} and has no {hook}; write it, or leave the flag out")
    for hook in cls.required_hooks:
        if hook not in HOOK_CALLS:
            raise TypeError(f"{cls.__name__} requires the unknown hook {hook!r}; available: {', '.join(HOOK_CALLS)}")
        if not _has(cls, hook):
            raise TypeError(f"{cls.__name__} requires {hook} and does not define it; write it, or require it no longer")


def _has(cls: type[Method], hook: str) -> bool:
    """True if the class defines the hook itself."""
    return getattr(cls, hook) is not getattr(Method, hook)


def _check_options(cls: type[Method]) -> None:
    _self, _pair, *others = inspect.signature(cls.__init__).parameters.values()
    for parameter in others:
        if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
            raise TypeError(f"{cls.__name__}: the option {parameter.name} becomes a flag only behind a * in __init__")
    for name, parameter in declared_options(cls).items():
        if parameter.default is parameter.empty:
            raise TypeError(f"{cls.__name__}: the option {name} has no default")
        if not _is_kind(parameter.annotation):
            raise TypeError(f"{cls.__name__}: annotate the option {name} by one of {KINDS}")
        for beside in marks_of(parameter.annotation, OnlyWith):
            if beside.option not in declared_options(cls):
                raise TypeError(f"{cls.__name__}: {name} acts only with {beside.option}, which is no option of it")
        for _, other in METHODS.items():
            same_name = declared_options(other).get(name)
            if same_name is not None and kind_of(same_name.annotation) != kind_of(parameter.annotation):
                raise TypeError(
                    f"{cls.__name__}: {other.name} has an option {name} of another type; rename one of them"
                )


def _is_kind(annotation: object) -> bool:
    kind = kind_of(annotation)
    if kind in (bool, int, float, str) or kind == tuple[int, ...]:
        return True
    return get_origin(kind) is Literal and all(isinstance(value, str) for value in get_args(kind))
