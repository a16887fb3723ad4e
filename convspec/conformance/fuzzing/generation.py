"""The stream of cases of a seed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from convspec.contract import registry
from convspec.errors import RequestError

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

    from convspec.corpora import Case

_BLOCK = 50  # cases that are drawn at once


def stream(seed: int, strategy: SearchStrategy[Case] | None = None) -> Iterator[Case]:
    """Distinct cases without end: the same ones for the same seed and the same version of hypothesis.

    Hypothesis also picks constants from imported modules outside site-packages: in a source checkout, a process that
    has imported others draws other cases.

    Args:
        seed: of the stream.
        strategy: what to draw from; default :func:`convspec.strategies.cases`.

    Raises:
        RequestError: if hypothesis is not installed, or the strategy has no more cases.
    """
    try:
        from convspec import strategies
    except ModuleNotFoundError as error:
        if error.name != "hypothesis":
            raise
        command = registry.install_command("fuzz")
        raise RequestError(f"fuzzing needs hypothesis, which is not installed: {command}") from None
    source = strategies.cases() if strategy is None else strategy
    seen: set[Case] = set()
    block = 0
    while True:
        found = [case for case in _block(source, f"{seed}/{block}") if case not in seen]
        if not found:
            raise RequestError(f"the strategy has no more than {len(seen)} cases")
        yield from found
        seen.update(found)
        block += 1


def _block(strategy: SearchStrategy[Case], key: str) -> list[Case]:
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded

    found: list[Case] = []

    @seeded(key)
    @settings(
        max_examples=_BLOCK,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def keep(case: Case) -> None:
        found.append(case)

    keep()
    return list(dict.fromkeys(found))
