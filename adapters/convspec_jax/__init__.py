"""What the adapters of Flax and Equinox share: devices and compiled code, and the trace of steps; no adapter."""
