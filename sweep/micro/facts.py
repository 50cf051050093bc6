"""Facts: phrases that stand for a constant, such as "the number of days in a week" for 7.

Each has to be learned by heart or by a rule of its own family; none follows from a fact of another family. All
constants are one digit or one character. So whoever does not know a fact can guess it, and how hard it is to guess
says nothing about how rare it is in training: that keeps problems of one difficulty for small models from being
learned all at the same compute.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

Constant = int | str


@dataclass(frozen=True)
class Fact:
    phrase: str
    constant: Constant

    @property
    def type(self) -> Literal["int", "str"]:
        return "int" if isinstance(self.constant, int) else "str"


def _family(phrase: str, constants: Mapping[str, Constant]) -> list[Fact]:
    """Facts that are said alike, ``{}`` standing for what tells them apart; numbers from 2 to 9."""
    kept = {key: value for key, value in constants.items() if isinstance(value, str) or 2 <= value <= 9}
    return [Fact(phrase.format(key), value) for key, value in kept.items()]


def _counted(words: str, first: int = 1) -> dict[str, int]:
    return {word: number for number, word in enumerate(words.split(), first)}


def _numbered(pairs: str) -> dict[str, int]:
    """From "a:1 b:2"; an underscore stands for a space."""
    split = (pair.split(":") for pair in pairs.split())
    return {key.replace("_", " "): int(value) for key, value in split}


def _lengths(words: str) -> dict[str, int]:
    return {word: len(word) for word in words.split()}


_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_CODE_WORDS = (
    "alpha bravo charlie delta echo foxtrot golf hotel india juliet kilo lima mike november oscar papa quebec romeo"
    " sierra tango uniform victor whiskey xray yankee zulu"
)
_THINGS = (
    "days_in_a_week:7 feet_in_a_yard:3 pints_in_a_gallon:8 bits_in_a_byte:8 strings_of_a_guitar:6 strings_of_a_violin:4"
    " planets_of_the_Sun:8 quarters_in_a_dollar:4 sides_of_a_die:6 seasons_in_a_year:4 continents:7 oceans:5 senses:5"
    " colours_of_a_rainbow:7 wheels_of_a_car:4 wheels_of_a_bicycle:2 lives_of_a_cat:9 suits_of_cards:4"
    " fingers_of_a_hand:5 players_in_baseball:9 players_in_basketball:5 players_in_volleyball:6 players_in_chess:2"
    " kinds_of_chess_pieces:6"
    " sides_of_a_coin:2 legs_of_a_dog:4 legs_of_a_spider:8 legs_of_an_ant:6 legs_of_a_bird:2 arms_of_an_octopus:8"
    " legs_of_a_horse:4 legs_of_a_bee:6 wings_of_a_bee:4 wings_of_a_bird:2 years_in_an_olympiad:4 musketeers:3 dwarfs:7"
    " wonders_of_the_world:7 lines_of_a_limerick:5 notes_in_a_scale:7 voices_in_a_quartet:4 voices_in_a_trio:3"
    " corners_of_a_cube:8 faces_of_a_cube:6 letters_in_a_codon:3 vowels:5 halves_in_a_whole:2 thirds_in_a_whole:3"
)
_PHONE_KEYS = {
    letter: key for letters, key in _counted("abc def ghi jkl mno pqrs tuv wxyz", 2).items() for letter in letters
}
_WORDS = (
    "apple tree house river mountain bread water stone green yellow summer winter garden window table chair kitchen"
    " bottle paper pencil school teacher doctor market street bridge island forest animal tiger monkey rabbit horse"
    " sheep chicken butter cheese coffee sugar salt pepper orange banana lemon cherry potato tomato onion carrot music"
    " guitar piano violin drum dance song story poem novel letter number circle square line point plane cloud rain snow"
    " wind storm thunder sun moon star earth ocean lake hill valley desert beach sand ship boat train wagon wheel"
    " road path door wall roof floor lamp clock mirror carpet blanket pillow shirt jacket trousers shoe hat glove"
)
_MARKS = {
    **{"a comma": ",", "a space": " ", "a dash": "-", "a dot": ".", "a colon": ":", "a semicolon": ";", "a bar": "|"},
    **{"a slash": "/", "a star": "*", "an underscore": "_", "a plus sign": "+", "an equals sign": "=", "a hash": "#"},
    **{"a question mark": "?", "an exclamation mark": "!", "a percent sign": "%", "an at sign": "@"},
}

FACTS: tuple[Fact, ...] = (
    *_family("{}", _counted("one two three four five six seven eight nine")),
    *_family("{}", {f"{a} minus {b}": a - b for a in range(5, 19) for b in range(2, 10)}),
    *_family("{}", {f"{a * b} over {a}": b for a in range(2, 10) for b in range(2, 10)}),
    *_family("the last digit of {}", {str(a): a % 10 for a in range(12, 100)}),
    *_family("the first digit of {}", {str(a): a // 10 for a in range(20, 100)}),
    *_family("the root of {}", {str(a * a): a for a in range(2, 10)}),
    *_family("roman {}", _counted("I II III IV V VI VII VIII IX")),
    *_family("month {}", _counted("January February March April May June July August September")),
    *_family("weekday {}", _counted("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")),
    *_family("place of {} in the alphabet", _counted("a b c d e f g h i")),
    *_family("sides of a {}", _counted("triangle square pentagon hexagon heptagon octagon nonagon", 3)),
    *_family("planet {}", _counted("Mercury Venus Earth Mars Jupiter Saturn Uranus Neptune")),
    *_family(
        "atomic number of {}", _counted("hydrogen helium lithium beryllium boron carbon nitrogen oxygen fluorine")
    ),
    *_family("number of {}", _numbered(_THINGS)),
    *_family("binary {}", {f"{a:b}": a for a in range(2, 10)}),
    *_family("phone key of {}", _PHONE_KEYS),
    *_family("length of {}", _lengths(_WORDS)),
    *_family("the letter after {}", dict(pairwise(_LETTERS))),
    *_family("the letter of {}", {word: word[0] for word in _CODE_WORDS.split()}),
    *_family("{}", _MARKS),
)

# Constants that stand in the docstring as they are, the commonest first.
LITERALS: tuple[Fact, ...] = (
    *(Fact(str(number), number) for number in range(2, 10)),
    *(Fact(repr(letter), letter) for letter in "abcdeirstxyz"),
)
