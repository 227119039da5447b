"""Command lines by name: `--preset std-52` stands for the flags in presets/std-52.toml; flags beside it come on top."""

import argparse
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import RequestError
from common.messages import did_you_mean

OTHER_FORMATS = (".yaml", ".yml", ".json", ".cfg", ".ini")
FOLDER = Path(__file__).resolve().parents[2] / "presets"


@dataclass(frozen=True)
class Preset:
    """A named command line.

    Attributes:
        flags: values by the flag's name; a list is several words, true a flag without a value.
    """

    name: str
    summary: str
    flags: dict[str, Any]

    def words(self) -> list[str]:
        """The flags as words of a command line."""
        words: list[str] = []
        for flag, value in self.flags.items():
            if isinstance(value, bool):
                words.append(f"--{flag}" if value else f"--no-{flag}")
            else:
                values = value if isinstance(value, list) else [value]
                words += [f"--{flag}", *map(str, values)]
        return words


def preset_names() -> list[str]:
    """The presets of the suite, in order."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def read_preset(name: str) -> Preset:
    """Read a preset of the suite, or the user's own file if `name` ends in .toml.

    Raises:
        RequestError: it does not exist, or is not a preset.
    """
    if not name.strip():
        raise RequestError("--preset is empty; name one of --list, or a file that ends in .toml")
    if Path(name).suffix.lower() in OTHER_FORMATS:
        raise RequestError(
            f"--preset {name}: configuration files of other suites are not read; docs/other_suites.md has the flag for "
            f"each of mdistiller's keys, and a preset of your own is a .toml file like those in presets/"
        )
    is_file = name.endswith(".toml")
    path = Path(name) if is_file else FOLDER / f"{name}.toml"
    if not path.is_file():
        if is_file:
            raise RequestError(f"--preset {path}: file not found; check the path, or choose one of --list")
        near = did_you_mean(name, preset_names())
        raise RequestError(f"unknown preset {name!r}; {near} (a file of your own ends in .toml)")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RequestError(f"{path} is not a TOML file: {error}") from None
    flags = content.get("flags")
    if not isinstance(flags, dict) or set(content) - {"flags", "summary"}:
        raise RequestError(f'{path} is not a preset; it needs a table [flags], and may have summary = "..."')
    if "preset" in flags:
        raise RequestError(f"{path} names another preset; write its flags out")
    return Preset(path.stem, str(content.get("summary", "")), flags)


def with_preset(argv: list[str]) -> list[str]:
    """Put the flags of the preset that `argv` names before it, so that its own flags win. Raises RequestError."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--preset", nargs="?")  # without a value: the script's own parser says so
    named, _ = parser.parse_known_args(argv)
    return argv if named.preset is None else [*read_preset(named.preset).words(), *argv]
