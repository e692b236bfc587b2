"""A Hugging Face language model with its tokenizer, from a folder or the hub.

Where the model lies and how its weights are held is passed through to Hugging Face (`ModelOptions`).
"""

import inspect
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn

from sae.core.errors import InputError, nearest
from sae.lm.compiled import compile_blocks, refuse_compiled
from sae.lm.families import FAMILIES, family_of, n_blocks, no_family, set_family
from sae.lm.fused import fuse_gelu
from sae.lm.options import WHOLE, ModelOptions
from sae.lm.source import Source, first_line, offline, resolve

_N_POSITIONS_OF_ALIBI = 2048
_WRONG_VALUE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, StrictDataclassError)
"""What transformers raises on a value in config.json that cannot be."""
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A language model in evaluation mode, without gradients of its weights, and its fast tokenizer.

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
    """The Hugging Face module itself.

    Raises:
        InputError: it was compiled as a whole, and would not see a hook.
    """
    module = model.model if isinstance(model, LoadedModel) else model
    refuse_compiled(module)
    return module


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


def load_model(
    ref: str,
    dtype: str = "float32",
    device: str = "cpu",
    options: ModelOptions = ModelOptions(),  # noqa: B008 (a frozen value)
) -> LoadedModel:
    """Loads a language model and its tokenizer, silently; GELU that is spelt out becomes one operation (`fuse_gelu`).

    Args:
        ref: a folder, or a hub name with an optional `@revision`.
        dtype: float32, float16 or bfloat16; of what is not quantised.
        device: as torch names it; a device map comes before it.
        options: device map, quantisation, module paths of an architecture that the table lacks.

    Raises:
        InputError: no such folder or hub model, hub out of reach (or `HF_HUB_OFFLINE=1`) and not in the cache,
            not a model, a wrong value in its configuration, weights or tokenizer missing, an architecture without a
            family, options that Hugging Face refuses or that need a package that is not there.
    """
    torch_dtype, torch_device = _dtype(dtype), _device(device)
    source = resolve(ref)
    _hush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        auto = _auto(ref, source, options)
        tokenizer = _tokenizer(ref, source, options.trust_remote_code)
        model = _weights(ref, source, auto, options, {"dtype": torch_dtype, **_placement(options, torch_device)})
    if options.family is not None:
        set_family(model, options.family)
    family_of(model)
    model.requires_grad_(False).eval()
    fuse_gelu(model)
    if not _placed(options):
        model.to(torch_device)
    if options.compile:
        compile_blocks(model)
    return LoadedModel(model, tokenizer, source.fingerprint(), ref)


def _placed(options: ModelOptions) -> bool:
    """Whether Hugging Face puts the weights where they belong, and nobody may move them."""
    return options.device_map != WHOLE or bool(options.bitsandbytes)


def _placement(options: ModelOptions, device: torch.device) -> dict[str, Any]:
    """The options of `from_pretrained` that say where and how weights are held.

    Raises:
        InputError: an option that BitsAndBytesConfig has not.
    """
    from transformers import BitsAndBytesConfig

    given: dict[str, Any] = {}
    if _placed(options):
        given["device_map"] = {"": device} if options.device_map == WHOLE else options.device_map
    if options.max_memory:
        # A GPU is a number there, and JSON's keys are text.
        given["max_memory"] = {int(k) if str(k).isdigit() else k: v for k, v in options.max_memory.items()}
    if options.offload_folder:
        given["offload_folder"] = options.offload_folder
    if options.bitsandbytes:
        allowed = [name for name in inspect.signature(BitsAndBytesConfig).parameters if name != "kwargs"]
        for name in options.bitsandbytes:
            if name not in allowed:
                hint = nearest(name, allowed) or "."
                raise InputError(f"bitsandbytes: no option {name!r}{hint} There are {', '.join(allowed)}")
        try:
            given["quantization_config"] = BitsAndBytesConfig(**options.bitsandbytes)  # pyright: ignore
        except (TypeError, ValueError, AttributeError, ImportError) as error:
            raise InputError(f"bitsandbytes: {first_line(error)}") from None
    return given


def _weights(ref: str, source: Source, auto: Any, options: ModelOptions, how: dict[str, Any]) -> nn.Module:
    from safetensors import SafetensorError

    try:
        model, report = auto.from_pretrained(
            source.location,
            revision=source.commit or "main",
            local_files_only=source.commit is None or offline(),
            trust_remote_code=options.trust_remote_code,
            output_loading_info=True,
            **how,
        )
    except (OSError, ImportError, RuntimeError, SafetensorError, *_WRONG_VALUE) as error:
        raise InputError(f"{ref} cannot be loaded as a language model: {first_line(error)}") from None
    # transformers would silently give random values to weights that the files lack.
    absent = sorted([*report["missing_keys"], *(str(key) for key in report["mismatched_keys"])])
    if absent:
        raise InputError(f"{ref} lacks {len(absent)} of its weights, for example {absent[0]}")
    return model


def _auto(ref: str, source: Source, options: ModelOptions) -> Any:
    """Hugging Face's class that finds the model's own: with the masked head for an encoder of the table.

    Raises:
        InputError: a value in config.json that transformers refuses; an architecture that neither the table nor
            `options` know (names those that the table has).
    """
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

    config = _config(ref, source, options)
    # A model of text and images has its language model's name one level down.
    kinds = (config.model_type, config.get_text_config().model_type)
    if options.family is None and not any(kind in FAMILIES for kind in kinds):
        raise no_family(config.model_type)
    family = FAMILIES.get(config.model_type)
    return AutoModelForMaskedLM if family is not None and not family.causal else AutoModelForCausalLM


def _config(ref: str, source: Source, options: ModelOptions) -> Any:
    from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig

    where = {"revision": source.commit or "main", "local_files_only": source.commit is None or offline()}
    try:
        written, _ = PreTrainedConfig.get_config_dict(source.location, **where)
        kind = written.get("model_type")
        own_code = options.trust_remote_code and "auto_map" in written
        if kind is not None and kind not in CONFIG_MAPPING and not own_code and options.family is None:
            raise no_family(str(kind))
        return AutoConfig.from_pretrained(source.location, trust_remote_code=options.trust_remote_code, **where)
    except InputError:
        raise
    except (OSError, ImportError, *_WRONG_VALUE) as error:
        problem = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"config.json of {ref} cannot be read by transformers: {problem}") from None


def _tokenizer(ref: str, source: Source, trust_remote_code: bool) -> Any:
    from transformers import AutoTokenizer

    patterns = ("tokenizer*", "vocab*", "*.model")
    if source.commit is None and not any(any(Path(source.location).glob(pattern)) for pattern in patterns):
        raise InputError(f"{ref} has no tokenizer: tokenizer.json is missing")
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            source.location,
            revision=source.commit or "main",
            local_files_only=source.commit is None or offline(),
            trust_remote_code=trust_remote_code,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        raise InputError(f"the tokenizer of {ref} cannot be loaded: {first_line(error)}") from None
    if not tokenizer.is_fast:
        raise InputError(
            f"the tokenizer of {ref} gives no character offsets: a fast tokenizer (tokenizer.json) is needed"
        )
    return tokenizer


def _dtype(name: str) -> torch.dtype:
    if name not in DTYPES:
        raise InputError(f"no dtype {name!r} for a model; there are {', '.join(DTYPES)}")
    return DTYPES[name]


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"no device {name!r}: {first_line(error)}") from None
    return device


def _hush() -> None:
    """Silences transformers and accelerate for the whole process: they would break our one-line messages."""
    from transformers.utils.logging import disable_progress_bar, set_verbosity_error

    set_verbosity_error()
    disable_progress_bar()
    logging.getLogger("accelerate").setLevel(logging.ERROR)
