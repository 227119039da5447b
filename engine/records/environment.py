"""The environment of a run, for its config.json: hardware, versions, commit, command line."""

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy
import torch

ROOT = Path(__file__).resolve().parents[2]


def describe_environment(device: torch.device) -> dict[str, Any]:
    """Describe hardware, versions, git commit and command line; a value that cannot be found out is None."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "tf32_convolutions": torch.backends.cudnn.allow_tf32 if device.type == "cuda" else False,
        "numpy": numpy.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
        "git_commit": _git("rev-parse", "HEAD"),
        "git_dirty": _has_changes(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _has_changes() -> bool:
    """True if the code is not the commit's: files have changed, or there are new ones that a run may have read."""
    changed = _git("status", "--porcelain", "--untracked-files=no")
    return bool(changed or _git("ls-files", "--others", "--exclude-standard", "--", "*.py", "presets/*.toml"))


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
