"""Pseudo-random integers that any language draws alike: SplitMix64, seeded by a name.

The seed is the 64-bit FNV-1a hash of the name. Each step adds 0x9E3779B97F4A7C15 to the state and mixes it (Steele, Lea
and Flood, Fast Splittable Pseudorandom Number Generators, OOPSLA 2014). All arithmetic is modulo 2⁶⁴.
"""

from __future__ import annotations

_MASK = (1 << 64) - 1


def seed_of(name: str) -> int:
    """Return the 64-bit FNV-1a hash of a name.

    >>> hex(seed_of("a"))
    '0xaf63dc4c8601ec8c'
    """
    state = 0xCBF29CE484222325
    for byte in name.encode():
        state = (state ^ byte) * 0x100000001B3 & _MASK
    return state


def split_mix(state: int, count: int) -> list[int]:
    """Return the first ``count`` numbers of 64 bits after a state.

    >>> split_mix(1234567, 2)
    [6457827717110365317, 3203168211198807973]
    """
    drawn = []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & _MASK
        z = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & _MASK
        z = (z ^ z >> 27) * 0x94D049BB133111EB & _MASK
        drawn.append(z ^ z >> 31)
    return drawn


def draw_integers(name: str, count: int, magnitude: int) -> list[int]:
    """Return integers from -magnitude to magnitude without 0, so that a zero hides no error.

    Of each number z, the lowest bit is the sign, and the other bits modulo ``magnitude``, plus 1, are the size.
    """
    return [((z >> 1) % magnitude + 1) * (-1 if z & 1 else 1) for z in split_mix(seed_of(name), count)]
