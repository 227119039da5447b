"""The weights that a run has left in its folder."""

from pathlib import Path

from common.errors import RequestError

SHOWN = 4


def weights_file(path: Path, flag: str) -> Path:
    """The file that a path stands for: itself, or for a run's folder the weights of its last epoch.

    Args:
        flag: that the path was given with, for messages.

    Raises:
        RequestError: the folder holds none, or several.
    """
    try:
        if not path.is_dir():
            return path
        last, best, runs = (sorted(path.glob(pattern)) for pattern in ("*_last.pth", "*_best.pth", "*/config.json"))
    except (OSError, ValueError):
        return path  # the reader says what is wrong with it
    if len(last) == 1:
        return last[0]
    if last:
        raise RequestError(f"{path} holds the weights of several networks: {_listed(last)}; name one with {flag}")
    if best:
        raise RequestError(f"the run in {path} is not finished; finish it, or take its best epoch: {flag} {best[0]}")
    if runs:
        folders = [file.parent for file in runs]
        raise RequestError(f"{path} holds several runs; name one with {flag}: {_listed(folders)}")
    return path


def _listed(paths: list[Path]) -> str:
    more = f", … ({len(paths) - SHOWN} more)" if len(paths) > SHOWN else ""
    return ", ".join(path.name for path in paths[:SHOWN]) + more
