"""Run cases on adapters and judge the results: the conformance suite.

Input: cases, adapters and options; output: a :class:`Report` with one verdict per case, layout and kind of data.
``trials`` plans and runs the work, ``checks`` judges it, ``execution`` runs it in worker processes, ``remote`` on other
machines, ``records`` saves and compares outputs, ``validation`` checks an adapter against the contract. Fuzzing has its
own face, :mod:`convspec.conformance.fuzzing`, as it needs Hypothesis.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convspec.conformance import gap_ledger, journal
    from convspec.conformance.compressed_list import CompressedList
    from convspec.conformance.gap_ledger import Tally
    from convspec.conformance.journal import resume_command
    from convspec.conformance.json_rules import JsonRules
    from convspec.conformance.records.array_files import journal_path
    from convspec.conformance.remote.dask_cluster import Cluster
    from convspec.conformance.results import SCHEMA, Report, Result, report_rules, reproduction, sort_results
    from convspec.conformance.roundings import count_roundings, rounding_lines
    from convspec.conformance.runner import Progress, check, replay, resume
    from convspec.conformance.saved_verdicts import SavedVerdicts
    from convspec.conformance.summary import conclusion, count_rows, table_lines
    from convspec.conformance.trials.metamorphic import RELATIONS
    from convspec.conformance.trials.work_plan import ASKED, KINDS, PRECISIONS, Selection
    from convspec.conformance.validation import validate

_HOMES = {
    "compressed_list": ("CompressedList",),
    "gap_ledger": ("Tally",),
    "journal": ("resume_command",),
    "json_rules": ("JsonRules",),
    "records.array_files": ("journal_path",),
    "remote.dask_cluster": ("Cluster",),
    "results": ("SCHEMA", "Report", "Result", "report_rules", "reproduction", "sort_results"),
    "roundings": ("count_roundings", "rounding_lines"),
    "runner": ("Progress", "check", "replay", "resume"),
    "saved_verdicts": ("SavedVerdicts",),
    "summary": ("conclusion", "count_rows", "table_lines"),
    "trials.metamorphic": ("RELATIONS",),
    "trials.work_plan": ("ASKED", "KINDS", "PRECISIONS", "Selection"),
    "validation": ("validate",),
}  # fmt: skip
__all__ = [
    "ASKED", "KINDS", "PRECISIONS", "RELATIONS", "SCHEMA", "Cluster", "CompressedList", "JsonRules", "Progress",
    "Report", "Result", "SavedVerdicts", "Selection", "Tally", "check", "conclusion", "count_roundings",
    "count_rows", "gap_ledger", "journal", "journal_path", "replay", "report_rules", "reproduction", "resume",
    "resume_command", "rounding_lines", "sort_results", "table_lines", "validate",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import on first use: a worker needs a third of the package and starts sooner without the rest."""
    home = next((module for module, names in _HOMES.items() if name in names), name)
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{home}")
    return module if home == name else getattr(module, name)
