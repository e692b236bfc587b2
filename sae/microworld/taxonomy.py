"""Three levels of word classes: kingdom → class → leaf → nouns.

The language tells leaves apart: after a noun of a leaf come verbs or adjectives that come after no other leaf's (birds
nest, boats sink, cups chip). A leaf's nouns are interchangeable, so a latent for "animal" may be absorbed by, or split
into, latents for "bird" and "pet", and the truth is known here. The classes and kingdoms above are of meaning alone:
some of them share frames (plants, household things), others only the grammar of number. Drinks and dishes never stand
where number shows.
"""

from typing import NamedTuple

from sae.core.errors import InputError, nearest


class Place(NamedTuple):
    """Where a noun stands, from the widest class to the narrowest."""

    kingdom: str
    middle: str
    leaf: str


TAXONOMY: dict[str, dict[str, tuple[str, ...]]] = {
    "living": {
        "animal": ("pet", "farm_animal", "bird", "wild_animal"),
        "person": ("worker", "acquaintance"),
    },
    "artefact": {
        "household": ("clothing", "kitchenware", "stationery", "furniture"),
        "vehicle": ("road_vehicle", "boat", "aircraft"),
    },
    "food": {
        "plant": ("fruit", "vegetable"),
        "prepared": ("drink", "dish"),
    },
}
"""Kingdom → class → its leaves."""


def _read(words: str) -> tuple[tuple[str, str], ...]:
    """Reads "cup" as cup/cups and "knife/knives" as it stands."""
    pairs = (word.partition("/") for word in words.split())
    return tuple((one, many or f"{one}s") for one, _, many in pairs)


NOUNS: dict[str, tuple[tuple[str, str], ...]] = {
    leaf: _read(words)
    for leaf, words in {
        "pet": "dog cat rabbit hamster parrot pony/ponies puppy/puppies kitten",
        "farm_animal": "cow horse goat pig donkey lamb hen calf/calves",
        "bird": "sparrow crow owl eagle swan robin pigeon swallow",
        "wild_animal": "bear lion tiger monkey wolf/wolves fox/foxes leopard elephant",
        "worker": "teacher doctor nurse farmer artist driver baker tailor gardener secretary/secretaries",
        "acquaintance": "neighbour girl boy guest visitor child/children man/men woman/women student",
        "clothing": "hat shoe coat scarf/scarves glove shirt sock dress/dresses",
        "kitchenware": "cup plate bottle spoon bowl kettle knife/knives glass/glasses box/boxes",
        "stationery": "book letter ticket notebook envelope map magazine postcard",
        "furniture": "cabinet table sofa desk stove piano bed chair lamp mirror shelf/shelves",
        "road_vehicle": "taxi truck van tram lorry/lorries motorcycle",
        "boat": "ship ferry/ferries canoe yacht raft",
        "aircraft": "plane helicopter balloon glider",
        "fruit": "apple pear plum cherry/cherries lemon orange peach/peaches",
        "vegetable": "carrot onion potato/potatoes cabbage turnip pumpkin",
        "drink": "coffee/coffee juice/juice lemonade/lemonade tea/tea cocoa/cocoa",
        "dish": "soup/soup bread/bread pasta/pasta cake/cake salad/salad stew/stew pizza/pizza",
    }.items()
}
"""Leaf → its nouns, singular and plural; drinks and dishes have one form."""


def place_of(word: str) -> Place:
    """The three classes of a noun, in either number.

    Raises:
        InputError: the word is in no class of the taxonomy.
    """
    if word not in _PLACES:
        raise InputError(f"{word!r} is no noun of the taxonomy{nearest(word, _PLACES)}")
    return _PLACES[word]


def nouns_of(name: str) -> tuple[str, ...]:
    """Every noun, in both numbers, of a kingdom, class or leaf.

    Raises:
        InputError: there is no such class.
    """
    found = tuple(word for word, place in _PLACES.items() if name in place)
    if not found:
        classes = dict.fromkeys(each for place in _PLACES.values() for each in place)
        raise InputError(f"no class {name!r} in the taxonomy; there are {', '.join(classes)}")
    return found


_PLACES: dict[str, Place] = {
    word: Place(kingdom, middle, leaf)
    for kingdom, middles in TAXONOMY.items()
    for middle, leaves in middles.items()
    for leaf in leaves
    for pair in NOUNS[leaf]
    for word in pair
}
