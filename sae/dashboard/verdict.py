"""What a finding allows one to say, in words: one rule on its test, its interval and its control, applied to all alike.

1. The effect and its control are *apart* where the interval of their difference leaves out zero. From an effect a in
   [l, u] and a control b in [l′, u′] the difference lies in

       a − b − √((a − l)² + (u′ − b)²)  …  a − b + √((u − a)² + (b − l′)²)

   (Newcombe 1998; Zou and Donner 2008), which is cautious where both come from the same documents. A control without
   an interval counts as a fixed number.
2. To *beat* its control an effect must lie above it, be apart from it, and pass its test: q ≤ 0.05, or p where there
   is no q.
3. A share of right answers that no document spoils has a bootstrap interval of no width; it then reaches 3/n below, for
   n documents (the rule of three: Hanley and Lippman-Hand 1983).
4. Not being told apart from a control is no proof of being equal to it.
"""

import math
from typing import Literal, NamedTuple

from sae.core.records import Finding, Interval

LEVEL = 0.05
Tone = Literal["above", "below", "unsettled", "same", "unknown"]
_ANSWERS = ("probe", "knowledge")
"""Kinds whose effect is a share of right answers."""
_MARKS: dict[Tone, str] = {"above": "▲", "below": "▼", "unsettled": "◆", "same": "=", "unknown": "?"}


class Verdict(NamedTuple):
    """A verdict in words, with a mark for those who skim and do not see colours."""

    tone: Tone
    words: str

    @property
    def mark(self) -> str:
        return _MARKS[self.tone]


def verdict(finding: Finding) -> Verdict:
    """The verdict on one finding."""
    passes, gap = passes_test(finding), difference(finding)
    if gap is None:
        return Verdict("unknown", "no interval, so nothing can be said")
    if gap.low > 0:
        return _above(passes)
    if gap.high < 0:
        return _below(finding, passes)
    if passes:
        # A probe's test asks for more than guessing, all others for more than the controls do.
        passed = "better than guessing" if finding.kind == "probe" else "passes its test"
        return Verdict("unsettled", f"{passed}, yet not told apart from its control")
    return Verdict("same", "not told apart from its control")


def _above(passes: bool | None) -> Verdict:
    if passes is False:
        return Verdict("unsettled", "lies above its control, yet fails its test: not settled")
    return Verdict("above", "beats its control" if passes else "lies above its control (no test was made)")


def _below(finding: Finding, passes: bool | None) -> Verdict:
    if finding.kind in _ANSWERS:
        return Verdict("below", "does worse than its control")
    if passes is False:
        return Verdict("unsettled", "lies below its control, yet fails its test: not settled")
    if finding.effect < 0 and abs(finding.effect) > abs(finding.control.effect):
        return Verdict("below", "an effect, but in the opposite direction")
    return Verdict("below", "does less than its control")


def passes_test(finding: Finding) -> bool | None:
    """Whether q, else p, is at most `LEVEL`; None without either."""
    tested = finding.q if finding.q is not None else finding.p
    return None if tested is None else tested <= LEVEL


def difference(finding: Finding) -> Interval | None:
    """Interval of the effect minus its control; None where the effect has no interval."""
    own, control = finding.interval, finding.control
    if own is None:
        return None
    beside = control.interval or Interval(low=control.effect, high=control.effect)
    gap = finding.effect - control.effect
    below = math.hypot(finding.effect - _low(finding, own), beside.high - control.effect)
    above = math.hypot(own.high - finding.effect, control.effect - beside.low)
    return Interval(low=gap - below, high=gap + above, level=own.level)


def _low(finding: Finding, own: Interval) -> float:
    flawless = finding.kind in _ANSWERS and own.low == own.high == finding.effect
    return own.low - 3 / max(1, finding.n_documents) if flawless else own.low
