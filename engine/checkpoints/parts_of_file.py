"""The parts of a file that may be a network's weights: prefixes of names behind which all its parameters are."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch

from engine.checkpoints.tensors_in_file import Held, is_averaged
from models import Network

MOST_PARTS, MOST_PIECES = 32, 4
TOP = "."  # as a key: the top level of the file

Tensors = Mapping[str, Held]
Matches = dict[str, set[str]]  # prefix → names of the network that are found behind it


@dataclass(frozen=True)
class Wanted:
    """The entries of a network's state dict.

    Attributes:
        shapes: of all entries.
        required: entries that a file must have.
        ignored: last parts of names that authors' files hold and the network computes.
    """

    shapes: Mapping[str, torch.Size]
    required: frozenset[str]
    ignored: Collection[str] = ()

    @classmethod
    def by(cls, network: Network, with_classifier: bool = True) -> "Wanted":
        """What a file must have for a network; the last linear layer may be of other classes or missing if it says so.

        Checkpoints of PyTorch 0.4.0 have no count of batches.
        """
        shapes = {name: value.shape for name, value in network.state_dict().items()}
        required = (
            name
            for name in shapes
            if not name.endswith("num_batches_tracked") and (with_classifier or not network.of_classifiers(name))
        )
        return cls(shapes, frozenset(required), network.constants)

    def knows(self, name: str, held: Held) -> bool:
        """True for an entry of the network, and for what may lie beside its entries."""
        return name in self.shapes or name.rpartition(".")[2] in self.ignored or held.is_counter()


@dataclass(frozen=True)
class Part:
    """A part of a file that has all parameters of a network.

    Attributes:
        prefixes: behind which they are, together.
        without: prefixes within these behind which other such parts are.
    """

    prefixes: tuple[str, ...]
    without: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Where it is, for messages and as a choice."""
        return self.prefixes[0].rstrip(".") or TOP

    def name_of(self, full: str) -> str | None:
        """The name of a tensor behind the longest prefix that it has; None if it has none."""
        prefix = max((p for p in self.prefixes if full.startswith(p)), key=len, default=None)
        return None if prefix is None or full.startswith(self.without) else full[len(prefix) :]

    def tensors(self, tensors: Tensors) -> dict[str, tuple[str, Held]]:
        """Full name → own name and tensor, of all that is in the dictionaries of the weights."""
        own = {full: (name, held) for full, held in tensors.items() if (name := self.name_of(full)) is not None}
        # Dictionaries below the weights' own are others, unless the weights are a dictionary for each layer.
        depth = len(self.prefixes[0])
        direct = {full: pair for full, pair in own.items() if len(pair[1].place) <= depth}
        return direct if direct and len(self.prefixes) == 1 else own


def candidates(tensors: Tensors, wanted: Wanted) -> list[Part]:
    """The parts that have all required entries: with the right shapes and nothing else, if that is possible."""
    for shapes_too in (True, False):
        matches = matches_of(tensors, wanted, shapes_too)
        prefixes = [prefix for prefix, names in matches.items() if wanted.required <= names]
        if prefixes:
            whole = [Part((p,), tuple(q for q in prefixes if q != p and q.startswith(p))) for p in prefixes]
            averages = [part for part in whole if is_averaged(part.key)]
            plain = [part for part in whole if part not in averages]
            return _cleanest(plain, tensors, wanted) + _cleanest(averages, tensors, wanted)
        if pieces := _pieces(tensors, matches, wanted):
            return [Part(pieces)]
    return []


def _cleanest(parts: list[Part], tensors: Tensors, wanted: Wanted) -> list[Part]:
    """Those with nothing unknown in them; the first if there are none, which shows what is wrong."""
    clean = [part for part in parts if all(wanted.knows(*pair) for pair in part.tensors(tensors).values())]
    return clean or parts[:1]


def matches_of(tensors: Tensors, wanted: Wanted, shapes_too: bool) -> Matches:
    """For each prefix the names of the network that are found behind it, with `shapes_too` in the right shape."""
    matches: Matches = {}
    for name, held in tensors.items():
        parts = name.split(".", MOST_PARTS)
        for cut in range(len(parts)):
            end = ".".join(parts[cut:])
            if end in wanted.shapes and not (shapes_too and held.shape != wanted.shapes[end]):
                matches.setdefault(name.removesuffix(end), set()).add(end)
    return matches


def _pieces(tensors: Tensors, matches: Matches, wanted: Wanted) -> tuple[str, ...]:
    """Prefixes that have all entries together, each once and nothing else (`backbone.` and `head.`); () if none do."""
    pieces: list[str] = []
    missing = set(wanted.required)
    while missing:
        counts = Counter({prefix: len(names & missing) for prefix, names in matches.items()}).most_common(2)
        if not counts or not counts[0][1] or len(pieces) == MOST_PIECES:
            return ()
        if len(counts) > 1 and counts[0][1] == counts[1][1]:
            return ()
        pieces.append(counts[0][0])
        missing -= matches[counts[0][0]]
    used: Counter[str] = Counter(name for prefix in pieces for name in matches[prefix] & wanted.required)
    pairs = Part(tuple(pieces)).tensors(tensors).values()
    return tuple(pieces) if max(used.values()) == 1 and all(wanted.knows(*pair) for pair in pairs) else ()
