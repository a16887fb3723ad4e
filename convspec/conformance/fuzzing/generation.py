"""Random cases from a seed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from convspec.contract import registry
from convspec.errors import RequestError

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

    from convspec.corpora import Case

_BLOCK = 50  # cases drawn at a time


def stream(seed: int, strategy: SearchStrategy[Case] | None = None) -> Iterator[Case]:
    """Yield distinct cases without end, the same ones for the same seed and the same version of Hypothesis.

    Hypothesis also draws constants of imported modules outside site-packages: in a source checkout, the cases depend on
    the modules that the process has imported.

    Args:
        seed: of the stream.
        strategy: of the cases; default :func:`convspec.strategies.cases`.

    Raises:
        RequestError: if Hypothesis is not installed, or the strategy has no more cases.
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
        new = [case for case in _block(source, f"{seed}/{block}") if case not in seen]
        if not new:
            raise RequestError(f"the strategy has no more than {len(seen)} cases")
        yield from new
        seen.update(new)
        block += 1


def _block(strategy: SearchStrategy[Case], key: str) -> list[Case]:
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded

    cases: list[Case] = []

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
        cases.append(case)

    keep()
    return list(dict.fromkeys(cases))
