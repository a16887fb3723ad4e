"""Models as a whole: ports, comparisons, audits."""
