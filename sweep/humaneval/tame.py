"""Programs that can share a child process, told from their compiled code.

A tame program can't change anything that the next program in its process would see. That is judged by what it
names, never by what it seems to do: it sets no attribute, makes no class, and reaches nothing of the interpreter or
of the standard library but the functions and constants listed here, which keep no state and write on nothing
that they are given. Whatever is left can touch its own objects alone, and those live as long as the process
(``child``). The rule errs on one side: many harmless programs are called wild and cost a process.
"""

import builtins
import dis
import importlib
import sys
from types import CodeType

# What a tame program may use of a module. Left out are classes that can be derived from or called to make others, what
# sets attributes (wraps, total_ordering), looks them up by text (attrgetter, Formatter) or keeps what it is given.
ALLOWED = {
    "bisect": "bisect bisect_left bisect_right insort insort_left insort_right",
    "cmath": "exp log phase pi polar rect sqrt",
    "collections": "ChainMap Counter OrderedDict defaultdict deque",
    "functools": "cache cmp_to_key lru_cache partial reduce",
    "hashlib": "md5 sha1 sha256 sha512",
    "heapq": "heapify heappop heappush heappushpop heapreplace merge nlargest nsmallest",
    "itertools": "accumulate chain combinations combinations_with_replacement compress count cycle dropwhile"
    " filterfalse groupby islice pairwise permutations product repeat starmap takewhile tee zip_longest",
    "math": "acos asin atan atan2 ceil comb copysign cos degrees dist e exp fabs factorial floor fmod frexp fsum gcd"
    " hypot inf isclose isfinite isinf isnan isqrt lcm ldexp log log10 log1p log2 modf nan perm pi pow prod radians"
    " sin sqrt tan tau trunc",
    "operator": "abs add and_ contains eq floordiv ge gt index itemgetter le lt mod mul ne neg not_ or_ pow sub"
    " truediv xor",
    "re": "DOTALL I IGNORECASE M MULTILINE S escape findall finditer fullmatch match search split sub subn",
    "statistics": "mean median median_high median_low mode pstdev pvariance stdev variance",
    "string": "ascii_letters ascii_lowercase ascii_uppercase digits hexdigits octdigits printable punctuation"
    " whitespace",
    "typing": "Any Callable Deque DefaultDict Dict FrozenSet Generator Iterable Iterator List Mapping MutableMapping"
    " MutableSequence Optional Sequence Set Text Tuple Union",
}
_BUILTINS = frozenset(
    """abs all any ascii bin bool bytearray bytes callable chr complex dict divmod enumerate filter float format
    frozenset hash hex id int isinstance issubclass iter len list map max min next oct ord pow print range repr
    reversed round set slice sorted str sum tuple zip True False None Ellipsis NotImplemented""".split()  # noqa: SIM905
)
_OWN_NAMES = frozenset(("_", "__name__", "__doc__"))
_INNARDS = ("_", "gi_", "cr_", "ag_", "f_", "tb_", "co_")  # of generators, frames, tracebacks and code
_OPCODES = frozenset(
    dis.opmap[name]
    for name in ("STORE_ATTR", "DELETE_ATTR", "LOAD_BUILD_CLASS", "IMPORT_STAR", "MATCH_CLASS")
    if name in dis.opmap
)
_IMPORT, _EXTENDED = dis.opmap["IMPORT_NAME"], dis.opmap["EXTENDED_ARG"]


def _forbidden() -> frozenset[str]:
    """Names of builtins and of attributes of the modules that are not allowed. Any other name reaches nothing."""
    allowed = {name for names in ALLOWED.values() for name in names.split()} | ALLOWED.keys() | _BUILTINS | _OWN_NAMES
    for name, value in vars(builtins).items():
        if isinstance(value, type) and issubclass(value, BaseException):
            allowed.add(name)
    there = {name for module in ALLOWED for name in vars(importlib.import_module(module))}
    # A package gains its submodules as attributes when they are imported, perhaps later than now.
    return frozenset((there | set(dir(builtins)) | sys.stdlib_module_names) - allowed)


_FORBIDDEN = _forbidden()


def is_tame(code: CodeType) -> bool:
    """Whether this module, and every function in it, keeps to itself."""
    for name in code.co_names:
        if name in _FORBIDDEN or (name.startswith(_INNARDS) and name not in _OWN_NAMES):
            return False
    opcodes = code.co_code[::2]
    if not _OPCODES.isdisjoint(opcodes):
        return False
    if _IMPORT in opcodes and not _imports(code) <= ALLOWED.keys():
        return False
    return all(is_tame(const) for const in code.co_consts if isinstance(const, CodeType))


def _imports(code: CodeType) -> set[str]:
    """The modules that the code imports."""
    names, argument = set(), 0
    for opcode, low in zip(code.co_code[::2], code.co_code[1::2], strict=True):
        argument = argument << 8 | low
        if opcode == _IMPORT:
            names.add(code.co_names[argument])
        if opcode != _EXTENDED:
            argument = 0
    return names
