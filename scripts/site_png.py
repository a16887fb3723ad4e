"""PNG by the standard library: read the site's photograph, write colour pictures and maps of signed numbers."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_HEAD = b"\x89PNG\r\n\x1a\n"
_LEVELS = 31  # steps from zero to the largest value, in each direction
_POSITIVE, _NEGATIVE = (224, 106, 0), (40, 120, 235)  # visible on light and on dark pages


def read(path: Path) -> NDArray[np.uint8]:
    """Return the pixels (height, width, 3) of an 8-bit RGB file as :func:`write_colours` makes it.

    Raises:
        ValueError: for any other kind of PNG.
    """
    data, place, packed = path.read_bytes(), len(_HEAD), b""
    while place < len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        kind, body = data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        if kind == b"IHDR":
            width, height, *rest = struct.unpack(">IIBBBBB", body)
            if rest != [8, 2, 0, 0, 0]:
                raise ValueError(f"{path.name} must be an 8-bit RGB PNG that is not interlaced")
        packed += body if kind == b"IDAT" else b""
        place += length + 12
    rows = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, width * 3 + 1)
    if not set(rows[:, 0]) <= {0, 2}:
        raise ValueError(f"{path.name} must use the filters None and Up alone")
    pixels = np.zeros((height, width * 3), np.uint8)
    for i, row in enumerate(rows):
        pixels[i] = row[1:] + (pixels[i - 1] if row[0] == 2 and i else 0)
    return pixels.reshape(height, width, 3)


def write_colours(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write pixels (height, width, 3)."""
    rows = pixels.reshape(len(pixels), -1)
    filtered = np.concatenate((rows[:1], rows[1:] - rows[:-1]))  # filter Up; bytes wrap around
    _write(path, pixels.shape[:2], 2, filtered, 2)


def write_signed(path: Path, values: NDArray[np.float64], largest: float) -> None:
    """Write a map (height, width) of signed numbers: zero is transparent, ``largest`` opaque orange, its negative blue.

    Small numbers are drawn stronger than in proportion, so that thin edges are seen.
    """
    levels = np.clip(np.rint(values / (largest or 1) * _LEVELS), -_LEVELS, _LEVELS).astype(int)
    palette = bytes((*_NEGATIVE * _LEVELS, 0, 0, 0, *_POSITIVE * _LEVELS))
    alpha = bytes(round((abs(level) / _LEVELS) ** 0.6 * 255) for level in range(-_LEVELS, _LEVELS + 1))
    _write(path, values.shape, 3, (levels + _LEVELS).astype(np.uint8), 0, (b"PLTE", palette), (b"tRNS", alpha))


def write_grey(path: Path, values: NDArray[np.float64]) -> None:
    """Write a map (height, width) of numbers from 0, black, to 1, white."""
    _write(path, values.shape, 0, np.clip(np.rint(values * 255), 0, 255).astype(np.uint8), 0)


def _write(
    path: Path, size: tuple[int, ...], kind: int, rows: NDArray[np.uint8], filter_: int, *parts: tuple[bytes, bytes]
) -> None:
    marked = np.concatenate((np.full((len(rows), 1), filter_, np.uint8), rows), axis=1)
    head = struct.pack(">IIBBBBB", size[1], size[0], 8, kind, 0, 0, 0)
    chunks = [(b"IHDR", head), *parts, (b"IDAT", zlib.compress(marked.tobytes(), 9)), (b"IEND", b"")]
    path.write_bytes(_HEAD + b"".join(map(_chunk, chunks)))


def _chunk(part: tuple[bytes, bytes]) -> bytes:
    kind, body = part
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
