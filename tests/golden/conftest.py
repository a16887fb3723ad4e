"""Generated code: compared as text and run by the tests, not collected."""

collect_ignore_glob = ["*/*.py"]
