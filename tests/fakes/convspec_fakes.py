"""Adapters without a framework, one for each way in which an adapter can go wrong.

The faulty ones do their mischief on cases whose seed is odd and are right on the others, except where they say so.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import signal
import sys
import time
from typing import Any

import numpy as np

from convspec import reference
from convspec.contract import Adapter, ComputePrecision, Gradients, LayerRequest, QuantizedForm, Support
from convspec.errors import FrameworkAbsent, UnsupportedError
from convspec.spec import dtypes, layouts

DEFAULT = LayerRequest()
_LEAKED: list[Any] = []
EVERYTHING = ("segfaults", "hangs", "leaks", "chatters", "wrong shape", "forks", "exits", "aborts")


@dataclasses.dataclass(frozen=True)
class Fake(Adapter):
    """Computes with the oracle; ``mischief(y)`` is called instead of returning y, where the bias' first is odd."""

    name: str = "good"
    fault: str = ""
    always: bool = False
    gap_text: str = ""
    requires: tuple[str, ...] = ()
    native_layout: str = "NCHW"
    dtypes: tuple[str, ...] = ("float32", "float64")
    variants: tuple[str, ...] = ("default", "other", "costly")
    variant: str = "default"
    costly: tuple[str, ...] = ("costly",)

    def versions(self):
        return {"fakeframe": "2.5.0"}

    def support(self, spec, layout="NCHW", dtype="float32", device="cpu", input_shape=None):
        if self.fault == "support raises":
            raise RuntimeError("no idea")
        if dtype not in self.dtypes:
            return Support("unsupported", f"no {dtype} here")
        return Support("unsupported", "no 3-D here") if spec.ndim == 3 else Support("native")

    def build(self, spec, params, layout=None, dtype="float32", device="cpu"):
        return spec, params, dtype

    def apply(self, layer, x, layout=None, device="cpu"):
        spec, params, dtype = layer
        x = layouts.move_axes(x, layout, "NCHW")
        if self.fault == "same lower" and spec.padding == "same" and not spec.transposed:
            spec = dataclasses.replace(spec, padding="same_lower")
        # the caught ShapeError of the reference is what a careful framework would do
        y = reference.conv(spec, params, x) if self.fault != "never refuses" else np.zeros((1, 1, 1, 1))
        y = np.ascontiguousarray(layouts.move_axes(y, "NCHW", layout).astype(dtype))
        if self.fault == "poisons" and _LEAKED:
            os.kill(os.getpid(), signal.SIGSEGV)
        bad = self.always or spec.out_channels % 2 == 1
        fault = EVERYTHING[spec.in_channels - 1] if self.fault == "everything" else self.fault
        return getattr(self, "_" + fault.replace(" ", "_"), lambda v: v)(y) if bad else y

    def gradients(self, layer, x, dy, layout=None, device="cpu"):
        if self.fault == "no gradients":
            raise UnsupportedError("this framework runs forward only")
        spec, params, dtype = layer
        x, dy = (layouts.move_axes(a, layout, "NCHW") for a in (x, dy))
        found = reference.gradients(spec, params, x, dy)
        kernel = found.kernel.astype(dtype)
        if self.fault == "wrong gradients":
            kernel = kernel[..., ::-1].copy()
        of_x = layouts.move_axes(found.input, "NCHW", layout).astype(dtype)
        return Gradients(of_x, kernel, None if found.bias is None else found.bias.astype(dtype))

    def plan(self, spec, layout="NCHW", dtype="float32") -> Any:
        raise NotImplementedError

    def source(self, spec, layout="NCHW", dtype="float32"):
        return f"layer = fake({spec!r}, {layout!r})\n"

    def compute_precision(self, spec, request=DEFAULT):
        return ComputePrecision(request.dtype)

    def configure(self, *, dtype="float32", device="cpu", precision="shipped", threads=None):
        if self.fault == "absent":
            raise FrameworkAbsent("adapter 'absent' needs fakeframe, which is not installed", name="fakeframe")
        if self.fault == "does not start":
            print("the library is broken", file=sys.stderr, flush=True)
            os._exit(7)
        if self.fault == "start raises":
            raise OSError("libfake.so: undefined symbol\nand more")

    def gaps(self):
        return self.gap_text

    # -- the faults --------------------------------------------------------------------------------------------------

    def _wrong_shape(self, y):
        return y[..., :-1]

    def _wrong_rank(self, y):
        return y[0]

    def _wrong_numbers(self, y):
        y.flat[-1] += 1
        return y

    def _wrong_dtype(self, y):
        return y.astype(np.float16)

    def _coarse(self, y):
        return dtypes.rounded(y, "bfloat16").astype(y.dtype)

    def _no_array(self, y):
        return y.tolist()

    def _raises(self, y):
        raise RuntimeError("the kernel is sad\nand here is why")

    def _segfaults(self, y):
        print("about to touch address zero", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)
        time.sleep(60)

    def _exits(self, y):
        os._exit(3)

    def _hangs(self, y):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)

    def _chatters(self, y):
        for _ in range(64):
            print("x" * 65535)
        os.write(1, b'{"ready": 1}\n[]\n')
        return y

    def _aborts(self, y):
        os.abort()

    def _leaks(self, y):
        for _ in range(64):
            _LEAKED.append(np.ones(1 << 23))  # 64 MiB, touched; 4 GiB in all
        return y

    def _takes_too_much(self, y):
        np.ones(1 << 32)
        return y

    def _poisons(self, y):
        """Does its damage to whoever comes next in this process."""
        _LEAKED.append(y)
        return y

    def _breeds(self, y):
        """A grandchild in a session of its own, whose parent is gone, and one that has none of the signals."""
        for ignored in (False, True):
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    if ignored:
                        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                            signal.signal(number, signal.SIG_IGN)
                    os.execvp("sleep", ["sleep", os.environ["CONVSPEC_TEST_SLEEP"]])
                os._exit(0)
        time.sleep(600)

    def _forks(self, y):
        if os.fork() == 0:
            time.sleep(600)  # keeps the pipes open
        os._exit(5)


def _gap(when: str, fails: str = "error", **more: str) -> str:
    extra = "".join(f'{key} = "{value}"\n' for key, value in more.items())
    return f'[[gap]]\nid = "g"\nkind = "upstream"\nwhen = "{when}"\nfails = ["{fails}"]\nreason = "known"\n{extra}'


GOOD = Fake()
GOOD2 = Fake("good2")
WRONG_SHAPE = Fake("wrong-shape", "wrong shape")
WRONG_RANK = Fake("wrong-rank", "wrong rank")
WRONG_NUMBERS = Fake("wrong-numbers", "wrong numbers")
WRONG_DTYPE = Fake("wrong-dtype", "wrong dtype")
NO_ARRAY = Fake("no-array", "no array")
RAISES = Fake("raises", "raises")
SEGFAULTS = Fake("segfaults", "segfaults")
EXITS = Fake("exits", "exits")
HANGS = Fake("hangs", "hangs")
CHATTERS = Fake("chatters", "chatters")
FORKS = Fake("forks", "forks")
LEAKS = Fake("leaks", "leaks")
TAKES_TOO_MUCH = Fake("takes-too-much", "takes too much")
POISONS = Fake("poisons", "poisons")
BREEDS = Fake("breeds", "breeds")
ALL_AT_ONCE = Fake("all-at-once", "everything")
WRONG_GRADIENTS = Fake("wrong-gradients", "wrong gradients")
NO_GRADIENTS = Fake("no-gradients", "no gradients")
SAME_LOWER = Fake("same-lower", "same lower")
COARSE = Fake("coarse", "coarse", always=True)
GAP_OF_GRADIENT = Fake(
    "gap-of-gradient", "wrong gradients", gap_text=_gap("direction == 'kernel' and data != 'x'", "disagree")
)
GAP_OF_HALVES = Fake("gap-of-halves", "wrong numbers", gap_text=_gap("out_channels == 3", "disagree"))
NEVER_REFUSES = Fake("never-refuses", "never refuses")
SUPPORT_RAISES = Fake("support-raises", "support raises")
ABSENT = Fake("absent", "absent")
ABSENT_MODULE = Fake("absent-module", requires=("no_such_framework_at_all",))
DOES_NOT_START = Fake("does-not-start", "does not start")
START_RAISES = Fake("start-raises", "start raises")
GAP_HOLDS = Fake("gap-holds", "raises", gap_text=_gap("out_channels % 2 == 1", match="sad"))
GAP_OTHER_REASON = Fake("gap-other-reason", "raises", gap_text=_gap("out_channels % 2 == 1", match="happy"))
GAP_TOO_WIDE = Fake("gap-too-wide", "raises", gap_text=_gap("out_channels > 0"))
GAP_CLOSED = Fake("gap-closed", gap_text=_gap("out_channels > 0"))
GAP_OLD = Fake("gap-old", gap_text=_gap("out_channels > 0", versions="fakeframe<2.5"))
GAP_BROKEN = Fake("gap-broken", gap_text=_gap("out_chanels > 0"))


@dataclasses.dataclass(frozen=True)
class Scripted(Fake):
    """Also has a script: of a framework that adds one to the last number, or does not."""

    def script(self, spec, request=DEFAULT):
        if request.direction != "forward":
            raise UnsupportedError("forward only")
        wrong = "actual.flat[-1] += 1\n" if self.fault else ""
        return f"actual = expected.astype({request.dtype!r})\n{wrong}"


@dataclasses.dataclass(frozen=True)
class Quantizes(Fake):
    """Also has quantised layers: half to even in one form, half up in the other, or with a fault in that."""

    def quantized(self, spec, quant, params, layout=None):
        if spec.groups > 1:
            raise UnsupportedError("no groups of integers here")

        def run(x, rule, fault):
            if fault == "raises":
                raise RuntimeError("the integers are sad")
            bias = None if fault == "no bias" else params.bias
            given = layouts.move_axes(x, layout, "NCHW")
            layer = reference.quantized.QuantizedLayer(spec, quant, given, params.kernel, bias)
            y = layouts.move_axes(layer.rounded(rule, layer.sums()), "NCHW", layout)
            return y.astype("int16" if fault == "wrong dtype" else quant.output)

        forms = {"even": ("half to even", ""), "up": ("half up", self.fault)}
        return tuple(QuantizedForm(name, None, functools.partial(run, rule=rule, fault=fault))
                     for name, (rule, fault) in forms.items())  # fmt: skip


QUANTIZES = Quantizes("quantizes", gap_text=_gap("out_channels > 0"))
NO_QUANTIZED_BIAS = Quantizes("no-quantized-bias", "no bias")
SAD_INTEGERS = Quantizes("sad-integers", "raises", gap_text=_gap("data == 'int8' and out_channels > 0", match="sad"))
WIDE_INTEGERS = Quantizes("wide-integers", "wrong dtype")

SCRIPTED = Scripted("scripted", "wrong numbers", always=True)
SCRIPTED_RIGHT = Scripted("scripted-right")
