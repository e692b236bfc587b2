"""Places of a mask, found without asking how many there are."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from sae.kernels.marks import places, sought


@given(st.lists(st.booleans(), max_size=40))
def test_places_are_the_same_whether_or_not_their_number_is_known(marks):
    mask = torch.tensor(marks, dtype=torch.bool)
    expected = [place for place, marked in enumerate(marks) if marked]
    for found in (places(mask), places(mask, len(expected)), sought(mask, len(expected))):
        assert found.tolist() == expected
