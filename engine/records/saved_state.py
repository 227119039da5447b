"""The state that a run continues from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import RequestError
from engine.checkpoints.read_checkpoint import read_checkpoint
from engine.records.run_folder import RunFolder


@dataclass(frozen=True)
class SavedState:
    """What a run's folder has of its state: the newest good checkpoint's content, and the newer ones that are not."""

    content: dict[str, Any] | None
    damaged: tuple[Path, ...]
    problems: tuple[str, ...]  # what is wrong with each of the damaged ones, a line each


def read_saved_state(folder: RunFolder, run_id: str) -> SavedState:
    """Read the newest checkpoint; a damaged one gives way to the one before it.

    Raises:
        RequestError: there are checkpoints and none is good, or the newest good one is of another run.
    """
    damaged, problems = [], []
    for path in folder.checkpoints():
        if not path.is_file():
            continue
        try:
            content = read_checkpoint(path)
        except RequestError as error:
            damaged.append(path)
            problems.append(str(error).splitlines()[0].split(";")[0])
            continue
        if content.get("run_id") != run_id:
            raise RequestError(f"{path} is of another run; --overwrite starts this run anew")
        return SavedState(content, tuple(damaged), tuple(problems))
    if problems:
        raise RequestError(f"{problems[0]}, and no earlier one is good; --overwrite starts this run anew")
    return SavedState(None, (), ())
