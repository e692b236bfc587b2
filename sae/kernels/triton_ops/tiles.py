"""How many pairs and columns a program holds at once: enough that loads do not wait for each other."""

from typing import NamedTuple

import triton

AT_ONCE = 8192
"""Numbers that a program holds, 64 for each of its 128 threads."""
WIDEST, NARROWEST, MOST_PAIRS = 1024, 256, 16


class Tile(NamedTuple):
    pairs: int
    columns: int


def tile(d: int) -> Tile:
    """For rows of d numbers: as many columns as leave less than an eighth of a program idle, else the fewest."""
    columns = min(WIDEST, triton.next_power_of_2(d))
    while columns > NARROWEST and -d % columns * 8 > d:
        columns //= 2
    return Tile(min(MOST_PAIRS, AT_ONCE // columns), columns)
