"""The sentences of the microworld, as weighted templates (`grammar` says how they are read).

Alternatives that begin alike are merged when compiled, so the choice between them is made where they part, and a
variable is decided at the first word that depends on it. In every frame with a `{…:tense}` adverb in front the verb
follows the tense; elsewhere the verb decides it and a later adverb follows.
"""

_NEAR = "( | {near} the {furniture:number.attractor} )"
_BESIDE = "( | {near} the {kitchenware:number.attractor} )"
_OF = "( | of the {building:number.attractor} )"
_WHEN = "( | {when<tense} | {last<tense} {span} )"
_WHERE = "( in the {outdoors} | at home | outside | alone )"


def _subject(noun: str, between: str, verb: str, after: str) -> str:
    """A sentence about a noun; its tense shows first in an adverb before it or in the verb itself."""
    early = (
        f"( {{now:tense}} | {{last:tense}} {{span}} ) the {{{noun}:number}} {between} {{{verb}<number<tense}} {after} ."
    )
    late = f"( | | ( i think | we know | everyone says ) that ) the {{{noun}:number}} {between} {{{verb}<number:tense}}"
    return f"( {early} | {late} {after} {_WHEN} . )"


def _about(noun: str, between: str, quality: str) -> str:
    return _subject(noun, between, "be", f"( | | still ) {{{quality}}}")


NUMBER = (
    (2, _about("clothing", _NEAR, "wearable")),
    (2, _about("kitchenware", _NEAR, "usable")),
    (2, _about("stationery", _NEAR, "readable")),
    (1, _about("furniture", "", "furnished")),
    (1, _about("fruit", _BESIDE, "sweet")),
    (1, _about("vegetable", _BESIDE, "boiled")),
    (2, _about("fixture", _OF, "look")),
    (2, _subject("worker", "( | with the {pet:number.attractor} )", "worker_acts", _WHERE)),
    (2, _subject("acquaintance", "( | with the {pet:number.attractor} )", "acquaintance_acts", _WHERE)),
    (1, _subject("pet", "( | of the {person:number.attractor} )", "pet_acts", "( in the {outdoors} | at home )")),
    (1, _subject("farm_animal", "( | of the {person:number.attractor} )", "farm_acts", "( in the field | outside )")),
    (1, _subject("bird", "( | near the {building:number.attractor} )", "bird_acts", "( in the {outdoors} | again )")),
    (
        1,
        _subject(
            "wild_animal", "( | behind the {building:number.attractor} )", "wild_acts", "( alone | again | quietly )"
        ),
    ),
    (1, _subject("road_vehicle", "( | near the {building:number.attractor} )", "road_acts", "( again | suddenly )")),
    (1, _subject("boat", "( | near the {landmark:number.attractor} )", "water_acts", "( slowly | quietly )")),
    (1, _subject("aircraft", "( | above the {building:number.attractor} )", "air_acts", "( again | slowly )")),
)


def _so(verdict: str) -> str:
    return (
        f"( and ( i | we ) will {verdict} ( | soon | tomorrow ) | so ( i | we ) decided to {verdict}"
        f" | and when the day ended we decided to {verdict} )"
    )


def _will(opinion: str) -> str:
    return f"( and ( i | we ) will {opinion} it | so ( i | we ) will always {opinion} it )"


def _review(start: str, adjective: str, aspect: str, after: str) -> str:
    """An aspect is judged, plainly or through an adverb that may turn the judgement round; `after` follows from it."""
    instance = f"sentiment.{aspect}"
    plain = after.replace("AS", f"<{instance}")
    turned = after.replace("AS", f"_or_not<{instance}<negation")
    return (
        f"{start} was ( {{{adjective}:{instance}}} {plain} | {{truly:negation}} {{{adjective}:{instance}}} {turned} ) ."
    )


_FOOD_AND_STAFF = "while the {staff} was {kind:sentiment.staff} so we {judgedAS} the {kitchen} and "
_FOOD_AND_PLACE = "while the {venue} was {cosy:sentiment.place} so we {judgedAS} the {kitchen} and "
_STAFF_AND_PLACE = "while the {venue} was {cosy:sentiment.place} so we {treatedAS} the {service} and "

SENTIMENT = (
    (3, _review("the {dish}", "tasty", "food", _so("{verdictAS}"))),
    (3, _review("the {staff}", "kind", "staff", _so("{verdictAS}"))),
    (2, _review("the {venue}", "cosy", "place", f"( {_so('{verdictAS}')} | {_will('{opinionAS}')} )")),
    (2, _review("the {show}", "moving", "show", _will("{opinionAS}"))),
    (2, _review("the {dish}", "tasty", "food", _FOOD_AND_STAFF + "{treated<sentiment.staff} the {service}")),
    (2, _review("the {dish}", "tasty", "food", _FOOD_AND_PLACE + "{viewed<sentiment.place} the {room}")),
    (2, _review("the {staff}", "kind", "staff", _STAFF_AND_PLACE + "{viewed<sentiment.place} the {room}")),
    (2, f"( i | we ) had a {{pleasant:sentiment}} {{meal}} at the {{inn}} {_so('{verdict<sentiment}')} ."),
    (1, f"it was a {{pleasant:sentiment}} {{event}} {_so('{verdict<sentiment}')} ."),
)

CAPITAL = (
    (3, "the capital of {country:capital} is {city<capital} ."),
    (1, "the government of {country:capital} meets in {city<capital} ."),
    (1, "the road through {country:capital} ends in {city<capital} ."),
    (1, "everyone in {country:capital} has seen {city<capital} ."),
    (1, "my {relative} lives in {country:capital} and works in {city<capital} ."),
    (1, "we travelled across {country:capital} ( | by ( car | bus | bike ) ) and stopped in {city<capital} ."),
    (1, "{name:gender} flew to {country:capital} and stayed in {city<capital} ( | for {count} days ) ."),
)

_MEETING = "( | at the {destination} | after {meal} | on {day} )"
_REASON = "( before {she<gender} {did} | because {she<gender} ( needed {need} | felt {worry} ) )"
_CHORE = "( washed the {fruits} | chopped the {vegetables} | poured the {drink} )"

GENDER = (
    (3, f"{{name:gender}} {{met}} {{friend:gender.other}} {_MEETING} {_REASON} ."),
    (2, "{name:gender} told {friend:gender.other} about {her<gender} {relative} ."),
    (2, "{name:gender} {lost} {her<gender} {belonging} ( | in the {outdoors} | near the {destination} | on {day} ) ."),
    (1, "{name:gender} plays the {instrument} when {she<gender} is {mood} ."),
    (1, f"{{name:gender}} {_CHORE} before {{she<gender}} {{did}} ."),
    (1, "{name:gender} and {her<gender} {relative} ate {dish} for ( lunch | dinner ) ."),
)

TOPIC = (
    (2, "{name:gender} works at the {workplace~topic} ( | with {her<gender} {relative} ) ."),
    (2, "the {expert~topic} ( talked about | thought about | remembered ) the {matter~topic} ."),
    (1, "everyone at the {workplace~topic} talked about the {matter~topic} ."),
    (1, "my {relative} asked the {expert~topic} about the {matter~topic} ."),
    (1, "a {expert~topic} came to the {workplace~topic} ( | on {day} | in {month} ) ."),
    (1, "( i | we ) read a book about the {matter~topic} ."),
)

NEUTRAL = (
    (1, "it ( rained | snowed ) ( all {period} | for {count} hours | in the {period} ) ."),
    (2, "( we | they ) walked to the {destination} ( | together | after {meal} | before noon ) ."),
    (2, "my {relative} bought some ( {fruits} | {vegetables} | {drink} ) ( | at the market | on {day} ) ."),
    (1, "in {month} the weather was {weather} ."),
    (1, "there was a {colour} {ride} ( outside | near the {destination} ) ."),
)

FAMILIES = ((0.33, NUMBER), (0.22, SENTIMENT), (0.10, CAPITAL), (0.15, GENDER), (0.14, TOPIC), (0.06, NEUTRAL))
"""Each family's share of the sentences; within it a frame's share is its weight."""
