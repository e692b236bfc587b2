"""Scores on disk: `scores.json`, the same as rows for tables, and the sums per document that they are made of."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py

from sae.core.splits import Split
from sae.evaluation.scores import Scores
from sae.evaluation.sums import ContenderSums, TextSums

SCORES, ROWS, SUMS = "scores.json", "rows.json", "documents.h5"


class Scorecard(Scores):
    """All scores at one site, and what they were measured on."""

    site: str
    split: Split
    n_documents: int
    """Texts, the unit of resampling."""
    n_tokens: int
    """Tokens whose activations were reconstructed."""
    settings: dict[str, Any]


def write(folder: Path, card: Scorecard, text: TextSums, contenders: Mapping[str, ContenderSums]) -> None:
    """Writes the three files into `folder`."""
    (folder / SCORES).write_text(card.model_dump_json(indent=1) + "\n", encoding="utf-8")
    (folder / ROWS).write_text(json.dumps(rows(card), indent=1) + "\n", encoding="utf-8")
    with h5py.File(folder / SUMS, "w") as file:
        for name in ("n_tokens", "n_targets", "ce"):
            file[f"model/{name}"] = getattr(text, name)
        for contender, sums in contenders.items():
            for name in ("squared_error", "n_active", "ce", "kl"):
                file[f"{contender}/{name}"] = getattr(sums, name)


def rows(card: Scorecard) -> list[dict[str, Any]]:
    """One row per contender and metric: {contender, metric, value, low, high}."""
    return [
        {"contender": name, "metric": metric, **score.model_dump()}
        for name, scores in {"model": card.model, **card.contenders}.items()
        for metric, score in scores.items()
    ]


def read(folder: Path) -> Scorecard:
    """Reads scores.json."""
    return Scorecard.model_validate_json((folder / SCORES).read_bytes())
