"""Match the layers of two models, and list the differences of each pair that need no run."""
