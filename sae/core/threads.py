"""How many threads torch takes for an operation, set for one thread of ours alone.

A thread that works beside a forward pass on the same processor takes one: torch divides an operation evenly among the
processors, so one that is taken away holds up all, and a second team of threads would take them more often.
"""

import threading

import torch

_NOTED = threading.Lock()


def limit_threads(n: int) -> None:
    """Has torch take `n` threads for each operation of the calling thread; all others keep what they have.

    One that begins in that very moment by somebody else may take `n` as well.
    """
    with _NOTED:
        before = torch.get_num_threads()
        torch.set_num_threads(n)
        # torch also notes the number for threads that begin later. A thread whose own number nobody needs puts it back.
        helper = threading.Thread(target=torch.set_num_threads, args=(before,))
        helper.start()
        helper.join()
