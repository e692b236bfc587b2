"""The sentences of the microworld, as weighted templates.

`word` is itself; `{class}` is any word of a plain class; `{class:variable}` decides a variable, its label first and
then one of the label's words; `{class<variable}` follows the variable decided earlier; `( a | b )` is one of its
alternatives, all equally likely (a blank one is allowed, and one written twice is twice as likely). Alternatives that
begin alike are merged when compiled, so the choice between them is made where they part.

`number` is the subject's; `attractor` is the number of a second noun between the subject and its verb.
"""

_NOW = "( | | | today | ( i think | we know | everyone says ) that )"
_BEFORE = "( yesterday | last {span} )"
_NEAR = "( | {near} the {furniture:attractor} )"
_OF = "( | of the {building:attractor} )"
_WHERE = "( | | every {period} | in the {outdoors} | at home | outside )"
_QUALITY = "( {quality} | {quality} | very {degree} )"

_VERDICT = (
    "( and ( i | we ) will {verdict<sentiment} ( | soon | tomorrow )"
    " | so ( i | we ) decided to {verdict<sentiment}"
    " | and when the day ended we decided to {verdict<sentiment} )"
)
_OPINION = "( and ( i | we ) will {opinion<sentiment} it | so ( i | we ) will always {opinion<sentiment} it )"

NUMBER = (
    (3, f"{_NOW} the {{thing:number}} {_NEAR} {{is<number}} {_QUALITY} ."),
    (1, f"{_BEFORE} the {{thing:number}} {_NEAR} {{was<number}} {_QUALITY} ."),
    (2, f"{_NOW} the {{fixture:number}} {_OF} {{is<number}} {{look}} ."),
    (1, f"{_BEFORE} the {{fixture:number}} {_OF} {{was<number}} {{look}} ."),
    (3, f"{_NOW} the {{person:number}} ( | with the {{animal:attractor}} ) {{acts<number}} {_WHERE} ."),
    (2, f"{_NOW} the {{animal:number}} ( | of the {{person:attractor}} ) {{moves<number}} {_WHERE} ."),
)

SENTIMENT = (
    (3, f"the {{food}} was {{tasty:sentiment}} {_VERDICT} ."),
    (2, f"the {{staff}} was {{kind:sentiment}} {_VERDICT} ."),
    (2, f"the {{venue}} was {{cosy:sentiment}} ( {_VERDICT} | {_OPINION} ) ."),
    (2, f"the {{show}} was {{moving:sentiment}} {_OPINION} ."),
    (2, f"( i | we ) had a {{pleasant:sentiment}} {{meal}} at the {{inn}} {_VERDICT} ."),
    (1, f"it was a {{pleasant:sentiment}} {{event}} {_VERDICT} ."),
)

CAPITAL = (
    (3, "the capital of {country:capital} is {city<capital} ."),
    (1, "the government of {country:capital} meets in {city<capital} ."),
    (1, "the train through {country:capital} ends in {city<capital} ."),
    (1, "everyone in {country:capital} has seen {city<capital} ."),
    (1, "my {relative} lives in {country:capital} and works in {city<capital} ."),
    (1, "we travelled across {country:capital} ( | by {vehicle} ) and stopped in {city<capital} ."),
    (1, "{name} flew to {country:capital} and stayed in {city<capital} ( | for {count} days ) ."),
)

NEUTRAL = (
    (1, "it ( rained | snowed ) ( all {period} | for {count} hours | in the {period} ) ."),
    (2, "( we | they ) walked to the {destination} ( | together | after {meal} | before noon ) ."),
    (2, "my {relative} bought some {goods} ( | at the market | this {period} ) ."),
    (1, "{name} plays the {instrument} ( | very well | every {period} ) ."),
    (1, "{name} studied {field} for {count} years ."),
    (1, "on {day} {name} {met} my {relative} ."),
    (1, "in {month} the weather was {weather} ."),
    (1, "there was a {colour} {vehicle} ( outside | near the {destination} ) ."),
)

FAMILIES = ((0.35, NUMBER), (0.25, SENTIMENT), (0.15, CAPITAL), (0.25, NEUTRAL))
"""Each family's share of the sentences; within it a frame's share is its weight."""

VARIABLES = ("number", "sentiment", "capital")
