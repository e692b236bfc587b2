"""Which latents get a card is decided by the findings and by density alone."""

import numpy as np

from sae.catalogue.catalogue import Catalogue
from sae.core.artifact import Artifact
from sae.dashboard.cards import MIN_ACTIVE, N_SHADES, cards_of, choose
from sae.dashboard.member import read_members
from sae.dashboard.page import reasons

DENSITIES = np.arange(100)


def test_best_latents_come_first_and_none_twice() -> None:
    chosen = choose(DENSITIES, [50, 3], 20)
    assert chosen[:2] == [50, 3]
    assert len(chosen) == len(set(chosen)) == 20


def test_the_rest_spread_over_all_densities() -> None:
    rest = DENSITIES[choose(DENSITIES, [], 9)]
    assert list(rest) == sorted(rest, reverse=True)
    assert rest.min() >= MIN_ACTIVE
    assert np.diff(rest).min() >= -11


def test_there_are_no_more_cards_than_latents_that_fire() -> None:
    assert choose(np.array([0, 0, 50, 60]), [], 20) == [3, 2]
    assert choose(np.zeros(4, dtype=np.int64), [1], 20) == [1]


def test_a_card_shows_where_its_latent_fires(run: dict[str, Artifact]) -> None:
    (member,) = read_members((run,))
    with Catalogue(run["catalogue"].path) as catalogue:
        cards = cards_of(member, catalogue, 10, reasons(member.all_findings))
    assert [card.reason for card in cards[:3]] == [
        "best latent of number",
        "best latent of sentiment",
        "chosen by density alone",
    ]
    for card in cards:
        for passage in card.passages:
            assert [piece.is_peak for piece in passage.pieces].count(True) == 1
            assert all((piece.shade > 0) == bool(piece.activation) for piece in passage.pieces)
            assert max(piece.shade for piece in passage.pieces) <= N_SHADES
    assert {claim.variable for claim in cards[0].claims} == {"number"}
