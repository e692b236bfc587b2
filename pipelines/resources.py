"""What an experiment names: its model, text and concepts, found, fingerprinted by content, and loaded once."""

import functools
import hashlib
from pathlib import Path
from typing import Any

from pipelines.config import EMBEDDED, Experiment
from pipelines.text import read_corpus, text_key
from sae import microworld
from sae.core.config import canonical_hash
from sae.core.records import LabelledText, read_labelled_texts
from sae.lm.corpus import Corpus
from sae.lm.load import LoadedModel, load_model
from sae.lm.source import fingerprint
from sae.parallel import device_of

N_CONCEPT_TEXTS = 400
N_PER_LABEL = 30
"""Labelled texts per variable of the microworld: so many in all, and so many of each label."""
N_FINGERPRINTED = 20
"""The first texts of each variable, which stand for all that the generator writes."""


class Resources:
    """The model, text and concepts of one experiment; each is looked up when it is first needed."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment

    @property
    def model_reference(self) -> str:
        name = self._experiment.model
        return str(microworld.folder()) if name == EMBEDDED else name

    @functools.cached_property
    def model_fingerprint(self) -> str:
        """Of the weights, configuration and tokenizer, never of the path."""
        return fingerprint(self.model_reference)

    @functools.cached_property
    def text_key(self) -> dict[str, Any]:
        """Everything about the text that results depend on."""
        return text_key(self._experiment.text)

    @functools.cached_property
    def concepts_fingerprint(self) -> str:
        name = self._experiment.concepts
        if name == EMBEDDED:
            sample = [microworld.labelled(variable, N_FINGERPRINTED, seed=0) for variable in microworld.VARIABLES]
            return canonical_hash({"n": [N_CONCEPT_TEXTS, N_PER_LABEL], "sample": sample})
        self.concepts()
        return _hash_files([Path(name)])

    @functools.cached_property
    def device(self) -> str:
        return str(device_of(self._experiment.device))

    @functools.cache  # noqa: B019 (one Resources lives as long as its process)
    def model(self) -> LoadedModel:
        experiment = self._experiment
        return load_model(self.model_reference, experiment.model_dtype, self.device, experiment.model_options)

    def texts(self) -> Corpus:
        return read_corpus(self._experiment.text, lambda: self.model().tokenizer)

    def check_concepts(self) -> None:
        """Raises InputError where a file of labelled texts is named that is not there or not right."""
        if self._experiment.concepts != EMBEDDED:
            self.concepts()

    def variables(self) -> tuple[str, ...]:
        """The variables that the labelled texts express, in order."""
        if self._experiment.concepts == EMBEDDED:
            return tuple(microworld.VARIABLES)
        return tuple(dict.fromkeys(text.variable for text in self.concepts()))

    @functools.cache  # noqa: B019
    def concepts(self) -> list[LabelledText]:
        name = self._experiment.concepts
        if name != EMBEDDED:
            return read_labelled_texts(Path(name))
        return [text for variable in microworld.VARIABLES for text in _embedded_concepts(variable)]


@functools.cache
def _embedded_concepts(variable: str) -> list[LabelledText]:
    n_texts = max(N_CONCEPT_TEXTS, N_PER_LABEL * len(microworld.labels(variable)))
    return microworld.labelled(variable, n_texts, seed=0)


def _hash_files(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            digest.update(file.suffix.encode() + hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
