"""Cases that nobody thought of: drawn, run, and each failure reduced to a small layer with a script that shows it."""
