"""The command ``mcp``: convspec's questions as tools of the Model Context Protocol, for agents that write code.

Each call of a tool runs the command of the same name in a process of its own, within limits of time, memory and output,
so that a model that crashes or hangs ends its own call alone.
"""

from __future__ import annotations

import contextlib
import json as json_module
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Annotated, Any, TypeAlias

from convspec.cli.options import option
from convspec.cli.streams import output
from convspec.errors import RequestError, printable_lines

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer

Answer: TypeAlias = dict[str, Any]

EXAMPLES = """
The server uses standard input and output. It needs convspec's extra `mcp`. Its tools write no files. Models that are
named by `module:factory` or `FILE.py:factory` are imported; the port of `judge` runs in a process of its own.

Example, in the settings of an agent: {"command": "convspec", "args": ["mcp"]}
"""
INSTRUCTIONS = (
    "Answers on convolution layers and models in PyTorch, Keras, Flax, Equinox and ONNX, by code that runs. Explain an "
    "error, show a layer or network, write it in another framework, compare two models, verify an ONNX export, and "
    "judge a port: do not call a port right before `judge` says `accepted`. Models are named `module:factory`, "
    "`FILE.py:factory` or by a file."
)
_LIMITED = """
import sys
from convspec.contract.isolation import limit_memory
limit_memory(int(sys.argv.pop(1)))
from convspec.cli.app import main
main()
"""
_MOST = 4 << 20  # bytes of a document
_LONGEST = 1 << 15  # characters of a message that is explained
_WORDS = 4000  # characters of messages


def mcp(
    timeout: Annotated[float, option("Time limit of one call, in seconds.", "SECONDS", min=1)] = 300.0,
    memory: Annotated[str, option("Memory limit of one call, e.g. 4GiB.", "SIZE")] = "8GiB",
) -> None:
    """Serve read-only tools to agents by the Model Context Protocol: explain, show, source, compare, verify, judge."""
    from convspec.contract.isolation import parse_size

    served = server(timeout, parse_size(memory))
    with contextlib.redirect_stdout(output()):
        served.run("stdio")


def server(timeout: float, memory: int) -> MCPServer:
    """Return the server with its tools; raises RequestError where the protocol's library is not installed."""
    try:
        from mcp.server.mcpserver import MCPServer
        from mcp.types import ToolAnnotations
    except ModuleNotFoundError as error:
        raise RequestError(f"{error}: install the library of the protocol, pip install 'convspec[mcp]'") from None
    import convspec

    made = MCPServer("convspec", instructions=INSTRUCTIONS, version=convspec.__version__)
    for tool in tools(timeout, memory):
        made.tool(annotations=ToolAnnotations(read_only_hint=True, open_world_hint=False))(tool)
    return made


def tools(timeout: float, memory: int) -> list[Callable[..., Answer]]:
    """Return the tools: functions whose names, arguments and docstrings an agent sees."""

    def run(*words: str, **options: Any) -> Answer:
        return _run([words[0], *_options(options), "--json=-", "--", *words[1:]], timeout, memory)

    def explain(message: str) -> Answer:
        """Explain an error, a warning or a whole traceback of a framework, with the fix in its own numbers."""
        return run("explain", message[-_LONGEST:])

    def show(layers: list[str], input_shapes: list[str] | None = None, in_channels: int | None = None) -> Answer:
        """Explain a layer, a sequence of layers or a network: sizes, cost, and where it does not fit.

        `layers` are constructors of any framework, or one network: its code, `FILE.py` or `FILE.py:Net`, which is read
        and never run. `input_shapes` are like `1,3,224,224`, one for each input.
        """
        return run("show", *layers, input=input_shapes, in_channels=in_channels)

    def source(layer: str, to: str, input_shapes: list[str] | None = None, in_channels: int | None = None) -> Answer:
        """Write a layer or a network in another framework, with the differences to mind.

        `to` is `torch`, `keras`, `flax`, `flax-linen`, `equinox` or `onnx`. Networks need `input_shapes`.
        """
        return run("source", layer, to=to, input=input_shapes, in_channels=in_channels)

    def compare(a: str, b: str, shape: str, layouts: str | None = None) -> Answer:
        """Compare model b with model a, which is right, and report the first layer that diverges, cause and fix.

        `shape` is that of a random input in a's layout; several inputs are separated by `;`.
        """
        return run("compare", a, b, shape=shape, layouts=layouts)

    def verify(model: str, against: str | None = None) -> Answer:
        """Verify every node of an ONNX file, and compare it with the model that it was exported from."""
        return run("verify", model, against=against)

    def judge(port: str, source: str, shapes: list[str], layouts: str | None = None, seed: int | None = None) -> Answer:
        """Accept or refuse a port by inputs that its author has not seen, in a process kept from the source.

        `shapes` are of the inputs in the source's layout, one text for each size that must work. Repeat the verdict,
        never overrule it; `seed` draws the inputs of an earlier judgement again.
        """
        return run("judge", port, source=source, shape=shapes, layouts=layouts, seed=seed)

    return [explain, show, source, compare, verify, judge]


def _options(options: dict[str, Any]) -> list[str]:
    given = [(name.replace("_", "-"), value) for name, value in options.items() if value is not None]
    return [f"--{name}={one}" for name, value in given for one in (value if isinstance(value, list) else [value])]


def _run(words: list[str], timeout: float, memory: int) -> Answer:
    """Return the document of a command, its exit status, and what it says on standard error."""
    command = [sys.executable, "-c", _LIMITED, str(memory), *words]
    with tempfile.TemporaryFile() as document, tempfile.TemporaryFile() as messages:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=document, stderr=messages,
                                   start_new_session=True)  # fmt: skip
        try:
            status: int | None = process.wait(timeout)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        said = _text(messages, _WORDS)[0]
        text, whole = _text(document, _MOST)
    if status is None:
        said = f"{said}\nno answer within {timeout:g} s".strip()
    answer: Answer = {"exit_status": status, "messages": said, "result": None}
    if whole and text:
        with contextlib.suppress(ValueError):
            answer["result"] = json_module.loads(text)
    elif not whole:
        answer["messages"] = f"{said}\nthe result is longer than {_MOST >> 20} MiB".strip()
    return answer


def _text(file: IO[bytes], most: int) -> tuple[str, bool]:
    """Return the end of what a process wrote, and whether that is all."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - most, 0))
    return printable_lines(file.read().decode(errors="replace")) if size else "", size <= most
