"""Makes docs/images/front_cameras.jpg: what the front camera sees in the starter pack by day, at dusk and at night.

python docs/front_cameras.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from worldengine_envs.envs.driving_env import DrivingEnv

ROWS = (  # (scenario, appearance) three a row
    (("occluded_pedestrian_003", "day"), ("work_zone_003", "day"), ("cyclist_swerve_003", "day")),
    (("unprotected_left_003", "dusk"), ("roundabout_003", "dusk"), ("cut_in_003", "dusk")),
    (("red_light_runner_003", "night"), ("merge_squeeze_003", "night"), ("child_between_cars_003", "night")),
)
SIZE = (180, 320)  # height, width [px]
DECISIONS = 3  # of going on at the speed of the start, 0.5 s each, before the picture is taken
GAP = 4  # [px]


def main() -> None:
    """Draws all and writes the picture."""
    rows = []
    for row in ROWS:
        images = []
        for scenario, appearance in row:
            world = {"scenario": scenario, "appearance": appearance, "action": "trajectory"}
            env = DrivingEnv("starter", observation="camera", image_size=SIZE, **world)
            observation, _ = env.reset(seed=0)
            for _ in range(DECISIONS):
                observation, _, terminated, *_ = env.step(np.zeros(env.action_space.shape, np.float32))
                if terminated:
                    break
            images.append(np.pad(observation["CAM_F0"], ((0, GAP), (0, GAP), (0, 0)), constant_values=255))
        rows.append(np.hstack(images))
    picture = np.vstack(rows)[:-GAP, :-GAP]
    Image.fromarray(picture).save(Path(__file__).parent / "images" / "front_cameras.jpg", quality=88)


if __name__ == "__main__":
    main()
