"""A sweep's members: one experiment per combination of `train.sweep`, each as if written alone."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipelines.config import Experiment, check
from pipelines.training_sites import resolved
from sae.core.config import execution_keys
from sae.core.errors import InputError
from sae.training.config import TrainConfig

BY_CONTENT = {"start_from", "beside"}
"""Keys that name a folder: what lies there changes results, where it lies does not."""


def sweep_members(experiment: Experiment) -> Iterator[Experiment]:
    """One experiment per combination of `train.sweep`, in the order of its lists, each as if written alone."""
    train = experiment.train
    if train is None:
        yield experiment
        return
    _check_sweep(train.sweep)
    raw = experiment.model_dump(mode="json", by_alias=True, exclude_none=True)
    alone = {"seed": experiment.seed, "data_seed": experiment.seed, **raw["train"], "sweep": {}}
    for values in itertools.product(*train.sweep.values()):
        swept = {**alone, **dict(zip(train.sweep, values, strict=True))}
        section = resolved(swept, experiment.sites, experiment.pair)
        yield check({**raw, "train": section}, "train.sweep" if train.sweep else "the experiment")


def _check_sweep(sweep: Mapping[str, Sequence[Any]]) -> None:
    """Refuses what no member could be made of; unknown keys and wrong values are refused with each member."""
    if "sweep" in sweep:
        raise InputError("train.sweep.sweep: a sweep cannot be swept; name keys of the section train")
    idle = execution_keys(TrainConfig) - BY_CONTENT
    for key, values in sweep.items():
        if key in idle:
            raise InputError(
                f"train.sweep.{key}: it changes how a run goes, not what it makes; give it beside the sweep"
            )
        if not values:
            raise InputError(f"train.sweep.{key} is empty: give the values to train with, such as [16, 32]")
        if any(value in values[:place] for place, value in enumerate(values)):
            raise InputError(f"train.sweep.{key} has a value twice, {list(values)}: each makes a dictionary of its own")
