"""``convspec explain``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from convspec.cli.console import console, print_lines, write_json
from convspec.cli.options import JsonOption
from convspec.cli.streams import read_input
from convspec.errors import RequestError

if TYPE_CHECKING:
    from convspec.layers import Explanation

EXAMPLES = """
Exit status 0: the message is known; 1: it is unknown; 2: a bad request.

Examples:

    convspec explain "mat1 and mat2 shapes cannot be multiplied (1x10816 and 12544x10)"

    python train.py 2>&1 | convspec explain -
"""
NEXT = (
    "Paste the whole traceback: some messages are known only by the framework's name in it.",
    "Show every layer's size, and the layer that does not fit: convspec show model.py:Net --input 1,3,224,224",
    "If the numbers are wrong and nothing raises, compare the models: convspec compare A B --shape 1,3,224,224",
)


def explain(
    message: Annotated[
        str, typer.Argument(metavar="MESSAGE", help="An error, a warning, or a whole traceback (`-`: standard input).")
    ],
    json: JsonOption = None,
) -> None:
    """Explain an error or a warning of a framework: what it means, and the fix with your numbers filled in."""
    from convspec.layers import explain as explained

    text = read_input() if message == "-" else message
    if not text.strip():
        raise RequestError("the message is empty: paste the error, or the whole traceback")
    found = explained(text)
    if not write_json(json, document(found)):
        print_lines(_lines(found), console())
    raise typer.Exit(0 if found else 1)


def document(found: list[Explanation]) -> dict[str, Any]:
    """Return the JSON document."""
    following = [] if found else list(NEXT)
    return {"schema": "convspec.explain/1", "known": bool(found), "next": following,
            "explanations": [one.to_dict() for one in found]}  # fmt: skip


def _lines(found: list[Explanation]) -> list[tuple[str, str]]:
    """Return the lines that a reader sees, each with its style."""
    if not found:
        return [("No known message was found in this text.", "bold"), *((f"  {text}", "") for text in NEXT)]
    lines = []
    for one in found:
        lines += [("", ""), (f"{one.framework}: {one.title}", "bold"), (f"  in your text: {one.message}", "dim")]
        lines += [(f"  What to do: {one.fix}", "green")] if one.fix else []
        lines += [(f"  Meaning: {one.means}", ""), (f"  Parameters: {', '.join(one.parameters)}", "dim")]
    return lines[1:]
