"""Finished objects, found again by what they were made from.

$XDG_CACHE_HOME/nereid/objects/ab/<digest>.{json,so,cubin,hsaco}; the digest is over request, kernel
sources, target and compiler. Files appear by renaming: a reader never sees half of one, and an
interrupted run loses only what was in work.

Processes that start at once share the work: who makes an object holds a lock on it, one byte of the
file `locks`. The system drops a lock when its process ends, however it ends.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aot import sources
from aot.request import Request


def digest(request: Request, target: str, compiler: str, isa: str | None) -> str:
    parts = [request.key, sources.source_sha256(request.kernel), target, compiler, isa or ""]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def write_atomically(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(partial, 0o644)
        os.replace(partial, path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def locked(name: str, *, wait: bool = True) -> Iterator[bool]:
    """Holds the lock of what `name`, hexadecimal digits, is the digest of. False without `wait`
    where another process has it. A file system without locks costs work done twice, no more."""
    folder = sources.cache_dir()
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "locks", "ab") as file:
        try:
            how = fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB
            fcntl.lockf(file, how, 1, int(name[:15], 16))
        except (BlockingIOError, PermissionError):
            yield False
            return
        except OSError:
            pass
        yield True  # closing the file drops the lock


class ObjectCache:
    def __init__(self, extension: str, folder: Path | None = None) -> None:
        self.folder = folder or sources.cache_dir() / "objects"
        self.extension = extension

    def _path(self, name: str, extension: str) -> Path:
        return self.folder / name[:2] / f"{name}.{extension}"

    def get(self, name: str) -> tuple[dict[str, Any], bytes] | None:
        """The manifest row and the object; None where absent or damaged."""
        try:
            row = json.loads(self._path(name, "json").read_text())
            data = self._path(name, self.extension).read_bytes()
        except (OSError, ValueError):
            return None
        if row.get("object_sha256") != hashlib.sha256(data).hexdigest():
            return None
        return row, data

    def put(self, name: str, row: dict[str, Any], data: bytes) -> None:
        write_atomically(self._path(name, self.extension), data)
        write_atomically(self._path(name, "json"), json.dumps(row, indent=1).encode())
