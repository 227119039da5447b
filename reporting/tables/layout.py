"""The tidy table → the tables that a person reads: by teacher → student pair, over all pairs, and what it cost."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from common.messages import counted
from reporting.tables.averages import across_pairs
from reporting.tables.statistics import BOOTSTRAP_TRIALS, CONFIDENCE, TESTED, TOO_FEW, as_printed
from reporting.tables.table import GROUP, PAIR, REFERENCE

NAMES = {"teacher": "teacher", "student": "student alone"}
ALPHA = 0.05
BEST, SECOND = "best", "second"
SIGNIFICANT = " †"
LONGEST_NAME = 50  # letters of a method's name in a sentence, which cannot be folded as a cell can
# By what the figure is: its column, the column beside it, and what a heading has to add.
FIGURES = {
    "last": ("last top-1 (n)", ("best top-1", "best_mean"), ""),
    "best": ("best top-1 (n)", ("last top-1", "last_mean"), "; the best epoch, chosen on the test set"),
    "validation": ("top-1 (n)", ("last top-1", "last_mean"), "; the epoch chosen on held-out training images"),
}


@dataclass(frozen=True)
class Shown:
    """One table on the page.

    Attributes:
        heading: shared by neighbours.
        cells: text; the first column names the row.
        marks: BEST or SECOND by (row, column), both positions.
        optional: columns that a narrow page leaves out, the first one first.
        note: a sentence that belongs below.
    """

    heading: str
    title: str
    cells: pd.DataFrame
    marks: Mapping[tuple[int, int], str] = field(default_factory=dict)
    optional: tuple[str, ...] = ()
    note: str = ""

    def only(self, rows: Sequence[int]) -> "Shown":
        """The table with these rows, by position, and the marks that they have in the whole one."""
        place = {row: new for new, row in enumerate(rows)}
        marks = {(place[row], column): mark for (row, column), mark in self.marks.items() if row in place}
        return replace(self, cells=self.cells.iloc[list(rows)].reset_index(drop=True), marks=marks)


def legend(table: pd.DataFrame) -> str:
    """What the columns mean, as far as they are there."""
    if table.empty:
        return ""
    epoch = {
        "last": "the last epoch's test accuracy (top-1, %)",
        "best": "the test accuracy (top-1, %) of the epoch that is best on the test set, which flatters it",
        "validation": "the test accuracy (top-1, %) of the epoch that is best on held-out training images",
    }[table.selection.iloc[0]]
    parts = [
        f"The figure is {epoch}, mean ± sample standard deviation over (n) trials; "
        "the teacher's is over its distinct checkpoints."
    ]
    if table.selection.iloc[0] == "last":
        parts.append("The best epoch is shown beside it and is chosen on the test set.")
    if table.gain.notna().any():
        parts.append("Gain is over the student alone, in points.")
    if table.gap_recovered.notna().any():
        parts.append("Gap is the share of the way from the student alone to the teacher that is covered.")
    if (table[["gain_test", "kd_test"]] == TESTED).any(axis=None):
        parts.append(
            f"† marks a difference to the student alone or to {REFERENCE} with p < {ALPHA} by Welch's t-test after "
            "Holm's correction over all methods of the pair, tested and shown or not; it takes 2 trials on both sides."
        )
    if (table.kd_test == TESTED).any():
        parts.append(
            f"The {CONFIDENCE:.0%} interval is Welch's, of one difference by itself; the bootstrap's takes "
            f"{BOOTSTRAP_TRIALS} trials on both sides."
        )
    parts.append("Bold marks the best mean, italics or underlining the second best.")
    if table.peak_memory_mib.notna().any():
        parts.append("Peak memory is that of the process, which the runs of one command share.")
    if table.seconds_per_epoch.notna().any():
        parts.append("Seconds are as recorded, and compare only where nothing else ran beside the runs.")
    return " ".join(parts)


def arrange(table: pd.DataFrame, top: int | None = None) -> Iterator[Shown]:
    """The tables in reading order: by data set and protocol, then frozen backbones, then networks trained alone.

    Args:
        top: how many methods a table of methods shows, the best ones, beside `kd` and the student alone; None: all.
    """
    for place, of_dataset in table.groupby(GROUP[:4], sort=False):
        dataset = "{}, {} classes, {}×{}".format(*place[:3], place[2]) + (f", {place[3]}" if place[3] else "")
        probes, networks = of_dataset.role == "probe", of_dataset.role == "network"
        for _, of_protocol in of_dataset[~(probes | networks)].groupby("protocol_id", sort=False):
            yield from _protocol_tables(_heading(dataset, of_protocol), of_protocol, top)
        for _, frozen in of_dataset[probes].groupby("protocol_id", sort=False):
            yield Shown(_heading(dataset, frozen), "frozen backbones, new classifier", _probe_cells(frozen))
        if networks.any():
            heading = dataset + FIGURES[of_dataset.selection.iloc[0]][2]
            yield Shown(heading, "networks trained alone", _network_cells(of_dataset[networks]))


def _heading(dataset: str, rows: pd.DataFrame) -> str:
    row = rows.iloc[0]
    return f"{dataset}: {row.protocol} [{row.protocol_id}]{FIGURES[row.selection][2]}"


def _protocol_tables(heading: str, rows: pd.DataFrame, top: int | None) -> Iterator[Shown]:
    pairs = []
    for _, pair in rows.groupby(PAIR, sort=False):
        kept = _leading(pair, top)
        yield _shortened(_pair(heading, pair, kept), kept, top)
        pairs.append(pair.iloc[kept])
        if not set(pair.kd_test.dropna()) <= {TOO_FEW}:
            yield _tests(heading, pair.iloc[kept])
    if sum((pair.role == "method").any() for pair in pairs) > 1:
        yield _summary(heading, rows, top)
    for pair in pairs:
        measured = pair[(pair.role != "teacher") & pair[["seconds_per_epoch", "peak_memory_mib"]].notna().any(axis=1)]
        if not measured.empty:
            note = "; ".join(sorted(set(filter(None, measured.hardware))))
            yield Shown(heading, f"{_title(pair)}: cost", _cost_cells(measured), note=note and f"Measured on {note}.")


def _title(pair: pd.DataFrame) -> str:
    teacher, student = pair.teacher.iloc[0], pair.student.iloc[0]
    return f"{teacher} → {student}" if teacher else f"{student}, no teacher"


def _leading(pair: pd.DataFrame, top: int | None) -> list[int]:
    """The positions of all rows but the methods behind the `top` best ones; the reference stays and is none of them."""
    if top is None:
        return list(range(len(pair)))
    others = (pair.role == "method") & (pair.method != REFERENCE)
    figures = pd.Series(as_printed(pair.top1_mean.where(others)), index=pair.index)
    place = figures.rank(method="min", ascending=False)
    return np.flatnonzero(~others | (place <= min(top, len(pair)))).tolist()


def _shortened(shown: Shown, kept: list[int], top: int | None) -> Shown:
    """With these rows only, and a word on those that are missing. Marks and tests are those of the whole table."""
    hidden = len(shown.cells) - len(kept)
    if not hidden:
        return shown
    note = f"{hidden} more without --top {top}."
    return replace(shown.only(kept), note=f"{note} {shown.note}".strip())


def _pair(heading: str, pair: pd.DataFrame, kept: list[int]) -> Shown:
    """The whole table, with what is to be said of the rows that are `kept`."""
    figure, (beside, column), _ = FIGURES[pair.selection.iloc[0]]
    against = f"vs {REFERENCE}"
    rows = [
        {
            "method": NAMES.get(row.role, row.method),
            figure: _spread(row.top1_mean, row.top1_std, row.n),
            beside: number(getattr(row, column)) if row.role != "teacher" else "",
            "top-5": number(row.top5_mean),
            "gain": signed(row.gain) + (SIGNIFICANT if row.gain_p_holm < ALPHA else ""),
            against: signed(row.gain_over_kd) + (SIGNIFICANT if row.kd_p_holm < ALPHA else ""),
            "gap %": number(row.gap_recovered, 1),
        }
        for row in pair.itertuples()
    ]
    marks = {}
    for row, mark in ranked(pair.top1_mean.where(pair.role.isin(["student", "method"]))).items():
        marks[row, 1] = mark
        if mark == BEST:
            marks[row, 0] = mark
    notes = [*_about_initial_stages(pair.iloc[kept]), *_about_references(pair)]
    tests = {"the student alone": pair.gain_test, REFERENCE: pair.kd_test}
    if untested := [name for name, verdicts in tests.items() if set(verdicts.dropna()) == {TOO_FEW}]:
        others = " and to ".join(untested)
        notes.append(f"The difference to {others}: {TOO_FEW} for a test (it takes 2 trials of both).")
    cells = _without_empty(pd.DataFrame(rows))
    optional = ("top-5", "gap %", against, beside)
    return Shown(heading, _title(pair), cells, marks, optional, " ".join(notes))


def _about_initial_stages(pair: pd.DataFrame) -> Iterator[str]:
    """Which methods trained for longer than the heading says."""
    staged = pair[pair.initial_epochs > 0]
    for epochs, methods in staged.groupby("initial_epochs"):
        subject = f"{', '.join(sorted(methods.method))} {'train' if len(methods) > 1 else 'trains'}"
        yield f"{subject} {counted(int(epochs), 'epoch')} more than the heading says, an initial stage."


def _about_references(pair: pd.DataFrame) -> Iterator[str]:
    """What the methods of a pair could not be compared with, and what mends that."""
    means = pair.set_index("role").top1_mean
    if "method" not in means:
        return
    if "student" not in means:
        yield "No gain and no gap: no run of the student alone is among these (--distill none)."
    elif "teacher" in means and not np.subtract(*as_printed(means[["teacher", "student"]])) > 0:
        yield "No gap: the teacher is not above the student alone."
    if REFERENCE not in set(pair.method):
        yield f"Nothing is tested against {REFERENCE}: no run of it is among these (--distill {REFERENCE})."


def _tests(heading: str, pair: pd.DataFrame) -> Shown:
    """Differences to the reference with their interval and p-values; methods with too few trials are but named."""
    rows = [
        {
            "method": row.method,
            "difference": signed(row.gain_over_kd),
            f"{CONFIDENCE:.0%} interval": _interval(row.kd_low, row.kd_high),
            "p (Welch)": p_value(row.kd_p) if row.kd_test == TESTED else row.kd_test,
            "p (Holm)": p_value(row.kd_p_holm),
            "bootstrap": _interval(row.kd_bootstrap_low, row.kd_bootstrap_high),
        }
        for row in pair[pair.kd_test.notna() & (pair.kd_test != TOO_FEW)].itertuples()
    ]
    untested = [_short(name) for name in pair.method[pair.kd_test == TOO_FEW]]
    note = f"{', '.join(untested)}: {TOO_FEW} for a test (it takes 2 trials of both)." if untested else ""
    return Shown(heading, f"{_title(pair)}: difference to {REFERENCE}", _without_empty(pd.DataFrame(rows)), note=note)


def _summary(heading: str, rows: pd.DataFrame, top: int | None) -> Shown:
    """A column per pair, then the averages over the pairs that `summary.without_holes` chooses."""
    methods = rows[rows.role == "method"]
    figures, averages = _by_rank(methods)
    columns = [pair for pair in dict.fromkeys(zip(rows.teacher, rows.student, strict=True)) if pair in figures.columns]
    above = [across_pairs(rows[rows.role == role]).reindex(columns=columns) for role in NAMES]
    above = [part.set_axis([NAMES[role]] * len(part)) for role, part in zip(NAMES, above, strict=True)]
    whole = pd.concat([*above, figures[columns]])
    cells, marks = pd.DataFrame({"method": whole.index}), {}
    skip = len(whole) - len(figures)
    of_students = np.arange(len(whole)) >= len(above[0])  # all rows below the teachers'
    for position, pair in enumerate(columns, 1):
        cells[" → ".join(filter(None, pair))] = whole[pair].map(number).to_numpy()
        marks |= {(row, position): mark for row, mark in ranked(whole[pair].where(of_students)).items()}
    for name, column, sign in (("rank", "average_rank", -1), (f"ARI over {REFERENCE} %", "ari", 1)):
        if averages[column].notna().any():
            shown = signed if column == "ari" else number
            marks |= {(skip + row, len(cells.columns)): mark for row, mark in ranked(sign * averages[column]).items()}
            cells[name] = [""] * skip + [shown(value) for value in averages[column]]
    others = averages.average_rank.drop(REFERENCE, errors="ignore")
    # Methods without a rank come last, each in a place of its own.
    place = others.rank(method="min").fillna(pd.Series(range(1, len(others) + 1), others.index, dtype=float))
    kept = [row for row, name in enumerate(cells.method) if top is None or row < skip or place.get(name, 0) <= top]
    whole_table = Shown(heading, "all pairs", cells, marks, note=_about_averages(averages, len(columns)))
    return _shortened(whole_table, kept, top)


def _by_rank(methods: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Mean figures, methods × pairs, and the methods' averages, both with the best average rank first."""
    figures = across_pairs(methods)
    averages = methods.groupby("method")[["average_rank", "ari", "common_pairs"]].first()
    order = averages.assign(pairs=-figures.count(axis=1), mean=-figures.mean(axis=1))
    order = order.sort_values(["average_rank", "pairs", "mean"]).index
    return figures.loc[order], averages.loc[order]


def _about_averages(averages: pd.DataFrame, pairs: int) -> str:
    ranked_methods = averages[averages.average_rank.notna()]
    if ranked_methods.empty:
        return "No 2 methods share 2 pairs, so there are no averages."
    common, others = int(ranked_methods.common_pairs.iloc[0]), len(averages) - len(ranked_methods)
    note = f"Rank is the average over {common} of {pairs} pairs" + (
        f" among the {len(ranked_methods)} methods that have all of these; the others have none."
        if others
        else ", which all methods have."
    )
    if averages.ari.notna().any():
        note += (
            f" ARI is the average over the same M pairs of the improvement relative to {REFERENCE}'s own: "
            f"100/M · Σ (method − {REFERENCE}) / ({REFERENCE} − student alone)."
        )
    elif REFERENCE in ranked_methods.index:
        note += f" ARI takes a gain of {REFERENCE} over the student alone on each of these pairs."
    return note


def _cost_cells(measured: pd.DataFrame) -> pd.DataFrame:
    rows = [
        {
            "method": NAMES.get(row.role, row.method),
            "s/epoch": number(row.seconds_per_epoch, 1 if row.seconds_per_epoch >= 10 else 2),
            "initial s": number(row.initial_seconds, 0),
            "images/s": number(row.images_per_second, 0),
            "peak MiB": number(row.peak_memory_mib, 0),
            "extra parameters": "" if pd.isna(row.method_parameters) else f"{row.method_parameters:,}",
        }
        for row in measured.itertuples()
    ]
    return _without_empty(pd.DataFrame(rows))


def _probe_cells(frozen: pd.DataFrame) -> pd.DataFrame:
    figure, (beside, column), _ = FIGURES[frozen.selection.iloc[0]]
    rows = [
        {
            "model": row.student,
            "trained by": row.method,
            figure: _spread(row.top1_mean, row.top1_std, row.n),
            beside: number(getattr(row, column)),
            "gain over none": signed(row.gain),
        }
        for row in frozen.itertuples()
    ]
    return pd.DataFrame(rows)


def _network_cells(networks: pd.DataFrame) -> pd.DataFrame:
    figure, (beside, column), _ = FIGURES[networks.selection.iloc[0]]
    ambiguous = networks.protocol.nunique() < networks.protocol_id.nunique()
    rows = [
        {
            "model": f"{row.student} {row.method}".strip(),
            figure: _spread(row.top1_mean, row.top1_std, row.n),
            beside: number(getattr(row, column)),
            "parameters": f"{row.parameters:,}",
            "protocol": f"{row.protocol} [{row.protocol_id}]" if ambiguous else row.protocol,
        }
        for row in networks.sort_values(["student", "top1_mean"], ascending=[True, False]).itertuples()
    ]
    return pd.DataFrame(rows)


def ranked(figures: pd.Series) -> dict[int, str]:
    """BEST and SECOND by position: all figures that print alike share a mark; it takes 2 rows for a best, 3 for both.

    NaN takes no part.
    """
    shown = as_printed(figures)
    levels = np.unique(shown[~np.isnan(shown)])[::-1]
    marks = {}
    if np.count_nonzero(~np.isnan(shown)) >= 2:
        marks |= {int(row): BEST for row in np.flatnonzero(shown == levels[0])}
    if np.count_nonzero(~np.isnan(shown)) >= 3 and len(levels) > 1:
        marks |= {int(row): SECOND for row in np.flatnonzero(shown == levels[1])}
    return marks


def _without_empty(cells: pd.DataFrame) -> pd.DataFrame:
    """Without columns that say nothing in any row; the first two stay."""
    return cells[[name for i, name in enumerate(cells) if i < 2 or (cells[name] != "").any()]]


def _spread(mean: float, std: float, n: int) -> str:
    return f"{number(mean)} ± {number(std) or '–'} ({n})"


def signed(value: float) -> str:
    """Two decimals with a sign; nothing for NaN."""
    return "" if pd.isna(value) else f"{round(float(value), 2) + 0.0:+.2f}"  # + 0.0 mends "-0.00"


def number(value: float, decimals: int = 2) -> str:
    """So many decimals; nothing for NaN."""
    return "" if pd.isna(value) else f"{round(float(value), decimals) + 0.0:,.{decimals}f}"


def _short(name: str) -> str:
    """A name as it may stand in a sentence."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _interval(low: float, high: float) -> str:
    return "" if np.isnan(low) else f"{signed(low)} … {signed(high)}"


def p_value(p: float) -> str:
    """Three decimals, which never round a significant p up to ALPHA; nothing for NaN."""
    if np.isnan(p) or p < 0.001:
        return "" if np.isnan(p) else "< 0.001"
    text = f"{p:.3f}"
    return f"< {text}" if p < ALPHA <= float(text) else text
