"""The places of STD's modules, and the teachers that each learns from (see std.py)."""

from dataclasses import dataclass
from typing import Literal

from common.errors import RequestError
from distiller_zoo.method import Pair
from models.suggestions import suggested

Teaching = Literal["each", "all"]
Heads = Literal["each", "last"]


@dataclass(frozen=True)
class ModulePlace:
    """The place of one module.

    Attributes:
        block: the block whose output it reads, as an index from 0.
        shape: N×H×W of that output.
        teachers: the teacher of each of its heads, as indices; empty for a module without heads.
    """

    block: int
    shape: tuple[int, int, int]
    teachers: tuple[int, ...]


def module_places(pair: Pair, modules: str, teaching: Teaching, heads: Heads) -> tuple[ModulePlace, ...]:
    """The places of all modules, in the order of the blocks.

    Args:
        modules: blocks, as `module_blocks` reads them.
        teaching: whether each module learns from its own teacher or from all.
        heads: whether each module has heads, or the last one alone.

    Raises:
        RequestError: the student has no blocks or not these, or the teachers cannot be shared out.
    """
    blocks = pair.student.blocks
    if not blocks:
        raise RequestError(
            "std distils into MLPs: its tokens read patches × channels, which this CNN student does not have; "
            f"choose an MLP, for instance --model_s {suggested('Mixer', pair.image_size)}"
        )
    indices = module_blocks(modules, len(blocks))
    teachers = _teachers_of_modules(len(pair.teachers), len(indices), teaching, heads)
    return tuple(ModulePlace(i, blocks[i], own) for i, own in zip(indices, teachers, strict=True))


def module_blocks(text: str, depth: int) -> list[int]:
    """The blocks whose outputs modules read, as indices from 0, in order.

    Args:
        text: `last`, `last+intermediate` (two thirds of the way up: block ⌊2·depth/3⌋), or numbers of blocks
            from 1, such as `6+8`.

    Raises:
        RequestError: it names no such blocks.
    """
    named = {"last": depth, "intermediate": max(1, 2 * depth // 3)}
    try:
        numbers = [named[part] if part in named else int(part) for part in text.split("+")]
    except ValueError:
        numbers = [0]
    if len(set(numbers)) < len(numbers) or not all(1 <= number <= depth for number in numbers):
        raise RequestError(
            f"--std_modules {text}: give last, last+intermediate, or different numbers from 1 to {depth} joined by + "
            f"(this student has {depth} block(s))"
        )
    return [number - 1 for number in sorted(numbers)]


def _teachers_of_modules(teachers: int, modules: int, teaching: Teaching, heads: Heads) -> list[tuple[int, ...]]:
    """For each module the teachers of its heads; raises RequestError if they cannot be shared out."""
    if teaching == "all":
        shared = [tuple(range(teachers))] * modules
    elif teachers == 1:
        shared = [(0,)] * modules
    elif teachers == modules and heads == "each":
        shared = [(i,) for i in range(teachers)]
    else:
        raise RequestError(
            f"std with {teachers} teachers needs {teachers} modules with heads; name as many blocks with --std_modules "
            f"(two: last+intermediate), or let each module learn from all: --std_teachers all"
        )
    return shared if heads == "each" else [()] * (modules - 1) + shared[-1:]
