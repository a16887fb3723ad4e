"""The command ``judge``: accept or refuse a port that somebody else claims to be right."""

from __future__ import annotations

from typing import Annotated

import typer

from convspec.cli.console import console, print_lines, require_writable, write_json
from convspec.cli.options import JsonOption, Memory, option
from convspec.errors import RequestError

EXAMPLES = """
A model is `module:factory`, `FILE.py:factory`, or a file, as for `convspec compare`. The port runs in a process of its
own, without convspec and without access to the source's files; its inputs are drawn after it is loaded. Exit status 0:
accepted; 1: refused, or the answer is unknown; 2: a bad request, for example a source that does not run.

Examples:

    convspec judge port.py:build --source mynet/model.py:Net --shape 2,3,64,48

    convspec judge port.onnx --source mynet.model:build --shape 1,3,64,64 --fixed --json -
"""


def judge(
    port: Annotated[str, typer.Argument(metavar="PORT", help="The model that may be wrong.")],
    source: Annotated[str, option("The model that is right.", "SOURCE")],
    shape: Annotated[
        list[str] | None,
        option(
            "Shape of the input in the source's layout; several inputs are separated by `;`. Repeat it for another "
            "size. Default: the shape that the source declares.",
            "N,C,H,W",
        ),
    ] = None,
    seed: Annotated[int | None, option("Draw the inputs of an earlier judgement again.", "S", min=0)] = None,
    layouts: Annotated[str | None, option("Layouts of the port's and the source's inputs.", "L,L")] = None,
    fixed: Annotated[bool, option("Try only the batch and the sizes of --shape.", None, "--fixed")] = False,
    readable: Annotated[
        list[str] | None, option("File or folder that the port may read besides its own; may be repeated.", "PATH")
    ] = None,
    timeout: Annotated[float, option("Time limit of one run, in seconds.", "SECONDS", min=0.1)] = 60.0,
    memory: Memory = None,
    json: JsonOption = None,
) -> None:
    """Judge a port by inputs that its author has not seen, in a process that cannot read the source."""
    from convspec.contract.isolation import parse_size
    from convspec.models import arguments
    from convspec.models import judge as judge_port

    require_writable(json)
    own, theirs = (None, None) if layouts is None else [*layouts.split(","), ""][:2]
    if layouts is not None and (layouts.count(",") != 1 or not {own, theirs} <= {"NCHW", "NHWC"}):
        raise RequestError(f"{layouts!r} must be two layouts, such as NCHW,NHWC")
    options = {} if memory is None else {"memory": parse_size(memory)}
    result = judge_port(
        port, source, [arguments.input_shapes(text) for text in shape or ()], seed=seed, layouts=(own, theirs),
        fixed=fixed, readable=readable or (), seconds=timeout, **options,
    )  # fmt: skip
    if not write_json(json, result.to_dict()):
        print_lines(result.styled_lines(), console())
    raise typer.Exit(0 if result.accepted else 1)
