"""How a large model is held: spread over devices, offloaded, quantised, compiled; passed through to Hugging Face."""

from typing import Annotated

from pydantic import Field

from sae.core.config import EXECUTION, Strict
from sae.lm.family import Family

WHOLE = "none"
"""The device map of a model that lies on one device."""


class ModelOptions(Strict):
    """Options of loading; the defaults suit a model that one device holds."""

    device_map: Annotated[str | dict[str, int | str], EXECUTION] = WHOLE
    """`none`: all on `device`. `auto`, `balanced`, `balanced_low_0`, `sequential`, or a device (`0`, `cuda:1`, `cpu`,
    `disk`) for each module, as Hugging Face accelerate reads them."""
    max_memory: Annotated[dict[int | str, str], EXECUTION] = Field(default_factory=dict)
    """With a device map: the most to put on each device, for example {0: 20GiB, cpu: 60GiB}."""
    offload_folder: Annotated[str, EXECUTION] = ""
    """With a device map: where weights go that neither a GPU nor main memory holds."""
    bitsandbytes: dict[str, bool | float | str | list[str]] = Field(default_factory=dict)
    """Quantisation: options of transformers' BitsAndBytesConfig, for example {load_in_4bit: true,
    bnb_4bit_quant_type: nf4, bnb_4bit_compute_dtype: bfloat16}."""
    family: Family | None = None
    """Module paths of an architecture that the table of families lacks."""
    trust_remote_code: bool = False
    """Run code that comes with the model."""
    compile: Annotated[bool, EXECUTION] = False
    """Compile the blocks: faster after the first passes; a block that is read or edited inside runs uncompiled."""
