"""``worldengine packs reconstruct PACK ID... --out PACK2``: streets of the city as reconstructions, where these look truer."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro

from worldengine_envs.cli.add_scene import scene_name
from worldengine_envs.cli.reconstruct import STOPPED, progress_bar
from worldengine_envs.errors import DataError
from worldengine_envs.reconstruction.settings import ReconstructionSettings
from worldengine_envs.rendering.scene import GaussianScene
from worldengine_envs.scenario.types import Scenario

MADE_OF = "city"  # only streets of the city can be seen by the ray caster
JUDGED_STEPS = 6


@dataclass(frozen=True, slots=True)
class RecordedSettings:
    """What is recorded of a street before it is reconstructed; as for `worldengine camera-log`."""

    cameras: str | tuple[str, ...] = "front3"
    image_size: tuple[int, int] = (180, 320)  # height, width [px]
    every: int = 1  # steps of 0.1 s from frame to frame


@dataclass(frozen=True, slots=True)
class Verdict:
    """Mean PSNR [dB] against the ray caster, on the path of the log and 2 m beside it."""

    reconstructed: tuple[float, float]
    sampled: tuple[float, float]

    @property
    def truer(self) -> bool:
        """Whether the reconstruction is truer, over views on the path and beside it."""
        return sum(self.reconstructed) > sum(self.sampled)


def reconstruct_pack(
    pack: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PACK")],
    scenarios: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="ID")],
    *,
    out: Path,
    name: str | None = None,
    overwrite: bool = False,
    log: RecordedSettings = RecordedSettings(),
    settings: Annotated[ReconstructionSettings, tyro.conf.arg(name="")] = ReconstructionSettings(),  # noqa: B008 (frozen)
) -> int:
    """Writes a copy of a pack in which streets of the city are reconstructed from images, where that looks truer than sampling.

    Each scenario's camera log is written and reconstructed in OUT.work, where its report.html lies. Then views that were not
    learned from, on the path and 2 m beside it, are compared with the ray caster: the scene that looks truer is used. Interrupted,
    the same command goes on. What environments show depends on the pack that is driven in and on nothing else.

    Args:
        pack: Name or folder of the pack, such as starter.
        scenarios: Ids of scenarios: cut_in_003.
        out: Folder of the pack to write.
        name: Name of the new pack; without it, that of the old one: ids stay, and the one that is found first counts.
        overwrite: Replace a pack that is there.
        log: What is recorded for each reconstruction.
        settings: How it is reconstructed.
    """
    from worldengine_envs.rendering.quantised import decode_scene, encode_scene
    from worldengine_envs.rendering.scene_folder import load_scene
    from worldengine_envs.scenario.pack import Pack
    from worldengine_envs.scenario.pack_scenes import add_scenes

    opened, work = Pack.open(pack), out.with_name(out.name + ".work")
    if (out / "pack.json").exists() and not overwrite:
        raise DataError("there is a pack already", file=out, remedy="Use --overwrite to replace it")
    foreign = [i for i in scenarios if opened.load(i).origin.dataset != MADE_OF]
    if foreign or not scenarios:
        problem = "is no street of the city" if foreign else "no scenarios were named"
        remedy = "For recorded logs there are `worldengine reconstruct` and `worldengine packs add-scene`"
        raise DataError(problem, scenario=foreign[0] if foreign else None, field="ID", remedy=remedy)
    if not settings.test_every:
        raise DataError("nothing is held out to judge by", field="test_every", remedy="Use 2 or more")
    data: dict[str, bytes] = {}
    for scenario_id in scenarios:
        scenario, folder = opened.load(scenario_id), work / scenario_id
        stopped = _reconstruct(scenario, folder, log, settings)
        if stopped:
            print(f"stopped; what was learned is kept in {folder}: the same command goes on", file=sys.stderr)
            return STOPPED + stopped
        encoded = encode_scene(load_scene(folder / "run" / "scene"))
        verdict = judge(opened, scenario, decode_scene(encoded, folder), log, settings)
        (folder / "verdict.json").write_text(json.dumps({"reconstructed": verdict.reconstructed, "sampled": verdict.sampled}))
        print(_line(scenario_id, verdict), flush=True)
        if verdict.truer:
            data[scene_name(scenario_id)] = encoded
    used = {scenario_id: scene_name(scenario_id) for scenario_id in scenarios if scene_name(scenario_id) in data}
    add_scenes(opened, out, data, used, name=name, overwrite=overwrite)
    print(f"{out}: {len(opened)} scenarios, {len(used)} of them reconstructed; {work} may be deleted")
    return 0


def judge(pack, scenario: Scenario, scene: GaussianScene, log: RecordedSettings, settings: ReconstructionSettings) -> Verdict:
    """Compares a reconstruction with the pack's own scene at times that were held out."""
    from worldengine_envs.cli.street_judge import StreetJudge, memory_pack
    from worldengine_envs.reconstruction.page import spread
    from worldengine_envs.rendering.cameras import find_rig, scaled_rig

    rig = scaled_rig(find_rig(log.cameras, scenario.camera_rig), log.image_size)
    steps, every = range(0, scenario.tracks.steps, log.every), max(settings.test_every, 1)
    first = every // 2 if settings.test_first is None else settings.test_first
    street = StreetJudge(scenario, rig, spread(steps[first::every], JUDGED_STEPS))
    mine = street.psnr(memory_pack(scenario, scene, scene_name(scenario.id)), scenario.id)
    return Verdict(mine, street.psnr(pack, scenario.id))


def _reconstruct(scenario: Scenario, folder: Path, log: RecordedSettings, settings: ReconstructionSettings) -> int:
    """Records and reconstructs a scenario, or goes on with it; returns the number of a signal that stopped it, 0 if none did."""
    from worldengine_envs.city.camera_log import CameraLogSettings, write_camera_log
    from worldengine_envs.reconstruction.job import reconstruct
    from worldengine_envs.reconstruction.readers.registry import read_camera_log
    from worldengine_envs.scenario.pack_read import parse_json
    from worldengine_envs.scenario.quantise import scenario_hash

    asked, note = json.loads(json.dumps(asdict(log) | {"scenario": scenario_hash(scenario)})), folder / "recorded.json"
    if not (folder / "log").exists():
        folder.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps(asked) + "\n", encoding="utf-8")
        write_camera_log(scenario, folder / "log", CameraLogSettings(log.cameras, log.image_size, every=log.every))
    elif parse_json(note.read_bytes(), note) != asked:
        remedy = f"Give the settings that are in {note}, or delete {folder}"
        raise DataError("its log was recorded with other settings", file=folder / "log", scenario=scenario.id, remedy=remedy)
    recorded = read_camera_log(MADE_OF, [folder / "log"])
    with progress_bar(settings.iterations, scenario.id) as (progress, stopped):
        try:
            reconstruct(recorded, folder / "run", settings, resume=(folder / "run").exists(), progress=progress)
        except (KeyboardInterrupt, SystemError):  # the latter where the signal came inside a compiled function
            if not stopped:
                raise
            return stopped[0]
    return 0


def _line(scenario_id: str, verdict: Verdict) -> str:
    words = [
        f"{kind} {path:.2f} dB on the path, {beside:.2f} dB beside it"
        for kind, (path, beside) in (("reconstructed", verdict.reconstructed), ("sampled", verdict.sampled))
    ]
    return f"{scenario_id}: {'; '.join(words)}: the {'reconstructed' if verdict.truer else 'sampled'} scene is used"
