"""Write files whole or not at all: a failure leaves no half-written file, and the file before stays as it was."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replace_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield the path of an empty file to write to, which then takes the place of ``path``.

    It is in the same folder, and its name ends in the same name. If anything fails it is removed, and ``path`` is as
    before. A link is followed; a device or pipe cannot be replaced and is yielded itself.

    Raises:
        OSError: with ``path`` as its file name.
    """
    with _named(path):
        target = Path(os.path.realpath(path))
        replaced = target.is_file()
        if not replaced and target.exists() and not target.is_dir():
            yield target
            return
        part = target.with_name(f".{os.urandom(4).hex()}.{target.name}")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            if replaced:
                os.fchmod(descriptor, target.stat().st_mode & 0o777)
            yield part
            os.fsync(descriptor)  # some file systems report only here that they are full
            part.replace(target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)


def write_file(path: str | os.PathLike[str], content: str | bytes) -> None:
    r"""Write a file whole or not at all; text becomes UTF-8, a lone surrogate in it ``\udcff``.

    Raises:
        OSError: with ``path`` as its file name.
    """
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    with replace_file(path) as part, _named(path), part.open("wb") as file:
        file.write(data)


@contextlib.contextmanager
def _named(path: str | os.PathLike[str]) -> Iterator[None]:
    """Let errors of the operating system name ``path``, and no temporary file."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # a library's own message
            raise
        raise OSError(error.errno, os.strerror(error.errno), os.fspath(path)) from error
