"""How the images of cameras are put beside the bird's eye."""

from __future__ import annotations

import numpy as np

from worldengine_envs.rendering.birdseye import SIZE_PX

AROUND = (("CAM_L0", "CAM_F0", "CAM_R0"), ("CAM_L1", "", "CAM_R1"), ("CAM_L2", "CAM_B0", "CAM_R2"))  # as they look around the car
EMPTY = 24  # grey where no image is
UNIT_PX = 16  # video codecs want sides that are multiples of this


def layout(names: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """Returns rows of cameras: as they look around the car where all of them are nuPlan's, else in their order."""
    known = {name for row in AROUND for name in row if name}
    if known.issuperset(names):
        columns = [c for c in range(3) if any(row[c] in names for row in AROUND)]
        rows = [[row[c] if row[c] in names else "" for c in columns] for row in AROUND]
        return tuple(tuple(row) for row in rows if any(row))
    across = int(np.ceil(np.sqrt(len(names))))
    filled = (*names, *[""] * (-len(names) % across))
    return tuple(filled[i : i + across] for i in range(0, len(filled), across))


def image_size(rows: tuple[tuple[str, ...], ...]) -> tuple[int, int]:
    """Returns height and width [px] of each image, about 16:9."""
    height = SIZE_PX if len(rows) == len(rows[0]) == 1 else SIZE_PX // max(len(rows), 2)
    return height, UNIT_PX * round(height * 16 / 9 / UNIT_PX)


def beside(picture: np.ndarray, images: dict[str, np.ndarray], rows: tuple[tuple[str, ...], ...]) -> np.ndarray:
    """Returns a picture (SIZE_PX, SIZE_PX, 3) with the images of cameras (height, width, 3) to its right."""
    height, width = image_size(rows)
    panel = np.full((SIZE_PX, width * len(rows[0]), 3), EMPTY, np.uint8)
    top = (SIZE_PX - height * len(rows)) // 2
    for r, row in enumerate(rows):
        for c, name in enumerate(row):
            if name:
                panel[top + r * height : top + (r + 1) * height, c * width : (c + 1) * width] = images[name]
    return np.concatenate([picture, panel], axis=1)
