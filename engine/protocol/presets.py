"""Command lines by name: `--preset std-52` stands for the flags in presets/std-52.toml; flags beside it come on top."""

import argparse
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import RequestError
from common.messages import did_you_mean
from common.user_paths import read_small_file, shown_path

LARGEST = 64 << 10  # bytes of a preset; those of the suite have one or two thousand
LARGEST_NUMBER = 2**63
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
    if not is_file and name not in preset_names():
        near = did_you_mean(name, preset_names())
        raise RequestError(f"unknown preset {shown_path(name)!r}; {near} (a file of your own ends in .toml)")
    text = read_small_file(path, LARGEST, "check the path, or choose one of --list", "--preset")
    try:
        content = tomllib.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # also of integers of thousands of digits
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error).splitlines()[0]
        raise RequestError(f"{path} is not a TOML file: {shown_path(reason)}") from None
    flags = content.get("flags")
    if not isinstance(flags, dict) or set(content) - {"flags", "summary"}:
        raise RequestError(f'{path} is not a preset; it needs a table [flags], and may have summary = "..."')
    if "preset" in flags:
        raise RequestError(f"{path} names another preset; write its flags out")
    for flag, value in flags.items():
        if not re.fullmatch("[A-Za-z][A-Za-z0-9_-]*", flag):
            raise RequestError(f"{path}: {shown_path(flag)!r} is no flag; write its name without hyphens before it")
        if not _is_value(value) and not (value and isinstance(value, list) and all(map(_is_word, value))):
            raise RequestError(
                f"{path}: the value of {flag} is no text, number, true or false, nor a list of texts and numbers"
            )
    return Preset(path.stem, str(content.get("summary", "")), flags)


def _is_value(value: object) -> bool:
    return isinstance(value, bool) or _is_word(value)


def _is_word(value: object) -> bool:
    """True for a text or a number that a flag can take; larger integers Python does not even print."""
    if isinstance(value, bool):
        return False
    return isinstance(value, (str, float)) or (isinstance(value, int) and abs(value) < LARGEST_NUMBER)


def with_preset(argv: list[str]) -> list[str]:
    """Put the flags of the preset that `argv` names before it, so that its own flags win. Raises RequestError."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--preset", nargs="?")  # without a value: the script's own parser says so
    named, _ = parser.parse_known_args(argv)
    return argv if named.preset is None else [*read_preset(named.preset).words(), *argv]
