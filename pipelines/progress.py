"""How far a stage is, on standard error: a live line on a terminal, a line every few seconds elsewhere."""

import sys
import time
from typing import TextIO

_SECONDS_BETWEEN_LINES = 5.0
_SECONDS_BETWEEN_REDRAWS = 0.1


class ConsoleProgress:
    """Progress of one stage: share done, rate, time left, and the numbers that the stage shows."""

    def __init__(self, stage: str, stream: TextIO | None = None) -> None:
        self._stage = stage
        self._stream = sys.stderr if stream is None else stream
        self._live = self._stream.isatty()
        self._started = time.monotonic()
        self._first: tuple[float, int] | None = None
        self._shown = 0.0
        self._unit = ""

    def update(self, done: int, total: int, unit: str, **values: float) -> None:
        """`done` of `total` units; `values` are shown beside."""
        now = time.monotonic()
        if self._first is None or unit != self._unit:
            self._first, self._unit = (now, done), unit
        pause = _SECONDS_BETWEEN_REDRAWS if self._live else _SECONDS_BETWEEN_LINES
        if done < total and now - self._shown < pause:
            return
        self._shown = now
        self._write(self._line(done, total, now, values), final=False)

    def say(self, text: str) -> None:
        """One line that stays."""
        self._write(f"  {self._stage:<9} {text}", final=True)

    def close(self, text: str) -> None:
        """The stage's last line, with the time it took."""
        self.say(f"{text} in {time.monotonic() - self._started:.1f} s")

    def _line(self, done: int, total: int, now: float, values: dict[str, float]) -> str:
        assert self._first is not None
        began, before = self._first
        rate = (done - before) / (now - began) if now > began else 0.0
        parts = [f"{done / max(total, 1):4.0%}", f"{_short(done)}/{_short(total)} {self._unit}"]
        if rate > 0:
            parts += [f"{_short(rate)}/s", f"{_clock((total - done) / rate)} left"]
        parts += [f"{name} {_figure(value)}" for name, value in values.items()]
        return f"  {self._stage:<9} " + "  ".join(parts)

    def _write(self, line: str, final: bool) -> None:
        if self._live:
            self._stream.write(f"\r\x1b[2K{line}" + ("\n" if final else ""))
        else:
            self._stream.write(line + "\n")
        self._stream.flush()


def _figure(value: float) -> str:
    """Four digits; a large count as counts are shown."""
    return _short(value) if value >= 10_000 and float(value).is_integer() else f"{value:.4g}"


def _short(number: float) -> str:
    for limit, suffix in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if number >= limit:
            return f"{number / (1e3 if suffix == 'k' else limit):.3g}{suffix}"
    return f"{number:.0f}" if number >= 10 or number == int(number) else f"{number:.2g}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
