"""Programs that can share a child process, told from their compiled code.

A tame program can't change anything that the next program in its process would see. That is judged by what it
names, never by what it seems to do: it imports only modules of functions and constants, sets no attribute,
makes no class, and names nothing that begins with an underscore, leads out of those modules, or reaches
objects by their names as text (``getattr``, ``globals``, ``operator.attrgetter``). Whatever is left can touch
its own objects alone. The rule errs on one side: many harmless programs are called wild and cost a process.
"""

import builtins
import dis
import importlib
from types import CodeType, ModuleType

MODULES = (
    *("bisect", "cmath", "collections", "copy", "datetime", "fractions", "functools", "hashlib", "heapq", "itertools"),
    *("math", "numbers", "operator", "re", "statistics", "string", "typing"),
)
_BUILTINS = frozenset(
    """abs all any ascii bin bool bytearray bytes callable chr complex dict divmod enumerate filter float format
    frozenset hash hex id int isinstance issubclass iter len list map max min next oct ord pow print range repr
    reversed round set slice sorted str sum tuple zip True False None Ellipsis NotImplemented""".split()  # noqa: SIM905
)
# They write on the function or class that they are given, or look attributes up by text.
_WRITERS = frozenset(
    """attrgetter methodcaller wraps update_wrapper total_ordering singledispatch singledispatchmethod register
    no_type_check no_type_check_decorator runtime_checkable final override overload dataclass_transform
    clear_overloads get_type_hints mro Formatter get_field get_value vformat ForwardRef""".split()  # noqa: SIM905
)
_OWN_NAMES = frozenset(("_", "__name__", "__doc__"))
_INNARDS = ("_", "gi_", "cr_", "ag_", "f_", "tb_", "co_")  # of generators, frames, tracebacks and code
_OPCODES = frozenset(
    dis.opmap[name]
    for name in ("STORE_ATTR", "DELETE_ATTR", "LOAD_BUILD_CLASS", "IMPORT_STAR", "MATCH_CLASS")
    if name in dis.opmap
)
_IMPORT, _EXTENDED = dis.opmap["IMPORT_NAME"], dis.opmap["EXTENDED_ARG"]


def _ways_out(modules: tuple[str, ...]) -> set[str]:
    """Attributes of the allowed modules that are other modules, or containers that could be written to."""
    names = set()
    for module in map(importlib.import_module, modules):
        for name, value in vars(module).items():
            if isinstance(value, ModuleType):
                if value.__name__ not in modules:
                    names.add(name)
            elif isinstance(value, dict | list | set):
                names.add(name)
    return names


def _forbidden() -> frozenset[str]:
    exceptions = {name for name, value in vars(builtins).items() if isinstance(value, type(Exception))}
    exceptions = {name for name in exceptions if issubclass(getattr(builtins, name), BaseException)}
    return frozenset(set(dir(builtins)) - _BUILTINS - _OWN_NAMES - exceptions | _ways_out(MODULES) | _WRITERS)


_FORBIDDEN = _forbidden()


def is_tame(code: CodeType) -> bool:
    """Whether this module, and every function in it, keeps to itself."""
    for name in code.co_names:
        if name in _FORBIDDEN or (name.startswith(_INNARDS) and name not in _OWN_NAMES):
            return False
    opcodes = code.co_code[::2]
    if not _OPCODES.isdisjoint(opcodes):
        return False
    if _IMPORT in opcodes and not _imports(code) <= set(MODULES):
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
