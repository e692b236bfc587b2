"""Everything that a run is at a step; a checkpoint holds exactly this.

Random numbers are drawn from streams named by seed and step, and batches are found by their step, so that a state
needs neither generators nor a reading position beside its step.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae.core.errors import InputError
from sae.dictionary import Dictionary, DictionaryConfig
from sae.dictionary.scale import Scales, fold, over_columns
from sae.training.config import TrainConfig
from sae.training.controller import Controller
from sae.training.controls import control, is_control
from sae.training.dead import Counted
from sae.training.initialise import Start, start_of
from sae.training.optimiser import Adam, adam
from sae.training.places import Itself, Places, one_site
from sae.training.presets import broad_of, controller_of, dictionary_of
from sae.training.weights import first_weights


@dataclass
class State:
    """A run at a step; `loop` moves it on in place."""

    dictionary: Dictionary
    """In scaled units; `result` gives the one in the units of the model."""
    optimiser: Adam
    scales: Scales
    """Activations are multiplied by them before they are encoded and compared."""
    tokens_since_fired: Int64[Tensor, "d_sae"]
    controller: Controller
    """What reaches l0."""
    step: int = 0
    """Steps done."""
    n_tokens: int = 0
    """Tokens seen."""
    n_dead: Counted | None = None
    """What the last step heard; it can be counted again, so no checkpoint has it."""

    @property
    def scale(self) -> float:
        """What the first site that is read is multiplied by."""
        return self.scales.source[0]


class Batch(NamedTuple):
    """A batch in scaled units."""

    x: Float[Tensor, "token d_in"]
    target: Float[Tensor, "token d_out"]
    """x itself, but for a transcoder."""


def scaled(config: DictionaryConfig, scales: Scales, batch: Float[Tensor, "token column"]) -> Batch:
    """Takes a batch in the units of the model apart.

    Raises:
        InputError: it has another width than the run's sites.
    """

    n_columns = config.d_in if config.target is None else config.d_in + config.d_out
    if batch.shape[1] != n_columns:
        raise InputError(f"the dictionary is trained on activations of width {n_columns}, got width {batch.shape[1]}")
    widths = config.widths if config.parts else (config.d_in,)
    x = batch[:, : config.d_in] * over_columns(scales.source, widths, batch.device).to(batch)
    if config.target is None:
        return Batch(x, x)
    t = over_columns(scales.target, config.widths, batch.device).to(batch)
    return Batch(x, batch[:, config.d_in :] * t)


class Starts(NamedTuple):
    """What is done to the sites of a run before training."""

    source: tuple[Start, ...]
    target: tuple[Start, ...]
    """Of the sites that are written."""

    @property
    def scales(self) -> Scales:
        return Scales(source=tuple(s.scale for s in self.source), target=tuple(s.scale for s in self.target))

    @property
    def b_dec(self) -> Float[Tensor, "d_out"]:
        """The centre of what is written, in scaled units."""
        return torch.cat([start.b_dec for start in self.target])


def starts(sample: Float[Tensor, "token column"], config: TrainConfig, places: Places) -> Starts:
    """What a run does to its activations; raises as `initial` does."""
    if len(sample) < 2:
        raise InputError(f"training needs a sample of at least two tokens, got {len(sample)}")
    places.check(sample)
    parts = sample.float().split([part.d for part in places.columns], dim=1)
    each = tuple(start_of(part, config.scale) for part in parts)
    n = len(places.source)
    return Starts(each[:n], each[:n] if isinstance(places.target, Itself) else each[n:])


def begun(begin: Starts, sample: Float[Tensor, "token column"], config: TrainConfig, places: Places) -> State:
    """The state before the first step, from what is done to the sample's sites."""
    sizes, scales, seed = dictionary_of(config, places), begin.scales, config.seed or 0
    batch = scaled(sizes, scales, sample.float())
    if is_control(config.preset):
        dictionary = control(config.preset, sizes, batch.x, begin.b_dec, seed)
    else:
        first = max(1, round(broad_of(config) * config.l0))
        dictionary = first_weights(sizes, batch.x, batch.target, begin.b_dec, first, seed)
    return state_of(dictionary, scales, config)


def state_of(dictionary: Dictionary, scales: Scales, config: TrainConfig) -> State:
    """A run's state before its first step, from a dictionary in scaled units."""
    dictionary.train()
    counters = torch.zeros(dictionary.d_sae, dtype=torch.int64, device=dictionary.b_dec.device)
    return State(
        dictionary,
        adam(dictionary, getattr(torch, config.moments)),
        scales,
        counters,
        controller_of(config, dictionary.d_in),
    )


def initial(sample: Float[Tensor, "token column"], config: TrainConfig, places: Places | None = None) -> State:
    """The state before the first step.

    Args:
        sample: activations of the train split from which scale and centre are taken; some thousands of tokens;
            the run stays on its device.
        config: the run.
        places: the sites of its columns; left out: one site.

    Raises:
        InputError: fewer than two tokens, activations that are not finite or all equal, or places that do not go with
            the preset.
    """
    places = places or one_site(sample.shape[1])
    return begun(starts(sample, config, places), sample, config, places)


def continued(dictionary: Dictionary, begin: Starts, config: TrainConfig, places: Places) -> State:
    """The state before the first step of a run that goes on from a dictionary in the units of the model.

    Numbers of its activation, k and the bandwidth, are the run's; so l0 may be another one.

    Raises:
        InputError: its sites, sizes or kind of activation are not those of the run.
    """
    wanted = dictionary_of(config, places)
    _check_goes_on(dictionary.config, wanted)
    scaled_dictionary = fold(dictionary, begin.scales.inverse())
    scaled_dictionary.config = scaled_dictionary.config.model_copy(update={"activation": wanted.activation})
    return state_of(scaled_dictionary, begin.scales, config)


def _check_goes_on(found: DictionaryConfig, wanted: DictionaryConfig) -> None:
    """Raises InputError where a run that makes `wanted` cannot go on from a dictionary that is `found`."""
    pairs = {
        "a width of what it reads": (found.d_in, wanted.d_in),
        "a width of what it writes": (found.d_out, wanted.d_out),
        "d_sae": (found.d_sae, wanted.d_sae),
        "site": (found.site or wanted.site, wanted.site),
        "target": (found.target, wanted.target),
        "activation": (found.activation.kind, wanted.activation.kind),
        "skip": (found.skip, wanted.skip),
        "subtract_b_dec": (found.subtract_b_dec, wanted.subtract_b_dec),
        "sites": tuple(" + ".join(f"{p.site} ({p.d})" for p in c.parts) for c in (found, wanted)),
    }
    for what, (there, here) in pairs.items():
        if there != here:
            raise InputError(f"start_from: the dictionary has {what} {_word(there)}, the run {_word(here)}")


def _word(value: object) -> str:
    """As it is written in a configuration."""
    return "none" if value in (None, "") else str(value).lower() if isinstance(value, bool) else str(value)


def result(state: State) -> Dictionary:
    """The dictionary of a state in the units of the model: the input scale folded in."""
    return fold(state.dictionary, state.scales)


def untrained(sample: Float[Tensor, "token column"], config: TrainConfig, places: Places | None = None) -> Dictionary:
    """What the run started from, in the units of the model: the control for what training adds."""
    return result(initial(sample, config, places))
