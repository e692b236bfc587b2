"""A Hugging Face causal language model with its tokenizer, from a folder or the hub, and its fingerprint.

The fingerprint of a folder is the SHA-256 over names and contents of its configuration, weights and tokenizer; of a
hub model, the commit that its revision resolves to. Either follows from content and never from a path.
"""

import hashlib
import json
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sae.core.errors import InputError
from sae.lm.families import family_of, n_blocks

_N_POSITIONS_OF_ALIBI = 2048
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_FINGERPRINTED = (
    "config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "pytorch_model*.bin",
    "tokenizer*",
    "vocab.*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
)


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A causal language model in evaluation mode, without gradients of its weights, and its fast tokenizer.

    Calling it calls the model.
    """

    model: nn.Module
    tokenizer: Any
    fingerprint: str
    name: str

    def __call__(self, *args: Any, **inputs: Any) -> Any:
        return self.model(*args, **inputs)

    @property
    def config(self) -> Any:
        """Hugging Face's configuration."""
        return self.model.config

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return self.config.hidden_size

    @property
    def n_layers(self) -> int:
        """Number of blocks."""
        return n_blocks(self.model)

    @property
    def n_vocab(self) -> int:
        """Rows of the head, which may exceed the tokenizer's vocabulary."""
        head: Any = self.model.get_submodule(family_of(self.model).head)
        return head.weight.shape[0]

    @property
    def n_positions(self) -> int:
        """Longest sequence that the model was made for."""
        return n_positions_of(self.model)

    @property
    def device(self) -> torch.device:
        """Where its inputs must be."""
        return input_device(self.model)


Model = LoadedModel | nn.Module
"""What `reading`, `editing` and everything beside them accept."""


def module_of(model: Model) -> nn.Module:
    """The Hugging Face module itself."""
    return model.model if isinstance(model, LoadedModel) else model


def n_positions_of(module: nn.Module) -> int:
    """Longest sequence that a model was made for; where nothing but its training says so (ALiBi), BLOOM's 2048."""
    config: Any = module.config
    return getattr(config, "max_position_embeddings", _N_POSITIONS_OF_ALIBI)


def input_device(module: nn.Module) -> torch.device:
    """Where a model's token ids must be."""
    embedding: Any = module
    embedding = embedding.get_input_embeddings()
    if embedding.weight.device.type != "meta":
        return embedding.weight.device
    # Offloaded: accelerate keeps the weight elsewhere and brings it to this device for the call.
    return torch.device(embedding._hf_hook.execution_device)


def load_model(ref: str, dtype: str = "float32", device: str = "cpu", trust_remote_code: bool = False) -> LoadedModel:
    """Loads a causal language model and its tokenizer, silently.

    Args:
        ref: a folder, or a hub name with an optional `@revision`.
        dtype: float32, float16 or bfloat16.
        device: as torch names it.
        trust_remote_code: run code that comes with the model.

    Raises:
        InputError: no such folder or hub model, hub out of reach (or `HF_HUB_OFFLINE=1`) and not in the cache,
            not a model, weights or tokenizer missing, an architecture without a family.
    """
    torch_dtype, torch_device = _dtype(dtype), _device(device)
    source = _resolve(ref)
    _hush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tokenizer = _tokenizer(ref, source, trust_remote_code)
        model = _weights(ref, source, torch_dtype, trust_remote_code)
    family_of(model)
    model.requires_grad_(False).eval().to(torch_device)
    return LoadedModel(model, tokenizer, source.fingerprint(), ref)


def fingerprint(ref: str | Path) -> str:
    """The content fingerprint of a folder or hub name, without loading anything.

    Raises:
        InputError: as `load_model`.
    """
    return _resolve(str(ref)).fingerprint()


@dataclass(frozen=True)
class _Source:
    """A folder on this disk (`commit` None), or a hub name with its commit."""

    location: str
    commit: str | None = None

    def fingerprint(self) -> str:
        return self.commit or _folder_fingerprint(Path(self.location))


def _folder_fingerprint(folder: Path) -> str:
    files = sorted({path for pattern in _FINGERPRINTED for path in folder.glob(pattern) if path.is_file()})
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as stream:
            digest.update(f"{path.name}\0{hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def _resolve(ref: str) -> _Source:
    folder = Path(ref).expanduser()
    if _is_path(ref):
        if not folder.is_dir():
            raise InputError(
                f"no model folder {ref}; a model is a folder or a hub name like gpt2 or owner/name@revision"
            )
        if not (folder / "config.json").is_file():
            raise InputError(f"{ref} is not a model folder: it has no config.json")
        _check_config(ref, folder / "config.json")
        return _Source(str(folder))
    name, _, revision = ref.partition("@")
    return _Source(name, _commit(ref, name, revision or None))


def _is_path(ref: str) -> bool:
    """A folder, or something that can only have been meant as one: hub names are `name` or `owner/name`."""
    looks = ref.startswith((".", "/", "~")) or "\\" in ref or ref.count("/") > 1
    folder = Path(ref)
    return looks or folder.is_dir() or (str(folder.parent) != "." and folder.parent.exists())


def _check_config(ref: str, path: Path) -> None:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise InputError(f"{ref} is not a model folder: its config.json is not JSON") from None
    if not isinstance(config, dict) or "model_type" not in config:
        raise InputError(f"{ref} is not a model folder: its config.json names no model_type")


def _offline() -> bool:
    """Read at call time: the hub's library reads the variable only when it is imported."""
    return any(
        os.environ.get(name, "").upper() in {"1", "ON", "YES", "TRUE"}
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    )


def _commit(ref: str, name: str, revision: str | None) -> str:
    """The commit that a hub name's revision stands for, from the hub or from the cache."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    offline = _offline()
    try:
        path = hf_hub_download(name, "config.json", revision=revision, local_files_only=offline)
    except HFValidationError:
        raise InputError(f"{ref!r} is neither a folder nor a hub name like gpt2 or owner/name@revision") from None
    except LocalEntryNotFoundError:
        why = "HF_HUB_OFFLINE is set" if offline else "the hub cannot be reached"
        raise InputError(f"model {ref!r} is not a folder and not in the hub's cache, and {why}") from None
    except EntryNotFoundError:
        raise InputError(f"hub model {ref!r} has no config.json: not a model for transformers") from None
    except (HfHubHTTPError, OSError) as error:
        raise InputError(f"hub model {ref!r} cannot be had: {_first_line(error)}") from None
    return Path(path).parent.name


def _weights(ref: str, source: _Source, dtype: torch.dtype, trust_remote_code: bool) -> nn.Module:
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    auto: Any = AutoModelForCausalLM  # its annotation does not know the report beside the model
    try:
        model, report = auto.from_pretrained(
            source.location,
            revision=source.commit or "main",
            dtype=dtype,
            local_files_only=source.commit is None or _offline(),
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{ref} cannot be loaded as a causal language model: {_first_line(error)}") from None
    # transformers would silently give random values to weights that the files lack.
    absent = sorted([*report["missing_keys"], *(str(key) for key in report["mismatched_keys"])])
    if absent:
        raise InputError(f"{ref} lacks {len(absent)} of its weights, for example {absent[0]}")
    return model


def _tokenizer(ref: str, source: _Source, trust_remote_code: bool) -> Any:
    from transformers import AutoTokenizer

    patterns = ("tokenizer*", "vocab*", "*.model")
    if source.commit is None and not any(any(Path(source.location).glob(pattern)) for pattern in patterns):
        raise InputError(f"{ref} has no tokenizer: tokenizer.json is missing")
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            source.location,
            revision=source.commit or "main",
            local_files_only=source.commit is None or _offline(),
            trust_remote_code=trust_remote_code,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        raise InputError(f"the tokenizer of {ref} cannot be loaded: {_first_line(error)}") from None
    if not tokenizer.is_fast:
        raise InputError(
            f"the tokenizer of {ref} gives no character offsets: a fast tokenizer (tokenizer.json) is needed"
        )
    return tokenizer


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _dtype(name: str) -> torch.dtype:
    if name not in DTYPES:
        raise InputError(f"no dtype {name!r} for a model; there are {', '.join(DTYPES)}")
    return DTYPES[name]


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"no device {name!r}: {_first_line(error)}") from None
    return device


def _hush() -> None:
    """Silences transformers for the whole process: its warnings and bars would break our one-line messages."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
