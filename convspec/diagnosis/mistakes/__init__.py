"""The known mistakes: one module per theme, each mistake a generator function that :mod:`catalogue` lists."""
