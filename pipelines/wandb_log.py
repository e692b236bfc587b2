"""Weights & Biases as a second log of a training run; metrics.jsonl is the first, and the only one that is read.

A run is named by its hash, so that a resumed one goes on in the same place. Offline, its files lie in `wandb/` of the
store, and `wandb sync` uploads them.
"""

import importlib
import importlib.util
from pathlib import Path
from typing import Any

from sae.core.errors import InputError, WorldError
from sae.training.config import TrainConfig

PROJECT = "sae"


def check_wandb(config: TrainConfig) -> None:
    """Refuses `train.wandb` where the package is missing, before anything runs."""
    if config.wandb != "off" and importlib.util.find_spec("wandb") is None:
        raise InputError(f"train.wandb: {config.wandb} needs the package wandb: pip install 'sae[wandb]'")


class WandbLog:
    """A sink; steps that wandb has already seen (a resumed run repeats some, to the same bits) are left as they are."""

    def __init__(self, folder: Path, config: TrainConfig) -> None:
        """Begins or goes on with the run of an artifact that is built in `folder` of a store.

        Raises:
            WorldError: wandb cannot begin, for want of a network or an account.
        """
        # Only here: nobody else needs it, and it takes a second to import.
        wandb: Any = importlib.import_module("wandb")
        try:
            self._run: Any = wandb.init(
                project=PROJECT,
                id=folder.name,
                name=f"{config.preset} {folder.name}",
                dir=folder.parent.parent,
                mode=config.wandb,
                resume="allow",
                reinit="create_new",
                config=config.model_dump(mode="json"),
                settings=wandb.Settings(silent=True, console="off"),
            )
        except wandb.errors.Error as error:
            raise WorldError(f"train.wandb: {config.wandb}: {' '.join(str(error).split())}") from error

    def record(self, step: int, values: dict[str, float]) -> None:
        self._run.log(values, step=step)

    def sync(self) -> None:
        """Nothing: wandb's own process writes what it was given."""

    def close(self) -> None:
        self._run.finish()
