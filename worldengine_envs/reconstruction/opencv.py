"""Libraries that only reconstruction needs, with a clear word where they are missing."""

from __future__ import annotations

from importlib.util import find_spec

from worldengine_envs.errors import DataError

REMEDY = 'pip install "worldengine[reconstruct]"'


def opencv():
    """Returns the module ``cv2``.

    Raises:
        DataError: It is not installed; the text says what to type.
    """
    try:
        import cv2
    except ImportError:
        raise DataError("opencv is not installed", remedy=REMEDY) from None
    return cv2


def require_extra() -> None:
    """Checks, before anything is imported, that what reconstruction needs is installed.

    Raises:
        DataError: It is not; the text says what to type.
    """
    for module, name in (("cv2", "opencv"), ("scipy", "scipy")):
        if find_spec(module) is None:
            raise DataError(f"{name} is not installed", remedy=REMEDY)
