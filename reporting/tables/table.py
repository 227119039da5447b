"""Finished runs → one tidy table with a row for each data set, protocol, teacher, student and method."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd

from reporting.records.run import Run, Size, Teacher
from reporting.records.selection import Entry
from reporting.tables.averages import add_averages
from reporting.tables.columns import BALANCED, COLUMNS, COSTS, FIGURES, GROUP, LATENCY, LISTS, PAIR, ROLES, ROW, SIZES
from reporting.tables.comparisons import add_comparisons
from reporting.tables.ranking import ranked

WHOLE_NUMBERS = (
    *("n", "methods", "initial_epochs", "parameters", "method_parameters", "common_pairs"),
    *("validation_images", "test_images", *SIZES),
)
MIXED = "; "  # between the names of several kinds of hardware


def tabulate(
    entries: Sequence[Entry], selection: str = "last", methods: Mapping[tuple, int] | None = None
) -> pd.DataFrame:
    """Returns the tidy table, with the columns of `columns.COLUMNS`.

    `role` is "teacher" (the checkpoints that taught), "student" (the student alone), "former" (the student alone, by
    other code than the last), "method", "network" for a network trained alone as a teacher, or "probe" for a new
    classifier on a frozen network; `method` then says how that network was trained. Standard deviations are sample
    ones (ddof=1).

    | columns | |
    |---|---|
    | `top1_*`, `top5_mean`, `values` | the figure: test accuracy (%) of the epoch that `selection` names |
    | `last_*`, `best_*` | test accuracy (%) after the last epoch and after the best one on the test set |
    | `gain`, `gain_over_kd`, `gap_recovered` | over the student alone (points), over `kd` (points), of the gap (%) |
    | `gain_*`, `kd_*` | tests of these differences: see `statistics.compare_means`; `*_holm` over the pair's methods |
    | `common_pairs`, `average_rank`, `ari` | over the pairs that all methods have: see `averages` |
    | `validation_mean`, `validation_std` | accuracy (%) of the same epoch on the images that were held out |
    | `validation_images`, `test_images` | how many images these are; empty where runs differ or do not say |
    | `balanced_mean` | mean accuracy (%) of the classes, each counting once, of the figure's epoch |
    | `uneven_classes` | whether the classes of the test set are known to have unequal numbers of images |
    | `checkpoint` | of a teacher: the epoch that its file is of, where the file's name says so |
    | `macs`, `file_bytes` | multiply-accumulates of one image; bytes of the weights file |
    | `latency_*` | ms of one image, its share of the teacher's, and where it was measured: see `records.latency` |
    | `methods` | how many methods the pair has, those left out of the table too |

    Args:
        entries: each trial once: see `repetitions.count_once`.
        methods: number of methods of each pair, as `methods_by_pair` counts them before runs are left out.
    """
    if not entries:
        return pd.DataFrame(columns=COLUMNS)
    rows = pd.DataFrame(_rows(entries, methods or {}))
    table = pd.concat([_aggregate(rows), _teachers(entries)], ignore_index=True)
    table["checkpoint"] = table.checkpoint.fillna("")
    table["uneven_classes"] = table.uneven_classes.astype(bool)
    table["selection"] = selection
    table["methods"] = table.groupby(PAIR).methods.transform("max")
    table = add_averages(add_comparisons(table))
    protocols = rows.groupby(GROUP, as_index=False).protocol.first()
    table["protocol"] = table.merge(protocols, how="left", on=GROUP).protocol.to_numpy()
    for name in WHOLE_NUMBERS:
        table[name] = table[name].astype("Int64")
    return _sorted(table)[COLUMNS].reset_index(drop=True)


def methods_by_pair(entries: Sequence[Entry]) -> dict[tuple, int]:
    """Returns the number of methods of each pair: leaving out rows afterwards must make nothing more significant."""
    labels: dict[tuple, set[str]] = defaultdict(set)
    for row in _rows(entries, {}):
        if row["role"] == "method":
            labels[tuple(row[name] for name in PAIR)].add(row["method"])
    return {pair: len(names) for pair, names in labels.items()}


def _rows(entries: Sequence[Entry], methods: Mapping[tuple, int]) -> Iterator[dict[str, Any]]:
    """Yields a row per run and pair: a student alone has no teacher and so belongs to every pair of that student."""
    pairs: dict[tuple, set[str]] = defaultdict(set)
    for entry in entries:
        if entry.run.kind == "student" and entry.run.method != "none":
            pairs[entry.place, entry.run.model].add(entry.run.teacher)
    for entry in entries:
        run, alone = entry.run, entry.run.kind == "student" and entry.run.method == "none"
        of_all_groups = Entry(run, entry.figure).place  # what `methods` counts by: `--by` splits no methods
        for teacher in (pairs[entry.place, run.model] or {""}) if alone else {run.teacher}:
            yield {
                **dict(zip(GROUP, entry.place, strict=True)),
                "protocol": run.protocol,
                "teacher": teacher,
                "student": run.model,
                "role": _role(run),
                "method": run.label,
                "trial": run.trial,
                "seed": run.seed,
                "top1": entry.figure.top1,
                "top5": entry.figure.top5,
                "balanced": entry.figure.balanced,
                "uneven_classes": run.uneven_classes,
                "last": run.last.top1,
                "best": run.best.top1,
                "validation": entry.validation,
                "validation_images": run.held_out_images,
                "test_images": run.test_images,
                "path": run.path,
                "methods": methods.get((*of_all_groups, run.teacher, run.model), 0),
                **{name: getattr(run.costs, name) for name in (*COSTS, *SIZES)},
                **_latency(run, teacher),
            }


def _latency(run: Run, teacher: str) -> dict[str, Any]:
    """Returns the latency beside a teacher; a student alone may have been measured beside another one."""
    found = run.costs.latency
    if found is None or (not run.teachers and found.teacher != teacher):
        return {**dict.fromkeys(LATENCY), "latency_hardware": ""}
    return dict(zip(LATENCY, (found.ratio, found.student_ms, found.teacher_ms, found.hardware), strict=True))


def _role(run: Run) -> str:
    if run.kind != "student":
        return {"teacher": "network", "probe": "probe"}[run.kind]
    if run.method != "none":
        return "method"
    if run.former_code:
        return "former"
    return "student" if run.label == "none" else "method"  # with other weights than its own it is no baseline


def _aggregate(rows: pd.DataFrame) -> pd.DataFrame:
    measured = (
        *("top5", "balanced", "seconds_per_epoch", "initial_seconds", "images_per_second", "peak_memory_mib"),
        *("validation", "validation_images", "test_images", *LATENCY[:3]),
    )
    rows = rows.astype({**dict.fromkeys(measured, float), **dict.fromkeys(("method_parameters", *SIZES), "Int64")})
    table = rows.groupby(ROW, as_index=False).agg(
        n=("top1", "size"),
        trials=("trial", list),
        seeds=("seed", list),
        values=("top1", list),
        top1_mean=("top1", "mean"),
        top1_std=("top1", "std"),
        top5_mean=("top5", lambda figures: figures.mean(skipna=False)),  # of all trials, as top-1, or not at all
        balanced_mean=("balanced", lambda figures: figures.mean(skipna=False)),
        uneven_classes=("uneven_classes", "any"),
        last_mean=("last", "mean"),
        last_std=("last", "std"),
        best_mean=("best", "mean"),
        best_std=("best", "std"),
        seconds_per_epoch=("seconds_per_epoch", "mean"),
        initial_epochs=("initial_epochs", "max"),
        initial_seconds=("initial_seconds", "mean"),
        images_per_second=("images_per_second", "mean"),
        peak_memory_mib=("peak_memory_mib", "max"),
        parameters=("parameters", "first"),
        method_parameters=("method_parameters", "first"),
        hardware=("hardware", _joined),
        paths=("path", list),
        methods=("methods", "max"),
        validation_mean=("validation", lambda figures: figures.mean(skipna=False)),
        validation_std=("validation", lambda figures: figures.std(skipna=False)),
        validation_images=("validation_images", _the_one),
        test_images=("test_images", _the_one),
        macs=("macs", "first"),
        file_bytes=("file_bytes", "first"),
        latency_ratio=("latency_ratio", "mean"),
        latency_ms=("latency_ms", "mean"),
        teacher_latency_ms=("teacher_latency_ms", "mean"),
        latency_hardware=("latency_hardware", _joined),
    )
    # Times of several machines have no mean.
    table.loc[table.latency_hardware.str.contains(MIXED, regex=False), LATENCY[:3]] = np.nan
    return table


def _joined(names: pd.Series) -> str:
    """Returns the names of the hardware that the trials of a row were measured on."""
    return MIXED.join(sorted(set(filter(None, names))))


def _the_one(values: pd.Series) -> float:
    """Returns the value that all runs of a row have; NaN where they differ or one does not say."""
    return float(values.iloc[0]) if values.nunique(dropna=False) == 1 else np.nan


def _teachers(entries: Iterable[Entry]) -> pd.DataFrame:
    """Returns a row per pair over the distinct checkpoints that taught it, however many runs each one taught."""
    checkpoints: dict[tuple, dict[str, Teacher]] = defaultdict(dict)
    ensembles, uneven = set(), set()
    for entry in entries:
        pair = (*entry.place, entry.run.teacher, entry.run.model)
        for teacher in entry.run.teachers:
            known = checkpoints[pair].setdefault(teacher.sha256, teacher)
            if known.size == Size():  # older records do not say
                checkpoints[pair][teacher.sha256] = replace(known, size=teacher.size)
        if len(entry.run.teachers) > 1:
            ensembles.add(pair)
        if entry.run.uneven_classes:
            uneven.add(pair)
    rows = []
    for pair, by_hash in checkpoints.items():
        accuracies = [accuracy for key in sorted(by_hash) if (accuracy := by_hash[key].accuracy)]
        top1 = pd.Series([accuracy.top1 for accuracy in accuracies], dtype=float)
        top5 = pd.Series([accuracy.top5 for accuracy in accuracies], dtype=float)
        balanced = pd.Series([accuracy.balanced for accuracy in accuracies], dtype=float).mean(skipna=False)
        # Teachers that taught together are no sample of anything.
        mean, std = top1.mean(), np.nan if pair in ensembles else top1.std()
        figures = {"top1_mean": mean, "top1_std": std, "last_mean": mean, "last_std": std, "top5_mean": top5.mean()}
        epochs = {teacher.epoch for teacher in by_hash.values()}
        row = {**dict(zip(PAIR, pair, strict=True)), "role": "teacher", "method": "teacher", "n": len(top1)}
        row |= {"balanced_mean": balanced, "uneven_classes": pair in uneven}
        row["checkpoint"] = epochs.pop() if len(epochs) == 1 else ""
        sizes = {teacher.size for teacher in by_hash.values()}
        row |= asdict(sizes.pop() if len(sizes) == 1 else Size())
        row |= {"hardware": "", "latency_hardware": "", "trials": [], "seeds": [], "values": top1.tolist(), "paths": []}
        rows.append({**row, **figures})
    columns = [*ROW, "n", *FIGURES[1:6], "hardware", *LISTS, "checkpoint", *BALANCED]
    columns += ["parameters", *SIZES, "latency_hardware"]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(("parameters", *SIZES), "Int64"))


def _sorted(table: pd.DataFrame) -> pd.DataFrame:
    """Returns the table in reading order: by pair, role and falling accuracy."""
    keys = ["dataset", "num_classes", "image_size", "group", "protocol", "protocol_id", "teacher", "student", "order"]
    ascending = [True] * len(keys) + [False, True]
    table = table.assign(order=table.role.map(ROLES.index), ranked=ranked(table))
    return table.sort_values([*keys, "ranked", "method"], ascending=ascending, key=_by_number)


def _by_number(column: pd.Series) -> pd.Series:
    """Returns sort keys by which 2 epochs come before 12 in groups and protocols."""
    if column.name not in ("group", "protocol"):
        return column
    parts = column.map(lambda text: re.split(r"(\d+(?:\.\d+)?)", text))
    return parts.map(lambda part: tuple(float(text) if i % 2 else text for i, text in enumerate(part)))
