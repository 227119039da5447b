"""Finds a network's weights in a checkpoint of any tool: wherever they lie, whatever precedes their names.

One rule for all files. The full name of a tensor is the keys on the way to it, joined by dots
(`state_dict.model.conv1.weight`), and the weights are behind the one prefix (`state_dict.model.`) behind which every
parameter of the network is found. Dictionaries in dictionaries, the prefixes of wrappers, and a student beside its
teacher are all this one case. Where several prefixes fit, the user chooses.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.errors import RequestError
from common.messages import counted
from engine.checkpoints.parts_of_file import MOST_PIECES, TOP, Part, Tensors, Wanted, candidates, matches_of
from engine.checkpoints.tensor_checks import is_plain
from engine.checkpoints.tensors_in_file import Held, is_averaged, tensors_in

MOST_LISTED, LONGEST_SHOWN = 6, 60
PLAIN = ("", "model.")  # places that need no mention


@dataclass(frozen=True)
class WeightsChoice:
    """Which weights to take from a file that has several.

    Attributes:
        key: the keys on the way to them, joined by dots; None for the only ones.
        averaged: take averaged weights (EMA, SWA).
        model_flag, key_flag: the flags that name the network and the key, for messages.
    """

    key: str | None = None
    averaged: bool = False
    model_flag: str = "--model_t"
    key_flag: str = "--weights_key"


ONLY_WEIGHTS = WeightsChoice()


@dataclass(frozen=True)
class FoundWeights:
    """Weights in a file.

    Attributes:
        state: state dict for the network; if none fits, the likeliest, for a message on what is wrong with it.
        key: where they were; None if they are those that are taken without a choice.
        note: what was done beyond reading a plain state dict, "" if nothing.
        others: what else there is, if nothing fits; "" if nothing.
    """

    state: dict[str, Tensor]
    key: str | None = None
    note: str = ""
    others: str = ""


def find_weights(content: Any, path: Path, wanted: Wanted, choice: WeightsChoice) -> FoundWeights:
    """Find a network's weights in the content of a file.

    Args:
        path: for messages.

    Raises:
        RequestError: there are no weights, several fit, or the chosen ones are missing.
    """
    tensors = tensors_in(content, frozenset(part for name in wanted.shapes for part in name.split(".")))
    if not any(held.is_weight() for held in tensors.values()):
        raise RequestError(f"{path} holds no weights, no dictionary of tensors; save model.state_dict()")
    chosen = _chosen_part(tensors, path, choice)
    part = _only(candidates(chosen, wanted), chosen, path, choice)
    if part is None:
        state, others = _likeliest(chosen, wanted)
        return FoundWeights(state, others=others)
    taken = part.tensors(chosen)
    dropped = [name for name, held in taken.values() if name not in wanted.shapes and held.is_counter()]
    state = {name: held.value for name, held in taken.values() if name in wanted.shapes or not held.is_counter()}
    notes = _notes(taken)
    if dropped:
        notes.append(f"{counted(len(dropped), 'counter')} dropped")
    notes += _beside(chosen, taken) + _on_averages(tensors, part, wanted)
    return FoundWeights(state, _key_of(part, tensors, path, wanted, choice), ", ".join(notes))


def fits(content: Any, wanted: Wanted, classifier: str) -> bool:
    """True if a file holds weights of a network, for any number of classes.

    Args:
        classifier: name of the network's last layer.
    """
    tensors = tensors_in(content)
    weight = f"{classifier}.weight"
    for part in candidates(tensors, wanted):
        taken = dict(part.tensors(tensors).values())
        if (
            all(wanted.knows(name, held) for name, held in taken.items())
            and all(taken[n].shape == wanted.shapes[n] for n in wanted.required if not n.startswith(f"{classifier}."))
            and (taken[weight].shape or ())[1:] == wanted.shapes[weight][1:]
        ):
            return True
    return False


def _only(parts: Sequence[Part], tensors: Tensors, path: Path, choice: WeightsChoice) -> Part | None:
    """The one of several parts that is meant; None if there are none."""
    averages = [part for part in parts if is_averaged(part.key)]
    if choice.averaged and parts and not averages:
        raise RequestError(f"{path} holds no averaged weights of this network; leave --ema out")
    pool = averages if choice.averaged else [part for part in parts if part not in averages] or averages
    if choice.key == TOP:
        pool = [part for part in pool if part.key == TOP]
    if len(pool) > 1 and not _equal(pool, tensors):
        keys = _listed([part.key for part in pool])
        raise RequestError(f"{path} holds several weights that fit: {keys};\nchoose with {choice.key_flag} KEY")
    return pool[0] if pool else None


def _equal(pool: Sequence[Part], tensors: Tensors) -> bool:
    """True if all parts are the same weights, saved under several names."""
    first, *rest = ({name: held.value for name, held in part.tensors(tensors).values()} for part in pool)
    return all(
        other.keys() == first.keys() and all(_same(other[name], first[name]) for name in first) for other in rest
    )


def _same(a: Tensor, b: Tensor) -> bool:
    return is_plain(a) and is_plain(b) and a.dtype == b.dtype and torch.equal(a, b)


# --- a part that the user chose --------------------------------------------------------------------


def _chosen_part(tensors: Tensors, path: Path, choice: WeightsChoice) -> Tensors:
    """The tensors below the key that was chosen; all without one."""
    if choice.key is None:
        return tensors
    if choice.key == TOP:
        # A key that is empty or of dots is shown so too.
        if not (top := {name: held for name, held in tensors.items() if not held.place.strip(".")}):
            raise _no_such_key(f"missing; there are {_listed(_places(tensors))}", path, choice)
        return top
    below: dict[str, set[str]] = {}
    for name, held in tensors.items():
        for full in (name, held.raw_name):
            if (prefix := _prefix_to(choice.key.strip("."), full)) is not None:
                below.setdefault(prefix, set()).add(name)
    if len(below) > 1:
        below = {key: names for key, names in below.items() if is_averaged(key) == choice.averaged} or below
    if len({frozenset(names) for names in below.values()}) > 1:
        below = {choice.key: below[choice.key]} if choice.key in below else below
    different = {frozenset(names): key for key, names in below.items()}
    if len(different) != 1:
        several, missing = _listed(list(below)), _listed(_places(tensors))
        what = f"in several places: {several}" if below else f"missing; there are {missing}"
        raise _no_such_key(what, path, choice)
    names = next(iter(different))
    return {name: held for name, held in tensors.items() if name in names}


def _no_such_key(what: str, path: Path, choice: WeightsChoice) -> RequestError:
    return RequestError(f"{path}: {choice.key_flag} {_shown(choice.key or TOP)} is {what}")


def _prefix_to(key: str, name: str) -> str | None:
    """The start of a full name that ends in a key; None if the key is not in it."""
    start = f".{name}".find(f".{key}.")
    return None if start < 0 else name[: start + len(key)]


def _key_of(part: Part, tensors: Tensors, path: Path, wanted: Wanted, choice: WeightsChoice) -> str | None:
    """The key of chosen weights; None if they are those that are taken without a choice."""
    if choice.key is None and not choice.averaged:
        return None
    try:
        default = _only(candidates(tensors, wanted), tensors, path, ONLY_WEIGHTS)
    except RequestError:
        default = None
    return None if default is not None and part.prefixes == default.prefixes else part.key


# --- what is said ----------------------------------------------------------------------------------


def _notes(taken: Mapping[str, tuple[str, Held]]) -> list[str]:
    """Where the weights were, and what was removed from their names."""
    places = {held.place for _, held in taken.values()}
    place = next(iter(places)) if len(places) == 1 else ""
    removed: Counter[str] = Counter()
    inside = False
    for end, held in taken.values():
        if held.raw_name.endswith(end):
            removed[held.raw_name.removesuffix(end).removeprefix(place)] += 1
        else:
            inside = True
    prefixes = [prefix for prefix, _ in removed.most_common() if prefix]
    notes = []
    if place and (place not in PLAIN or prefixes):
        notes.append(f"weights under {_shown(place.rstrip('.'))}")
    if prefixes:
        word = "prefix" if len(prefixes) == 1 else "prefixes"
        notes.append(f"{word} {', '.join(map(_shown, prefixes[:MOST_PIECES]))} removed")
    if inside:
        notes.append("names of wrappers removed")
    return notes


def _beside(tensors: Tensors, taken: Mapping[str, tuple[str, Held]]) -> list[str]:
    """What else is in the dictionaries of the weights, such as a teacher beside its student."""
    places = {held.place for _, held in taken.values()}
    rest = Counter(
        name.removeprefix(held.place).partition(".")[0]
        for name, held in tensors.items()
        if held.place in places and name not in taken and not held.is_counter() and not is_averaged(name)
    )
    if not rest:
        return []
    parts = (f"{_shown(part)} ({counted(number, 'tensor')})" for part, number in rest.most_common(MOST_PIECES))
    return [f"left out: {', '.join(parts)}"]


def _on_averages(tensors: Tensors, part: Part, wanted: Wanted) -> list[str]:
    """Announces averaged weights, whether they are taken or not."""
    if is_averaged(part.key):
        return ["these are averaged weights"]
    others = [other.key for other in candidates(tensors, wanted) if is_averaged(other.key)]
    return [f"averaged weights are under {_shown(others[0])} (--ema takes them)"] if others else []


def _likeliest(tensors: Tensors, wanted: Wanted) -> tuple[dict[str, Tensor], str]:
    """The dictionary that is nearest to the network, without what precedes all its names; and what others there are."""
    matches = matches_of(tensors, wanted, shapes_too=False)
    prefix = max(matches, key=lambda p: len(matches[p]), default="")
    near = {name[len(prefix) :]: held for name, held in tensors.items() if name.startswith(prefix)}
    if not matches:
        places = Counter(held.place for held in tensors.values())
        place = places.most_common(1)[0][0]
        near = {name.removeprefix(held.place): held for name, held in tensors.items() if held.place == place}
    state = {name: held.value for name, held in near.items() if not held.is_counter()}
    others = _places(tensors)
    return state, _listed(others) if len(others) > 1 else ""


def _places(tensors: Tensors) -> list[str]:
    """The dictionaries of tensors in a file, largest first, and where one has a few parts, these."""
    parts: dict[str, Counter[str]] = {}
    for name, held in tensors.items():
        parts.setdefault(held.place, Counter())[name.removeprefix(held.place).partition(".")[0]] += 1
    counts: Counter[str] = Counter()
    for place, firsts in parts.items():
        few = len(firsts) <= MOST_PIECES
        counts.update({f"{place}{first}": n for first, n in firsts.items()} if few else {place: firsts.total()})
    return [key.rstrip(".") or TOP for key, _ in counts.most_common()]


def _listed(keys: Sequence[str]) -> str:
    more = f", … ({len(keys) - MOST_LISTED} more)" if len(keys) > MOST_LISTED else ""
    return ", ".join(map(_shown, keys[:MOST_LISTED])) + more


def _shown(key: str) -> str:
    """A key in quotes, on one line and not too long."""
    return repr(key if len(key) <= LONGEST_SHOWN else f"{key[:LONGEST_SHOWN]}…")
