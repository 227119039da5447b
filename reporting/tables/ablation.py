"""A table of named settings of one method, in the order in which they are given, from the folders of their runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from common.json_files import read_object
from reporting.records.run import RESULT, Run
from reporting.records.runs import read_folders
from reporting.records.untrusted_json import percentage_or_none
from reporting.tables.numbers import signed

HEADS = ("class", "distillation", "average", "confidence")


def ablation_table(settings: Mapping[str, Sequence[Path]]) -> str:
    """Returns Markdown with each setting's test accuracy (%) after the last epoch, mean ± std over its trials.

    Gains are over the first setting. Where a run has several heads that predict, each has a column. Trials that have
    not finished, whose records are broken, or that other code made than the last one do not count, which the column
    "trials" shows.

    Args:
        settings: the folders of each setting's trials, by its name.
    """
    rows: list[dict[str, str]] = []
    reference = None
    for name, folders in settings.items():
        finished = [run for run in read_folders(folders)[0] if not run.former_code]
        last = pd.Series([run.last.top1 for run in finished], dtype=float)
        if reference is None:
            reference = last.mean()
        gain = last.mean() - reference
        rows.append(
            {
                "setting": name,
                "trials": f"{len(finished)} of {len(folders)}",
                "top-1": _figure(last),
                "gain": "" if not rows or pd.isna(gain) else signed(gain),
                "best epoch": _figure(pd.Series([run.best.top1 for run in finished], dtype=float)),
            }
            | {head: _figure(_of_head(finished, head)) for head in HEADS}
        )
    return pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)


def _of_head(runs: Sequence[Run], head: str) -> pd.Series:
    """Returns top-1 (%) by the predictions of one head, of the runs that have it on record."""
    found = []
    for run in runs:
        by_head = read_object(run.folder / RESULT).get("answers")
        measured = by_head.get(head) if isinstance(by_head, dict) else None
        found.append(percentage_or_none(measured.get("top1")) if isinstance(measured, dict) else None)
    return pd.Series([top1 for top1 in found if top1 is not None], dtype=float)


def _figure(values: pd.Series) -> str:
    """Returns mean ± sample deviation; of one value the value, of none ""."""
    if values.empty:
        return ""
    return f"{values.mean():.2f}" + (f" ± {values.std():.2f}" if len(values) > 1 else "")
