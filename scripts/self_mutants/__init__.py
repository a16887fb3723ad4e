"""Faults planted in convspec's own code, one at a time: which are made, and how pytest runs the tests on them."""
