"""Penchant: align a language model with human preferences, and measure whether it worked."""

from importlib.metadata import PackageNotFoundError, version

__all__ = ["__version__"]

try:
    __version__ = version("penchant")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"
