"""Judge pairs of layers: each must compute what its counterpart would from the same input."""
