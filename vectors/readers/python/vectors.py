"""Check a convolution with convspec's pack of test vectors: ``python vectors.py DIR``. Needs NumPy alone.

Import it to test your own functions (see example.py): each gets a Vector and returns arrays in the vector's layout.
"""

import itertools
import sys
from pathlib import Path

import numpy as np

FLOATS = ("bound", "scale")  # float64 in every kind of vector; "random" vectors are float64 throughout
SHAPE_OF = {"dx": "x", "dkernel": "kernel", "dy": "y", "bound": "y", "lower": "y", "upper": "y"}


class Refused(Exception):
    """The layer has no output for this input."""


class Unsupported(Exception):
    """The function under test has no such layer: neither a pass nor a failure."""


class Vector:
    """One line of the index: its columns as attributes, lists of numbers as tuples, and its arrays by name."""

    def __init__(self, folder, columns):
        for name, text in columns.items():
            numbers = name in ("stride", "dilation", "pads", "output_padding", "x", "kernel", "y", "zeros")
            setattr(self, name, tuple(map(int, text.split(","))) if numbers and text != "-" else text)
        self.y = () if self.y == "-" else self.y
        self.groups, self.transposed = int(self.groups), self.transposed == "1"
        self.first = self.layout == "NCHW"
        self.out_channels = self.kernel[1] * self.groups if self.transposed else self.kernel[0]
        data, offset, names = Path(folder, "vectors", f"{self.id}.bin").read_bytes(), 0, self.arrays.split(",")
        self.arrays = {}
        for name in names:
            kind = "<f8" if self.kind == "random" or name in FLOATS else "<i4"
            shape = getattr(self, SHAPE_OF.get(name, name), (self.out_channels,))
            count = int(np.prod(shape))
            values = np.frombuffer(data, kind, count, offset).reshape(shape)
            self.arrays[name] = values.astype(np.float64 if kind == "<f8" else np.int64)
            offset += values.nbytes
        if offset != len(data):
            raise ValueError(f"{self.id}: {len(data)} bytes, expected {offset}")

    def channels_first(self, array):
        """Return data as (N, C, spatial axes)."""
        return array if self.first else np.moveaxis(array, -1, 1)

    def in_layout(self, array):
        """Return data from (N, C, spatial axes) in the vector's layout."""
        return array if self.first else np.moveaxis(array, 1, -1)


def read(folder):
    """Return the vectors of a pack, in order."""
    head, *lines = Path(folder, "index.tsv").read_text("utf-8").splitlines()
    return [Vector(folder, dict(zip(head.split("\t"), line.split("\t")))) for line in lines]


# -- a naive convolution: which input cell each output reads with each tap, axis by axis -------------------------------


def cells(v):
    """Return for each axis a table (output, tap) of input cells; -1 reads nothing."""
    tables, sizes = [], v.x[2:] if v.first else v.x[1:-1]
    for axis, (n, k) in enumerate(zip(sizes, v.kernel[2:])):
        s, d, op = v.stride[axis], v.dilation[axis], v.output_padding[axis]
        lo, hi = v.pads[2 * axis : 2 * axis + 2]
        span = (k - 1) * d + 1
        out = (n - 1) * s + span - lo - hi + op if v.transposed else (n + lo + hi - span) // s + 1
        room = {"zeros": lo + hi, "reflect": n - 1, "circular": n, "replicate": lo + hi if n else 0}[v.mode]
        if (max(lo, hi) > room and not v.transposed) or (out < 0 if v.transposed else n + lo + hi < span):
            raise Refused(f"axis {axis} has no output")
        taps = np.arange(k) * d
        if v.transposed:
            at = np.arange(out)[:, None] + lo - taps
            tables.append(np.where((at >= 0) & (at < n * s) & (at % s == 0), at // s, -1))
            continue
        at = np.arange(out)[:, None] * s + taps - lo
        if v.mode == "zeros":
            at = np.where((at >= 0) & (at < n), at, -1)
        elif v.mode == "circular":
            at = at % n
        elif v.mode == "reflect":
            at = n - 1 - np.abs(n - 1 - np.abs(at))
        tables.append(at if v.mode == "zeros" else np.clip(at, 0, n - 1))
    return tables


def taps_of(v):
    """Yield for each tap its place in the kernel, and the input cells that the outputs read with it."""
    tables = cells(v)
    for taps in itertools.product(*map(range, v.kernel[2:])):
        yield taps, np.ix_(*(table[:, tap] for table, tap in zip(tables, taps)))


def by_group(v, kernel):
    """Return a kernel as (groups, out channels, in channels, taps)."""
    parts = kernel.reshape(v.groups, -1, *kernel.shape[1:])
    return parts.swapaxes(1, 2) if v.transposed else parts


def split(v, data):
    """Return (N, C, spatial axes) as (N, groups, C / groups, spatial axes)."""
    return data.reshape(data.shape[0], v.groups, data.shape[1] // v.groups, *data.shape[2:])


def convolve(v, x, kernel, bias):
    """Return the layer's output."""
    ends = [(0, 0), (0, 0), (0, 0)] + [(0, 1)] * (len(v.kernel) - 2)  # cell -1 is zero
    data, weights = np.pad(split(v, v.channels_first(x)), ends), by_group(v, kernel)
    y = np.zeros((len(x), v.groups, v.out_channels // v.groups, *(len(table) for table in cells(v))), x.dtype)
    for taps, at in taps_of(v):
        y += np.einsum("goc,ngc...->ngo...", weights[(..., *taps)], data[(slice(None),) * 3 + at])
    y = y.reshape(len(x), v.out_channels, *y.shape[3:])
    return v.in_layout(y if bias is None else y + bias.reshape(-1, *(1,) * (y.ndim - 2)))


def gradients(v, x, kernel, dy):
    """Return the gradients of sum(y * dy) with respect to input, kernel and bias."""
    ends = [(0, 0), (0, 0), (0, 0)] + [(0, 1)] * (len(v.kernel) - 2)
    data, weights = np.pad(split(v, v.channels_first(x)), ends), by_group(v, kernel)
    dx, dw, d = np.zeros_like(data), np.zeros_like(weights), split(v, v.channels_first(dy))
    for taps, at in taps_of(v):
        place = (slice(None),) * 3 + at
        np.add.at(dx, place, np.einsum("goc,ngo...->ngc...", weights[(..., *taps)], d))
        dw[(..., *taps)] = np.einsum("ngop,ngcp->goc", *(a.reshape(*a.shape[:3], -1) for a in (d, data[place])))
    dx = dx[(slice(None),) * 3 + (slice(-1),) * (dx.ndim - 3)].reshape(v.channels_first(x).shape)
    dw = (dw.swapaxes(1, 2) if v.transposed else dw).reshape(kernel.shape)
    return v.in_layout(dx), dw, d.sum(axis=(0, *range(3, d.ndim))).reshape(-1)


def quantized(v, x, kernel, bias, scale):
    """Return the layer's output in 8 bits: rounded half up, which is one of the legal roundings."""
    sums = v.channels_first(convolve(v, x - v.zeros[0], kernel, bias))
    values = np.floor(sums * scale.reshape(-1, *(1,) * (sums.ndim - 2)) + 0.5) + v.zeros[1]
    low = -128 if v.dtype == "int8" else 0
    return v.in_layout(np.clip(values, low, low + 255))


# -- the check ---------------------------------------------------------------------------------------------------------


def check(v, conv=None, gradient=None, quantize=None):
    """Return why a vector fails, or "". A kind of vector without a function is Unsupported."""
    given = v.arrays
    function = {"gradient": gradient, "quantized": quantize}.get(v.kind, conv)
    if function is None:
        raise Unsupported
    last = {"gradient": "dy", "quantized": "scale"}.get(v.kind)
    arguments = [given["x"], given["kernel"]] + [given.get("bias")] * (v.kind != "gradient")
    try:
        results = function(v, *arguments, *([given[last]] if last else []))
    except Refused as reason:
        return "" if v.kind == "refused" else f"refused: {reason}"
    if v.kind == "refused":
        return "returned a result, expected a refusal"
    if v.kind == "gradient":
        names = ["dx", "dkernel"] + ["dbias"] * ("dbias" in given)
        return "".join(compare(name, r, given[name], given[name]) for name, r in zip(names, results))
    if v.kind == "quantized":
        return compare("y", results, given["lower"], given["upper"])
    bound = given["bound"] if v.kind == "random" else 0
    return compare("y", results, given["y"] - bound, given["y"] + bound)


def compare(name, result, lower, upper):
    """Return where a result is outside of its limits, or ""."""
    if result.shape != lower.shape:
        return f"{name} has shape {result.shape}, expected {lower.shape}; "
    wrong = np.argwhere(~((result >= lower) & (result <= upper)))
    if not len(wrong):
        return ""
    at = tuple(wrong[0].tolist())
    return f"{name}{list(at)} is {result[at]}, expected {lower[at]} to {upper[at]}, {len(wrong)} are wrong; "


def run(folder, **functions):
    """Check every vector, print the failures and the numbers; return the exit status."""
    vectors, failed, unsupported = read(folder), 0, 0
    for v in vectors:
        try:
            reason = check(v, **functions)
        except Unsupported:
            unsupported += 1
            continue
        if reason:
            failed += 1
            print(f"FAILED {v.id}: {reason}")
    print(f"{len(vectors)} vectors, {failed} failed" + (f", {unsupported} unsupported" if unsupported else ""))
    return int(failed > 0 or unsupported == len(vectors))


if __name__ == "__main__":
    sys.exit(run(sys.argv[1], conv=convolve, gradient=gradients, quantize=quantized))
