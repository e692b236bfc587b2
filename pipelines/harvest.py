"""Stage *harvest*: text through the model to activation shards, one split each."""

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.stage import Inputs, Progress
from sae.activations.config import HarvestConfig

if TYPE_CHECKING:
    from sae.activations.counts import Counts
    from sae.activations.harvest import Harvest
    from sae.core.streams import Moments
    from sae.lm.corpus import Corpus

VERSION = 3

ROWS = {
    "isolated": "isolated from one another within a window",
    "single": "one a row",
    "shared": "which see those before them in their window",
}

__all__ = ["VERSION", "HarvestConfig", "run"]


def run(config: HarvestConfig, inputs: Inputs, folder: Path, progress: Progress) -> dict[str, Any]:
    """Harvests `inputs.sites` into `folder`.

    Raises:
        InputError: an empty corpus, a split without rows, an unknown site.
        WorldError: an activation that is not finite.
    """
    from sae.activations.harvest import Harvest

    corpus = inputs.texts()
    harvest = Harvest(inputs.model(), inputs.sites, config, folder)
    for counts in harvest.run(corpus, inputs.max_tokens):
        texts = counts.texts
        shown = {"documents": texts.n_documents, "duplicates": texts.n_duplicates, "waste": counts.waste_fraction}
        progress.update(counts.n_forward, inputs.max_tokens, "tokens", **shown)
    metrics = _metrics(harvest, corpus, folder)
    metrics["n_tokens_missing"] = inputs.max_tokens - harvest.counts.texts.n_tokens
    progress.say(_summary(harvest.counts, harvest.packing.rows))
    if harvest.exhausted:
        progress.say(
            f"the text ended after {harvest.counts.texts.n_tokens:,} tokens of the {inputs.max_tokens:,} asked for "
            f"(text.max_tokens); going on with what there is"
        )
    return metrics


def _summary(counts: "Counts", rows: str) -> str:
    texts = counts.texts
    return (
        f"{texts.n_texts:,} texts, {texts.n_empty:,} empty, {texts.n_duplicates:,} duplicates dropped; "
        f"{texts.n_documents:,} documents in {counts.n_pieces:,} pieces, {ROWS[rows]}; "
        f"{texts.n_tokens:,} tokens, {counts.n_special:,} special; {counts.waste_fraction:.2%} of the windows wasted"
    )


def _metrics(harvest: "Harvest", corpus: "Corpus", folder: Path) -> dict[str, Any]:
    counts = harvest.counts
    return {
        **dataclasses.asdict(counts.texts),
        "n_documents_in": dict(counts.n_documents_in),
        "n_pieces": counts.n_pieces,
        "n_special": counts.n_special + counts.n_prefix,
        "n_rows": dict(counts.n_rows),
        "n_special_excluded": counts.n_special_excluded,
        "n_first_excluded": counts.n_first_excluded,
        "waste_fraction": counts.waste_fraction,
        "rows": harvest.packing.rows,
        "order": _order(corpus),
        "bytes_on_disk": sum(file.stat().st_size for file in folder.iterdir() if file.is_file()),
        "sites": {site: _site_metrics(m) for site, m in harvest.moments.items()},
    }


def _order(corpus: "Corpus") -> dict[str, Any]:
    """How the texts were shuffled; `uniform` where every order was equally likely."""
    if corpus.buffer == 0:
        return {"shuffled": False}
    return {"shuffled": True, "buffer_texts": corpus.buffer, "seed": corpus.seed, "uniform": corpus.whole_in_buffer}


def _site_metrics(m: "Moments") -> dict[str, float]:
    """Of the train split, in the model's own units."""
    mean_square = float((m.variance + m.mean.square()).sum())
    return {
        "d": len(m.sum),
        "root_mean_square_norm": math.sqrt(mean_square),
        "norm_of_mean": float(m.mean.norm()),
        "total_variance": m.total_variance,
    }
