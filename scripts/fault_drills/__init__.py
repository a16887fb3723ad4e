"""Fault drills: real faults against the installed ``convspec``. A drill yields a trial for each fault that it tried."""

from fault_drills.adapters import broken_adapters
from fault_drills.bench import Bench, Trial
from fault_drills.hostile import files, graphs, reports, texts
from fault_drills.interruptions import cluster, kill, stop
from fault_drills.outputs import descriptors, encodings
from fault_drills.storage import full_disk, journals

DRILLS = {
    "kill": kill, "stop": stop, "cluster": cluster, "full-disk": full_disk, "journals": journals,
    "adapters": broken_adapters, "encodings": encodings, "descriptors": descriptors, "texts": texts, "reports": reports,
    "files": files, "graphs": graphs,
}  # fmt: skip

__all__ = ["DRILLS", "Bench", "Trial"]
