"""Draws the picture of the README: scenarios that the clone of a run fails and its post-trained policy does not.

    python train.py --name picture && python docs/before_after.py runs/picture docs/images/before_after.png

Above, the clone at the moment it fails; below, the post-trained policy at the same moment of the same scenario.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from gymnasium.vector import AutoresetMode
from PIL import Image, ImageDraw, ImageFont

from worldengine_envs.envs.vector_env import DrivingVectorEnv
from worldengine_rl.checkpoints import load_policy
from worldengine_rl.evaluation import Evaluation
from worldengine_rl.policies import DrivingPolicy

COLUMNS, BORDER_PX, TITLE_PX = 4, 6, 22


def mended(run: Path) -> list[str]:
    """Returns held-out scenarios that only the post-trained policy survives: one each of the families that have most of them."""
    before, after = (
        Evaluation.from_dict(json.loads((run / f"evaluation_{name}_test.json").read_text())) for name in ("clone", "post-trained")
    )
    survived = {r.scenario for r in after.driven if r.success}
    ids = sorted(r.scenario for r in before.driven if not r.success and r.scenario in survived)
    families = Counter(name.rsplit("_", 1)[0] for name in ids)
    return [next(name for name in ids if name.startswith(family)) for family, _ in families.most_common(COLUMNS)]


def drive(envs: DrivingVectorEnv, policy: DrivingPolicy, scenario: str, decisions: int | None = None) -> tuple[np.ndarray, int]:
    """Drives one scenario, at most so many decisions; returns the last picture and the decisions made."""
    observations, _ = envs.reset(seed=0, options={"scenario": scenario})
    made, over = 0, False
    while not over and made != decisions:
        observations, _, terminated, truncated, _ = envs.step(policy.act(observations))
        made, over = made + 1, bool(terminated[0] or truncated[0])
    return envs.render()[0], made


def main(run: Path, out: Path) -> None:
    """Writes the picture."""
    pack = json.loads((run / "settings.json").read_text())["pack"][0]
    clone, trained = (load_policy(run / f"{name}.zip") for name in ("clone", "post_trained"))
    arguments = clone.world_arguments | {"render_mode": "rgb_array"}
    envs = DrivingVectorEnv(pack, 1, autoreset_mode=AutoresetMode.DISABLED, **arguments)
    columns = []
    for scenario in mended(run):
        failure, decisions = drive(envs, clone, scenario)
        columns.append((failure, drive(envs, trained, scenario, decisions)[0]))
    size = columns[0][0].shape[0]
    sheet = Image.new("RGB", (COLUMNS * (size + BORDER_PX) - BORDER_PX, 2 * (size + TITLE_PX)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=15)
    for row, title in enumerate(("before: a clone of the logged driver", "after: post-trained with BR-PPO, at the same moment")):
        draw.text((4, row * (size + TITLE_PX) + 2), title, (30, 30, 30), font)
        for column, pictures in enumerate(columns):
            sheet.paste(Image.fromarray(pictures[row]), (column * (size + BORDER_PX), row * (size + TITLE_PX) + TITLE_PX))
    sheet.quantize(64).save(out, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
