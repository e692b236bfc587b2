"""Stage *evaluate*: how good the dictionary is on the test split, beside simple alternatives, each number an interval.

Writes `scores.json` {site, split, n_documents, n_tokens, settings, model, contenders, differences, densities, geometry,
absorption, probing, notes}, `rows.json` (the same scores as a list of rows, for tables), and what they are made of:
`documents.h5`, the sums per document, and `resamples.h5`, the dictionary's scores in every resample.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor

from pipelines.evaluate_labelled import Place, labelled_scores
from pipelines.stage import Inputs, Progress
from sae.activations.columns import Columns, sites_of
from sae.activations.reader import Activations
from sae.core.config import Strict
from sae.core.streams import Covariance
from sae.dictionary import Dictionary, load
from sae.dictionary.sites import SpliceSites, splice_sites
from sae.evaluation.contenders import Ablated, Coded, Contender, Projected, Resampled
from sae.evaluation.geometry import geometry
from sae.evaluation.pca import principal_components
from sae.evaluation.scorecard import Scorecard, write, write_sums
from sae.evaluation.scores import score, with_more
from sae.evaluation.splicing import SplicedLoss
from sae.evaluation.split_text import SplitText, split_text

VERSION = 3
SCORECARD = (
    "fvu",
    "l0",
    "dead_fraction",
    "dense_fraction",
    "description_bits",
    "ce_loss_recovered",
    "delta_ce_nats",
    "kl_nats",
)
_L0_ROWS = 4096
"""Rows of the train split on which the number of principal components, equal to L0, is decided."""
_RUN_ROWS = 1024
_RESAMPLED_ROWS = 8192
"""Rows of the train split from which resample ablation draws."""


class EvaluateConfig(Strict):
    """How the dictionary is scored."""

    max_tokens: PositiveInt = 100_000
    """Tokens of the test split that are scored, in whole documents from its beginning."""
    n_resamples: int = Field(default=1000, ge=100)
    """Bootstrap resamples of the documents behind every interval."""
    probe_texts: NonNegativeInt = 1000
    """Labelled texts per variable that k-sparse probes are fitted and judged on, at most; 0 leaves probing out."""
    pca_rows: PositiveInt = 200_000
    """Activations of the train split that principal components are fitted on, in runs spread evenly over it."""


def run(config: EvaluateConfig, inputs: Inputs, folder: Path, progress: Progress) -> dict[str, Any]:
    """Scores the dictionary and its alternatives; the metrics are the dictionary's headline numbers.

    Raises:
        InputError: the test split has no documents.
    """
    activations = Activations(inputs.parents["harvest"].path)
    train = inputs.parents["train"].path
    dictionary = load(train)
    sites, model = splice_sites(dictionary.config, inputs.sites[0]), inputs.model()
    text = split_text(activations, "test", config.max_tokens)
    contenders, settings = contenders_of(dictionary, train, activations, sites, config.pca_rows, model.device)
    loss = SplicedLoss(model, sites, contenders, text.n_units, _mean(activations, sites.written).to(model.device))
    _read(loss, text, model.n_vocab, progress)
    sums, by_name = loss.text(), loss.contenders()
    coded = {name: contender.dictionary for name, contender in contenders.items() if isinstance(contender, Coded)}
    place = Place(activations, sites, text.units)
    labelled = labelled_scores(inputs, place, coded, config.probe_texts, config.n_resamples, progress)
    scored = with_more(score(sums, by_name, inputs.seed, config.n_resamples), labelled.more)
    card = Scorecard(
        site=str(sites),
        split="test",
        n_documents=text.n_units,
        n_tokens=int(sums.n_tokens.sum()),
        geometry={name: geometry(one, by_name[name].usage.firing.dead, inputs.seed) for name, one in coded.items()},
        absorption=labelled.absorption,
        probing=labelled.probing,
        settings={
            **settings,
            "n_resamples": config.n_resamples,
            "seed": inputs.seed,
            "concepts": labelled.concepts,
        },
        **{**dict(scored.scores), "notes": (*text.notes, *scored.scores.notes, *labelled.notes)},
    )
    write(folder, card)
    write_sums(folder, sums, by_name, scored.resamples["dictionary"])
    return {metric: card.contenders["dictionary"][metric].value for metric in SCORECARD} | {"n_tokens": card.n_tokens}


def _read(loss: SplicedLoss, text: SplitText, n_vocab: int, progress: Progress) -> None:
    done = 0
    for window in text.windows(n_vocab):
        loss.update(window)
        done += int(window.packed.valid.sum())
        progress.update(done, text.n_tokens, "tokens")


def contenders_of(
    dictionary: Dictionary,
    train: Path,
    activations: Activations,
    sites: SpliceSites,
    pca_rows: int,
    device: torch.device,
) -> tuple[dict[str, Contender], dict[str, Any]]:
    """The dictionary first, then what it is compared with; and the settings that were chosen for them on train."""
    with torch.no_grad():
        read = sites_of(activations, sites.read).sample("train", _L0_ROWS)
        l0 = float(dictionary.encode(read).l0().double().mean())
    written = sites_of(activations, sites.written)
    covariance = _covariance(written, pca_rows)
    k = min(max(1, round(l0)), written.d)
    mean = _mean(activations, sites.written)
    contenders: dict[str, Contender] = {
        "dictionary": Coded(dictionary.to(device)),
        "untrained": Coded(load(train / "untrained", device)),
        "pca": Projected(principal_components(covariance, k).to(device)),
        "resample_ablation": Resampled(written.sample("train", _RESAMPLED_ROWS).to(device)),
        "mean_ablation": Ablated(mean.to(device)),
        "zero_ablation": Ablated(torch.zeros_like(mean, device=device)),
    }
    return contenders, {"pca_components": k, "pca_rows": covariance.count}


def _mean(activations: Activations, sites: Sequence[str]) -> Float[Tensor, "d"]:
    """Over the train split, of sites side by side."""
    return torch.cat([activations.moments(site).mean.float() for site in sites])


def _covariance(columns: Columns, n_rows: int) -> Covariance:
    """Of at least `n_rows` rows of the train split, or of all: whole runs, as single rows are slow to read."""
    covariance, total = Covariance(columns.d), columns.n_rows("train")
    n_runs = -(-total // _RUN_ROWS)
    n_read = min(n_runs, -(-n_rows // _RUN_ROWS))
    for run in range(n_read):
        start = (run * n_runs // n_read) * _RUN_ROWS
        covariance.update(columns.rows("train", start, start + _RUN_ROWS))
    return covariance
