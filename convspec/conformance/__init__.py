"""Run cases on adapters and judge the results: the conformance suite.

Input: cases, adapters and options; output: a :class:`Report` with one verdict per case, layout and kind of data.
``trials`` plans and runs the work, ``checks`` judges it, ``execution`` runs it in worker processes, ``remote`` on other
machines, ``records`` saves and compares outputs, ``validation`` checks an adapter against the contract. Fuzzing has its
own face, :mod:`convspec.conformance.fuzzing`, as it needs Hypothesis.
"""

from convspec.conformance import gap_ledger, journal
from convspec.conformance.compressed_list import CompressedList
from convspec.conformance.gap_ledger import Tally
from convspec.conformance.journal import resume_command
from convspec.conformance.records.array_files import journal_path
from convspec.conformance.remote.dask_cluster import Cluster
from convspec.conformance.results import SCHEMA, Report, Result, reproduction, sort_results
from convspec.conformance.runner import Progress, check, replay, resume
from convspec.conformance.summary import conclusion, count_rows, table_lines
from convspec.conformance.trials.metamorphic import RELATIONS
from convspec.conformance.trials.work_plan import ASKED, KINDS, PRECISIONS, Selection
from convspec.conformance.validation import validate

__all__ = [
    "ASKED", "KINDS", "PRECISIONS", "RELATIONS", "SCHEMA", "Cluster", "CompressedList", "Progress", "Report", "Result",
    "Selection", "Tally", "check", "conclusion", "count_rows", "gap_ledger", "journal", "journal_path", "replay",
    "reproduction", "resume", "resume_command", "sort_results", "table_lines", "validate",
]  # fmt: skip
