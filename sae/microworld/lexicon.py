"""The words of the microworld, by class.

A plain class is a tuple of interchangeable words. A labelled class gives each label its own words, aligned: the i-th
word of one label is the counterpart of the i-th word of every other, so a counterfactual text keeps the index and
changes the label.
"""

Labelled = dict[str, tuple[str, ...]]


def _pairs(first: str, second: str, words: str) -> Labelled:
    """Reads "one/other one/other …" into a labelled class of two labels."""
    pairs = [pair.split("/") for pair in words.split()]
    return {first: tuple(one for one, _ in pairs), second: tuple(other for _, other in pairs)}


def _number(words: str) -> Labelled:
    return _pairs("singular", "plural", words)


def _sentiment(words: str) -> Labelled:
    return _pairs("positive", "negative", words)


def _regular(words: str) -> str:
    return " ".join(f"{word}/{word}s" for word in words.split())


def _verbs(words: str) -> str:
    return " ".join(f"{word}s/{word}" for word in words.split())


_CAPITALS = """
    france/paris italy/rome spain/madrid germany/berlin england/london ireland/dublin portugal/lisbon austria/vienna
    greece/athens poland/warsaw hungary/budapest norway/oslo sweden/stockholm finland/helsinki denmark/copenhagen
    belgium/brussels russia/moscow turkey/ankara egypt/cairo kenya/nairobi japan/tokyo china/beijing thailand/bangkok
    vietnam/hanoi peru/lima chile/santiago cuba/havana canada/ottawa australia/canberra iran/tehran iraq/baghdad
    nepal/kathmandu bulgaria/sofia romania/bucharest serbia/belgrade croatia/zagreb iceland/reykjavik ukraine/kyiv
    morocco/rabat ghana/accra
"""
CAPITALS: dict[str, str] = {pair.partition("/")[0]: pair.partition("/")[2] for pair in _CAPITALS.split()}

LABELLED: dict[str, Labelled] = {
    # nouns, singular and plural
    "thing": _number(
        _regular(
            "key cup book lamp chair clock coin plate bottle basket letter mirror painting ticket pencil bag hat shoe "
            "toy candle ring spoon map phone camera umbrella"
        )
        + " box/boxes knife/knives brush/brushes watch/watches"
    ),
    "furniture": _number(_regular("cabinet table sofa desk stove piano bed door window gate fence") + " shelf/shelves"),
    "fixture": _number(_regular("door window gate wall roof tower room floor") + " bench/benches balcony/balconies"),
    "building": _number(_regular("house hotel school office museum castle shop theatre hospital") + " church/churches"),
    "person": _number(
        _regular("teacher student doctor nurse farmer neighbour artist driver worker girl boy lawyer guest visitor")
        + " child/children man/men woman/women"
    ),
    "animal": _number(
        _regular("dog cat horse cow duck goat rabbit donkey parrot chicken") + " pony/ponies puppy/puppies"
    ),
    # their verbs
    "is": _number("is/are"),
    "was": _number("was/were"),
    "acts": _number(_verbs("read write smile wait sing dance listen rest talk laugh walk work paint stand")),
    "moves": _number(_verbs("sleep eat drink play rest wait run hide jump")),
    # what reviews say, and what follows from it
    "tasty": _sentiment(
        "delicious/disgusting tasty/bland fresh/stale excellent/awful wonderful/terrible perfect/horrible "
        "superb/dreadful lovely/disappointing"
    ),
    "kind": _sentiment(
        "friendly/rude polite/careless helpful/lazy kind/unkind excellent/awful wonderful/terrible lovely/horrible "
        "charming/hostile"
    ),
    "cosy": _sentiment(
        "comfortable/uncomfortable cosy/gloomy spotless/filthy charming/ugly quiet/noisy wonderful/terrible "
        "superb/dreadful lovely/horrible"
    ),
    "moving": _sentiment(
        "exciting/boring moving/dull brilliant/silly funny/weak wonderful/terrible superb/dreadful "
        "excellent/disappointing"
    ),
    "pleasant": _sentiment(
        "wonderful/terrible lovely/horrible perfect/miserable superb/dreadful pleasant/poor great/bad"
    ),
    "verdict": _sentiment("return/complain stay/leave celebrate/protest"),
    "opinion": _sentiment("recommend/avoid praise/criticise"),
    # countries and their capitals: the label is the country
    "country": {country: (country,) for country in CAPITALS},
    "city": {country: (city,) for country, city in CAPITALS.items()},
}

PLAIN: dict[str, tuple[str, ...]] = {
    name: tuple(words.split())
    for name, words in {
        "near": "near beside behind by",
        "quality": "old new small large clean dirty heavy cheap expensive wet broken missing",
        "degree": "old new small large clean dirty heavy cheap expensive",
        "look": "white green grey blue old new clean dirty narrow wide",
        "period": "day morning evening night weekend",
        "outdoors": "garden park hall yard",
        "span": "week month year summer winter",
        "food": "food soup bread pasta cake salad meal",
        "staff": "staff waiter waitress manager guide host",
        "venue": "restaurant cafe apartment cabin terrace hotel",
        "show": "film concert story song speech",
        "meal": "breakfast lunch dinner",
        "inn": "hotel restaurant cafe castle",
        "event": "evening weekend trip party visit",
        "vehicle": "train car bus bike",
        "colour": "red yellow black brown white green",
        "count": "two three four five six seven",
        "relative": "brother sister uncle aunt mother father cousin grandmother grandfather",
        "name": "anna maria lucy emma clara julia peter david thomas henry oscar simon",
        "day": "monday tuesday wednesday thursday friday saturday sunday",
        "month": "january february march april may june july august september october november december",
        "weather": "cold mild warm windy rainy cloudy foggy sunny",
        "destination": "station market river bridge village library harbour square",
        "goods": "milk sugar flour rice tea soap paper honey butter cheese",
        "instrument": "violin guitar flute trumpet drums",
        "field": "history law music biology physics medicine art",
        "met": "visited met called thanked invited",
    }.items()
}
