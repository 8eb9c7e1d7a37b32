"""What `import penchant` offers, and that it costs nothing."""

import subprocess
import sys
import tomllib
from pathlib import Path

import penchant


def test_public_names_are_these() -> None:
    assert penchant.__all__ == [
        "Config", "Evaluation", "PairLogps", "PenchantError", "Reporter", "Scores", "Trained", "__version__",
        "evaluate", "losses", "score", "train",
    ]  # fmt: skip
    assert all(hasattr(penchant, name) for name in penchant.__all__)


def test_the_version_installed_is_the_one_declared() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
    assert penchant.__version__ == project["version"]


def test_import_loads_no_torch() -> None:
    program = "import sys, penchant; print(sorted({'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
