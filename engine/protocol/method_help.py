"""The page of a method in --help: its paper, its losses' weights, what it reads and refuses, and its options."""

import inspect
import itertools
import textwrap
from collections.abc import Iterable, Iterator

from common.command import make_parser
from common.errors import RequestError
from common.help_pages import OtherPages, columns
from distiller_zoo import METHODS, Method, method_class, options_of
from distiller_zoo.combination import CombinationSpec
from engine.protocol.method_flags import add_option

LABEL_WIDTH = 14  # columns of what a line is about


def method_pages() -> OtherPages:
    """One page for each method, by any of its names, and for each combination the pages of its parts."""
    names = [name for method in METHODS for name in (method, *METHODS.aliases_of(method))]
    return OtherPages("METHOD", "of a method: paper, weights, what it refuses, options", names, page_of)


def pages_of(names: Iterable[str]) -> str:
    """The pages of methods by name. Raises RequestError for an unknown one."""
    return "\n".join(_pages(method_class(name)) for name in names)


def page_of(name: str) -> str | None:
    """The page of a method or of the parts of a combination; None for an unknown name."""
    try:
        return _pages(method_class(name))
    except RequestError:
        return None


def _pages(found: type[Method] | CombinationSpec) -> str:
    parts = [part.cls for part in found.parts] if isinstance(found, CombinationSpec) else [found]
    return "\n".join(map(_page, parts))


def _page(method: type[Method]) -> str:
    lines = _wrapped("", f"{method.name}: {method.paper}")
    for paragraph in _description(method):
        lines += ["", *_wrapped("", paragraph)]
    lines.append("")
    for label, text in _facts(method):
        lines += _wrapped(label, text)
    page = make_parser(None)
    for option in options_of(method.name):
        add_option(page.group("options of a run", page=method.name), option, [method.name])
    options = ["", page.pages([method.name])] if options_of(method.name) else [""]
    return "\n".join([*lines, *options])


def _description(method: type[Method]) -> list[str]:
    """The paragraphs of a method's docstring before its options, without marks of code."""
    paragraphs = (inspect.getdoc(method) or "").replace("`", "").split("\n\n")
    return list(itertools.takewhile(lambda paragraph: not paragraph.startswith("Options:"), paragraphs))


def _facts(method: type[Method]) -> Iterator[tuple[str, str]]:
    weights, most = method.weights, method.most_teachers()
    if aliases := METHODS.aliases_of(method.name):
        yield "also called", ", ".join(aliases)
    source = f" ({method.weights_from})" if method.weights_from else ""
    yield "weights", f"-r {weights.gamma:g} -a {weights.alpha:g} -b {weights.beta:g}{source}"
    if most:
        fewest = method.min_teachers
        yield "teachers", f"{fewest}" if fewest == most else f"{fewest} to {most}"
        yield (
            "learns from",
            "; ".join(
                f"{', '.join(fields)} of the {side}"
                for side, fields in (
                    ("teacher", [*["logits"] * method.reads_teacher_logits, *method.reads_of_teacher()]),
                    ("student", ["logits", *method.reads_of_student()]),
                )
            ),
        )
        if not method.reads_teacher_logits:
            yield "classes", f"any of the teacher, or no classifier{', with --alpha 0' if weights.alpha else ''}"
    if most and method.needs_labels():
        yield "reads", "labels in its own loss: no --unlabelled"
    if method.views > 1:
        yield "views", f"{method.views} augmentations of each image a step"
    if method.refuses:
        yield "refuses", method.refuses


def _wrapped(label: str, text: str) -> list[str]:
    """Lines of the terminal's width, with the label in a column of its own where it is not empty."""
    first = f"{label:<{LABEL_WIDTH}}" if label else ""
    return textwrap.wrap(text, columns() - 2, initial_indent=first, subsequent_indent=" " * len(first))
