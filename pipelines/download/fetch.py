"""One file from the web, over HTTP: resumed, retried, checked for its size and its kind; or a wheel, through pip."""

from __future__ import annotations

import http.client
import importlib.util
import json
import re
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from pipelines import __version__, artifacts
from pipelines.progress import Progress

TIMEOUT = 5.0  # seconds to connect, and to wait for the next bytes; what stalls longer is resumed
RETRIES = 4  # further attempts after a transient failure …
BACKOFF = 0.5  # … after this many seconds, doubled each time
BLOCK = 1 << 18
TRANSIENT = (http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError)
BUSY = {408, 425, 429, 500, 502, 503, 504}
MAGIC = {".gz": b"\x1f\x8b", ".zip": b"PK\x03\x04", ".whl": b"PK\x03\x04"}


class Unreachable(Exception):
    """A source that does not give the file; the message says why, without the address."""


class _Transient(Exception):
    """A failure that may pass; what arrived so far is kept."""


def fetch(url: str, path: Path, progress: Progress) -> Path:
    """Load `url` into `path`, continuing what an earlier call left in `path`.part.

    A part is continued only from the same address, and only if the server still holds the same version (If-Range)
    wherever it names versions.

    Raises:
        Unreachable: no such host or file, connection refused, five transient failures, wrong size or kind of file.
    """
    part = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(RETRIES + 1):
        try:
            _attempt(url, part, progress)
            break
        except _Transient as failure:
            if attempt == RETRIES:
                raise Unreachable(f"{failure}, {attempt + 1} times") from None
            time.sleep(BACKOFF * 2**attempt)
    _origin(part).unlink(missing_ok=True)
    if not right_kind(part, path.suffix):
        part.unlink()
        raise Unreachable(f"what it sent is no {path.suffix} file")
    part.replace(path)
    return path


def right_kind(file: Path, suffix: str) -> bool:
    """Whether a file begins as files of that suffix do."""
    with open(file, "rb") as opened:
        return opened.read(4).startswith(MAGIC[suffix])


def wheel(requirement: str, path: Path, progress: Progress) -> Path:
    """Bring the wheel of `requirement` (NAME==VERSION) to `path` with this interpreter's pip.

    Raises:
        Unreachable: no pip, or pip does not find it.
    """
    if importlib.util.find_spec("pip") is None:
        raise Unreachable(f"this Python ({sys.executable}) has no pip; `python -m ensurepip` brings it")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".pip-") as folder, progress.task(f"pip download {requirement}"):
        options = ["--no-deps", "--only-binary", ":all:", "--quiet", "--no-input", "--disable-pip-version-check", "--dest", folder]
        done = subprocess.run([sys.executable, "-m", "pip", "download", *options, requirement], capture_output=True, text=True)
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["no reason given"]
            raise Unreachable(f"pip failed ({said[-1].removeprefix('ERROR: ')})")
        found = Path(folder, path.name)
        if not found.is_file():
            raise Unreachable(f"pip brought no {path.name}")
        found.replace(path)
    return path


def _origin(part: Path) -> Path:
    """Where the address and version of a part are kept."""
    return part.with_name(part.name + ".json")


def _attempt(url: str, part: Path, progress: Progress) -> None:
    """Load what is missing of a file, once.

    Raises:
        Unreachable, _Transient: see `fetch`.
    """
    origin, have = _resumable(url, part)
    request = urllib.request.Request(url, headers={"User-Agent": f"maskgr/{__version__}", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
        if origin["version"]:
            request.add_header("If-Range", origin["version"])
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            have = _offset(response, have)
            if not have:
                artifacts.write_json(_origin(part), {"url": url, "version": _version(response)})
            left = response.headers.get("Content-Length")
            total = have + int(left) if left and left.isdigit() else None
            _receive(response, part, have, total, progress)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the part does not fit what the server holds now
            part.unlink(missing_ok=True)
            raise _Transient("the range to continue with was refused (HTTP 416)") from None
        kind = _Transient if error.code in BUSY else Unreachable
        raise kind(f"HTTP {error.code} {error.reason}".rstrip()) from None
    except urllib.error.URLError as error:
        kind = _Transient if isinstance(error.reason, ConnectionResetError) else Unreachable
        raise kind(_words(error.reason)) from None
    except TRANSIENT as error:
        raise _Transient(_words(error)) from None


def _resumable(url: str, part: Path) -> tuple[dict[str, str], int]:
    """The origin of a part, and how many of its bytes can be kept: none where it comes from elsewhere."""
    try:
        origin = json.loads(_origin(part).read_text(encoding="utf-8"))
        have = part.stat().st_size if origin["url"] == url else 0
        return {"version": origin["version"]}, have
    except (OSError, ValueError, KeyError, TypeError):
        return {"version": ""}, 0


def _version(response: http.client.HTTPResponse) -> str:
    """What If-Range may be given: a strong ETag, else the time of the last change."""
    etag = response.headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified", "")


def _offset(response: http.client.HTTPResponse, have: int) -> int:
    """Where the bytes of this answer begin: at `have` if the server continues, at 0 if it starts again."""
    if response.status != 206:
        return 0
    given = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    if not given or int(given[1]) != have:
        raise Unreachable("it continued at another byte than asked for")
    return have


def _receive(response: http.client.HTTPResponse, part: Path, have: int, total: int | None, progress: Progress) -> None:
    """Append the answer to the first `have` bytes of the part and compare its size with what was announced."""
    with open(part, "r+b" if have else "wb") as file, progress.task(part.name.removesuffix(".part"), total, "bytes") as task:
        file.truncate(have)
        file.seek(have)
        task.update(have)
        while block := response.read1(BLOCK):
            file.write(block)
            have += len(block)
            task.update(have)
    if total is not None and have != total:
        raise _Transient(f"the connection was cut after {have:,} of {total:,} bytes")


def _words(error: object) -> str:
    """A network error in words."""
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT:g} s"
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip()
