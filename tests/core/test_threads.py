"""One thread takes another number of torch's threads; every other keeps its own, whether it had begun before or not."""

import threading
from collections.abc import Callable

import torch

from sae.core.threads import limit_threads


def in_a_thread(ask: Callable[[], int]) -> int:
    said: list[int] = []
    thread = threading.Thread(target=lambda: said.append(ask()))
    thread.start()
    thread.join()
    return said[0]


def limited(n: int) -> int:
    torch.ones(2).sum()  # a thread takes its number at its first operation
    limit_threads(n)
    torch.ones(2).sum()
    return torch.get_num_threads()


def test_only_the_calling_thread_is_limited() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert in_a_thread(lambda: limited(1)) == 1
        assert in_a_thread(lambda: limited(2)) == 2
        assert torch.get_num_threads() == 3
        assert in_a_thread(torch.get_num_threads) == 3
        together = [threading.Thread(target=limited, args=(n,)) for n in (1, 2) * 20]
        for thread in together:
            thread.start()
        for thread in together:
            thread.join()
        assert torch.get_num_threads() == 3
        assert in_a_thread(torch.get_num_threads) == 3
    finally:
        torch.set_num_threads(before)
