"""Makes docs/images/reconstruction.jpg: a reconstructed street of the city beside the ray caster's truth.

python benchmarks/reconstruction_city.py --scenarios lane_follow_000 --every 2 \\
    --set iterations=2000 densification.first=300 sh_every=400
python docs/reconstruction_views.py runs/reconstruction_city
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

SCENARIO = "lane_follow_000"
# at a held-out time, 3 m beside the path; a pedestrian taken away, one moved by 2 m; a parked car turned by 20 degrees, a van moved
PICTURES = (
    ("path__056_CAM_F0", "beside_3__056_CAM_F0"),
    ("removed_pedestrian_30_008_CAM_L1", "moved_pedestrian_31_072_CAM_L1"),
    ("turned_parked_22_088_CAM_R0", "moved_car_6_088_CAM_F0"),
)
GAP = 6  # [px]


def main() -> None:
    """Puts the benchmark's pictures (truth left, reconstruction right) together."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="folder of the benchmark's results")
    folder = parser.parse_args().work / SCENARIO / "pictures"
    rows = []
    for names in PICTURES:
        images = [np.asarray(Image.open(folder / f"{name}.jpg")) for name in names]
        rows.append(np.hstack([np.pad(image, ((0, GAP), (0, GAP), (0, 0)), constant_values=255) for image in images]))
    picture = np.vstack(rows)[:-GAP, :-GAP]
    Image.fromarray(picture).save(Path(__file__).parent / "images" / "reconstruction.jpg", quality=85)


if __name__ == "__main__":
    main()
