"""The house: imports point down only, nothing goes in a circle, and torch starts at `batching`."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"

# Top to bottom; names on one line are one layer.
LAYERS = (
    ("integrations",),
    ("cli", "library"),
    ("workflow",),
    ("reporting", "web"),
    ("evaluation",),
    ("training",),
    ("objective",),
    ("generation",),
    ("models",),
    ("batching",),
    ("processes",),
    ("tokens",),
    ("data",),
    ("config", "recipes"),
    ("strict_yaml",),
    ("failpoints",),
    ("endpoint",),
    ("types", "errors", "offline"),
)
HEIGHT = {name: -row for row, names in enumerate(LAYERS) for name in names}
HEIGHT["__main__"] = 1  # above cli
HEIGHT["penchant"] = -len(LAYERS)  # the package itself, which everyone may ask for its version

TORCH_FREE = {
    "endpoint",
    "data",
    "tokens",
    "config",
    "recipes",
    "strict_yaml",
    "failpoints",
    "types",
    "errors",
    "offline",
    "penchant",
}
HEAVY = {"torch", "transformers"}


def module_name(path: Path, source: Path = SOURCE) -> str:
    parts = path.relative_to(source).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer(module: str) -> str:
    """Return the first name below the package: "training" of penchant.training.loop."""
    return module.split(".")[1] if "." in module else module


def imported_names(tree: ast.AST, module: str, *, is_package: bool) -> Iterator[str]:
    """Yield each dotted name that a module imports, anywhere in its code; `from a import b` yields a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                here = parts[: len(parts) - node.level + is_package]
                base = ".".join([*here, base] if base else here)
            yield from (f"{base}.{alias.name}" for alias in node.names)


def graph(source: Path = SOURCE) -> dict[str, set[str]]:
    """Return, for every module of the package, the package's modules that it imports."""
    files = {module_name(path, source): path for path in sorted(source.rglob("*.py"))}
    edges: dict[str, set[str]] = {}
    for module, path in files.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        edges[module] = set()
        for name in imported_names(tree, module, is_package=path.stem == "__init__"):
            target = name
            while target and target not in files:  # penchant.errors.UsageError -> penchant.errors
                target = target.rpartition(".")[0]
            if target and target != module:
                edges[module].add(target)
    return edges


def upward(edges: dict[str, set[str]]) -> list[str]:
    return sorted(
        f"{module} imports {target}"
        for module, targets in edges.items()
        for target in targets
        if HEIGHT[layer(target)] > HEIGHT[layer(module)]
    )


def cycle(edges: dict[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def loaded_at_import(tree: ast.Module) -> Iterator[str]:
    """Yield the packages that importing a module loads: not those in functions and in type-only blocks."""
    pending: list[ast.AST] = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module and not node.level:
                yield node.module.split(".")[0]
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending.extend(node.orelse)
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            pending.extend(ast.iter_child_nodes(node))


def test_every_module_has_a_layer() -> None:
    homeless = sorted(module for module in graph() if layer(module) not in HEIGHT)
    assert not homeless, f"give these a layer in {Path(__file__).name}: {homeless}"


def test_imports_point_down() -> None:
    assert upward(graph()) == []


def test_no_import_goes_in_a_circle() -> None:
    found = cycle(graph())
    assert not found, " -> ".join(found)


def test_layers_below_batching_name_no_torch_at_import() -> None:
    heavy = {}
    for path in sorted(SOURCE.rglob("*.py")):
        module = module_name(path)
        if layer(module) in TORCH_FREE:
            names = HEAVY & set(loaded_at_import(ast.parse(path.read_text(encoding="utf-8"))))
            if names:
                heavy[module] = names
    assert heavy == {}


def test_layers_below_batching_load_no_torch() -> None:
    modules = [module for module in graph() if layer(module) in TORCH_FREE]
    program = f"import sys, {', '.join(modules)}; print(sorted({HEAVY} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("files", "wrong"),
    [
        ({"data/a.py": "def f():\n    from penchant.cli import main", "cli/main.py": ""}, "upward"),
        ({"data/a.py": "from ..cli.main import app", "cli/main.py": ""}, "upward"),
        ({"errors.py": "import penchant.types", "types.py": "from penchant import errors"}, "cycle"),
        ({"cli/main.py": "from penchant.data.a import x", "data/a.py": "from ..types import y"}, "nothing"),
    ],
)
def test_the_drawing_itself_sees_what_it_should(tmp_path: Path, files: dict[str, str], wrong: str) -> None:
    packages = {f"{Path(name).parent}/__init__.py" for name in files} | {"types.py", "__init__.py"}
    for name, text in {**dict.fromkeys(packages, ""), **files}.items():
        path = tmp_path / "penchant" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    edges = graph(tmp_path)
    assert bool(upward(edges)) == (wrong == "upward")
    assert bool(cycle(edges)) == (wrong == "cycle")
