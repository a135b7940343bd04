"""OpenCV, which only reconstruction needs, with a clear word where it is missing."""

from __future__ import annotations

from worldengine_envs.errors import DataError


def opencv():
    """Returns the module ``cv2``.

    Raises:
        DataError: It is not installed; the text says what to type.
    """
    try:
        import cv2
    except ImportError:
        raise DataError("opencv is not installed", remedy='pip install "worldengine[reconstruct]"') from None
    return cv2
