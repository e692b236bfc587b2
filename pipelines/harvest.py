"""Stage *harvest*: text through the model to activation shards, one split each."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.stage import Inputs, Progress
from sae.activations.config import HarvestConfig

if TYPE_CHECKING:
    from sae.activations.harvest import Counts
    from sae.core.streams import Moments

VERSION = 1

__all__ = ["VERSION", "HarvestConfig", "run"]


def run(config: HarvestConfig, inputs: Inputs, folder: Path, progress: Progress) -> dict[str, Any]:
    """Harvests `inputs.sites` into `folder`.

    Raises:
        InputError: an empty corpus, a split without rows, an unknown site.
        WorldError: an activation that is not finite.
    """
    from sae.activations.harvest import Harvest

    harvest = Harvest(inputs.model(), inputs.sites, config, folder)
    for counts in harvest.run(inputs.texts(), inputs.max_tokens):
        progress.update(counts.n_forward, inputs.max_tokens, "tokens")
    metrics = _metrics(harvest.counts, harvest.moments, folder)
    metrics["n_tokens_missing"] = inputs.max_tokens - harvest.counts.n_tokens
    if harvest.exhausted:
        progress.say(
            f"the text ended after {harvest.counts.n_tokens:,} tokens of the {inputs.max_tokens:,} asked for "
            f"(text.max_tokens); going on with what there is"
        )
    return metrics


def _metrics(counts: "Counts", moments: "dict[str, Moments]", folder: Path) -> dict[str, Any]:
    return {
        "n_tokens": counts.n_tokens,
        "n_texts": counts.n_texts,
        "n_documents": counts.n_documents,
        "n_documents_in": dict(counts.n_documents_in),
        "n_rows": dict(counts.n_rows),
        "n_special_excluded": counts.n_special_excluded,
        "n_first_excluded": counts.n_first_excluded,
        "padding_fraction": counts.n_padding / (counts.n_padding + counts.n_forward),
        "bytes_on_disk": sum(file.stat().st_size for file in folder.iterdir() if file.is_file()),
        "sites": {site: _site_metrics(m) for site, m in moments.items()},
    }


def _site_metrics(m: "Moments") -> dict[str, float]:
    """Of the train split, in the model's own units."""
    mean_square = float((m.variance + m.mean.square()).sum())
    return {
        "d": len(m.sum),
        "root_mean_square_norm": math.sqrt(mean_square),
        "norm_of_mean": float(m.mean.norm()),
        "total_variance": m.total_variance,
    }
