"""What went into a harvest, what was left out, and what the windows wasted."""

from dataclasses import dataclass, field

from sae.core.splits import SPLITS, Split
from sae.lm.documents import TextCounts


@dataclass
class Counts:
    """Sums so far."""

    texts: TextCounts = field(default_factory=TextCounts)
    """Texts and documents; these run ahead of the forward passes by what waits to be packed."""
    n_documents_in: dict[Split, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    n_pieces: int = 0
    """What documents were cut into."""
    n_special: int = 0
    """Tokens of documents that stand for no text; counted at the end."""
    n_forward: int = 0
    """Tokens of documents that have been through the model, or were when an earlier run wrote their rows."""
    n_prefix: int = 0
    """Tokens at the start and end of windows, which belong to no document."""
    n_padding: int = 0
    """Positions that the model read and that hold nothing."""
    n_special_excluded: int = 0
    n_first_excluded: int = 0
    n_high_norm_excluded: int = 0
    """Rows left out for their norm; counted at the end, as the next."""
    n_not_finite: int = 0
    """Rows dropped because a number was not finite."""
    n_rows: dict[Split, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    """Rows on disk; counted at the end."""

    @property
    def waste_fraction(self) -> float:
        """Share of the positions read by the model that hold nothing."""
        return self.n_padding / max(1, self.n_padding + self.n_prefix + self.n_forward)

    def merge(self, other: "Counts") -> None:
        """Adds what another part of the same harvest has seen; both have read the whole text."""
        assert (self.texts, self.n_documents_in) == (other.texts, other.n_documents_in), "parts of different texts"
        for name in _OF_A_PART:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.n_rows = {split: n + other.n_rows[split] for split, n in self.n_rows.items()}


_OF_A_PART = (
    "n_pieces",
    "n_forward",
    "n_prefix",
    "n_padding",
    "n_special_excluded",
    "n_first_excluded",
    "n_high_norm_excluded",
    "n_not_finite",
)
