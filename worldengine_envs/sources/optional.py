"""Libraries that only imports need, with a clear word where they are missing."""

from __future__ import annotations

from importlib import import_module

from worldengine_envs.errors import DataError


def require(module: str):
    """Returns an optional module.

    Raises:
        DataError: It is not installed; the text says what to type.
    """
    try:
        return import_module(module)
    except ImportError:
        package = module.partition(".")[0]
        raise DataError(f"{package} is not installed", remedy='It reads logs and maps: pip install "worldengine[import]"') from None
