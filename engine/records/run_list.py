"""The folders of a command's runs as a text file, so that scripts need not guess their names."""

from collections.abc import Iterable
from pathlib import Path

from common.errors import RequestError
from common.output_places import check_output_file, write_output
from common.user_paths import shown_path


def check_run_list(path: Path, output: Path) -> None:
    """Check that a list of runs can be written there; an earlier list of runs in `output` may be replaced.

    Raises:
        RequestError: the place cannot be written to, or holds a file that is something else.
    """
    check_output_file("--run_list", path, overwrite=True)
    if path.is_file() and not _is_run_list(path, output):
        raise RequestError(f"--run_list {shown_path(path)} exists and lists no runs in {output}; choose another name")


def write_run_list(path: Path, folders: Iterable[Path]) -> None:
    """Write the folders, a line each, into a file, a device or a pipe. Raises RequestError if that fails."""
    write_output("--run_list", path, "".join(f"{folder}\n" for folder in folders))


def _is_run_list(path: Path, output: Path) -> bool:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return False
    return all(Path(line).is_relative_to(output) for line in lines)
