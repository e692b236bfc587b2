"""A module's weight in numbers, also where accelerate keeps it elsewhere until the module is called."""

from typing import Any

from torch import Tensor, nn


def weight_of(part: nn.Module) -> Tensor:
    """The weight without its gradient; of an offloaded module, a copy on the device where it runs."""
    module: Any = part
    if not module.weight.is_meta:
        return module.weight.detach()
    from accelerate.utils import align_module_device

    with align_module_device(module):
        return module.weight.detach()
