"""A `State` as tensors and JSON values, and back, to the bit.

1. The dictionary gives every parameter and buffer by its name, the optimiser every moment by the name of its parameter.
2. Any other field of `State` is a tensor, or a value that JSON can hold (numbers, texts, records of them): a new field
   needs no change here. JSON keeps every bit of a float.
3. What was counted of the counters is counted again.
"""

import dataclasses
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor

from sae.dictionary import Dictionary, DictionaryConfig
from sae.training.optimiser import adam
from sae.training.state import State

_APART = ("dictionary", "optimiser", "n_dead")


def tensors_of(state: State) -> dict[str, Tensor]:
    """Everything in the state that is a tensor, by name, on the host."""
    tensors = {f"dictionary.{name}": value for name, value in state.dictionary.state_dict().items()}
    for name, parameter in state.dictionary.named_parameters():
        moments = state.optimiser.state.get(parameter, {})
        tensors |= {f"optimiser.{moment}.{name}": value for moment, value in moments.items()}
    others = ((f.name, getattr(state, f.name)) for f in dataclasses.fields(state) if f.name not in _APART)
    tensors |= {f"state.{name}": value for name, value in others if isinstance(value, Tensor)}
    # Matching pursuit has one parameter under two names, which safetensors refuses: each gets memory of its own.
    return {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}


def values_of(state: State) -> dict[str, Any]:
    """Everything else, as JSON values."""
    values: dict[str, Any] = {"dictionary": state.dictionary.config.model_dump(mode="json")}
    for field in dataclasses.fields(state):
        value = getattr(state, field.name)
        if field.name not in _APART and not isinstance(value, Tensor):
            values[field.name] = _to_json(field.type, value)
    return values


def state_from(values: dict[str, Any], tensors: dict[str, Tensor], device: torch.device | str) -> State:
    """The state that gave these values and tensors.

    Raises:
        KeyError, RuntimeError, ValueError: something is missing or of another shape or type.
    """
    dictionary = Dictionary(DictionaryConfig.model_validate(values["dictionary"])).to(device).train()
    dictionary.load_state_dict(_below("dictionary.", tensors))
    optimiser = adam(dictionary)
    parameters = dict(dictionary.named_parameters())
    for key, value in _below("optimiser.", tensors).items():
        moment, name = key.split(".", 1)
        where = "cpu" if moment == "step" else device  # steps are counted on the host
        optimiser.state[parameters[name]][moment] = value.to(where)
    others: dict[str, Any] = {name: value.to(device) for name, value in _below("state.", tensors).items()}
    for field in dataclasses.fields(State):
        if field.name not in _APART and field.name not in others:
            others[field.name] = _from_json(field.type, values[field.name])
    return State(dictionary=dictionary, optimiser=optimiser, **others)


def _to_json(type_: Any, value: Any) -> Any:
    return TypeAdapter(type_).dump_python(value, mode="json")


def _from_json(type_: Any, value: Any) -> Any:
    return TypeAdapter(type_).validate_python(value)


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
