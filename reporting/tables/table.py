"""Finished runs → one tidy table, a row per data set, protocol, teacher, student and method label."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from reporting.records.code_versions import notes_on_code
from reporting.records.runs import Run
from reporting.records.untrusted_json import printable
from reporting.tables.averages import add_averages
from reporting.tables.statistics import SHARED_SEEDS, Difference, compare_means, gap_recovered, holm

GROUP = ["dataset", "num_classes", "image_size", "group", "protocol_id"]  # runs compare within one group only
PAIR = [*GROUP, "teacher", "student"]
CELL = [*PAIR, "role", "method"]
FIGURES = ["selection", "top1_mean", "top1_std", "top5_mean", "last_mean", "last_std", "best_mean", "best_std"]
TESTS = ("test", "p", "p_holm", "low", "high", "bootstrap_low", "bootstrap_high")  # of a difference between two rows
AGAINST_ALONE = ["gain", *(f"gain_{name}" for name in TESTS)]
AGAINST_KD = ["gain_over_kd", *(f"kd_{name}" for name in TESTS)]
ACROSS = ["common_pairs", "average_rank", "ari"]
COSTS = [
    "seconds_per_epoch",
    "initial_epochs",
    "initial_seconds",
    "images_per_second",
    "peak_memory_mib",
    "parameters",
    "method_parameters",
    "hardware",
]
HEAD = ["dataset", "num_classes", "image_size", "protocol_id", "group", "protocol", "teacher", "student", "role"]
LISTS = ["trials", "seeds", "values", "paths"]  # one entry per trial
COLUMNS = [*HEAD, "method", "n", *FIGURES, *AGAINST_ALONE, "gap_recovered"]
COLUMNS += ["methods", *AGAINST_KD, *ACROSS, *COSTS, *LISTS]
ROLES = ("teacher", "student", "former", "method", "probe", "network")  # the order of rows within a pair
KIND_ROLES = {"teacher": "network", "probe": "probe"}  # runs that are no part of a pair
REFERENCE = "kd"  # the label that the others are tested against


def tabulate(runs: Iterable[Run]) -> tuple[pd.DataFrame, list[str]]:
    """The tidy table, and notes on what its reader should know. The order of `runs` changes nothing.

    `role` is "teacher" (the checkpoints that taught), "student" (the student alone), "former" (the same by other code
    than the last), "method", "network" for a network trained alone as a teacher, or "probe" for a new classifier on a
    frozen network; `method` then says how that was trained. Standard deviations are sample ones (ddof=1).

    | columns | |
    |---|---|
    | `top1_*`, `top5_mean`, `values` | the figure: test accuracy (%) of the epoch that `selection` names |
    | `last_*`, `best_*` | test accuracy (%) after the last epoch and after the best one on the test set |
    | `gain`, `gain_over_kd`, `gap_recovered` | over the student alone (points), over `kd` (points), of the gap (%) |
    | `gain_*`, `kd_*` | tests of these differences: see `statistics.compare_means`; `*_holm` over the pair's methods |
    | `common_pairs`, `average_rank`, `ari` | over pairs that the averaged methods all have: see `summary` |
    | `methods` | how many methods the pair has, those of runs that were left out too: see `count_methods` |
    """
    counted, notes = count_once(runs)
    if not counted:
        return pd.DataFrame(columns=COLUMNS), notes
    rows = pd.DataFrame(_student_rows(counted))
    table = pd.concat([_aggregate(rows), _teachers(counted)], ignore_index=True)
    table["selection"] = counted[0].selection
    table["methods"] = table.groupby(PAIR).methods.transform("max")
    table["gain"] = _gain(table, "method", table.role == "student")
    of_none = (table.role == "probe") & (table.method == "none")
    table["gain"] = table.gain.fillna(_gain(table, "probe", of_none).mask(of_none))
    table["gap_recovered"] = _gap(table)
    is_kd = (table.role == "method") & (table.method == REFERENCE)
    table["gain_over_kd"] = _gain(table, "method", is_kd).mask(is_kd)
    for tests, reference in (("gain", table.role == "student"), ("kd", is_kd)):
        table = table.join(_tests(table, reference).add_prefix(f"{tests}_"))
    table = add_averages(table, GROUP, REFERENCE)
    table["protocol"] = table.merge(
        rows.groupby(GROUP, as_index=False).protocol.first(), how="left", on=GROUP
    ).protocol.to_numpy()
    for name in ("n", "methods", "initial_epochs", "parameters", "method_parameters", "common_pairs"):
        table[name] = table[name].astype("Int64")
    table["order"] = table.role.map(ROLES.index)
    keys = ["dataset", "num_classes", "image_size", "group", "protocol", "protocol_id", "teacher", "student", "order"]
    table = table.sort_values(
        [*keys, "top1_mean", "method"], ascending=[True] * len(keys) + [False, True], key=_by_number
    )
    notes += _alike_protocols(counted) + notes_on_code(counted, _name)
    notes += _unequal_teachers(counted) + _unequal_data(counted) + _unequal_hardware(counted)
    notes += [f"{run.path}: counted by its result alone, for {run.doubt}" for run in counted if run.doubt]
    return table[COLUMNS].reset_index(drop=True), list(dict.fromkeys(notes))


def count_once(runs: Iterable[Run]) -> tuple[list[Run], list[str]]:
    """Each repetition once: of copies, or of competing runs of one trial, the last to finish. And notes on it."""
    copies, trials, notes = defaultdict(list), defaultdict(list), []
    for run in sorted(runs, key=lambda run: (run.finished_at, run.path)):
        copies[(*_cell(run), run.run_id, run.trial, run.seed)].append(run)
    for same in copies.values():
        if len(same) > 1:
            differ = " though their results differ" if len({(run.last_top1, run.best_top1) for run in same}) > 1 else ""
            notes.append(f"copies of one run{differ}: counted {same[-1].path}, not {_paths(same[:-1])}")
        trials[(*_cell(same[-1]), same[-1].trial, same[-1].seed, same[-1].backbone)].append(same[-1])
    for same in trials.values():
        if len(same) > 1:
            name = f"{_name(same[-1])}, trial {same[-1].trial}, seed {same[-1].seed}"
            other = len({tuple(teacher.sha256 for teacher in run.teachers) for run in same}) > 1
            notes.append(
                f"duplicate trial: {name}{', of other teachers' if other else ''}: "
                f"counted {same[-1].path}, which finished last, not {_paths(same[:-1])}"
            )
    counted = sorted((same[-1] for same in trials.values()), key=lambda run: (run.trial, run.seed, run.path))
    return counted, sorted(notes) + _shared_seeds(counted)


def count_methods(runs: Iterable[Run]) -> list[Run]:
    """The runs with `methods` set, before some of them are left out: a choice makes nothing more significant."""
    runs = list(runs)
    labels = defaultdict(set)
    for row in _student_rows(runs):
        if row["role"] == "method":
            labels[tuple(row[name] for name in PAIR)].add(row["method"])
    return [replace(run, methods=len(labels.get((*_group(run), run.teacher, run.model), ()))) for run in runs]


def compare_rows(one: pd.Series, other: pd.Series) -> Difference:
    """`statistics.compare_means` of two rows of the table; trials that repeat a seed are no sample to test by."""
    if any(len(set(row["seeds"])) < len(row["seeds"]) for row in (one, other)):
        return Difference(SHARED_SEEDS)
    return compare_means(one["values"], other["values"])


def _by_number(column: pd.Series) -> pd.Series:
    """Texts of `--by` and of protocols in the order of the numbers in them: 2 epochs before 12."""
    if column.name not in ("group", "protocol"):
        return column
    parts = column.map(lambda text: re.split(r"(\d+(?:\.\d+)?)", text))
    return parts.map(lambda part: tuple(float(text) if i % 2 else text for i, text in enumerate(part)))


def _group(run: Run) -> tuple:
    group = ", ".join(filter(None, (run.group, run.apart)))
    return run.dataset, run.num_classes, run.image_size, group, run.protocol_id


def _cell(run: Run) -> tuple:
    return *_group(run), run.kind, run.teacher, run.model, run.label


def _name(run: Run) -> str:
    if run.kind == "teacher":
        return f"{run.model} on {run.dataset}"
    if run.kind == "probe":
        return f"frozen {run.model} trained by {run.label}, on {run.dataset}"
    return f"{run.label}, {run.teacher + ' → ' if run.teacher else ''}{run.model} on {run.dataset}"


def _paths(runs: Iterable[Run]) -> str:
    return ", ".join(run.path for run in runs)


def _student_rows(runs: list[Run]) -> Iterator[dict]:
    """A row per run and pair: a student alone has no teacher and so belongs to every pair of that student."""
    pairs = defaultdict(set)
    for run in runs:
        if run.kind == "student" and run.method != "none":
            pairs[_group(run), run.model].add(run.teacher)
    for run in runs:
        alone = run.kind == "student" and run.method == "none"
        for teacher in (pairs[_group(run), run.model] or {""}) if alone else {run.teacher}:
            # `none` with other weights than its own is no baseline: it is a row like any other.
            role = "student" if alone and run.label == "none" else "method"
            if alone and run.former_code:
                role = "former"
            yield {
                **dict(zip(GROUP, _group(run), strict=True)),
                "protocol": run.protocol,
                "teacher": teacher,
                "student": run.model,
                "role": KIND_ROLES.get(run.kind, role),
                "method": run.label,
                "trial": run.trial,
                "seed": run.seed,
                "top1": run.top1,
                "top5": run.top5,
                "last": run.last_top1,
                "best": run.best_top1,
                "path": run.path,
                "methods": run.methods,
                **{name: getattr(run, name) for name in COSTS},
            }


def _gain(table: pd.DataFrame, role: str, baseline: pd.Series) -> pd.Series:
    """What the rows of a role reach beyond the baseline row of their pair; NaN for other rows and without one."""
    alone = table[baseline].set_index(PAIR).top1_mean.rename("alone")
    return (table.top1_mean - table.join(alone, on=PAIR).alone).where(table.role == role)


def _gap(table: pd.DataFrame) -> pd.Series:
    """The share of the gap between student and teacher that each method recovers; NaN without one of the two."""
    beside = table
    for role in ("student", "teacher"):
        mean = table[table.role == role].set_index(PAIR).top1_mean.rename(f"{role}_mean")
        beside = beside.join(mean, on=PAIR)
    shares = [
        gap_recovered(row.top1_mean, row.student_mean, row.teacher_mean) if row.role == "method" else np.nan
        for row in beside.itertuples()
    ]
    return pd.Series(shares, index=table.index, dtype=float)


def _tests(table: pd.DataFrame, reference: pd.Series) -> pd.DataFrame:
    """Each method beside the `reference` row of its pair, by the names of TESTS; empty elsewhere and without one."""
    found = pd.DataFrame(np.nan, table.index, list(TESTS)).astype({"test": object})
    for _, pair in table[reference | (table.role == "method")].groupby(PAIR, sort=False):
        beside = reference[pair.index]
        others = pair.index[~beside]
        if not beside.any() or others.empty:
            continue
        differences = [compare_rows(table.loc[row], pair[beside].iloc[0]) for row in others]
        of_methods = (pair[beside].role == "method").sum()
        corrected = holm([each.p for each in differences], comparisons=pair.methods.max() - of_methods)
        found.loc[others] = [
            [each.verdict, each.p, p, each.low, each.high, each.bootstrap_low, each.bootstrap_high]
            for each, p in zip(differences, corrected, strict=True)
        ]
    return found


def _aggregate(rows: pd.DataFrame) -> pd.DataFrame:
    measured = ("top5", "seconds_per_epoch", "initial_seconds", "images_per_second", "peak_memory_mib")
    rows = rows.astype({**dict.fromkeys(measured, float), "method_parameters": "Int64"})
    return rows.groupby(CELL, as_index=False).agg(
        n=("top1", "size"),
        trials=("trial", list),
        seeds=("seed", list),
        values=("top1", list),
        top1_mean=("top1", "mean"),
        top1_std=("top1", "std"),
        top5_mean=("top5", lambda figures: figures.mean(skipna=False)),  # of all trials, as top-1, or not at all
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
        hardware=("hardware", lambda names: "; ".join(sorted(set(filter(None, names))))),
        paths=("path", list),
        methods=("methods", "max"),
    )


def _teachers(runs: list[Run]) -> pd.DataFrame:
    """A row per pair over the distinct checkpoints that taught it, however many runs each one taught."""
    checkpoints, ensembles = defaultdict(dict), set()
    for run in runs:
        pair = (*_group(run), run.teacher, run.model)
        for teacher in run.teachers:
            checkpoints[pair].setdefault(teacher.sha256, teacher)
        if len(run.teachers) > 1:
            ensembles.add(pair)
    rows = []
    for pair, by_hash in checkpoints.items():
        teachers = [by_hash[key] for key in sorted(by_hash)]
        top1 = pd.Series([teacher.top1 for teacher in teachers], dtype=float)
        top5 = pd.Series([teacher.top5 for teacher in teachers], dtype=float)
        # Teachers that taught together are no sample of anything.
        mean, std = top1.mean(), np.nan if pair in ensembles else top1.std()
        figures = {"top1_mean": mean, "top1_std": std, "last_mean": mean, "last_std": std, "top5_mean": top5.mean()}
        row = {**dict(zip(PAIR, pair, strict=True)), "role": "teacher", "method": "teacher", "n": len(top1)}
        rows.append({**row, **figures, "hardware": "", "trials": [], "seeds": [], "values": top1.tolist(), "paths": []})
    return pd.DataFrame(rows, columns=[*CELL, "n", *FIGURES[1:6], "hardware", *LISTS])


def _shared_seeds(runs: list[Run]) -> list[str]:
    """Trials of one seed repeat each other, so that their spread says nothing."""
    by_seed = defaultdict(list)
    for run in runs:
        by_seed[(*_cell(run), run.seed, run.backbone)].append(run)
    shared = [same for same in by_seed.values() if len(same) > 1]
    return sorted(
        f"{_name(same[0])}: trials {', '.join(str(run.trial) for run in same)} share seed {same[0].seed}, "
        "so they are no independent repetitions"
        for same in shared
    )


def _unequal_teachers(runs: list[Run]) -> list[str]:
    """Methods of one pair that learned from different checkpoints are not quite on equal terms."""
    used = defaultdict(lambda: defaultdict(list))
    for run in runs:
        if run.teachers:
            used[(*_group(run), run.teacher, run.model)][run.label].append(run)
    notes = []
    for labels in used.values():
        if len({_shares(of_label) for of_label in labels.values()}) > 1:
            run = next(iter(labels.values()))[0]
            pair = f"{run.teacher} → {run.model} on {run.dataset} ({run.protocol})"
            notes.append(f"{pair}: the methods did not all use the same teacher checkpoints")
    return sorted(notes)


def _shares(runs: list[Run]) -> frozenset[tuple[tuple[str, ...], float]]:
    """Which share of the runs each set of checkpoints taught."""
    counts = Counter(tuple(sorted(teacher.sha256 for teacher in run.teachers)) for run in runs)
    return frozenset((hashes, count / len(runs)) for hashes, count in counts.items())


def _unequal_data(runs: list[Run]) -> list[str]:
    """Which data told runs apart (`Run.apart`)."""
    seen = defaultdict(lambda: defaultdict(list))
    for run in runs:
        if run.data:
            seen[run.dataset, run.image_size][run.data].append(run)
    silent = {(run.dataset, run.image_size) for run in runs if not run.data}
    return sorted(
        f"{place[0]}: the data differs between runs, so they stand in tables of their own: "
        + "; ".join(f"{data:.8}… in {_some_paths(of_data)}" for data, of_data in sorted(found.items()))
        + ("; runs that do not say stand with the most" if place in silent else "")
        for place, found in seen.items()
        if len(found) > 1
    )


def _some_paths(runs: list[Run]) -> str:
    rest = len(runs) - 3
    return _paths(runs[:3]) + (f" and {rest} more" if rest > 0 else "")


def _unequal_hardware(runs: list[Run]) -> list[str]:
    """Seconds and memory compare within one kind of machine only."""
    used = defaultdict(lambda: defaultdict(list))
    for run in runs:
        if run.hardware:
            used[_group(run)][run.hardware].append(run)
    return sorted(
        f"{run.dataset} ({run.protocol}): costs were measured on different hardware: {'; '.join(sorted(names))}"
        for names in used.values()
        for run in next(iter(names.values()))[:1]
        if len(names) > 1
    )


def _alike_protocols(runs: list[Run]) -> list[str]:
    """What tells protocols apart that have one name on the page: the fields of the recipe that differ."""
    named = defaultdict(dict)
    for run in runs:
        recipe = {printable(name): value for name, value in run.config.get("recipe", {}).items() if name != "summary"}
        named[run.dataset, run.num_classes, run.image_size, run.protocol].setdefault(run.protocol_id, recipe)
    notes = []
    for (dataset, *_, protocol), recipes in named.items():
        values = pd.json_normalize([recipes[key] for key in sorted(recipes)])
        values = values.map(lambda value: printable(str(value)))
        differ = [f"{name} {', '.join(values[name])}" for name in values if values[name].nunique() > 1]
        if len(recipes) > 1:
            ids = ", ".join(sorted(recipes))
            notes.append(
                f"{dataset} ({protocol}): {ids} differ in {'; '.join(differ) or 'what the name does not tell'}"
            )
    return sorted(notes)
