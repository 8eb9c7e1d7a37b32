"""No file that Penchant opens can run code: no pickle in any guise, no remote model code."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"

FORBIDDEN_MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
FORBIDDEN_ARGUMENTS = {"trust_remote_code", "allow_pickle"}


def is_literal(node: ast.expr | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def unsafe(text: str) -> Iterator[str]:
    """Yield what a source text does that could run code out of a file."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from (f"imports {name}" for name in names if name.split(".")[0] in FORBIDDEN_MODULES)
        if isinstance(node, ast.ImportFrom) and node.module == "torch":
            yield from ("imports torch.load by name" for alias in node.names if alias.name == "load")
        if isinstance(node, ast.Call):
            arguments = {keyword.arg: keyword.value for keyword in node.keywords}
            if ast.unparse(node.func) == "torch.load" and not is_literal(arguments.get("weights_only"), True):
                yield "calls torch.load without weights_only=True"
            for name in FORBIDDEN_ARGUMENTS & arguments.keys():
                if not is_literal(arguments[name], False):
                    yield f"passes {name}"


def test_source_opens_no_file_that_could_run_code() -> None:
    paths = sorted(SOURCE.rglob("*.py"))
    assert paths
    found = [f"{path.relative_to(SOURCE)} {what}" for path in paths for what in unsafe(path.read_text("utf-8"))]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [  # samples that the search has to find, never run: what it may not overlook in the sources
        "import pickle",
        "def f():\n    from joblib import load",
        "from torch import load",
        "import torch\ntorch.load('a.pt')",
        "import torch\ntorch.load('a.pt', weights_only=False)",
        "model(trust_remote_code=True)",
        "model(trust_remote_code=settings.trust)",
        "numpy.load('a.npy', allow_pickle=True)",
    ],
)
def test_the_search_itself_sees_what_it_should(text: str) -> None:
    assert list(unsafe(text))


def test_safe_code_passes() -> None:
    assert not list(unsafe("import torch\ntorch.load('a.pt', weights_only=True)\nload(trust_remote_code=False)"))
