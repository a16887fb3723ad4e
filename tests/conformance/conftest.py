"""The fake adapters are importable here, and in the workers that are started from here."""

import sys
from pathlib import Path

FAKES = str(Path(__file__).parents[1] / "fakes")
if FAKES not in sys.path:
    sys.path.append(FAKES)
