"""Words of a benchmark's command line, read by argparse: names, numbers, files that can be written."""

import argparse
from collections.abc import Callable
from pathlib import Path


def names(*known: str) -> Callable[[str], list[str]]:
    """Some of these names, with commas between them."""

    def read(said: str) -> list[str]:
        found = [name for name in said.split(",") if name]
        if unknown := [name for name in found if name not in known]:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: there are {', '.join(known)}")
        if not found:
            raise argparse.ArgumentTypeError(f"{said!r}: no name; there are {', '.join(known)}")
        return found

    return read


def whole_numbers(least: int) -> Callable[[str], list[int]]:
    """Whole numbers from `least` on, with commas between them."""

    def read(said: str) -> list[int]:
        words = [word for word in said.split(",") if word]
        if not words or not all(word.isdecimal() and int(word) >= least for word in words):
            raise argparse.ArgumentTypeError(f"{said!r}: whole numbers from {least} on, with commas between them")
        return [int(word) for word in words]

    return read


def whole_number(said: str) -> int:
    """One from 1 on."""
    if not said.isdecimal() or int(said) < 1:
        raise argparse.ArgumentTypeError(f"{said}: a whole number, 1 or more")
    return int(said)


def minutes(said: str) -> float:
    """How many; any number from 0 on."""
    try:
        found = float(said)
    except ValueError:
        found = -1.0
    if not found >= 0:  # nor what is no number
        raise argparse.ArgumentTypeError(f"{said}: a number of minutes, 0 or more")
    return found


def folder(said: str) -> Path:
    """One that is there, or can be made."""
    found = Path(said)
    if found.exists() and not found.is_dir():
        raise argparse.ArgumentTypeError(f"{said}: it is there, and no folder")
    return found


def new_file(said: str) -> Path:
    """A file in a folder that is there."""
    file = Path(said)
    if not file.parent.is_dir() or file.is_dir():
        raise argparse.ArgumentTypeError(f"{said}: a file in a folder that is there")
    return file
