"""The tidy table → the tables that a person reads: one per teacher → student pair, cells as text."""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from reporting.table import GROUP, PAIR

LEGEND = (
    "The figure is the last epoch's test accuracy (top-1, %), mean ± sample standard deviation over (n) trials; "
    "the teacher's is over its distinct checkpoints. The best epoch is shown beside it and is chosen on the test set. "
    "Gain is over the student alone. Bold marks the best last-epoch mean."
)
NAMES = {"teacher": "teacher", "student": "student alone"}


@dataclass(frozen=True)
class Shown:
    """One table on the page: `heading` is shared by neighbours, `bold` are positions of rows."""

    heading: str
    title: str
    cells: pd.DataFrame
    bold: frozenset[int] = frozenset()


def arrange(table: pd.DataFrame) -> Iterator[Shown]:
    """The tables in reading order: by data set and protocol, then frozen backbones, then networks trained alone."""
    for place, of_dataset in table.groupby(GROUP[:3], sort=False):
        dataset = "{}, {} classes, {}×{}".format(*place, place[-1])
        probes, networks = of_dataset.role == "probe", of_dataset.role == "network"
        pairs = of_dataset[~(probes | networks)]
        for (_, _, _, protocol_id, teacher, student), pair in pairs.groupby(PAIR, sort=False):
            heading = f"{dataset}: {pair.protocol.iloc[0]} [{protocol_id}]"
            title = f"{teacher} → {student}" if teacher else f"{student}, no teacher"
            yield Shown(heading, title, _pair_cells(pair), _best(pair))
        for protocol_id, frozen in of_dataset[probes].groupby("protocol_id", sort=False):
            heading = f"{dataset}: {frozen.protocol.iloc[0]} [{protocol_id}]"
            yield Shown(heading, "frozen backbones, new classifier", _probe_cells(frozen))
        if networks.any():
            yield Shown(dataset, "networks trained alone", _network_cells(of_dataset[networks]))


def _pair_cells(pair: pd.DataFrame) -> pd.DataFrame:
    rows = [
        {
            "method": NAMES.get(row.role, row.method),
            "last top-1 (n)": _spread(row.last_mean, row.last_std, row.n),
            "best top-1": _number(row.best_mean),
            "gain": _gain(row.gain),
        }
        for row in pair.itertuples()
    ]
    return pd.DataFrame(rows)


def _probe_cells(frozen: pd.DataFrame) -> pd.DataFrame:
    rows = [
        {
            "model": row.student,
            "trained by": row.method,
            "last top-1 (n)": _spread(row.last_mean, row.last_std, row.n),
            "best top-1": _number(row.best_mean),
            "gain over none": _gain(row.gain),
        }
        for row in frozen.itertuples()
    ]
    return pd.DataFrame(rows)


def _network_cells(networks: pd.DataFrame) -> pd.DataFrame:
    ambiguous = networks.protocol.nunique() < networks.protocol_id.nunique()
    rows = [
        {
            "model": row.student,
            "last top-1 (n)": _spread(row.last_mean, row.last_std, row.n),
            "best top-1": _number(row.best_mean),
            "parameters": f"{row.parameters:,}",
            "protocol": f"{row.protocol} [{row.protocol_id}]" if ambiguous else row.protocol,
        }
        for row in networks.sort_values(["student", "last_mean"], ascending=[True, False]).itertuples()
    ]
    return pd.DataFrame(rows)


def _best(pair: pd.DataFrame) -> frozenset[int]:
    """The best student rows, all of those that print alike; one row alone is no contest."""
    shown = pair.last_mean.round(2).where(pair.role != "teacher").to_numpy(dtype=float)
    if (pair.role != "teacher").sum() < 2:
        return frozenset()
    return frozenset(i for i, value in enumerate(shown) if value == pd.Series(shown).max())


def _spread(mean: float, std: float, n: int) -> str:
    return f"{_number(mean)} ± {_number(std) or '–'} ({n})"


def _gain(value: float) -> str:
    return "" if pd.isna(value) else f"{round(value, 2) + 0.0:+.2f}"  # + 0.0 mends "-0.00"


def _number(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.2f}"
