#!/usr/bin/env python3
"""Print the page docs/methods.md, made from the registry: `python scripts/write_methods_page.py > docs/methods.md`."""

import inspect
import sys
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import script

if __name__ == "__main__":
    script.begin(__file__)  # the imports below take seconds

from common.command import DONE, guard, make_parser, show_file
from common.errors import RequestError
from distiller_zoo import METHODS, Method, Pair, create_method, option_texts, options_of
from distiller_zoo.option_types import counts_epochs
from distiller_zoo.published_settings import published_pairs
from engine.protocol.flags import in_words
from models import FeatureShapes, Network, create_model
from models.network import count_parameters

# RepDistiller's thirteen, and three with an MLP or DeiT as the student.
PAIRS = (
    ("wrn_40_2", "wrn_16_2"),
    ("wrn_40_2", "wrn_40_1"),
    ("resnet56", "resnet20"),
    ("resnet110", "resnet20"),
    ("resnet110", "resnet32"),
    ("resnet32x4", "resnet8x4"),
    ("vgg13", "vgg8"),
    ("vgg13", "MobileNetV2"),
    ("ResNet50", "MobileNetV2"),
    ("ResNet50", "vgg8"),
    ("resnet32x4", "ShuffleV1"),
    ("resnet32x4", "ShuffleV2"),
    ("wrn_40_2", "ShuffleV1"),
    ("resnet56", "mixer_nano"),
    ("mixer_nano", "mixer_pico"),
    ("resnet56", "deit_nano_distilled"),
)
MEASURED = ("resnet32x4", "resnet8x4")  # whose own parameters the page shows
CIFAR100 = (100, 32, 50_000)  # classes, pixels, training images
HEAD = """# Methods

Written by `python scripts/write_methods_page.py > docs/methods.md` from the methods' own declarations.

A run minimises γ·CE + α·KL_T + β·(the method's own losses). *γ, α, β* are the defaults (`-r -a -b`): those of published
CIFAR-100 tables, of the authors or of RepDistiller, unless the method's section says what they are. T is 4 for all
(`--kd_T`). *Parameters* are the method's own on resnet32x4 → resnet8x4 with CIFAR-100; they are trained and
thrown away, unless the method extends the deployed student. *Refused* counts pairs out of RepDistiller's 13, resnet56 →
mixer_nano, mixer_nano → mixer_pico and resnet56 → deit_nano_distilled; the sections below say why. Methods can be
combined, `--distill crd+kd`, `--distill crd*0.5+hint+kd`, but for two that change how the student predicts, or two with
an initial stage.
"""

# Methods that are missing because an exact version cannot be written.
LEFT_OUT = {
    "NORM": "its cross-entropy has one of four weights for each pair, and which one was not published",
    "AFD, FCFD, CRCD, WCoRD": "details that decide the result are in code only, which is not copied here",
    "SSKD, HSAKD": "learn an auxiliary task from four rotations of each image, which the batches here do not hold",
}


def methods_page() -> str:
    """The whole page, in Markdown."""
    names = sorted(METHODS)
    refusals = {name: dict(_refusals(name)) for name in names}
    lines = [HEAD, _row("method", "paper", "γ, α, β", "learns from", "parameters", "refused"), _row(*["---"] * 6)]
    lines += [_summary(name, METHODS[name], refusals[name]) for name in names]
    lines += ["", *_without_logits()]
    for name in names:
        lines += ["", f"## {name}", *_section(name, METHODS[name], refusals[name])]
    left_out = [f"- {name}: {reason}" for name, reason in LEFT_OUT.items()]
    return "\n".join([*lines, "", *_published(), "", "## Left out", "", *left_out]) + "\n"


def _summary(name: str, method: type[Method], refusals: dict[tuple[str, str], str]) -> str:
    weights, aliases = method.weights, METHODS.aliases_of(name)
    also = f" ({', '.join(aliases)})" if aliases else ""
    refused = f"{len(refusals)} of {len(PAIRS)}" if refusals else ""
    return _row(
        f"[{name}](#{name}){also}",
        method.paper,
        f"{weights.gamma:g}, {weights.alpha:g}, {weights.beta:g}",
        _needs(method),
        "" if MEASURED in refusals else f"{_parameters(name):,}",
        refused,
    )


def _without_logits() -> Iterator[str]:
    """The paragraph on methods that read no logits of the teacher."""
    names = [name for name, method in sorted(METHODS.items()) if not method.reads_teacher_logits]
    plain, with_kl = ([name for name in names if bool(METHODS[name].weights.alpha) == kl] for kl in (False, True))
    yield from textwrap.wrap(
        f"**Teachers of other classes.** {', '.join(plain)} read neither logits nor the classifier of the teacher; "
        f"{', '.join(with_kl)} do not with `--alpha 0`. So their teacher may have any classes, or no classifier.",
        width=120,
    )


def _needs(method: type[Method]) -> str:
    """The fields that a method reads, for the column "learns from"."""
    if method.max_teachers == 0:
        return ""
    student, teacher = (
        ", ".join(names) or "logits" for names in (method.reads_of_student(), method.reads_of_teacher())
    )
    needs = teacher if student == teacher else f"teacher: {teacher}; student: {student}"
    return needs + "; labels" * method.needs_labels() + (f"; {method.views} views" if method.views > 1 else "")


def _section(name: str, method: type[Method], refusals: dict[tuple[str, str], str]) -> Iterator[str]:
    yield (inspect.getdoc(method) or "").splitlines()[0]
    yield ""
    texts = option_texts(method)
    for option, parameter in options_of(name).items():
        share = " epochs, fewer in a short run" if counts_epochs(parameter.annotation) and parameter.default else ""
        text = f": {texts[option]}" if option in texts else ""
        yield f"- `--{option}` {in_words(parameter.default)}{share}{text}"
    if method.weights_from:
        yield f"- γ, α, β: {method.weights_from}"
    most = method.most_teachers()
    if most > 1:
        yield f"- up to {most} teachers"
    by_reason: dict[str, list[str]] = {}
    for (teacher, student), reason in refusals.items():
        by_reason.setdefault(" ".join(reason.split()), []).append(f"{teacher} → {student}")
    for reason, pairs in by_reason.items():
        yield f"- refuses {', '.join(pairs)}: {reason}"


def _published() -> Iterator[str]:
    yield "## Weights for single pairs"
    yield ""
    yield "The values that `--paper_weights` takes instead of the defaults (`distiller_zoo/published.csv`)."
    yield ""
    yield _row("method", "teacher", "student", "α", "β", "options", "source")
    yield _row(*["---"] * 7)
    for pair in published_pairs():
        options = ", ".join(f"{name}={value}" for name, value in pair.options.items())
        weights = [f"{pair.weights[name]:g}" if name in pair.weights else "" for name in ("alpha", "beta")]
        yield _row(pair.method, pair.teacher, pair.student, *weights, options, pair.source)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _refusals(name: str) -> Iterator[tuple[tuple[str, str], str]]:
    """Each pair (teacher, student) of `PAIRS` that a method refuses, with its message."""
    for pair in PAIRS:
        try:
            _built(name, *pair)
        except RequestError as refusal:
            yield pair, str(refusal)


def _parameters(name: str) -> int:
    return count_parameters(_built(name, *MEASURED))


def _built(name: str, teacher: str, student: str) -> Method:
    teachers = (teacher,) * min(1, METHODS[name].max_teachers)
    method = create_method(name, Pair(_shapes(student), tuple(map(_shapes, teachers)), CIFAR100[2]))
    method.inspect_networks(_network(student), tuple(map(_network, teachers)))
    return method


@cache
def _network(name: str) -> Network:
    classes, pixels, _ = CIFAR100
    return create_model(name, classes, pixels)


@cache
def _shapes(name: str) -> FeatureShapes:
    return _network(name).feature_shapes()


@guard
def main(argv: list[str] | None = None) -> int:
    make_parser(__doc__).parse_args(argv)
    show_file(methods_page())
    return DONE


if __name__ == "__main__":
    script.run(main, __file__)
