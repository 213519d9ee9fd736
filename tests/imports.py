"""Who imports whom, read from the source without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Import:
    """One imported name. ``at_import`` is False inside a function, ``running`` also under ``if TYPE_CHECKING``."""

    module: str
    file: Path
    line: int
    name: str
    at_import: bool
    running: bool

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}"


class Sources:
    """Every module below ``root`` / ``package``, by its dotted name."""

    def __init__(self, root: Path, *packages: str) -> None:
        self.files: dict[str, Path] = {}
        for package in packages:
            for file in sorted((root / package).rglob("*.py")):
                parts = file.relative_to(root).with_suffix("").parts
                self.files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
        self.imports = [found for module, file in self.files.items() for found in self._read(module, file)]

    def inside(self) -> Iterator[tuple[Import, str]]:
        """Each import of one of our modules, with the module that it names."""
        for found in self.imports:
            target = self.resolve(found.name)
            if target is not None:
                yield found, target

    def outside(self) -> Iterator[Import]:
        return (found for found in self.imports if self.resolve(found.name) is None)

    def resolve(self, name: str) -> str | None:
        """Our module that an imported name stands for: itself, or what it is taken from."""
        if name in self.files:
            return name
        parent = name.rpartition(".")[0]
        return parent if parent in self.files else None

    def reachable(self, start: Iterable[str], *, running_only: bool) -> set[str]:
        """``start`` and all that is imported with it."""
        edges: dict[str, set[str]] = {}
        for found, target in self.inside():
            if found.running or not running_only:
                edges.setdefault(found.module, set()).add(target)
        seen: set[str] = set()
        waiting = list(start)
        while waiting:
            module = waiting.pop()
            if module not in seen:
                seen.add(module)
                waiting.extend(edges.get(module, ()))
        return seen

    def _read(self, module: str, file: Path) -> Iterator[Import]:
        package = module if file.name == "__init__.py" else module.rpartition(".")[0]

        def visit(node: ast.AST, at_import: bool, running: bool) -> Iterator[Import]:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield Import(module, file, node.lineno, alias.name, at_import, running)
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    parents = package.split(".")
                    above = ".".join(parents[: len(parents) - node.level + 1])
                    base = f"{above}.{base}" if base else above
                for alias in node.names:
                    yield Import(module, file, node.lineno, f"{base}.{alias.name}", at_import, running)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                for child in ast.iter_child_nodes(node):
                    yield from visit(child, False, False)
            elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                for child in node.body:
                    yield from visit(child, at_import, False)
                for child in node.orelse:
                    yield from visit(child, at_import, running)
            else:
                for child in ast.iter_child_nodes(node):
                    yield from visit(child, at_import, running)

        yield from visit(ast.parse(file.read_bytes(), str(file)), True, True)


def cycles(edges: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """The strongly connected components of more than one module, and modules that import themselves."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    path: list[str] = []
    found: list[list[str]] = []

    def connect(node: str) -> None:  # Tarjan; as deep as the longest chain of imports
        index[node] = low[node] = len(index)
        path.append(node)
        for target in edges.get(node, ()):
            if target not in index:
                connect(target)
                low[node] = min(low[node], low[target])
            elif target in path:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            start = path.index(node)
            component = path[start:]
            del path[start:]
            if len(component) > 1 or node in edges.get(node, ()):
                found.append(sorted(component))

    for node in edges:
        if node not in index:
            connect(node)
    return sorted(found)
