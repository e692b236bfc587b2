"""Copies to the host that the device does not wait for: into pinned memory, on a stream of their own."""

import torch
from torch import Tensor


class HostCopies:
    """Copies under way. Nobody may read one before `wait`."""

    def __init__(self) -> None:
        self._streams: dict[torch.device, torch.cuda.Stream] = {}

    def of(self, x: Tensor) -> Tensor:
        """The values on the host once `wait` has returned; a tensor that is there already is itself."""
        x = x.detach()
        return self._from_cuda(x) if x.is_cuda else x.cpu()

    def _from_cuda(self, x: Tensor) -> Tensor:
        stream = self._streams.setdefault(x.device, torch.cuda.Stream(x.device))
        stream.wait_stream(torch.cuda.current_stream(x.device))
        host = torch.empty(x.shape, dtype=x.dtype, pin_memory=True)
        with torch.cuda.stream(stream):
            host.copy_(x, non_blocking=True)
        # Lest the allocator gives x's memory to somebody else while it is still being copied.
        x.record_stream(stream)
        return host

    def wait(self) -> None:
        """Returns when all copies are done."""
        for stream in self._streams.values():
            stream.synchronize()
