"""Fetch a file from the first address that serves the right bytes, going on where an earlier attempt was cut."""

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import requests
from tqdm import tqdm

from common.errors import RequestError
from common.files import digest_of, explained_write_errors, make_folder, sync_folder
from common.lock import only_one_process

TIMEOUT = (15, 60)  # seconds: to connect, and between two pieces
ATTEMPTS = 5  # at one address, and only while each attempt brings the file further
_PIECE = 1 << 16  # bytes; what is lost of a piece when the line is cut


class _Failed(Exception):
    """One attempt at one address did not bring the whole, right file; the text is the reason."""


def download(
    urls: Sequence[str],
    destination: Path | str,
    *,
    md5: str | None = None,
    sha256: str | None = None,
    sha256_prefix: str | None = None,
    mend: str = "check the network, or put the file there by hand",
) -> Path:
    """Fetch `destination` from the first of `urls` that works; nothing is fetched where it is there and right.

    Bytes are gathered in `destination` + ".part" and renamed only when the checksum agrees. A ".part" left by a cut
    is gone on with (HTTP Range) if a checksum was given, for without one nothing tells whose bytes it holds.

    Args:
        urls: addresses of the same file, the best first.
        md5, sha256, sha256_prefix: what the content must hash to (any of them, or none: then only the size counts).
        mend: what the user can do when every address fails, as one line.

    Returns:
        `destination` as a Path.

    Raises:
        RequestError: every address failed; two lines: what was tried, and `mend`.
        RunError: the file cannot be written.
    """
    destination = Path(destination)
    checks = {"md5": md5, "sha256": sha256 or sha256_prefix}
    checks = {algorithm: digest.lower() for algorithm, digest in checks.items() if digest}
    make_folder(destination.parent)
    with only_one_process(destination.with_name(f".{destination.name}.lock")):
        if destination.is_file():
            reason = _wrong_checksum(destination, checks)
            if reason is None:
                return destination
            _say(f"{destination} is not the expected file ({reason}); fetching it anew")
        reasons = []
        for url in urls:
            try:
                with explained_write_errors(destination):
                    _fetch_from(url, destination, checks)
            except _Failed as failure:
                reasons.append(f"{url} ({failure})")
                continue
            if reasons:  # else they are in the error
                _say(f"{destination.name} comes from {url}; tried before: {'; '.join(reasons)}")
            return destination
    raise RequestError(f"cannot fetch {destination.name}: tried {'; '.join(reasons) or 'no address'}\n{mend}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _wrong_checksum(path: Path, checks: dict[str, str]) -> str | None:
    """None where every checksum agrees (a prefix is enough), else what differs."""
    for algorithm, expected in checks.items():
        found = digest_of(path, algorithm)
        if not found.startswith(expected):
            return f"{algorithm} is {found[: max(8, len(expected))]}, not {expected}"
    return None


def _fetch_from(url: str, destination: Path, checks: dict[str, str]) -> None:
    """Bring `destination` from one address or raise _Failed."""
    part = destination.with_name(destination.name + ".part")
    if not checks:
        part.unlink(missing_ok=True)
    inherited = _size(part)
    _fetch_whole(url, part)
    reason = _wrong_checksum(part, checks)
    if reason is not None and inherited:
        # The first bytes came from an earlier day or another address: give this one a clean start before blaming it.
        part.unlink(missing_ok=True)
        _fetch_whole(url, part)
        reason = _wrong_checksum(part, checks)
    if reason is not None:
        part.unlink(missing_ok=True)
        raise _Failed(f"it served another file: {reason}")
    os.replace(part, destination)
    sync_folder(destination.parent)


def _fetch_whole(url: str, part: Path) -> None:
    """Ask again from where it was cut, as long as each attempt gains bytes."""
    for attempt in range(1, ATTEMPTS + 1):
        before = _size(part)
        try:
            return _fetch_once(url, part)
        except requests.RequestException as error:
            if attempt == ATTEMPTS or _size(part) <= before:
                raise _Failed(_reason(error)) from error


def _fetch_once(url: str, part: Path) -> None:
    """One request that appends to `part`, or starts it anew where the server does not go on from its end."""
    have = _size(part)
    headers = {"Accept-Encoding": "identity"}  # compressed in transit, sizes and ranges would not be the file's
    if have:
        headers["Range"] = f"bytes={have}-"
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if have and response.status_code == 416:
            if _total(response) == have:
                return  # it had been cut after the last byte
            part.unlink()
            return _fetch_once(url, part)
        if response.status_code not in (200, 206):
            raise _Failed(f"HTTP {response.status_code} {response.reason}")
        if response.status_code == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            if not have:
                raise _Failed("it sent a piece of the file where the whole was asked for")
            part.unlink()
            return _fetch_once(url, part)
        goes_on = response.status_code == 206
        length = response.headers.get("Content-Length")
        start = have if goes_on else 0
        total = start + int(length) if length is not None else None
        with (
            open(part, "ab" if goes_on else "wb") as file,
            tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=part.stem, disable=None) as bar,
        ):
            for piece in response.iter_content(_PIECE):
                file.write(piece)
                bar.update(len(piece))
            file.flush()
            os.fsync(file.fileno())
    if total is not None and _size(part) != total:
        raise requests.ConnectionError(f"cut after {_size(part)} of {total} bytes")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _total(response: requests.Response) -> int | None:
    """The size of the whole file as a 416 answer tells it ("Content-Range: bytes */123")."""
    match = re.fullmatch(r"bytes \*/(\d+)", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else None


def _reason(error: requests.RequestException) -> str:
    """A few words instead of a chain of nested exceptions."""
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not accepted"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection was cut"
    text = str(error)
    if isinstance(error, requests.ConnectionError) and not text.startswith("cut after"):
        return "no connection"
    return text.splitlines()[0][:120] if text else type(error).__name__
