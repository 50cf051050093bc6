"""Steps: one thing that a function can do to a value, as phrases and as an expression.

``{x}`` stands for the value, ``{c}`` for a constant, which is a literal or a fact. Types are int, str, list
(of ints) and bool.
"""

from dataclasses import dataclass
from typing import Literal

ValueType = Literal["int", "str", "list", "bool"]


@dataclass(frozen=True)
class Step:
    takes: ValueType
    gives: ValueType
    expression: str
    phrases: tuple[str, ...]
    constant: Literal["int", "str", None] = None


def _steps(takes: ValueType, gives: ValueType, constant: Literal["int", "str", None], table: str) -> list[Step]:
    """Lines of "expression | phrase | phrase"."""
    rows = [[cell.strip() for cell in line.split("|")] for line in table.strip().splitlines()]
    return [Step(takes, gives, row[0], tuple(row[1:]), constant) for row in rows]


STEPS: tuple[Step, ...] = (
    *_steps("int", "int", None, """
        {x} ** 2 | {x} squared | square of {x}
        {x} ** 3 | {x} cubed | cube of {x}
        -{x} | minus {x} | {x} negated
        abs({x}) | abs of {x} | {x} without sign
        {x} * 2 | {x} doubled | twice {x}
        {x} // 2 | {x} halved | half of {x}
        {x} % 10 | last digit of {x} | {x} mod ten
        len(str({x})) | digits in {x} | size of {x} as text
        sum(range({x})) | sum below {x} | total of range {x}
        {x} + 1 | {x} and one | next after {x}
        {x} - 1 | {x} less one | one before {x}
        ~{x} | {x} inverted | not of {x}
        """),
    *_steps("int", "int", "int", """
        {x} + {c} | {x} plus {c} | {c} more than {x}
        {x} - {c} | {x} minus {c} | {c} less than {x}
        {x} * {c} | {x} times {c} | product of {x} and {c}
        {x} % {c} | {x} mod {c} | rest of {x} by {c}
        {x} // {c} | {x} over {c} | {x} divided by {c}
        max({x}, {c}) | max of {x} and {c} | {x} or at least {c}
        min({x}, {c}) | min of {x} and {c} | {x} or at most {c}
        {c} - {x} | {c} minus {x} | {x} taken from {c}
        abs({x} - {c}) | distance of {x} from {c} | {x} off {c}
        {x} ^ {c} | {x} xor {c} | bits in {x} or {c} not both
        {x} & {c} | {x} and {c} | bits in {x} and {c}
        {x} ** {c} | {x} to the {c} | power {c} of {x}
        """),
    *_steps("int", "bool", None, """
        {x} % 2 == 0 | if {x} is even | {x} is no odd
        {x} % 2 == 1 | if {x} is odd | {x} is not even
        {x} > 0 | if {x} is positive | {x} is above zero
        {x} < 0 | if {x} is negative | {x} is below zero
        {x} == 0 | if {x} is zero | {x} is none
        """),
    *_steps("int", "bool", "int", """
        {x} > {c} | if {x} is over {c} | {x} exceeds {c}
        {x} < {c} | if {x} is under {c} | {x} is below {c}
        {x} >= {c} | if {x} is at least {c} | {x} is {c} or more
        {x} <= {c} | if {x} is at most {c} | {x} is {c} or less
        {x} == {c} | if {x} is {c} | {x} equals {c}
        {x} != {c} | if {x} is not {c} | {x} differs from {c}
        {x} % {c} == 0 | if {c} divides {x} | {x} is multiple of {c}
        """),
    *_steps("int", "str", None, """
        str({x}) | {x} as str | text of {x}
        bin({x}) | {x} in binary | bits of {x}
        hex({x}) | {x} in hex | base sixteen of {x}
        chr({x}) | char of code {x} | char {x}
        """),
    *_steps("int", "list", None, """
        list(range({x})) | list below {x} | range of {x}
        [{x}] | list of {x} | {x} in a list
        """),
    *_steps("str", "str", None, """
        {x}.upper() | upper {x} | {x} in capitals
        {x}.lower() | lower {x} | {x} in small
        {x}.strip() | strip {x} | {x} without outer space
        {x}.title() | title {x} | all words of {x} capital
        {x}.capitalize() | capitalize {x} | {x} with first capital
        {x}.swapcase() | swapcase {x} | {x} in other case
        {x}[::-1] | reversed {x} | {x} back to front
        {x}[0] | first char of {x} | {x} initial
        {x}[-1] | last char of {x} | end of {x}
        {x}.split()[0] | first word of {x} | {x} up to space
        {x}.split()[-1] | last word of {x} | {x} after spaces
        {x}.lstrip() | lstrip {x} | {x} without left space
        {x}.rstrip() | rstrip {x} | {x} without right space
        {x}.replace(' ', '') | {x} without spaces | no spaces {x}
        ''.join(sorted({x})) | sorted chars of {x} | {x} in char order
        max({x}) | max char of {x} | top char in {x}
        min({x}) | min char of {x} | low char in {x}
        repr({x}) | repr of {x} | {x} quoted
        {x} + {x} | {x} twice | double {x}
        {x}[::2] | every other char of {x} | {x} by two
        {x}[1:] | {x} without first char | rest of {x}
        {x}[:-1] | {x} without last char | all but end of {x}
        """),
    *_steps("str", "str", "int", """
        {x} * {c} | {x} {c} times | {c} copies of {x}
        {x}[:{c}] | first {c} chars of {x} | {x} up to {c}
        {x}[{c}:] | {x} without first {c} chars | {x} from {c}
        {x}[-{c}:] | last {c} chars of {x} | end {c} of {x}
        {x}.zfill({c}) | zfill {x} to {c} | {x} with zeros to {c}
        {x}.ljust({c}) | ljust {x} to {c} | {x} filled to {c}
        {x}.rjust({c}) | rjust {x} to {c} | {x} right at {c}
        """),
    *_steps("str", "str", "str", """
        {x} + {c} | {x} plus {c} | {x} then {c}
        {c} + {x} | {c} plus {x} | {c} then {x}
        {x}.replace({c}, '') | {x} without {c} | remove {c} from {x}
        {x}.replace(' ', {c}) | {c} for spaces in {x} | {x} spaces to {c}
        {c}.join({x}) | {x} joined by {c} | chars of {x} with {c}
        {x}.split({c})[0] | {x} before {c} | {x} up to {c}
        {x}.strip({c}) | strip {c} off {x} | {x} without outer {c}
        """),
    *_steps("str", "int", None, """
        len({x}) | len of {x} | size of {x}
        len({x}.split()) | words in {x} | number of words of {x}
        len(set({x})) | unique chars in {x} | size of set {x}
        ord({x}[0]) | code of first in {x} | ord of {x}
        int({x}) | {x} as int | number in {x}
        """),
    *_steps("str", "int", "str", """
        {x}.count({c}) | count {c} in {x} | number of {c} in {x}
        {x}.find({c}) | find {c} in {x} | place of {c} in {x}
        """),
    *_steps("str", "bool", None, """
        {x}.isdigit() | isdigit {x} | {x} is all numbers
        {x}.isalpha() | isalpha {x} | {x} is only words
        {x}.isupper() | isupper {x} | {x} is in capitals
        {x}.islower() | islower {x} | {x} is in small
        {x} == '' | if {x} is empty | {x} has none
        {x} == {x}[::-1] | if {x} is same reversed | {x} is mirror
        """),
    *_steps("str", "bool", "str", """
        {c} in {x} | if {c} in {x} | {x} has {c}
        {x} == {c} | if {x} is {c} | {x} equals {c}
        {x} != {c} | if {x} is not {c} | {x} differs from {c}
        {x}.startswith({c}) | if {x} startswith {c} | {x} begins {c}
        {x}.endswith({c}) | if {x} endswith {c} | {x} closes {c}
        {c} not in {x} | if {c} not in {x} | {x} has no {c}
        """),
    *_steps("str", "bool", "int", """
        len({x}) > {c} | if {x} is over {c} | {x} exceeds {c}
        len({x}) < {c} | if {x} is under {c} | {x} is below {c}
        len({x}) == {c} | if {x} has size {c} | {x} is {c} long
        """),
    *_steps("list", "int", None, """
        len({x}) | len of {x} | size of {x}
        sum({x}) | sum of {x} | total of {x}
        max({x}) | max of {x} | top of {x}
        min({x}) | min of {x} | low of {x}
        {x}[0] | first of {x} | {x} head
        {x}[-1] | last of {x} | end of {x}
        {x}[1] | second of {x} | {x} after first
        len(set({x})) | unique in {x} | size of set {x}
        max({x}) - min({x}) | range of {x} | top minus low of {x}
        sum(v * v for v in {x}) | square sum of {x} | total of squares in {x}
        sum({x}) // len({x}) | mean of {x} | sum over size of {x}
        sorted({x})[len({x}) // 2] | median of {x} | middle of sorted {x}
        """),
    *_steps("list", "int", "int", """
        {x}.count({c}) | count {c} in {x} | number of {c} in {x}
        {x}[{c}] | item {c} of {x} | {x} at {c}
        """),
    *_steps("list", "bool", None, """
        not {x} | if {x} is empty | {x} has none
        all({x}) | if all {x} | {x} has no zero
        any({x}) | if any {x} | {x} has not only zero
        {x} == sorted({x}) | if {x} is sorted | {x} is in order
        {x} == {x}[::-1] | if {x} is same reversed | {x} is mirror
        """),
    *_steps("list", "bool", "int", """
        {c} in {x} | if {c} in {x} | {x} has {c}
        {c} not in {x} | if {c} not in {x} | {x} has no {c}
        len({x}) > {c} | if {x} is over {c} | {x} exceeds {c}
        len({x}) == {c} | if {x} has size {c} | {x} is {c} long
        """),
    *_steps("list", "list", None, """
        sorted({x}) | sorted {x} | {x} in order
        {x}[::-1] | reversed {x} | {x} back to front
        sorted({x}, reverse=True) | sorted down {x} | {x} from top to low
        sorted(set({x})) | unique sorted {x} | set of {x} in order
        {x}[1:] | {x} without first | rest of {x}
        {x}[:-1] | {x} without last | all but end of {x}
        {x}[::2] | every other of {x} | {x} by two
        {x} + {x} | {x} twice | double {x}
        [v * 2 for v in {x}] | all {x} doubled | two times all {x}
        [v ** 2 for v in {x}] | all {x} squared | squares of {x}
        [-v for v in {x}] | all {x} negated | minus all {x}
        [abs(v) for v in {x}] | abs of all {x} | {x} without signs
        [v for v in {x} if v > 0] | positive in {x} | {x} above zero
        [v for v in {x} if v % 2 == 0] | even in {x} | {x} without odd
        """),
    *_steps("list", "list", "int", """
        {x} + [{c}] | {x} then {c} | {x} with {c} at end
        [{c}] + {x} | {c} then {x} | {x} with {c} first
        {x}[:{c}] | first {c} of {x} | {x} up to {c}
        {x}[{c}:] | {x} without first {c} | {x} from {c}
        {x}[-{c}:] | last {c} of {x} | end {c} of {x}
        [v + {c} for v in {x}] | all {x} plus {c} | {c} more for all {x}
        [v * {c} for v in {x}] | all {x} times {c} | {c} by all {x}
        [v for v in {x} if v > {c}] | over {c} in {x} | {x} above {c}
        [v for v in {x} if v < {c}] | under {c} in {x} | {x} below {c}
        [v for v in {x} if v != {c}] | {x} without {c} | remove {c} from {x}
        {x} * {c} | {x} {c} times | {c} copies of {x}
        """),
)  # fmt: skip
