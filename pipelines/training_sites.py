"""Which columns of which harvests a run trains on, as its section and the experiment's sites say."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sae.activations.columns import Column, Columns
from sae.activations.reader import Activations
from sae.core.artifact import open_artifact
from sae.core.errors import InputError
from sae.dictionary import Part
from sae.training import Places, TrainConfig
from sae.training.places import Itself


class TrainingSites(NamedTuple):
    """What a run reads and writes."""

    columns: Columns
    """Of the harvest, or of two."""
    places: Places


def training_sites(config: TrainConfig, activations: Activations, model: str) -> TrainingSites:
    """The sites of a run.

    Args:
        config: whose `site` and `target` are resolved.
        activations: of the experiment's harvest.
        model: fingerprint of the experiment's model.

    Raises:
        InputError: a site is not there, or a second harvest does not go with the first.
    """
    if config.preset != "crosscoder":
        assert config.site is not None, "sweep_members names the site"
        names = [config.site] if config.target is None else [config.site, config.target]
        parts = [Part(site=name, d=activations.d(name), model=model) for name in names]
        target = Itself() if config.target is None else parts[1]
        columns = Columns([Column(activations, name) for name in names])
        return TrainingSites(columns, Places(source=(parts[0],), target=target))
    harvests = [(activations, model)]
    if config.beside is not None:
        beside = open_harvest(config.beside)
        harvests.append((Activations(Path(config.beside)), str(beside["inputs"]["keys"]["model"])))
    columns = Columns([Column(read, site) for read, _ in harvests for site in read.sites])
    parts = [Part(site=site, d=read.d(site), model=of) for read, of in harvests for site in read.sites]
    if len(parts) < 2:
        raise InputError(
            "preset crosscoder reads several sites: harvest more than one, or name a second model's harvest in "
            "train.beside"
        )
    return TrainingSites(columns, Places(source=tuple(parts)))


def open_harvest(folder: str) -> Mapping[str, Any]:
    """The manifest of a harvest's folder.

    Raises:
        InputError: it is no artifact, or one of another kind.
    """
    artifact = open_artifact(Path(folder))
    if artifact.kind != "activations":
        raise InputError(f"train.beside: {folder} holds {artifact.kind}; it must be the folder of a harvest")
    return artifact.manifest


def resolved(section: dict[str, Any], sites: tuple[str, ...], pair: tuple[str, str] | None) -> dict[str, Any]:
    """The section of one member with its sites named; a crosscoder takes all, and names none.

    Args:
        section: as it was written, with the values of a sweep.
        sites: that are harvested.
        pair: source and target, where the experiment's site is such a pair.

    Raises:
        InputError: a site must be named, or is not harvested.
    """
    preset, there = section.get("preset", "topk"), ", ".join(sites)
    if preset == "crosscoder":
        if section.get("site"):
            raise InputError("train.site: a crosscoder takes all harvested sites; leave it out")
        return section
    if preset == "transcoder" and pair is not None:
        section = {"site": pair[0], "target": pair[1]} | section
    elif len(sites) == 1:
        section = {"site": sites[0]} | section
    for key in ("site", "target") if preset == "transcoder" else ("site",):
        if section.get(key) is None:
            raise InputError(f"train.{key} must name one of the harvested sites: {there}")
        if section[key] not in sites:
            raise InputError(f"train.{key} {section[key]!r} is not harvested; the sites are {there}")
    return section
