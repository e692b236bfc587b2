"""`sae.train`: a run from Python, that can be stopped, looked at and gone on with.

    training = sae.train(activations, TrainConfig(d_sae=512, l0=8, tokens=1_000_000))
    for progress in training:      # `break` whenever you like; the next `for` goes on from there
        ...
    dictionary = training.dictionary

It is the run of the stage *train*: the same rows in the same order give the same bits, whether they lie in a folder of
activations or in a tensor.
"""

import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae.activations.columns import ColumnBatches, Columns, sites_of
from sae.activations.order import RowOrder
from sae.activations.reader import Activations
from sae.activations.shuffle import DEFAULT_MIXING
from sae.core.errors import InputError
from sae.dictionary import Dictionary, Part, load
from sae.parallel import device_of
from sae.training.config import TrainConfig
from sae.training.loop import Batches, Progress, loop
from sae.training.places import Places, one_site
from sae.training.state import State, continued, initial, result, starts
from sae.training.whole_steps import whole_step

N_SAMPLE = 65_536
"""Rows of the train split from which scale and centre are taken."""
DEFAULT = TrainConfig()


class Rows:
    """Shuffled batches of a tensor's rows, in the order in which a folder of activations would give them."""

    def __init__(self, x: Float[Tensor, "token d"], batch: int, seed: int) -> None:
        self._x, self._batch = x, batch
        self._order = RowOrder(len(x), seed, *DEFAULT_MIXING)
        self._rows = lru_cache(maxsize=2)(self._rows_of)

    def _rows_of(self, epoch: int, buffer: int) -> Int[np.ndarray, "row"]:
        return self._order.buffer(epoch, buffer).rows

    def batch(self, step: int) -> Float[Tensor, "token d"]:
        """The rows of a step, as float32."""
        parts = self._order.parts(step * self._batch, (step + 1) * self._batch)
        rows = np.concatenate([self._rows(part.epoch, part.buffer)[part.start : part.stop] for part in parts])
        return self._x[torch.from_numpy(rows).to(self._x.device)].float()

    def sample(self, n: int) -> Float[Tensor, "token d"]:
        """At most `n` rows, evenly spread, as `Activations.sample` takes them."""
        total = len(self._x)
        numbers = np.unique(np.arange(min(n, total)) * total // max(1, min(n, total)))
        return self._x[torch.from_numpy(numbers).to(self._x.device)].float()


class Training(Iterator[Progress]):
    """A run under way; iterating moves it on, a step at a time."""

    def __init__(self, state: State, batches: Batches, config: TrainConfig) -> None:
        self.state = state
        """Everything that the run is now; `sae.training.checkpoint.save` keeps it."""
        self._batches, self._config = batches, config
        self._steps = loop(state, batches, config)
        self._held: list[Progress] = []

    @property
    def dictionary(self) -> Dictionary:
        """What is learnt so far, in the units of the model; a copy, which further steps do not change."""
        return result(self.state)

    @property
    def n_steps(self) -> int:
        """Steps of the whole run."""
        return self._config.n_steps

    def __next__(self) -> Progress:
        if self._held:
            return self._held.pop()
        with whole_step() as asked:
            done = self._step()
        if asked.yes:
            self._held.append(done)  # the step is done, and whoever goes on hears of it first
            raise KeyboardInterrupt
        return done

    def _step(self) -> Progress:
        try:
            return next(self._steps)
        except StopIteration:
            raise
        except BaseException:
            # A generator that raised is at its end. The user may go on, without the gradients of a half-made step.
            self.state.optimiser.zero_grad()
            self._steps = loop(self.state, self._batches, self._config)
            raise

    def finish(self) -> Dictionary:
        """Goes on to the end; gives the dictionary in the units of the model."""
        for _ in self:
            pass
        return self.dictionary


def train(
    activations: Tensor | np.ndarray | Sequence[Any] | Path | Activations,
    config: TrainConfig = DEFAULT,
    places: Places | None = None,
) -> Training:
    """Begins a run; iterate over what it gives.

    Args:
        activations: the tokens to train on, [token, d], as a tensor, an array or rows of numbers; or a harvest, opened
            or the path of its folder, of which the train split is taken.
        config: the run; its site may be left out where there is only one.
        places: what the columns of a tensor are, where they are not one site: a transcoder, a crosscoder.

    Raises:
        InputError: activations that cannot be trained on, fewer than a batch of them, no such site, or keys that only
            the stage *train* can serve.
    """
    _check_keys(config)
    if isinstance(activations, Tensor | np.ndarray | list | tuple):
        x = _as_tensor(activations)
        _check_batch(config, len(x), "the activations")
        rows = Rows(x, config.batch, config.data_seed or 0)
        sample = _there(rows.sample(N_SAMPLE), config)
        return Training(_first(sample, config, places or one_site(sample.shape[1])), rows, config)
    if isinstance(activations, str | Path):
        activations = Activations(Path(activations))
    if not isinstance(activations, Activations):
        raise InputError(f"activations are [token, d] numbers or a harvest, got {type(activations).__name__}")
    columns = sites_of(activations, _sites(activations, config))
    _check_batch(config, columns.n_rows("train"), f"the train split of {activations.folder}")
    batches = ColumnBatches(columns, "train", config.batch, config.data_seed or 0)
    return Training(
        _first(_there(columns.sample("train", N_SAMPLE), config), config, places or _places(columns, config)),
        batches,
        config,
    )


def _as_tensor(activations: Tensor | np.ndarray | Sequence[Any]) -> Float[Tensor, "token d"]:
    """Raises InputError where they are no table of floating-point numbers."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # nothing is written
            x = torch.as_tensor(activations)
    except (TypeError, ValueError) as error:
        raise InputError(f"activations are [token, d] numbers, got a {type(activations).__name__}: {error}") from error
    if x.ndim != 2 or not x.is_floating_point():
        shape = "×".join(map(str, x.shape)) or "()"
        raise InputError(f"activations are [token, d] floating-point numbers, got {x.dtype} of shape {shape}")
    return x


def _check_keys(config: TrainConfig) -> None:
    """Refuses what needs a second harvest or a language model."""
    for key, idle in (("beside", None), ("end_to_end", "none"), ("sweep", {}), ("wandb", "off")):
        if getattr(config, key) != idle:
            raise InputError(f"{key} is for the command sae train; leave it out here")


def _there(sample: Tensor, config: TrainConfig) -> Tensor:
    """Where the run is to be; a tensor's rows stay where they are, unless the configuration names a GPU."""
    return sample if config.device == "cpu" else sample.to(device_of(config.device))


def _first(sample: Float[Tensor, "token column"], config: TrainConfig, places: Places) -> State:
    if config.start_from is None:
        return initial(sample, config, places)
    return continued(load(config.start_from, sample.device), starts(sample, config, places), config, places)


def _sites(activations: Activations, config: TrainConfig) -> list[str]:
    """The sites of a batch: those of a crosscoder, a transcoder's two, or one."""
    there = list(activations.sites)
    if config.preset == "crosscoder":
        return there
    if config.preset == "transcoder" and (config.site is None or config.target is None):
        raise InputError(f"a transcoder needs site and target, of the harvested sites: {', '.join(there)}")
    if config.site is None and len(there) > 1:
        raise InputError(f"site must name one of the harvested sites: {', '.join(there)}")
    return [config.site or there[0], *([] if config.target is None else [config.target])]


def _places(columns: Columns, config: TrainConfig) -> Places:
    parts = tuple(Part(site=column.site, d=column.d) for column in columns.columns)
    if config.preset == "transcoder":
        return Places(source=parts[:1], target=parts[1])
    return Places(source=parts)


def _check_batch(config: TrainConfig, n_rows: int, where: str) -> None:
    if config.batch > n_rows:
        raise InputError(f"batch {config.batch} is larger than {where}, with {n_rows} rows: lower it, or give more")
