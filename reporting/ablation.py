"""A table of named settings of one method, in the order in which they are given, from the folders of their runs."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

HEADS = ("class", "distillation", "average", "confidence")


def ablation_table(settings: Mapping[str, Sequence[Path]]) -> str:
    """Markdown: for each setting test accuracy in per cent after the last epoch, mean ± standard deviation over trials.

    The first setting is what the others' gain is over. Where a run answers in several ways, each has a column. Runs
    that have not finished are counted out, and said to be.
    """
    results = {name: [r for r in map(_result, folders) if r is not None] for name, folders in settings.items()}
    rows, reference = [], None
    for name, finished in results.items():
        last = pd.Series([result["last"]["top1"] for result in finished], dtype=float)
        if reference is None:
            reference = last.mean()
        rows.append(
            {
                "setting": name,
                "trials": f"{len(finished)} of {len(settings[name])}",
                "top-1": _figure(last),
                "gain": "" if not rows or last.empty else f"{last.mean() - reference:+.2f}",
                "best epoch": _figure(pd.Series([result["best"]["top1"] for result in finished], dtype=float)),
            }
            | {head: _figure(_answers(finished, head)) for head in HEADS}
        )
    return pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)


def _result(folder: Path) -> dict | None:
    try:
        return json.loads((folder / "result.json").read_text(encoding="utf-8"))
    except OSError:
        return None


def _answers(finished: Sequence[dict], head: str) -> pd.Series:
    return pd.Series([r["answers"][head]["top1"] for r in finished if head in r.get("answers", {})], dtype=float)


def _figure(values: pd.Series) -> str:
    """Mean and sample deviation; without a deviation of one value, and nothing of none."""
    if values.empty:
        return ""
    return f"{values.mean():.2f}" + (f" ± {values.std():.2f}" if len(values) > 1 else "")
