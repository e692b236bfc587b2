"""A dictionary on disk: `config.yaml` (its `DictionaryConfig`) and `weights.safetensors`, float32.

The file holds W_enc and W_dec as [d_sae, d] (contiguous by latent), b_enc [d_sae] and b_dec [d_out], in the units of
the model; W_skip [d_out, d_in] where there is a skip, and what the activation owns (`sae.dictionary.parameters`).
"""

import hashlib
from pathlib import Path

import torch
import yaml
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from sae.core.errors import InputError, WorldError
from sae.dictionary.config import DictionaryConfig

CONFIG = "config.yaml"
WEIGHTS = "weights.safetensors"


def write(folder: Path, config: DictionaryConfig, weights: dict[str, Tensor]) -> None:
    """Writes both files; equal values give equal bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    cpu = {name: value.detach().to("cpu", torch.float32).clone().contiguous() for name, value in weights.items()}
    save_file(cpu, folder / WEIGHTS)
    (folder / CONFIG).write_text(yaml.safe_dump(config.model_dump(), sort_keys=False), encoding="utf-8")


def read_config(folder: Path) -> DictionaryConfig:
    """The configuration in `folder`.

    Raises:
        InputError: `folder` holds no dictionary.
        WorldError: the file is damaged.
    """
    path = folder / CONFIG
    missing = [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]
    if missing:
        raise InputError(f"{folder} is no dictionary: it has no {' and no '.join(missing)}")
    try:
        config = DictionaryConfig.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
        config.check()
    except (yaml.YAMLError, UnicodeDecodeError, ValidationError, InputError) as error:
        raise WorldError(f"{path} is damaged: {_one_line(error)}") from error
    return config


def read_weights(folder: Path, shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """The tensors in `folder`, checked against `shapes`.

    Raises:
        WorldError: the file is damaged, or holds other tensors or shapes.
    """
    path = folder / WEIGHTS
    try:
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise WorldError(f"{path} is damaged: {_one_line(error)}") from error
    found = {name: tuple(value.shape) for name, value in weights.items()}
    if found != shapes:
        raise WorldError(f"{path} does not fit {CONFIG}: it holds {found}, expected {shapes}")
    broken = [name for name, value in weights.items() if not value.isfinite().all()]
    if broken:
        raise WorldError(f"{path} is damaged: {', '.join(broken)} not finite")
    return weights


def digest(folder: Path) -> str:
    """SHA-256 over both files: what a dictionary is, wherever it lies.

    Raises:
        InputError: `folder` holds no dictionary.
    """
    read_config(folder)
    content = hashlib.sha256()
    for name in (CONFIG, WEIGHTS):
        content.update((folder / name).read_bytes())
    return content.hexdigest()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
