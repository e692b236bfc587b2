"""A harvest in parts: each document belongs to one of n, by a hash of its number.

Every part reads the whole text, so that all agree on documents, splits and where the text is cut, and sends its own
documents through the model. A merge joins what they wrote, without touching a row.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from sae.core.errors import InputError
from sae.core.splits import Split


@dataclass(frozen=True)
class Part:
    """Part `index` of `n`, from 0."""

    index: int = 0
    n: int = 1

    def owns(self, document: int) -> bool:
        """Whether a document, by its number, belongs to this part."""
        if self.n == 1:
            return True
        digest = hashlib.blake2b(document.to_bytes(8, "little"), digest_size=8).digest()
        return int.from_bytes(digest, "little") % self.n == self.index

    def shard(self, split: Split, number: int) -> str:
        """The name of a shard's file."""
        return f"{split}-{number:05d}.h5" if self.n == 1 else f"{split}-{self.name}-{number:05d}.h5"

    def number(self, split: Split, file: str) -> int | None:
        """The number of the shard whose file it is; none where it is none of this part's."""
        before, after = self.shard(split, 0).split("00000")
        digits = file.removeprefix(before).removesuffix(after)
        is_number = digits.isascii() and digits.isdigit()
        return int(digits) if is_number and self.shard(split, int(digits)) == file else None

    @property
    def name(self) -> str:
        return f"{self.index:03d}-of-{self.n:03d}"


WHOLE = Part()
_OF = re.compile(r"-\d{3}-of-(\d{3})-\d{5,}\.h5$")


def n_parts_in(files: Iterable[str]) -> int:
    """Of how many parts the shards among these files are; 1 where none says."""
    found = [int(match[1]) for file in files if (match := _OF.search(file))]
    return max(found, default=1)


def read_part(words: str) -> Part:
    """`i/n` with i from 0 to n − 1.

    Raises:
        InputError: anything else.
    """
    first, slash, second = words.partition("/")
    if not (slash and first.isascii() and first.isdigit() and second.isascii() and second.isdigit()):
        raise InputError(f"--part {words}: it is written i/n, i from 0 to n − 1, such as 0/4")
    part = Part(int(first), int(second))
    if not 1 <= part.n <= 999 or part.index >= part.n:
        raise InputError(f"--part {words}: i goes from 0 to n − 1, and n from 1 to 999")
    return part
