"""A table of named settings of one method, in the order in which they are given, from the folders of their runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from reporting.records.code_versions import apart_by_code
from reporting.records.runs import RESULT, Run, read_folder
from reporting.records.untrusted_json import percentage_or_none, read_object

HEADS = ("class", "distillation", "average", "confidence")


def ablation_table(settings: Mapping[str, Sequence[Path]]) -> str:
    """Markdown: for each setting test accuracy in per cent after the last epoch, mean ± standard deviation over trials.

    The first setting is what the others' gain is over. Where a run answers in several ways, each has a column. Runs
    that have not finished, whose records are broken, or that other code made than the last one are counted out, and
    said to be.
    """
    rows, reference = [], None
    for name, folders in settings.items():
        found = apart_by_code(run for run in map(read_folder, folders) if isinstance(run, Run))
        finished = [run for run in found if not run.former_code]
        last = pd.Series([run.last_top1 for run in finished], dtype=float)
        if reference is None:
            reference = last.mean()
        gain = last.mean() - reference
        rows.append(
            {
                "setting": name,
                "trials": f"{len(finished)} of {len(folders)}",
                "top-1": _figure(last),
                "gain": "" if not rows or pd.isna(gain) else f"{gain:+.2f}",
                "best epoch": _figure(pd.Series([run.best_top1 for run in finished], dtype=float)),
            }
            | {head: _figure(_answers(finished, head)) for head in HEADS}
        )
    return pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)


def _answers(finished: Sequence[Run], head: str) -> pd.Series:
    return pd.Series([top1 for run in finished if (top1 := _answer(run, head)) is not None], dtype=float)


def _answer(run: Run, head: str) -> float | None:
    """Top-1 in per cent by one way to answer; None where the record does not say."""
    answers = read_object(run.folder / RESULT).get("answers")
    answer = answers.get(head) if isinstance(answers, dict) else None
    return percentage_or_none(answer.get("top1")) if isinstance(answer, dict) else None


def _figure(values: pd.Series) -> str:
    """Mean and sample deviation; without a deviation of one value, and nothing of none."""
    if values.empty:
        return ""
    return f"{values.mean():.2f}" + (f" ± {values.std():.2f}" if len(values) > 1 else "")
