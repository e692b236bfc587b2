"""The scorecard: an evaluation's scores in short, for the terminal and for `--json`."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from sae.core.artifact import Artifact

COLUMNS = {
    "fvu": ("FVU", "4f"),
    "l0": ("L0", "1f"),
    "dead_fraction": ("dead", "3f"),
    "ce_loss_recovered": ("CE recovered", "4f"),
    "delta_ce_nats": ("ΔCE, nats", "4f"),
    "kl_nats": ("KL, nats", "4f"),
}
NAMES = {
    "dictionary": "dictionary",
    "untrained": "untrained dictionary",
    "pca": "PCA, as many components",
    "mean_ablation": "mean ablation",
    "zero_ablation": "zero ablation",
}


def headline(artifacts: Mapping[str, Artifact]) -> dict[str, Any]:
    """The dictionary's scores with their intervals: {metric: {value, low, high}}; empty without an evaluation."""
    return _contenders(artifacts).get("dictionary", {})


def show(members: Sequence[Mapping[str, Artifact]], stream: TextIO) -> None:
    """Prints one table, the dictionary beside its baselines, for each member of a sweep."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(file=stream, highlight=False, width=None if stream.isatty() else 120)
    for number, artifacts in enumerate(members):
        contenders = _contenders(artifacts)
        if not contenders:
            continue
        hash = artifacts["train"].hash
        title = f"Scorecard of {hash}" + (f" (member {number})" if len(members) > 1 else "") + ", test split"
        table = Table(
            "", *(label for label, _ in COLUMNS.values()), title=title, caption=_caption(artifacts), box=box.SIMPLE
        )
        for column in table.columns[1:]:
            column.justify = "right"
        for name, scores in contenders.items():
            table.add_row(
                NAMES.get(name, name), *(_cell(scores.get(key), digits) for key, (_, digits) in COLUMNS.items())
            )
        console.print(table)


def _contenders(artifacts: Mapping[str, Artifact]) -> dict[str, dict[str, Any]]:
    if "evaluate" not in artifacts:
        return {}
    return json.loads((artifacts["evaluate"].path / "scores.json").read_text(encoding="utf-8"))["contenders"]


def _caption(artifacts: Mapping[str, Artifact]) -> str:
    scores = json.loads((artifacts["evaluate"].path / "scores.json").read_text(encoding="utf-8"))
    counts = f"{scores['n_tokens']:,} tokens of {scores['n_documents']:,} documents"
    return f"95 % intervals by bootstrap over documents; {counts}.\nSmaller is better, except for CE recovered."


def _cell(score: Mapping[str, Any] | None, digits: str) -> str:
    if score is None or score["value"] is None:
        return "–"
    value = f"{score['value']:.{digits}}"
    if score["low"] is None:
        return value
    low, high = f"{score['low']:.{digits}}", f"{score['high']:.{digits}}"
    return value if low == high == value else f"{value}\n{low} … {high}"
