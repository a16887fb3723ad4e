"""Rules for the fields of a ConvSpec: names, values, combinations, and the canonical form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TypeAlias, cast

from convspec.errors import SpecError

Pads: TypeAlias = tuple[tuple[int, int], ...]

PADDING_WORDS = ("valid", "same", "same_lower", "causal")
PADDING_MODES = ("zeros", "reflect", "replicate", "circular")
FIELDS = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "bias",
          "padding_mode", "transposed", "output_padding")  # fmt: skip
_VALUES_ELSEWHERE = {  # NumPy's and the frameworks' words
    "constant": "zeros", "zero": "zeros", "edge": "replicate", "border": "replicate", "wrap": "circular",
    "same_upper": "same",
}  # fmt: skip
_NAMES_ELSEWHERE = {
    "filters": "out_channels", "nb_filter": "out_channels", "num_output": "out_channels", "features": "out_channels",
    "out_features": "out_channels", "in_features": "in_channels", "kernel": "kernel_size",
    "kernel_shape": "kernel_size",
    "window_strides": "stride", "pads": "padding", "auto_pad": "padding", "dilation_rate": "dilation",
    "kernel_dilation": "dilation", "rhs_dilation": "dilation", "feature_group_count": "groups", "num_groups": "groups",
    "use_bias": "bias", "transpose": "transposed", "num_spatial_dims": "ndim", "rank": "ndim",
}  # fmt: skip
_NO_FIELDS = {
    "layout": "pass layout to output_shape, build or apply",
    "data_format": "pass layout to output_shape, build or apply",
    "dtype": "pass dtype to build", "device": "pass device to build",
    "input_shape": "pass input_shape to output_shape or explicit",
}  # fmt: skip
MAX_SIZE = 2**63 - 1
SIZE_RULE = "be at most 2**63 - 1: sizes are 64-bit integers"
MAX_AXES = 62  # beside those of the batch and the channels
_AXIS_FIELDS = {"kernel_size": 1, "stride": 1, "dilation": 1, "output_padding": 0}


def canonical(given: dict[str, Any], ndim: int | None) -> dict[str, Any]:
    """Return all fields in canonical form; raise SpecError with every problem found."""
    problems = _size_problems({**given, "ndim": ndim})
    if problems:
        raise SpecError(problems)

    def bad(name: str, rule: str) -> None:
        problems.append(f"{name}={given[name]!r} must {rule}")

    out: dict[str, Any] = {"ndim": _rank(given, ndim, problems)}
    for name in ("in_channels", "out_channels", "groups"):
        out[name] = as_integer(given[name])
        if out[name] is None or out[name] < 1:
            bad(name, "be an int, at least 1")
            out[name] = None
    for name, least in _AXIS_FIELDS.items():
        out[name] = _per_axis(given[name], out["ndim"], least)
        if out[name] is None:
            bad(name, f"be an int, or one int per spatial axis ({out['ndim']} here), each at least {least}")
    for name in ("bias", "transposed"):
        flag = given[name]
        if not (isinstance(flag, bool) or type(flag).__name__ in ("bool_", "bool")):
            bad(name, "be True or False")
        out[name] = bool(flag)
    out["padding_mode"] = given["padding_mode"]
    if not isinstance(out["padding_mode"], str) or out["padding_mode"] not in PADDING_MODES:
        bad("padding_mode", f"be one of {', '.join(map(repr, PADDING_MODES))}{_meant(given['padding_mode'])}")
    out["padding"] = _padding(given["padding"], out["ndim"])
    if out["padding"] is None:
        bad(
            "padding",
            f"be an int, one int per spatial axis ({out['ndim']} here), one (before, after) per axis – "
            f"none negative – or one of {', '.join(map(repr, PADDING_WORDS))}{_meant(given['padding'])}",
        )
    _check_together(out, bad)
    if problems:
        raise SpecError(problems)
    _fix_words(out)
    return out


def too_large(value: object) -> bool:
    """Return whether an integer, or one in a nested sequence, does not fit into 64 bits."""
    number = value if type(value) is int else as_integer(value)  # the other is slow, and a spec has many
    return any(map(too_large, as_sequence(value) or ())) if number is None else abs(number) > MAX_SIZE


def _size_problems(given: Mapping[str, Any]) -> list[str]:
    """Return one sentence for each field that no framework could hold, and that would be slow even to check."""
    problems = [f"{name}={abbreviate(value)} must {SIZE_RULE}" for name, value in given.items() if too_large(value)]
    for name in ("ndim", *_AXIS_FIELDS, "padding"):
        axes = as_integer(given[name]) if name == "ndim" else len(as_sequence(given[name]) or ())
        if not problems and (axes or 0) > MAX_AXES:
            rule = f"have at most {MAX_AXES} spatial axes: NumPy's arrays have 64 axes"
            problems.append(f"{name}={abbreviate(given[name])} must {rule}")
    return problems


def abbreviate(value: object) -> str:
    """Return a value's text for a message, cut if it is long."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no int of more than 4300 digits
        return "…"
    return text if len(text) <= 40 else f"{text[:30]}…"


def name_problems(given: Mapping[str, Any]) -> list[str]:
    """Return one sentence for each name that no field has, with the field that other frameworks call so."""
    problems = []
    for name, value in given.items():
        if name in FIELDS or name == "ndim":
            continue
        near = [_NAMES_ELSEWHERE[name]] if name in _NAMES_ELSEWHERE else get_close_matches(name, (*FIELDS, "ndim"), n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        if name in _NO_FIELDS:
            hint = f" ({_NO_FIELDS[name]})"
        problems.append(f"{name}={value!r} must not be given: there is no such field{hint}")
    return problems


def _meant(word: object) -> str:
    """Return the hint for a word of other frameworks; empty for an unknown one."""
    small = _VALUES_ELSEWHERE.get(str(word).lower(), str(word).lower())
    if small in PADDING_MODES:
        return f" (did you mean padding_mode={small!r}?)"
    return f" (did you mean padding={small!r}?)" if small in PADDING_WORDS else ""


def _rank(given: Mapping[str, Any], ndim: int | None, problems: list[str]) -> int:
    """Return the number of spatial axes, from ``ndim`` and from every field that is written per axis."""
    counts: dict[str, int] = {}
    if ndim is not None:
        rank = as_integer(ndim)
        if rank is None or rank < 1:
            problems.append(f"ndim={ndim!r} must be an int, at least 1")
        else:
            counts["ndim"] = rank
    for name in ("kernel_size", "stride", "padding", "dilation", "output_padding"):
        values = as_sequence(given[name])
        if values:
            counts[name] = len(values)
    if len(set(counts.values())) > 1:
        listing = ", ".join(f"{name} has {n}" if name != "ndim" else f"ndim is {n}" for name, n in counts.items())
        first = next(name for name in counts if name != "ndim")
        problems.append(f"{first}={given[first]!r} must have as many axes as the other fields: {listing}")
    return next(iter(counts.values()), 2)


def _per_axis(value: object, ndim: int, least: int) -> tuple[int, ...] | None:
    values = as_sequence(value)
    numbers = []
    for v in [value] * ndim if values is None else values:
        number = as_integer(v)
        if number is None or number < least:
            return None
        numbers.append(number)
    return tuple(numbers) if len(numbers) == ndim else None


def _padding(value: object, ndim: int) -> Pads | str | None:
    if isinstance(value, str):
        return value if value in PADDING_WORDS else None
    values = as_sequence(value)
    if values and all(as_sequence(v) is not None for v in values):
        pairs = [_per_axis(v, 2, 0) for v in values]
        if len(pairs) != ndim or any(p is None for p in pairs):
            return None
        return tuple((p[0], p[1]) for p in cast("list[tuple[int, ...]]", pairs))
    flat = _per_axis(value, ndim, 0)
    return None if flat is None else tuple((p, p) for p in flat)


def _check_together(out: dict[str, Any], bad: Callable[[str, str], None]) -> None:
    """Check the rules that involve several fields; a field that broke its own rule is None and is skipped."""
    groups, word = out["groups"], out["padding"]
    for name in ("in_channels", "out_channels"):
        if groups and out[name] and out[name] % groups:
            bad("groups", f"divide {name}={out[name]}")
    if word == "causal" and out["ndim"] != 1:
        bad("padding", f"not be 'causal' with {out['ndim']} spatial axes: it is defined for 1-D only (pass ndim=1)")
    if out["kernel_size"] and out["dilation"]:
        spans = [(k - 1) * d for k, d in zip(out["kernel_size"], out["dilation"], strict=True)]
        if too_large(spans):
            bad("dilation", f"not spread the kernel over {max(spans) + 1} pixels: sizes must {SIZE_RULE}")
    extra = out["output_padding"]
    if not out["transposed"]:
        if extra is not None and any(extra):
            bad("output_padding", "be 0 unless transposed=True")
        return
    if word in ("causal", "same_lower"):
        bad("padding", "be numbers, 'valid' or 'same' for a transposed layer")
    if out["padding_mode"] in PADDING_MODES[1:]:
        bad("padding_mode", "be 'zeros' for a transposed layer")
    if extra is None or out["stride"] is None or out["dilation"] is None:
        return
    if word == "same" and any(extra):
        bad("output_padding", "be 0 with padding='same', which fixes the output's size")
    if any(e >= max(s, d) for e, s, d in zip(extra, out["stride"], out["dilation"], strict=True)):
        bad(
            "output_padding",
            f"be less than max(stride, dilation) on every axis (stride={out['stride']}, dilation={out['dilation']})",
        )


def _fix_words(out: dict[str, Any]) -> None:
    """Replace padding words that mean fixed numbers, and the padding mode of a layer without pads."""
    spans = [(k - 1) * d for k, d in zip(out["kernel_size"], out["dilation"], strict=True)]
    if out["padding"] == "valid":
        out["padding"] = tuple((0, 0) for _ in spans)
    elif out["padding"] == "causal":
        out["padding"] = tuple((span, 0) for span in spans)
    elif isinstance(out["padding"], str) and all(s == 1 for s in out["stride"]):
        halves = [(span // 2, span - span // 2) for span in spans]
        out["padding"] = tuple(h if out["padding"] == "same" else h[::-1] for h in halves)
    if out["padding"] == tuple((0, 0) for _ in spans):
        out["padding_mode"] = "zeros"


def as_integer(value: object) -> int | None:
    """Return the value as a Python int; None for a bool and for anything that is not an integer."""
    if type(value) is int:
        return value
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        return None
    try:
        return int(value.__index__())
    except TypeError:  # an array with an axis
        return None


def as_sequence(value: object) -> Sequence[Any] | None:
    """Return the elements of a sequence or array; None for a text, a mapping and for anything else."""
    if type(value) is tuple:
        return value
    if type(value) is int or isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        return None
    return list(value)
