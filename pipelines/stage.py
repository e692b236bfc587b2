"""What a stage is given: its parents' artifacts, and the model, text and concepts of the experiment.

A stage module has a `VERSION` (raised whenever its results change), a section class derived from `Strict`, and

    def run(config: Section, inputs: Inputs, folder: Path, progress: Progress) -> dict[str, Any]

which writes its files into `folder` and returns its metrics: plain JSON values, kept in the manifest.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sae.core.artifact import Artifact
from sae.core.records import LabelledText

if TYPE_CHECKING:
    from sae.lm.corpus import Corpus
    from sae.lm.load import LoadedModel


class Progress(Protocol):
    """Tells the user how far a stage is."""

    def update(self, done: int, total: int, unit: str, **values: float) -> None:
        """`done` of `total` units so far; rate and time left follow from it; `values` are shown beside."""
        ...

    def say(self, text: str) -> None:
        """One line that the user should see."""
        ...


@dataclass(frozen=True)
class Inputs:
    """Everything that a stage may read besides its own section."""

    seed: int
    sites: tuple[str, ...]
    """The harvested sites."""
    max_tokens: int
    """Tokens of text to read, special tokens included."""
    device: str
    """Where to compute; never changes what comes out beyond rounding."""
    parents: Mapping[str, Artifact]
    """Artifacts by the name of the stage that made them."""
    members: Callable[[], tuple[Mapping[str, Artifact], ...]]
    """For the report: the artifacts of every member of a sweep, by stage; one member where nothing is swept."""
    settings: Mapping[str, object]
    """The resolved experiment as plain values, for showing."""
    model: Callable[[], "LoadedModel"]
    """Loads the model on first use."""
    model_fingerprint: Callable[[], str]
    """Of the model's content, without loading it."""
    texts: Callable[[], "Corpus"]
    """The corpus, in the order in which it is to be read."""
    concepts: Callable[[], list[LabelledText]]
    """The labelled texts."""
