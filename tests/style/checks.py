"""The house rules as functions: source in, complaints out. Each complaint says what to do instead.

They work on text, so that `test_planted.py` can give each of them a violation and see it caught: a check that
cannot fail is decoration.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet

FORBIDDEN_IN_CORE = {
    "time": "take a Reading as an argument",
    "datetime": "take milliseconds as an int",
    "os": "take what you need as an argument",
    "socket": "return bytes; runtime/ sends them",
    "select": "return bytes; runtime/ sends them",
    "ssl": "return bytes; runtime/ sends them",
    "threading": "the caller holds the lock",
    "_thread": "the caller holds the lock",
    "concurrent": "the caller holds the lock",
    "multiprocessing": "the caller holds the lock",
    "subprocess": "the core starts nothing",
    "logging": "emit an event; runtime/ logs it",
    "warnings": "emit an event; runtime/ logs it",
    "random": "take a random.Random as an argument; only that class may be named",
    "secrets": "take a random.Random as an argument",
    "uuid": "take a random.Random as an argument",
    "trio": "emit an event; runtime/ acts on it",
    "asyncio": "emit an event; runtime/ acts on it",
}

MAX_LINES = 400


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, full module name) of every import, wherever it stands; `from a import b` yields both a and a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.lineno, node.module
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


def for_types_only(tree: ast.AST) -> list[int]:
    """The lines inside `if TYPE_CHECKING:`, which never run."""
    return [
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for statement in node.body
        for line in range(statement.lineno, (statement.end_lineno or 0) + 1)
    ]


def impure_imports(source: str) -> list[str]:
    """What a file of core/ imports and must not."""
    tree = ast.parse(source)
    found = {}
    for line, module in imports(tree):
        top = module.partition(".")[0]
        if top in FORBIDDEN_IN_CORE and module not in ("random", "random.Random"):
            found[line, top] = f"line {line}: core/ imports {top}: {FORBIDDEN_IN_CORE[top]}"
        if module.startswith("crdtcache.") and module.split(".")[1] not in ("core", "errors", "tuning"):
            found[line, module] = f"line {line}: core/ imports {module}: move what is needed into core/, or pass it in"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            name = f"{node.value.id}.{node.attr}"
            if node.value.id == "random" and node.attr != "Random":
                found[node.lineno, name] = f"line {node.lineno}: {name}: {FORBIDDEN_IN_CORE['random']}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            name = node.func.id
            if name == "hash":
                found[node.lineno, name] = f"line {node.lineno}: hash() differs per process: use xxh3_64 with the seed"
            if name in ("print", "open", "input"):
                found[node.lineno, name] = f"line {node.lineno}: {name}(): core/ does no input or output"
    return [found[place] for place in sorted(found)]


def place(module: str, order: Sequence[str]) -> int | None:
    """Where `module` (without "crdtcache.") stands in the reading order; "demo.*" stands for all of demo/."""
    if module in order:
        return order.index(module)
    room = module.partition(".")[0]
    return order.index(f"{room}.*") if f"{room}.*" in order else None


def without_place(modules: Sequence[str], order: Sequence[str]) -> list[str]:
    """Modules that the reading order does not name."""
    return [
        f"crdtcache.{module} is not in READING_ORDER: give it its line in tests/style/order.py, below all it imports"
        for module in modules
        if place(module, order) is None
    ]


def upward_imports(module: str, source: str, order: Sequence[str]) -> list[str]:
    """What `module` imports from files that stand below it in the reading order.

    A file may name a type of a later file of its own room for type checkers: two halves of one thing.
    """
    own = place(module, order)
    if own is None:
        return []  # a complaint of `without_place`
    found = []
    tree = ast.parse(source)
    typed = for_types_only(tree)
    for line, name in imports(tree):
        if name != "crdtcache" and not name.startswith("crdtcache."):
            continue
        wanted = name.removeprefix("crdtcache").removeprefix(".")
        at = place(wanted, order)  # None: a name inside a module or the package, which was yielded before it
        own_room = module.partition(".")[0] == wanted.partition(".")[0] and "." in module
        if own_room and (line in typed or at == own):
            continue
        if at is not None and at >= own:
            found.append(
                f"line {line}: crdtcache.{module} imports crdtcache.{wanted}, which is read after it: "
                "pass it in, or move what is shared above both"
            )
    return found


def relative_imports(source: str) -> list[str]:
    """Imports that do not name the full path."""
    return [
        f"line {node.lineno}: a relative import: write the full path, crdtcache...."
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and node.level
    ]


def foreign_imports(source: str, allowed: Sequence[str], standard: AbstractSet[str]) -> list[str]:
    """Third-party packages that are imported and are no dependency. Type checkers bring typing_extensions."""
    found = {}
    tree = ast.parse(source)
    typed = for_types_only(tree)
    for line, name in imports(tree):
        top = name.partition(".")[0]
        if top == "typing_extensions" and line in typed:
            continue
        if top not in standard and top not in allowed:
            found[line, top] = f"line {line}: imports {top}: the dependencies are {', '.join(allowed)} and no others"
    return list(found.values())


def simulator_imports(source: str) -> list[str]:
    """What a file of sim/ imports beside the core."""
    found = {}
    for line, name in imports(ast.parse(source)):
        parts = name.split(".")
        if parts[0] == "trio" or (
            parts[0] == "crdtcache" and len(parts) > 1 and parts[1] not in ("core", "errors", "tuning")
        ):
            found[line] = (
                f"line {line}: sim/ imports {name}: it may use crdtcache.core, errors and tuning, nothing else"
            )
    return list(found.values())


def too_long(source: str) -> list[str]:
    """A file above the limit whose docstring gives no reason."""
    lines = source.count("\n")
    reason = ast.get_docstring(ast.parse(source)) or ""
    if lines <= MAX_LINES or f"{MAX_LINES} lines" in reason:
        return []
    way_out = f"give its second idea a file of its own, or the docstring a reason: 'Above {MAX_LINES} lines because'"
    return [f"{lines} lines, above {MAX_LINES}: {way_out}"]


def no_docstring(source: str) -> list[str]:
    """A module that does not say its one idea."""
    if ast.get_docstring(ast.parse(source)):
        return []
    return ["no docstring: say the one idea of the file, and the decision it rests on"]


# -- sets ------------------------------------------------------------------------------------------------------------

_SET_NAMES = ("set", "frozenset", "Set", "FrozenSet", "AbstractSet", "MutableSet")
_ORDERED = ("sorted", "len", "min", "max", "sum", "any", "all", "set", "frozenset", "bool")
_IN_TURN = ("list", "tuple", "iter", "enumerate", "map", "filter", "zip", "reversed", "next", "dict")
_IN_TURN_METHODS = ("extend", "join", "fromkeys")
_SET_METHODS = ("union", "intersection", "difference", "symmetric_difference")


class _SetFinder(ast.NodeVisitor):
    """Names and attributes that hold a set anywhere in the file, by assignment or annotation."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def visit_Assign(self, node: ast.Assign) -> None:
        if is_set(node.value, self.names):
            self.names.extend(name for target in node.targets if (name := _name(target)))
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if _annotates_set(node.annotation) and (name := _name(node.target)):
            self.names.append(name)
        self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> None:
        if node.annotation is not None and _annotates_set(node.annotation):
            self.names.append(node.arg)


def _name(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    return f".{node.attr}" if isinstance(node, ast.Attribute) else None


def _annotates_set(node: ast.expr) -> bool:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        node = ast.parse(node.value, mode="eval").body
    if isinstance(node, ast.BinOp):
        return _annotates_set(node.left) or _annotates_set(node.right)
    if isinstance(node, ast.Subscript):
        node = node.value
    return isinstance(node, ast.Name) and node.id in _SET_NAMES


def is_set(node: ast.expr, names: Sequence[str]) -> bool:
    """Whether `node` is plainly a set."""
    if isinstance(node, ast.Set | ast.SetComp):
        return True
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Name):
            return node.func.id in ("set", "frozenset")
        return isinstance(node.func, ast.Attribute) and node.func.attr in _SET_METHODS
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr | ast.BitAnd | ast.Sub | ast.BitXor):
        return any(is_set(side, names) or _is_keys_view(side) for side in (node.left, node.right))
    if isinstance(node, ast.IfExp):
        return is_set(node.body, names) or is_set(node.orelse, names)
    return _name(node) in names if _name(node) else False


def _is_keys_view(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("keys", "items")


def set_iteration(source: str) -> list[str]:
    """Places where the order of a set decides something: it changes with the hash seed."""
    tree = ast.parse(source)
    finder = _SetFinder()
    finder.visit(tree)
    finder.visit(tree)  # a name may be used above the assignment that shows what it holds
    names = finder.names
    settled: list[ast.AST] = []  # comprehensions whose consumer does not care about order
    lines = []
    for node in ast.walk(tree):
        iterated: list[ast.expr] = []
        if isinstance(node, ast.Set):
            settled.extend(node.elts)
        elif isinstance(node, ast.Call):
            called = node.func.id if isinstance(node.func, ast.Name) else None
            method = node.func.attr if isinstance(node.func, ast.Attribute) else None
            if called in _ORDERED:
                settled.extend(node.args)
            elif (called in _IN_TURN and node not in settled) or method in _IN_TURN_METHODS:
                iterated += node.args
            elif method == "pop" and not node.args:
                iterated.append(node.func.value)
        elif isinstance(node, ast.For):
            iterated.append(node.iter)
        elif isinstance(node, ast.Starred) and node not in settled:
            iterated.append(node.value)
        elif isinstance(node, ast.ListComp | ast.GeneratorExp | ast.DictComp) and node not in settled:
            iterated += [generator.iter for generator in node.generators]
        elif isinstance(node, ast.Assign) and any(isinstance(target, ast.Tuple | ast.List) for target in node.targets):
            iterated.append(node.value)
        lines += [item.lineno for item in iterated if is_set(item, names)]
    return [
        f"line {line}: the order of a set decides something, and changes with the hash seed: "
        "iterate sorted(...), or keep a dict"
        for line in sorted(lines)
    ]


# -- text ------------------------------------------------------------------------------------------------------------

_MACHINE = re.compile(
    r"(?<![\w.*])/(?:work|farm|root|home|Users)/\w"
    r"|https?://[^ ]+\.(?:whl|tar\.gz|tgz|deb)\b"
    r"|\bindex[-]url\b|\bfiles[.]python(?:hosted)\b|\bpypi[.]org/(?:simple)\b"
)


def machine_paths(text: str) -> list[str]:
    """Paths of somebody's machine and hosts of a registry."""
    return [
        f"line {number}: {found.group()!r} is a path of one machine or a registry's host: "
        "use a path relative to the checkout, and package names"
        for number, line in enumerate(text.splitlines(), 1)
        if (found := _MACHINE.search(line))
    ]


def readme_command(readme: str) -> str | None:
    """The one line of the first fenced block under the heading "Tests"."""
    section = re.search(r"^## Tests\n(.*?)(?=^## |\Z)", readme, re.MULTILINE | re.DOTALL)
    block = re.search(r"^```\w*\n(.*?)^```", section[1], re.MULTILINE | re.DOTALL) if section else None
    lines = block[1].splitlines() if block else []
    return lines[0] if len(lines) == 1 else None


def readme_command_faults(readme: str, shown: str, script: str) -> list[str]:
    """Where README.md and .ci/run do not promise the same; `shown` is what `.ci/run --show` prints."""
    command = readme_command(readme)
    if command is None:
        return ["README.md: under '## Tests' put one fenced block with the one line that passes the tests"]
    found = []
    if shown.strip() != command:
        found.append(f".ci/run would run {shown.strip()!r}, README.md says {command!r}: read it from README.md")
    if command in script:
        found.append(".ci/run has its own copy of the README's test command: read it from README.md")
    found.extend(
        f"the README's test command lacks {part!r}: on a bare machine it must set up everything itself"
        for part in ("python3 -m venv .venv", ".venv/bin/pip install", "'.[dev]'", ".venv/bin/python -m pytest")
        if part not in command
    )
    return found


# -- the package as a whole ------------------------------------------------------------------------------------------


def mocks(source: str) -> list[str]:
    """Imports of a mocking library."""
    return [
        f"line {line}: imports {name}: no mocks; a Random(seed), a Reading and an in-memory link are enough"
        for line, name in imports(ast.parse(source))
        if name in ("mock", "unittest.mock", "pytest_mock")
    ]


def loaded_too_much(loaded: Sequence[str], forbidden: Sequence[str]) -> list[str]:
    """Modules that an import must not have loaded."""
    return [
        f"{name} was loaded: import it inside the function that needs it, or further down the reading order"
        for name in loaded
        if any(name == top or name.startswith(f"{top}.") for top in forbidden)
    ]


def lazy_names(source: str, rooms: Mapping[str, str]) -> list[str]:
    """Where the imports under TYPE_CHECKING and the table of lazy names differ."""
    typed = {
        alias.asname or alias.name: node.module
        for block in ast.parse(source).body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    return [
        f"{name}: resolved from {rooms.get(name)}, imported for type checkers from {typed.get(name)}: make them one"
        for name in sorted({*typed, *rooms})
        if typed.get(name) != rooms.get(name)
    ]
