"""Whole numbers that order as floating-point ones do, so that a choice is counting and never meets what is no number.

The bits of a number that is not negative order as whole numbers; those of a negative one the other way round. What is
no number is the largest; the two zeros are one.
"""

import triton
import triton.language as tl

_LOW = tl.constexpr(0x7FFFFFFF)
LOWEST = tl.constexpr(-(2**31))
"""Below the key of every number."""


@triton.jit
def key_of(number):
    """The int32 key of a float32."""
    bits = tl.where(number == number, number + 0.0, float("nan")).to(tl.int32, bitcast=True)
    return bits ^ ((bits >> 31) & _LOW)


@triton.jit
def number_of(key):
    """The float32 of a key."""
    return (key ^ ((key >> 31) & _LOW)).to(tl.float32, bitcast=True)


@triton.jit
def are_largest(key, k):
    """Marks of the k largest of a row of keys, of equal ones the first: the k-th is found bit by bit, by counting."""
    place = key.to(tl.uint32, bitcast=True) ^ 0x80000000
    kth = tl.sum(place * 0, axis=0)
    for i in range(32):
        trial = kth | (tl.full([], 1, tl.uint32) << (31 - i))
        kth = tl.where(tl.sum((place >= trial).to(tl.int32), axis=0) >= k, trial, kth)
    above, equal = place > kth, place == kth
    n_equal = k - tl.sum(above.to(tl.int32), axis=0)
    return above | (equal & (tl.cumsum(equal.to(tl.int32), axis=0) <= n_equal))
