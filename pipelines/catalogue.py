"""Stage *catalogue*: every latent with its evidence from the test split.

Writes `features.h5` and `catalogue.sqlite` (see `sae.catalogue.numeric` and `sae.catalogue.texts`), read back by
`sae.catalogue.Catalogue`.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field

from pipelines.stage import Inputs, Progress
from sae.activations.columns import Columns, sites_of
from sae.activations.reader import Activations
from sae.activations.stream import TokenStream
from sae.catalogue.contexts import Contexts
from sae.catalogue.effects import Effects, effects, no_effects, writes_to_residual
from sae.catalogue.neighbours import neighbours
from sae.catalogue.numeric import write_numbers
from sae.catalogue.records import Example, TokenEffect
from sae.catalogue.survey import Survey, coded_blocks, reference_activation
from sae.catalogue.texts import TextWriter
from sae.catalogue.token_text import TokenText
from sae.core.config import Strict
from sae.dictionary import Dictionary, load
from sae.dictionary.sites import splice_sites
from sae.lm.load import LoadedModel
from sae.lm.unembed import unembedding

VERSION = 2
SPLIT = "test"


class CatalogueConfig(Strict):
    """What is kept of every latent."""

    n_examples: int = Field(default=10, ge=0)
    """Examples in context, at most one per document."""
    n_tokens: int = Field(default=10, ge=1)
    """Promoted and suppressed tokens, on each side."""
    n_neighbours: int = Field(default=8, ge=0)
    """Latents with the nearest decoder directions."""


def run(config: CatalogueConfig, inputs: Inputs, folder: Path, progress: Progress) -> dict[str, Any]:
    """Writes the catalogue; the metrics say how many latents fire and how often.

    Raises:
        InputError: the test split has no rows.
    """
    activations = Activations(inputs.parents["harvest"].path)
    model = inputs.model()
    dictionary = load(inputs.parents["train"].path, model.device)
    sites = splice_sites(dictionary.config, inputs.sites[0])
    columns, last = sites_of(activations, sites.read), sites.written[-1]
    with torch.no_grad():
        survey = survey_of(columns, dictionary, config.n_examples, progress)
        contexts = contexts_of(columns, dictionary, survey, progress)
        logits = effects_of(dictionary, model, last, config.n_tokens)
        write_numbers(folder, survey.usage, logits, neighbours(dictionary.W_dec, config.n_neighbours))
    write_texts(folder, contexts, activations.tokens, logits, TokenText(model.tokenizer))
    densities = survey.usage.densities
    return {
        "split": SPLIT,
        "site": str(sites),
        "n_tokens": survey.usage.n_tokens,
        "n_latents": dictionary.d_sae,
        "n_firing_latents": int((densities > 0).sum()),
        "median_density": float(np.median(densities)),
        "max_density": float(densities.max()),
        "n_examples": len(survey.top.entries),
        "logit_effects": "logits per unit of activation, final norm's scale left out"
        if writes_to_residual(last)
        else "none: the site is not part of the residual stream",
    }


def survey_of(columns: Columns, dictionary: Dictionary, n_examples: int, progress: Progress) -> Survey:
    """The first reading: usage and top examples."""
    survey, total, done = None, columns.n_rows(SPLIT), 0
    for block, code in coded_blocks(columns, SPLIT, dictionary):
        survey = survey or Survey(dictionary.d_sae, n_examples, reference_activation(code))
        survey.update(block, code)
        done += len(block.x)
        progress.update(done, total, "tokens")
    assert survey is not None
    return survey


def contexts_of(columns: Columns, dictionary: Dictionary, survey: Survey, progress: Progress) -> Contexts:
    """The second reading: activations around the examples."""
    contexts = Contexts.around(survey.top.entries, np.diff(columns.first.tokens.document_start))
    total, done = columns.n_rows(SPLIT), 0
    for block, code in coded_blocks(columns, SPLIT, dictionary):
        contexts.read(block.documents, block.positions, code)
        done += len(block.x)
        progress.update(done, total, "tokens again")
    return contexts


def effects_of(dictionary: Dictionary, model: LoadedModel, site: str, n: int) -> Effects:
    """Promoted and suppressed tokens, where directions at the last site written are those of the residual stream."""
    rows = dictionary.W_dec[:, -dictionary.config.widths[-1] :]
    return effects(rows, unembedding(model), n) if writes_to_residual(site) else no_effects(dictionary.d_sae)


def write_texts(folder: Path, contexts: Contexts, stream: TokenStream, logits: Effects, text: TokenText) -> None:
    """Writes the text of every latent."""
    n_latents = len(logits.promoted_ids)
    bounds = np.searchsorted(contexts.examples.latent, np.arange(n_latents + 1))
    with TextWriter(folder) as writer:
        for latent in range(n_latents):
            examples = [_example(contexts, i, stream, text) for i in range(bounds[latent], bounds[latent + 1])]
            promoted = _effects(logits.promoted_ids[latent], logits.promoted_logits[latent], text)
            suppressed = _effects(logits.suppressed_ids[latent], logits.suppressed_logits[latent], text)
            writer.write(latent, examples, promoted, suppressed)


def _example(contexts: Contexts, number: int, stream: TokenStream, text: TokenText) -> Example:
    entries = contexts.examples
    document = int(entries.document[number])
    start, stop = stream.document_start[document : document + 2]
    stretch = contexts.stretch(number, stream.ids[start:stop])
    return Example(
        document=document,
        position=int(entries.position[number]),
        activation=float(entries.value[number]),
        tokens=tuple(text(token) for token in stretch.ids.tolist()),
        values=tuple(round(value, 6) for value in stretch.values.tolist()),
        peak=stretch.peak,
    )


def _effects(ids: np.ndarray, logits: np.ndarray, text: TokenText) -> list[TokenEffect]:
    pairs = zip(ids.tolist(), logits.tolist(), strict=True)
    return [TokenEffect(token=text(i), token_id=i, logits_per_unit=round(value, 6)) for i, value in pairs]
