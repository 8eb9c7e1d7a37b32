"""No file that Penchant opens can run code: no pickle in any guise, no remote model code."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"

FORBIDDEN_MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
FORBIDDEN_ARGUMENTS = {"trust_remote_code", "allow_pickle", "shell"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "tempfile.mktemp"}
ASKS_UNLESS_TOLD = re.compile(r"Auto\w+\.from_pretrained")  # at a terminal, transformers asks whether to run code


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
            yield from unsafe_call(node)


def unsafe_call(node: ast.Call) -> Iterator[str]:
    arguments = {keyword.arg: keyword.value for keyword in node.keywords}
    called = ast.unparse(node.func)
    if called in FORBIDDEN_CALLS or called.endswith(".extractall"):
        yield f"calls {called}"
    if ASKS_UNLESS_TOLD.search(called) and not is_literal(arguments.get("trust_remote_code"), False):
        yield f"calls {called} without trust_remote_code=False"
    if called == "torch.load" and not is_literal(arguments.get("weights_only"), True):
        yield "calls torch.load without weights_only=True"
    if called in ("yaml.load", "yaml.load_all"):
        loader = ast.unparse(arguments.get("Loader", ast.Constant(None)))
        if loader not in ("_StrictLoader", "yaml.SafeLoader"):
            yield f"calls {called} with a loader that can run code"
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
        "eval('1')",
        "exec(text)",
        "os.system('ls')",
        "subprocess.run('ls', shell=True)",
        "archive.extractall(folder)",
        "transformers.AutoModel.from_pretrained(path)",
        "AutoTokenizer.from_pretrained(path, trust_remote_code=None)",
        "yaml.load(text)",
        "yaml.load(text, Loader=yaml.UnsafeLoader)",
    ],
)
def test_the_search_itself_sees_what_it_should(text: str) -> None:
    assert list(unsafe(text))


def test_safe_code_passes() -> None:
    lines = (
        "torch.load('a.pt', weights_only=True)",
        "AutoConfig.from_pretrained(path, trust_remote_code=False)",
        "yaml.load(text, Loader=_StrictLoader)",
        "re.compile('a'), model.eval(), torch.compile(model)",
    )
    assert not list(unsafe("\n".join(lines)))
