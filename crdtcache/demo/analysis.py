"""The work that the demo's cache saves: static analysis of the modules of the installed standard library.

Decision: real input that every Python has, read from its source; a sleep that plays an expensive function would
prove nothing about values, sizes and time. Modules of 2 to 40 kB: long enough to be worth caching, short enough
that parsing one (the parser holds the GIL) does not drown the latencies that the demo measures.
"""

from __future__ import annotations

import ast
import sysconfig
import time
from pathlib import Path
from typing import Any

from crdtcache.errors import ConfigError

__all__ = ["analyse", "measure", "standard_modules"]

SMALLEST, LARGEST = 2_000, 40_000  # bytes of source
_SKIP = {"test", "tests", "idlelib", "lib2to3", "turtledemo", "pydoc_data", "ensurepip", "encodings"}
_BRANCHES = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.IfExp, ast.ExceptHandler, ast.Assert, ast.match_case)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def standard_modules(root: Path | None = None) -> dict[str, Path]:
    """Dotted name -> source file of the standard library's modules in `root` (default: of this interpreter).

    Raises `ConfigError` where there are fewer than 20: an interpreter that was installed without its sources.
    """
    if root is None:
        root = Path(sysconfig.get_path("stdlib"))
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if not all(part.isidentifier() for part in parts) or _SKIP.intersection(parts):
            continue  # site-packages and platform directories are no identifiers
        if SMALLEST <= path.stat().st_size <= LARGEST:
            found[".".join(parts).removesuffix(".__init__")] = path
    if len(found) < 20:
        raise ConfigError(f"{len(found)} modules of the standard library have their source below {root}: at least 20")
    return found


def analyse(name: str, path: Path) -> dict[str, Any]:
    """The analysis of the module `name`, with `took_us`, the microseconds that it took: what a hit saves."""
    began = time.perf_counter_ns()
    result = measure(path.read_text(encoding="utf-8", errors="replace"))
    result["module"] = name
    result["took_us"] = (time.perf_counter_ns() - began) // 1000
    return result


def measure(source: str) -> dict[str, Any]:
    """What `source` imports, what it defines, and the cyclomatic complexity (McCabe 1976) of each function.

    Complexity is 1 + the decisions: branches, loops, handlers, assertions, cases, comprehension conditions, and
    each `and` or `or`. A nested function counts for itself, not for the one around it.
    """
    tree = ast.parse(source)
    imports: set[str] = set()
    definitions: list[str] = []
    complexity: dict[str, int] = {}
    pending: list[tuple[ast.AST, str, str]] = [(tree, "", "")]  # node, name of its scope, function it counts for
    while pending:
        node, scope, function = pending.pop()
        if isinstance(node, ast.Import):
            imports.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            imports.add("." if node.level else (node.module or "").partition(".")[0])
        elif isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
            scope = f"{scope}.{node.name}" if scope else node.name
            definitions.append(scope)
            function = scope if isinstance(node, _FUNCTIONS) else ""
            if function:
                complexity[function] = 1
        elif function:
            complexity[function] += _decisions(node)
        pending.extend((child, scope, function) for child in ast.iter_child_nodes(node))
    ranked = sorted(complexity.items(), key=lambda each: (-each[1], each[0]))
    return {
        "lines": source.count("\n") + 1,
        "imports": sorted(imports),
        "definitions": sorted(definitions)[:40],
        "functions": len(complexity),
        "classes": len(definitions) - len(complexity),
        "complexity": sum(complexity.values()),
        "worst": [list(each) for each in ranked[:5]],
    }


def _decisions(node: ast.AST) -> int:
    if isinstance(node, _BRANCHES):
        return 1
    if isinstance(node, ast.BoolOp):
        return len(node.values) - 1
    if isinstance(node, ast.comprehension):
        return len(node.ifs)
    return 0
