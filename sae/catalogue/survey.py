"""One pass over the rows of a split: what every latent does on them, as mergeable statistics."""

from collections.abc import Iterator

import numpy as np

from sae.activations.columns import Columns
from sae.activations.reader import Block
from sae.catalogue.top_examples import Entries, TopExamples
from sae.catalogue.usage import Usage, bin_edges
from sae.core.errors import InputError
from sae.core.splits import Split
from sae.dictionary import Dictionary
from sae.evaluation.active import active
from sae.kernels import Code

ROWS_PER_BLOCK = 4096


class Survey:
    """Usage and top examples of every latent.

    Args:
        n_latents: latents of the dictionary.
        n_examples: documents kept for each.
        reference: an activation around which the histogram's bins lie; the same in parts that are to be merged.
    """

    def __init__(self, n_latents: int, n_examples: int, reference: float) -> None:
        self.usage = Usage(n_latents, bin_edges(reference))
        self.top = TopExamples(n_latents, n_examples)

    def update(self, block: Block, code: Code) -> None:
        """Adds a block of rows and their code."""
        entries = active(code)
        self.usage.update(len(block.x), entries.latents, entries.values)
        documents, positions = block.documents[entries.tokens], block.positions[entries.tokens]
        self.top.update(Entries(entries.latents, documents, positions, entries.values))

    def merge(self, other: "Survey") -> None:
        """Adds everything that `other` has seen in other rows."""
        self.usage.merge(other.usage)
        self.top.merge(other.top)


def coded_blocks(columns: Columns, split: Split, dictionary: Dictionary) -> Iterator[tuple[Block, Code]]:
    """The rows of a split in order, with their codes; each reading gives the same numbers.

    Raises:
        InputError: the split has no rows.
    """
    if columns.n_rows(split) == 0:
        raise InputError(f"the {split} split of {columns.first.folder} has no rows: harvest more text")
    for block in columns.blocks(split, ROWS_PER_BLOCK):
        yield block, dictionary.encode(block.x.to(dictionary.b_dec.device))


def reference_activation(code: Code) -> float:
    """The largest activation of a sample; 1 where nothing is active."""
    largest = float(np.max(active(code).values, initial=0.0))
    return largest if largest > 0 else 1.0
