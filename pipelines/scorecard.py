"""The scorecard: an evaluation's scores in short, for the terminal and for `--json`."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from sae.core.artifact import Artifact

if TYPE_CHECKING:
    from rich.table import Table

    from sae.dashboard.stability import SeedGroup

COLUMNS = {
    "fvu": ("FVU", "4f"),
    "l0": ("L0", "1f"),
    "dead_fraction": ("dead", "3f"),
    "description_bits": ("bits", "1f"),
    "ce_loss_recovered": ("CE recovered", "4f"),
    "delta_ce_nats": ("ΔCE, nats", "4f"),
    "kl_nats": ("KL, nats", "4f"),
}
NAMES = {
    "dictionary": "dictionary",
    "untrained": "untrained dictionary",
    "pca": "PCA, as many components",
    "resample_ablation": "resample ablation",
    "mean_ablation": "mean ablation",
    "zero_ablation": "zero ablation",
}


def headline(members: Sequence[Mapping[str, Artifact]]) -> dict[str, Any]:
    """The first dictionary's scores with their intervals, {metric: {value, low, high}}, empty without an evaluation.

    `stability` stands beside them where members of a sweep differ in nothing but the seed: a list of their groups.
    """
    groups = _groups(members)
    stability = {"stability": [group.record() for group in groups]} if groups else {}
    return {**_contenders(members[0]).get("dictionary", {}), **stability}


def _groups(members: Sequence[Mapping[str, Artifact]]) -> Sequence["SeedGroup"]:
    trained = [artifacts for artifacts in members if "train" in artifacts]
    if len(trained) < 2:
        return ()
    from sae.dashboard.stability import seed_groups

    return seed_groups(trained)


def show(members: Sequence[Mapping[str, Artifact]], stream: TextIO) -> None:
    """Prints one table, the dictionary beside its baselines, for each member of a sweep, and the stability of seeds."""
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
    if groups := _groups(members):
        console.print(_stability(groups))


def _stability(groups: Sequence["SeedGroup"]) -> "Table":
    """Rows of latents found again, beside chance."""
    from rich import box
    from rich.table import Table

    from sae.dashboard.stability import stability_table

    shown = stability_table(groups)
    assert shown is not None, "there is a group"
    caption = (
        f"Share of latents whose partner in another seed has a cosine above {shown.above}: {shown.method}.\n"
        f"95 % intervals by bootstrap {shown.interval}. Larger is better."
    )
    labels = ("seeds", "latents", "found again", "by chance", "matched cosine", "by chance")
    table = Table("", *labels, title="Stability across seeds", caption=caption, box=box.SIMPLE)
    for column in table.columns[3:]:
        column.justify = "right"
    for row in shown.rows:
        share, cosine = (f"{cell.value}\n{cell.interval}" for cell in (row.share, row.cosine))
        table.add_row(
            row.name, row.seeds, f"{row.latents}\n{row.dead}", share, row.chance_share, cosine, row.chance_cosine
        )
    return table


def _contenders(artifacts: Mapping[str, Artifact]) -> dict[str, dict[str, Any]]:
    if "evaluate" not in artifacts:
        return {}
    return json.loads((artifacts["evaluate"].path / "scores.json").read_text(encoding="utf-8"))["contenders"]


def _caption(artifacts: Mapping[str, Artifact]) -> str:
    scores = json.loads((artifacts["evaluate"].path / "scores.json").read_text(encoding="utf-8"))
    counts = f"{scores['n_tokens']:,} tokens of {scores['n_documents']:,} documents"
    return (
        f"95 % intervals by bootstrap over documents; {counts}.\nSmaller is better, except for CE "
        "recovered. Bits: what a token's code costs (description length)."
    )


def _cell(score: Mapping[str, Any] | None, digits: str) -> str:
    if score is None or score["value"] is None:
        return "–"
    value = f"{score['value']:.{digits}}"
    if score["low"] is None:
        return value
    low, high = f"{score['low']:.{digits}}", f"{score['high']:.{digits}}"
    return value if low == high == value else f"{value}\n{low} … {high}"
