"""Facts: phrases that stand for a constant, such as "the number of days in a week" for 7.

Each has to be learned by heart or by a rule of its own family; none follows from a fact of another family.
"""

from dataclasses import dataclass
from typing import Literal

ConstantType = Literal["int", "str"]


@dataclass(frozen=True)
class Fact:
    family: str
    phrase: str
    constant: int | str

    @property
    def type(self) -> ConstantType:
        return "int" if isinstance(self.constant, int) else "str"


def _numbered(words: str, first: int = 1) -> dict[str, int | str]:
    return {word: number for number, word in enumerate(words.split(), first)}


def _paired(words: str) -> dict[str, int | str]:
    """ "a:x b:y" to {"a": "x", "b": "y"}; numbers become numbers, underscores spaces."""
    pairs = (pair.split(":") for pair in words.split())
    return {key.replace("_", " "): int(value) if value.isdigit() else value for key, value in pairs}


_UNITS = "one two three four five six seven eight nine"
_NUMBERS = _UNITS + (" ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen")
_TENS = {"twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90}
_MONTHS = "January February March April May June July August September October November December"
_DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"
_ROMAN = "I II III IV V VI VII VIII IX X XI XII XIII XIV XV XVI XVII XVIII XIX XX"
_ELEMENTS = (
    "hydrogen helium lithium beryllium boron carbon nitrogen oxygen fluorine neon sodium magnesium aluminium silicon"
    " phosphorus sulfur chlorine argon potassium calcium scandium titanium vanadium chromium manganese iron cobalt"
    " nickel copper zinc"
)
_SYMBOLS = "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn"
_PLANETS = "Mercury Venus Earth Mars Jupiter Saturn Uranus Neptune"
_LETTERS = "a b c d e f g h i j k l m n o p q r s t u v w x y z"
_CODE_WORDS = (
    "alpha bravo charlie delta echo foxtrot golf hotel india juliet kilo lima mike november oscar papa quebec romeo"
    " sierra tango uniform victor whiskey xray yankee zulu"
)

_FAMILIES: dict[str, tuple[str, dict[str, int | str]]] = {
    "number word": ("{}", {**_numbered(_NUMBERS), **_TENS, "a dozen": 12, "a hundred": 100, "a thousand": 1000}),
    "compound number word": (
        "{}",
        {f"{ten}-{unit}": value + number for ten, value in _TENS.items() for unit, number in _numbered(_UNITS).items()},
    ),
    "product": ("{}", {f"{a} times {b}": a * b for a in range(3, 10) for b in range(a, 10)}),
    "sum": ("{}", {f"{a} plus {b}": a + b for a in range(3, 10) for b in range(a, 10)}),
    "difference": ("{}", {f"{a} minus {b}": a - b for a in range(11, 19) for b in range(3, 8)}),
    "square": ("{} squared", {str(a): a * a for a in range(4, 20)}),
    "power": ("2 to the power {}", {str(a): 2**a for a in range(3, 13)}),
    "half": ("half of {}", {str(2 * a): a for a in range(6, 30)}),
    "month": ("the number of the month {}", _numbered(_MONTHS)),
    "month length": ("the number of days in {}", dict(zip(_MONTHS.split(), (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31), strict=True))),
    "weekday": ("the number of the weekday {}", _numbered(_DAYS)),
    "roman": ("the Roman number {}", _numbered(_ROMAN)),
    "unit": (
        "the number of {}",
        _paired(
            "seconds_in_a_minute:60 minutes_in_an_hour:60 hours_in_a_day:24 days_in_a_week:7 months_in_a_year:12"
            " days_in_a_year:365 weeks_in_a_year:52 years_in_a_decade:10 years_in_a_century:100 inches_in_a_foot:12"
            " feet_in_a_yard:3 ounces_in_a_pound:16 pints_in_a_gallon:8 grams_in_a_kilogram:1000 bits_in_a_byte:8"
            " metres_in_a_kilometre:1000 cents_in_a_dollar:100 degrees_in_a_circle:360 seconds_in_an_hour:3600"
            " bytes_in_a_kilobyte:1024 hours_in_a_week:168 minutes_in_a_day:1440 letters_in_the_alphabet:26"
            " cards_in_a_deck:52 squares_on_a_chessboard:64 players_in_a_football_team:11 keys_of_a_piano:88"
            " strings_of_a_guitar:6 strings_of_a_violin:4 planets_of_the_Sun:8 dots_on_a_die:21 quarters_in_a_dollar:4"
        ),
    ),
    "letter": ("the place of the letter {} in the alphabet", _numbered(_LETTERS)),
    "polygon": ("the number of sides of a {}", _numbered("triangle square pentagon hexagon heptagon octagon nonagon decagon", 3)),
    "legs": ("the number of legs of a {}", _paired("dog:4 spider:8 ant:6 bird:2 crab:10 snake:0 horse:4 bee:6 chicken:2 octopus:8")),
    "atomic number": ("the atomic number of {}", _numbered(_ELEMENTS)),
    "planet": ("the place of {} among the planets", _numbered(_PLANETS)),
    "character code": ("the code of the character {}", {letter.upper(): 65 + i for i, letter in enumerate(_LETTERS.split())}),
    "status": (
        "the HTTP status for {}",
        _paired("success:200 created:201 accepted:202 not_found:404 forbidden:403 bad_request:400 teapot:418 conflict:409 gone:410 server_error:500 bad_gateway:502"),
    ),
    "port": ("the port of {}", _paired("ssh:22 http:80 https:443 ftp:21 smtp:25 dns:53 telnet:23 pop3:110 imap:143 mysql:3306 redis:6379")),
    "binary": ("binary {}", {f"{a:b}": a for a in range(4, 32)}),
    "hexadecimal": ("hexadecimal {}", {f"{a:x}": a for a in (*range(10, 16), *range(17, 256, 14))}),
    "next letter": ("the letter after {}", dict(zip(_LETTERS.split()[:-1], _LETTERS.split()[1:], strict=True))),
    "code word": ("the code word for {}", dict(zip(_LETTERS.split(), _CODE_WORDS.split(), strict=True))),
    "symbol": ("the symbol of {}", dict(zip(_ELEMENTS.split(), _SYMBOLS.split(), strict=True))),
    "capital": (
        "the capital of {}",
        _paired(
            "France:Paris Italy:Rome Spain:Madrid Germany:Berlin Japan:Tokyo China:Beijing Russia:Moscow England:London"
            " Egypt:Cairo Greece:Athens Austria:Vienna Norway:Oslo Sweden:Stockholm Portugal:Lisbon Poland:Warsaw"
            " Ireland:Dublin Cuba:Havana Peru:Lima Kenya:Nairobi Turkey:Ankara Iran:Tehran Iraq:Baghdad India:Delhi"
            " Korea:Seoul Canada:Ottawa Finland:Helsinki Hungary:Budapest Denmark:Copenhagen"
        ),
    ),
    "opposite": (
        "the opposite of {}",
        _paired(
            "hot:cold up:down left:right big:small old:new good:bad open:closed in:out on:off true:false start:end"
            " first:last high:low yes:no east:west north:south fast:slow early:late day:night black:white long:short"
        ),
    ),
    "plural": ("the plural of {}", _paired("mouse:mice child:children man:men foot:feet tooth:teeth goose:geese person:people box:boxes city:cities leaf:leaves key:keys index:indices")),
    "past": ("the past tense of {}", _paired("go:went take:took see:saw run:ran write:wrote read:read make:made give:gave come:came get:got find:found say:said")),
    "word for number": ("the word for {}", {str(n): word for word, n in _numbered(_NUMBERS).items()}),
    "mark": (
        "{}",
        {
            "a comma": ",", "a space": " ", "a dash": "-", "a dot": ".", "a colon": ":", "a semicolon": ";", "a slash": "/",
            "a star": "*", "an underscore": "_", "a plus sign": "+", "an equals sign": "=", "a question mark": "?",
            "an exclamation mark": "!", "a hash sign": "#", "a percent sign": "%", "an at sign": "@", "a bar": "|",
        },
    ),
}  # fmt: skip

FACTS: tuple[Fact, ...] = tuple(
    Fact(family, template.format(key), constant)
    for family, (template, pairs) in _FAMILIES.items()
    for key, constant in pairs.items()
)

# Constants that stand in the docstring as they are, the commonest first.
LITERALS: tuple[Fact, ...] = (
    *(Fact("literal", str(number), number) for number in range(2, 10)),
    *(Fact("literal", repr(letter), letter) for letter in "abcdeirstxyz"),
)
