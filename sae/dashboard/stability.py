"""Which dictionaries of a sweep differ in their seed alone, and how alike they are."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sae.catalogue.catalogue import Catalogue
from sae.core.artifact import Artifact
from sae.core.config import canonical_json
from sae.core.matching import Rows
from sae.dashboard.measured import Measured, measured
from sae.dashboard.member import member_names
from sae.dashboard.numbers import short
from sae.dictionary import load
from sae.evaluation.scores import Score
from sae.evaluation.stability import Stability, stability

_FEWEST = 2
"""Living latents below which there is nothing to match."""


class SeedGroup(NamedTuple):
    """Dictionaries that were trained alike but for the seed."""

    name: str
    """What tells the group from other groups, such as `l0 = 16`; empty where there is only one."""
    seeds: tuple[int, ...]
    hashes: tuple[str, ...]
    n_dead: int
    """Latents of all its dictionaries that fire on no test token and are left out."""
    knows_dead: bool
    """Whether it is known which are dead: a catalogue says it."""
    stability: Stability

    def record(self) -> dict[str, Any]:
        """The group as plain JSON values."""
        about = {"group": self.name, "seeds": list(self.seeds), "hashes": list(self.hashes)}
        dead = {"n_dead_left_out": self.n_dead if self.knows_dead else None}
        return {**about, **dead, **self.stability.model_dump(mode="json")}


class StabilityRow(NamedTuple):
    """A group, ready to be shown."""

    name: str
    seeds: str
    latents: str
    dead: str
    share: Measured
    chance_share: str
    cosine: Measured
    chance_cosine: str
    tone: str
    words: str


class StabilityTable(NamedTuple):
    rows: tuple[StabilityRow, ...]
    above: str
    """The cosine that counts as the same."""
    interval: str
    """What the intervals are over."""
    method: str


def seed_groups(members: Sequence[Mapping[str, Artifact]]) -> tuple[SeedGroup, ...]:
    """The groups of two or more seeds among the members of a sweep, in their order.

    Args:
        members: artifacts by stage; a `catalogue` says which latents are dead.
    """
    groups: dict[str, list[Mapping[str, Artifact]]] = {}
    for artifacts in members:
        groups.setdefault(_without_seed(artifacts["train"]), []).append(artifacts)
    names = member_names([_section(group[0]["train"], seed=None) for group in groups.values()])
    made = [_group(name, group) for name, group in zip(names, groups.values(), strict=True) if len(group) > 1]
    return tuple(group for group in made if group is not None)


def stability_table(groups: Sequence[SeedGroup]) -> StabilityTable | None:
    """The groups ready to be shown; None where there is none."""
    if not groups:
        return None
    first = groups[0].stability
    interval = {
        "latents": "over the latents of the one pair of seeds: it says nothing of a third seed",
        "seeds": "over seeds: where other seeds would plausibly lie",
    }
    method = {
        "assigned": "the one-to-one matching with the largest sum of cosines",
        "mutual": "latents that are each other's nearest",
    }
    rows = tuple(_row(group) for group in groups)
    return StabilityTable(rows, f"{first.share_above:g}", interval[first.resampled], method[first.method])


def _row(group: SeedGroup) -> StabilityRow:
    found = group.stability
    tone, words = ("above", "▲ above chance") if _beats(found) else ("same", "= not above chance")
    dead = f"{group.n_dead} dead left out" if group.knows_dead else "dead ones included: no catalogue tells them"
    return StabilityRow(
        group.name,
        ", ".join(map(str, group.seeds)),
        ", ".join(map(str, found.n_latents)),
        dead,
        _cell(found.share),
        short(found.chance_share),
        _cell(found.mean_cosine),
        short(found.chance_mean_cosine),
        tone,
        words,
    )


def _beats(found: Stability) -> bool:
    return found.share.low is not None and found.share.low > found.chance_share


def _cell(score: Score) -> Measured:
    return measured(score.value, score.low, score.high)


def _group(name: str, group: Sequence[Mapping[str, Artifact]]) -> SeedGroup | None:
    train = [artifacts["train"] for artifacts in group]
    knows_dead = all("catalogue" in artifacts for artifacts in group)
    catalogues = tuple(artifacts["catalogue"].path if knows_dead else None for artifacts in group)
    measured = _measured(tuple(artifact.path for artifact in train), catalogues)
    if measured is None:
        return None
    seeds = tuple(int(_section(artifact).get("seed") or 0) for artifact in train)
    return SeedGroup(name, seeds, tuple(artifact.hash for artifact in train), measured[0], knows_dead, measured[1])


@lru_cache(maxsize=64)
def _measured(dictionaries: tuple[Path, ...], catalogues: tuple[Path | None, ...]) -> tuple[int, Stability] | None:
    """Latents left out as dead, and the stability of the others; kept, as what is published never changes."""
    rows, n_dead = [], 0
    for dictionary, catalogue in zip(dictionaries, catalogues, strict=True):
        W_dec: Rows = load(dictionary).W_dec.detach().numpy()
        dead = np.zeros(len(W_dec), bool)
        if catalogue is not None:
            with Catalogue(catalogue) as read:
                dead = read.densities == 0
        rows.append(W_dec[~dead])
        n_dead += int(dead.sum())
    return (n_dead, stability(rows)) if min(map(len, rows)) >= _FEWEST else None


def _section(artifact: Artifact, **replaced: object) -> dict[str, Any]:
    return {**artifact.manifest.get("inputs", {}).get("section", {}), **replaced}


def _without_seed(artifact: Artifact) -> str:
    return canonical_json([_section(artifact, seed=None), artifact.manifest.get("parents", {})])
