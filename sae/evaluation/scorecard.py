"""Scores on disk: `scores.json`, the same as rows for tables, and the numbers that they are made of.

`documents.h5` holds the sums per document of the model and of every contender. `resamples.h5` holds every score of the
dictionary in every resample: the n-th resample is the same documents for all dictionaries that are scored on one text
with one seed, so two of them are compared in pairs by subtracting (`sae.evaluation.comparison`).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sae.core.splits import Split
from sae.evaluation.absorbed_classes import Absorption
from sae.evaluation.geometry import Geometry
from sae.evaluation.metrics import Samples, deviations
from sae.evaluation.probing import VariableAccuracies
from sae.evaluation.scores import Scores
from sae.evaluation.sums import SUMS, ContenderSums, TextSums

SCORES, ROWS, DOCUMENTS, RESAMPLES = "scores.json", "rows.json", "documents.h5", "resamples.h5"


class Scorecard(Scores):
    """All scores at one site, and what they were measured on."""

    site: str
    split: Split
    n_documents: int
    """Texts, the unit of resampling."""
    n_tokens: int
    """Tokens whose activations were reconstructed."""
    geometry: dict[str, Geometry]
    """Of the contenders that have latents."""
    absorption: dict[str, Absorption]
    """Of the same, where a hierarchy of classes is known."""
    probing: tuple[VariableAccuracies, ...]
    """What few latents tell of each variable of the labelled texts."""
    settings: dict[str, Any]


def write(folder: Path, card: Scorecard) -> None:
    """Writes the scores, as they are and as rows."""
    (folder / SCORES).write_text(card.model_dump_json(indent=1) + "\n", encoding="utf-8")
    (folder / ROWS).write_text(json.dumps(rows(card), indent=1) + "\n", encoding="utf-8")


def write_sums(folder: Path, text: TextSums, contenders: Mapping[str, ContenderSums], resamples: Samples) -> None:
    """Writes what the scores are made of; `resamples` are those of the dictionary, by metric."""
    with h5py.File(folder / DOCUMENTS, "w") as file:
        for name in ("n_tokens", "norms", "n_targets", "ce"):
            file[f"model/{name}"] = getattr(text, name)
        file["model/deviations"] = deviations(text)
        for contender, sums in contenders.items():
            for name in SUMS:
                file[f"{contender}/{name}"] = getattr(sums, name)
    with h5py.File(folder / RESAMPLES, "w") as file:
        for metric, samples in resamples.items():
            file[metric] = samples


def rows(card: Scorecard) -> list[dict[str, Any]]:
    """One row per contender and metric: {contender, metric, value, low, high, detectable}."""
    return [
        {"contender": name, "metric": metric, **score.model_dump()}
        for name, scores in {"model": card.model, **card.contenders}.items()
        for metric, score in scores.items()
    ]


def read(folder: Path) -> Scorecard:
    """Reads scores.json."""
    return Scorecard.model_validate_json((folder / SCORES).read_bytes())


def read_resamples(folder: Path) -> Samples:
    """Reads resamples.h5."""
    with h5py.File(folder / RESAMPLES) as file:
        return {str(metric): np.asarray(samples) for metric, samples in file.items()}
