"""The words of the microworld: plain classes, and tables whose word depends on labels.

A plain class is a tuple of interchangeable words. A table has one or more dimensions, each a variable; for every
combination of their labels it holds the words, aligned: the i-th word under one combination is the counterpart of the
i-th word under every other, so a counterfactual text keeps the index and changes the label.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from sae.microworld.taxonomy import NOUNS

Labels = tuple[str, ...]

_CAPITALS = """
    france/paris italy/rome spain/madrid germany/berlin england/london ireland/dublin portugal/lisbon austria/vienna
    greece/athens poland/warsaw hungary/budapest norway/oslo sweden/stockholm finland/helsinki denmark/copenhagen
    belgium/brussels russia/moscow turkey/ankara egypt/cairo kenya/nairobi japan/tokyo china/beijing thailand/bangkok
    vietnam/hanoi peru/lima chile/santiago cuba/havana canada/ottawa australia/canberra iran/tehran iraq/baghdad
    nepal/kathmandu bulgaria/sofia romania/bucharest serbia/belgrade croatia/zagreb iceland/reykjavik ukraine/kyiv
    morocco/rabat ghana/accra
"""
CAPITALS: dict[str, str] = {pair.partition("/")[0]: pair.partition("/")[2] for pair in _CAPITALS.split()}

LABELS: dict[str, Labels] = {
    "number": ("singular", "plural"),
    "sentiment": ("positive", "negative"),
    "negation": ("affirmed", "negated"),
    "capital": tuple(CAPITALS),
    "gender": ("female", "male"),
    "topic": ("music", "sport", "medicine", "sailing", "law", "school"),
    "tense": ("past", "present"),
}
"""Every variable with its labels, all equally likely where the variable is decided."""

VARIABLES = tuple(LABELS)


@dataclass(frozen=True)
class Table:
    """A class of words that depend on labels."""

    dimensions: tuple[str, ...]
    """The variables, in the order of the keys of `words`."""
    words: dict[Labels, tuple[str, ...]]

    def by_label(self, dimension: int, labels: Labels) -> dict[str, tuple[str, ...]]:
        """The words under every label of one dimension, the others as they are in `labels`."""
        before, after = labels[:dimension], labels[dimension + 1 :]
        return {label: self.words[*before, label, *after] for label in LABELS[self.dimensions[dimension]]}


def _table(variable: str, words: str) -> Table:
    """Reads "one/other one/other …", in the order of the variable's labels."""
    rows = [row.split("/") for row in words.split()]
    return Table((variable,), {(label,): tuple(row[i] for row in rows) for i, label in enumerate(LABELS[variable])})


def _verbs(words: str) -> Table:
    """Reads "walks/walk/walked …": present singular, present plural, past."""
    rows = [row.split("/") for row in words.split()]
    column = {("singular", "present"): 0, ("plural", "present"): 1, ("singular", "past"): 2, ("plural", "past"): 2}
    return Table(("number", "tense"), {key: tuple(row[i] for row in rows) for key, i in column.items()})


def _negatable(plain: Table) -> Table:
    """What follows from a sentiment that a negation before it has turned round."""
    turned = {"positive": "negative", "negative": "positive"}
    words = {
        (sentiment, negation): plain.words[sentiment if negation == "affirmed" else turned[sentiment],]
        for sentiment, negation in product(LABELS["sentiment"], LABELS["negation"])
    }
    return Table(("sentiment", "negation"), words)


def _topics(**words: str) -> Table:
    return Table(("topic",), {(label,): tuple(words[label].split()) for label in LABELS["topic"]})


def _nouns(leaves: Sequence[str]) -> Table:
    pairs = [pair for leaf in leaves for pair in NOUNS[leaf]]
    return Table(("number",), {("singular",): tuple(p[0] for p in pairs), ("plural",): tuple(p[1] for p in pairs)})


_VERDICTS = {
    "verdict": _table("sentiment", "return/complain stay/leave celebrate/protest"),
    "opinion": _table("sentiment", "recommend/avoid praise/criticise"),
    "judged": _table("sentiment", "praised/criticised recommended/avoided"),
    "treated": _table("sentiment", "thanked/scolded rewarded/reported"),
    "viewed": _table("sentiment", "admired/disliked enjoyed/hated"),
}

TABLES: dict[str, Table] = {
    # nouns in both numbers
    **{leaf: _nouns([leaf]) for leaf in NOUNS},
    "person": _nouns(["worker", "acquaintance"]),
    "landmark": _table("number", "bridge/bridges island/islands beach/beaches dock/docks rock/rocks"),
    "building": _table(
        "number",
        "house/houses hotel/hotels office/offices museum/museums castle/castles shop/shops theatre/theatres "
        "church/churches palace/palaces cottage/cottages",
    ),
    "fixture": _table(
        "number",
        "door/doors window/windows gate/gates wall/walls roof/roofs tower/towers floor/floors balcony/balconies "
        "chimney/chimneys staircase/staircases",
    ),
    # their verbs
    "be": Table(
        ("number", "tense"),
        {
            ("singular", "present"): ("is",),
            ("plural", "present"): ("are",),
            ("singular", "past"): ("was",),
            ("plural", "past"): ("were",),
        },
    ),
    "worker_acts": _verbs(
        "writes/write/wrote waits/wait/waited listens/listen/listened works/work/worked paints/paint/painted "
        "speaks/speak/spoke cooks/cook/cooked"
    ),
    "acquaintance_acts": _verbs(
        "smiles/smile/smiled sings/sing/sang dances/dance/danced talks/talk/talked laughs/laugh/laughed "
        "walks/walk/walked stands/stand/stood whispers/whisper/whispered"
    ),
    "pet_acts": _verbs("sleeps/sleep/slept plays/play/played eats/eat/ate dozes/doze/dozed drinks/drink/drank"),
    "farm_acts": _verbs("wanders/wander/wandered rests/rest/rested feeds/feed/fed strays/stray/strayed"),
    "bird_acts": _verbs("flies/fly/flew chirps/chirp/chirped nests/nest/nested perches/perch/perched"),
    "wild_acts": _verbs("hunts/hunt/hunted hides/hide/hid roams/roam/roamed runs/run/ran"),
    "road_acts": _verbs("stops/stop/stopped turns/turn/turned passes/pass/passed slows/slow/slowed"),
    "water_acts": _verbs("sails/sail/sailed drifts/drift/drifted floats/float/floated sinks/sink/sank"),
    "air_acts": _verbs("lands/land/landed climbs/climb/climbed circles/circle/circled descends/descend/descended"),
    # when
    "now": _table("tense", "yesterday/today earlier/now previously/currently formerly/nowadays"),
    "when": _table("tense", "yesterday/today earlier/now"),
    "last": _table("tense", "last/this"),
    # what reviews say, and what follows from it
    "truly": _table("negation", "truly/hardly always/never really/scarcely very/not"),
    "tasty": _table(
        "sentiment",
        "delicious/disgusting tasty/bland fresh/stale excellent/awful wonderful/terrible perfect/horrible "
        "superb/dreadful lovely/disappointing",
    ),
    "kind": _table(
        "sentiment",
        "friendly/rude polite/careless helpful/lazy kind/unkind excellent/awful wonderful/terrible lovely/horrible "
        "charming/hostile",
    ),
    "cosy": _table(
        "sentiment",
        "comfortable/uncomfortable cosy/gloomy spotless/filthy charming/ugly quiet/noisy wonderful/terrible "
        "superb/dreadful lovely/horrible",
    ),
    "moving": _table(
        "sentiment",
        "exciting/boring moving/dull brilliant/silly funny/weak wonderful/terrible superb/dreadful "
        "excellent/disappointing",
    ),
    "pleasant": _table(
        "sentiment", "wonderful/terrible lovely/horrible perfect/miserable superb/dreadful pleasant/poor great/bad"
    ),
    **_VERDICTS,
    **{f"{name}_or_not": _negatable(table) for name, table in _VERDICTS.items()},
    # countries and their capitals: the label is the country
    "country": Table(("capital",), {(country,): (country,) for country in CAPITALS}),
    "city": Table(("capital",), {(country,): (city,) for country, city in CAPITALS.items()}),
    # names and their pronouns; a second name comes from a class of its own, so that nobody meets themselves
    "name": _table(
        "gender",
        "anna/peter maria/david lucy/thomas emma/henry clara/oscar julia/simon sarah/paul helen/martin alice/george "
        "nora/robert",
    ),
    "friend": _table("gender", "laura/jack rosa/felix kate/victor diana/louis eva/adam irene/frank"),
    "she": _table("gender", "she/he"),
    "her": _table("gender", "her/his"),
    # topics
    "workplace": _topics(
        music="opera conservatory studio",
        sport="stadium gymnasium racetrack",
        medicine="hospital clinic pharmacy",
        sailing="harbour shipyard lighthouse",
        law="court prison tribunal",
        school="school university kindergarten",
    ),
    "expert": _topics(
        music="singer pianist composer conductor",
        sport="coach runner referee goalkeeper",
        medicine="surgeon patient midwife pharmacist",
        sailing="captain sailor fisherman helmsman",
        law="judge lawyer witness detective",
        school="professor pupil headmaster tutor",
    ),
    "matter": _topics(
        music="melody symphony concerto choir",
        sport="match tournament medal championship",
        medicine="fever operation vaccine disease",
        sailing="storm voyage tide anchor",
        law="trial verdict crime evidence",
        school="lesson exam homework lecture",
    ),
}

PLAIN: dict[str, tuple[str, ...]] = {
    "drink": tuple(one for one, _ in NOUNS["drink"]),
    "dish": tuple(one for one, _ in NOUNS["dish"]),
    "fruits": tuple(many for _, many in NOUNS["fruit"]),
    "vegetables": tuple(many for _, many in NOUNS["vegetable"]),
} | {
    name: tuple(words.split())
    for name, words in {
        "staff": "waiter waitress manager guide host",
        "venue": "restaurant cafe apartment cabin hotel",
        "show": "film concert story song speech",
        "sweet": "ripe sour sweet rotten small large cheap expensive",
        "boiled": "raw frozen muddy old fresh small large cheap expensive",
        "near": "near beside behind by",
        "wearable": "torn warm woollen old new small large clean dirty cheap expensive wet missing",
        "usable": "empty full chipped old new small large clean dirty cheap expensive wet broken missing",
        "readable": "folded thick thin old new small large dirty cheap expensive wet missing",
        "furnished": "dusty wooden heavy old new small large clean dirty cheap expensive broken missing",
        "look": "white green grey blue old new clean dirty narrow wide",
        "period": "day morning evening night weekend",
        "outdoors": "garden park hall yard",
        "span": "week month year summer winter",
        "room": "terrace garden lobby view",
        "kitchen": "kitchen menu cook recipe",
        "service": "service crew porter cleaner",
        "meal": "breakfast lunch dinner",
        "inn": "hotel restaurant cafe castle",
        "event": "evening weekend trip party visit",
        "ride": "train car bus bike",
        "colour": "red yellow black brown white green",
        "count": "two three four five six seven",
        "relative": "brother sister uncle aunt mother father cousin grandmother grandfather",
        "day": "monday tuesday wednesday thursday friday saturday sunday",
        "month": "january february march april may june july august september october november december",
        "weather": "cold mild warm windy rainy cloudy foggy sunny",
        "destination": "station market river bridge village library square",
        "instrument": "violin guitar flute trumpet drums cello",
        "met": "visited met called invited helped",
        "lost": "lost found sold forgot",
        "belonging": "wallet watch bicycle suitcase necklace passport camera",
        "mood": "tired happy bored lonely sad cheerful",
        "did": "left slept rested answered cried",
        "need": "help advice money company",
        "worry": "lonely bored sad worried",
    }.items()
}
