"""What each public tool counts of a model in PyTorch: multiply-accumulate operations and parameters."""

from __future__ import annotations

import contextlib
import importlib
import io
import multiprocessing
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import convspec
from convspec.spec import ConvParams, ConvSpec

PACKAGES = {"fvcore": "0.1.5.post20221221", "ptflops": "0.7.5", "thop": "0.1.1.post2209072238", "torchinfo": "1.8.0",
            "calflops": "0.3.2"}  # fmt: skip
NEEDS = (  # fvcore's first, then calflops's
    "iopath", "portalocker", "pyyaml", "tabulate", "termcolor", "tqdm", "yacs", "accelerate", "anyio", "certifi",
    "click", "filelock", "fsspec", "h11", "hf-xet", "httpcore2", "httpx2", "huggingface_hub", "idna", "psutil",
    "regex", "safetensors", "tokenizers", "transformers", "truststore", "typer",
)  # fmt: skip
Shape = tuple[int, ...]
Found = int | float | str  # a count, or the error that the tool raises


def _flop_counter_mode(model: Any, x: Any) -> tuple[Found, int]:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as mode:
        model(x)
    return mode.get_total_flops() / 2, sum(p.numel() for p in model.parameters())


def _fvcore(model: Any, x: Any) -> tuple[Found, int]:
    from fvcore.nn import FlopCountAnalysis, parameter_count

    return FlopCountAnalysis(model, x).total(), parameter_count(model)[""]


def _ptflops(backend: str) -> Callable[[Any, Any], tuple[Found, int]]:
    def count(model: Any, x: Any) -> tuple[Found, int]:
        from ptflops import get_model_complexity_info

        options = {"as_strings": False, "print_per_layer_stat": False, "backend": backend}
        found, parameters = get_model_complexity_info(model, tuple(x.shape[1:]), **options)
        return "fails" if found is None else found * x.shape[0], parameters

    return count


def _thop(model: Any, x: Any) -> tuple[Found, int]:
    import thop

    found, parameters = thop.profile(model, inputs=(x,), verbose=False)
    return found, int(parameters)


def _torchinfo(model: Any, x: Any) -> tuple[Found, int]:
    import torchinfo

    found = torchinfo.summary(model, input_data=x, verbose=0)
    return found.total_mult_adds, found.total_params


def _calflops(model: Any, x: Any) -> tuple[Found, int]:
    import calflops

    options = {"print_results": False, "output_as_string": False}
    _, found, parameters = calflops.calculate_flops(model, input_shape=tuple(x.shape), **options)
    return found, parameters


TOOLS: dict[str, Callable[[Any, Any], tuple[Found, int]]] = {
    "FlopCounterMode": _flop_counter_mode, "fvcore": _fvcore, "ptflops": _ptflops("pytorch"),
    "ptflops aten": _ptflops("aten"), "thop": _thop, "torchinfo": _torchinfo, "calflops": _calflops,
}  # fmt: skip
Job = tuple[str, Any, Shape]  # a tool, a spec or a text, an input shape


def build(source: ConvSpec | str) -> Any:
    """Return the PyTorch module of a layer, or of a network's text."""
    import torch

    if isinstance(source, ConvSpec):
        return convspec.adapter("torch").build(source, ConvParams.exact(source), "NCHW")
    found: dict[str, Any] = {"nn": torch.nn, "torch": torch, "F": torch.nn.functional}
    exec(source, found)  # the texts of this repository
    last = list(found.values())[-1]
    return last() if isinstance(last, type) else last


def measure(job: Job) -> tuple[Found, int]:
    """Return the operations and the parameters that a tool counts."""
    import torch

    tool, source, shape = job
    warnings.simplefilter("ignore")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), torch.no_grad():
        try:
            found, parameters = TOOLS[tool](build(source).eval(), torch.zeros(shape))
        except Exception as error:  # noqa: BLE001 – what a tool raises is a result
            return f"raises {type(error).__name__}", 0
    return int(found) if isinstance(found, float) and found.is_integer() else found, parameters


def measured(jobs: list[Job], folder: Path) -> dict[Job, tuple[Found, int]]:
    """Return all counts: 60 layers, which no tool refuses, share a process; every network has one of its own."""
    if not folder.exists():
        pinned = [f"{name}=={version}" for name, version in PACKAGES.items()]
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder)]
        subprocess.run([*command, *pinned, *NEEDS], check=True)
    sys.path.insert(0, str(folder))
    for name in ("torch", *PACKAGES):
        importlib.import_module(name)
    layers = sorted((job for job in jobs if isinstance(job[1], ConvSpec)), key=lambda job: job[0])
    texts = [job for job in jobs if isinstance(job[1], str)]
    with multiprocessing.get_context("fork").Pool(2, maxtasksperchild=1) as pool:
        return dict(zip([*layers, *texts], [*pool.map(measure, layers, 60), *pool.map(measure, texts, 1)], strict=True))
