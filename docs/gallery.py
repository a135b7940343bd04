"""Makes docs/gallery.md: a strip of pictures for every family of the starter pack, and how often each baseline fails in it.

    python benchmarks/starter_pack.py --json benchmarks/results/starter_pack.json
    python docs/gallery.py

Failure rates are those that the benchmark has left in that file. Pictures show the logged driver, who in rare scenarios drives the
checked solution, in the family's scenario of middling difficulty: from above, and what the front camera sees.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from PIL import Image

from worldengine_envs.city import FAMILIES, RARE
from worldengine_envs.cli.view import episode_frames
from worldengine_envs.envs.baselines import BASELINES, baseline
from worldengine_envs.envs.vector_env import DrivingVectorEnv
from worldengine_envs.rendering.birdseye import SIZE_PX
from worldengine_envs.scenario.pack import Pack

DOCS = Path(__file__).parent
SECONDS = (0.0, 1.3, 2.6, 3.9)
CROP = (60, 20, 420, 446)  # of the bird's eye: without its panels, and narrower [px]
CAMERA_PX, GAP_PX, QUALITY = (360, 204), 6, 82


def strip(pack: Pack, scenario: str) -> Image.Image:
    """Returns pictures of one scenario side by side, as the logged driver drives it."""
    driver = baseline("log")
    settings = {"action": driver.action, "scenario": scenario, "render_mode": "rgb_array", "cameras": "front", "renderer": "cpu"}
    envs = DrivingVectorEnv(pack, 1, autoreset_mode="Disabled", **settings)
    envs.reset(seed=0)
    frames = list(episode_frames(envs, driver(envs), []))
    shown = [Image.fromarray(frames[min(round(10 * second), len(frames) - 1)]) for second in SECONDS]
    above = [picture.crop(CROP) for picture in shown]
    ahead = [picture.crop((SIZE_PX, 0, *picture.size)).resize(CAMERA_PX, Image.Resampling.LANCZOS) for picture in shown]
    width, height = above[0].size
    sheet = Image.new("RGB", (len(shown) * (width + GAP_PX) - GAP_PX, height + GAP_PX + CAMERA_PX[1]), "white")
    for i in range(len(shown)):
        sheet.paste(ahead[i], (i * (width + GAP_PX), 0))
        sheet.paste(above[i], (i * (width + GAP_PX), CAMERA_PX[1] + GAP_PX))
    return sheet


def middling(entries: list, difficulty: dict[str, float]) -> str:
    """Returns the scenario whose difficulty is the median of its family's."""
    order = sorted(entries, key=lambda entry: (difficulty[entry.id], entry.id))
    return order[len(order) // 2].id


def family_section(pack: Pack, family: str, figures: dict) -> list[str]:
    """Writes the picture of a family and returns its part of the page."""
    entries = [entry for entry in pack.entries if entry.recipe.family == family]
    scenario = middling(entries, {entry.id: float(pack.load(entry.id).parent["difficulty"]) for entry in entries})
    image = DOCS / "images" / "gallery" / f"{family}.jpg"
    image.parent.mkdir(parents=True, exist_ok=True)
    strip(pack, scenario).save(image, optimize=True, quality=QUALITY)
    story = FAMILIES[family].__doc__.strip().splitlines()[0]
    rates = [f"{100 * (1 - figures[name]['success']):.0f} % / {figures[name]['pdms']:.2f}" for name in BASELINES]
    return [
        f"### {family}",
        "",
        f"{story} ({len(entries)} scenarios; pictured: `{scenario}` at {', '.join(f'{s:g}' for s in SECONDS)} s.)",
        "",
        f"![{family}](images/gallery/{image.name})",
        "",
        f"| fails / `pdms-live` | {' | '.join(BASELINES)} |",
        f"| --- |{' --- |' * len(BASELINES)}",
        f"| {family} | {' | '.join(rates)} |",
        "",
    ]


def main() -> None:
    """Writes the page and its pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pack", default="starter")
    parser.add_argument("--results", type=Path, default=DOCS.parent / "benchmarks" / "results" / "starter_pack.json")
    arguments = parser.parse_args()
    pack, report = Pack.open(arguments.pack), json.loads(arguments.results.read_text())
    page = [
        "# Gallery of the city",
        "",
        f"Every family of driving in the pack `{pack.name}`, made by `python docs/gallery.py`. Under each picture: the share of",
        "its scenarios in which a baseline fails within 4 s (an at-fault collision, or off the road) and its `pdms-live`, traffic",
        "from the log. Upper row: what the front camera sees, by day, at dusk or at night as the scenario's id has it. Lower row:",
        "green is the ego and its route, with its plan as dots; blue: vehicles; orange: pedestrians; purple: cyclists; lines",
        "behind them: the last 2 s. Full braking hardly ever *fails* (who stands is not at fault): that it is no answer shows",
        "in its score.",
        "",
    ]
    for title, rare in (("Common", False), ("Rare", True)):
        page += [f"## {title}", ""]
        for family, figures in report["families"].items():
            if (family in RARE) == rare:
                page += family_section(pack, family, figures)
                print(family, flush=True)
    (DOCS / "gallery.md").write_text("\n".join(page).rstrip() + "\n")
    total = sum(file.stat().st_size for file in (DOCS / "images" / "gallery").glob("*.jpg"))
    print(f"{DOCS / 'gallery.md'}, pictures of {total / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
