import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sae.catalogue.top_examples import Entries, TopExamples, hash_priority

N_LATENTS, N = 5, 3


def entries(seed: int, size: int, n_documents: int = 12) -> Entries:
    """Random entries at distinct (latent, document, position); few different values, so that many are equal."""
    random = np.random.default_rng(seed)
    places = random.choice(N_LATENTS * n_documents * 4, size, replace=False)
    latent, rest = np.divmod(places, n_documents * 4)
    document, position = np.divmod(rest, 4)
    return Entries(latent, document, position, random.integers(1, 6, size).astype(np.float32))


def brute_force(all_entries: Entries) -> list[tuple[int, int, int, float]]:
    """(latent, document, position, value) of the strongest documents, latent by latent."""
    rows = zip(all_entries.latent, all_entries.document, all_entries.position, all_entries.value, strict=True)
    best: dict[tuple[int, int], tuple[float, int]] = {}
    for latent, document, position, value in rows:
        key = (int(latent), int(document))
        best[key] = max(best.get(key, (-np.inf, 0)), (float(value), -int(position)))
    found = []
    for latent in range(N_LATENTS):
        own = [(d, value, -p) for (at, d), (value, p) in best.items() if at == latent]
        own.sort(key=lambda row: (-row[1], int(hash_priority(np.array([row[0]]))[0])))
        found += [(latent, d, p, value) for d, value, p in own[:N]]
    return found


def rows_of(top: TopExamples) -> list[tuple[int, int, int, float]]:
    e = top.entries
    return list(zip(e.latent.tolist(), e.document.tolist(), e.position.tolist(), e.value.tolist(), strict=True))


@given(st.integers(0, 10**6), st.integers(0, 240), st.integers(1, 6), st.integers(0, 10**6))
def test_any_division_and_order_equals_brute_force(seed: int, size: int, n_parts: int, shuffle: int):
    whole = entries(seed, size)
    order = np.random.default_rng(shuffle).permutation(size)
    parts = []
    for rows in np.array_split(order, n_parts):
        part = TopExamples(N_LATENTS, N)
        for some in np.array_split(rows, 2):
            part.update(whole.take(some))
        parts.append(part)
    first, *others = parts
    for other in others:
        first.merge(other)
    assert rows_of(first) == brute_force(whole)


def test_one_example_per_document():
    top = TopExamples(N_LATENTS, N)
    top.update(entries(0, 200, n_documents=12))
    pairs = list(zip(top.entries.latent.tolist(), top.entries.document.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)


def test_nothing_is_kept_where_nothing_is_asked_for():
    top = TopExamples(N_LATENTS, 0)
    top.update(entries(0, 50))
    top.update(entries(1, 50))
    assert len(top.entries) == 0
