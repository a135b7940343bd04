"""Checkpoints: whatever stops a reconstruction, it goes on from there and ends with the same bits."""

import json
import subprocess
import sys
import time

import pytest
import torch
from reconstruction_room import write_log
from safetensors.torch import save_file

from worldengine_envs.errors import DataError
from worldengine_envs.reconstruction import trainer as training
from worldengine_envs.reconstruction.checkpoint import FILE, METADATA, has_checkpoint, load_checkpoint, save_checkpoint
from worldengine_envs.reconstruction.settings import DensificationSettings, PointSettings, ReconstructionSettings

TABLE = torch.arange(24.0).reshape(4, 6)
ITERATIONS, STOP = 14, 8


def settings_for(strategy: str, **more) -> ReconstructionSettings:
    densification = DensificationSettings(strategy=strategy, first=2, every=3, growth=0.1)
    points = PointSettings(voxel_m=1.0)
    fixed = dict(scale=0.5, iterations=ITERATIONS, max_gaussians=1500, sh_every=4, sky_gaussians=100, checkpoint_every=5)
    return ReconstructionSettings(**fixed, preview_every=7, points=points, densification=densification, **more)


def kept(trainer) -> dict[str, torch.Tensor]:
    """Everything that a trainer ends with."""
    tensors = dict(trainer.graph.parameters) | {"node": trainer.graph.node, "tone": trainer.graph.tone}
    tensors |= {f"corrections.{name}": tensor for name, tensor in trainer.corrections.tensors().items()}
    return tensors | {f"adam.{name}": tensor for name, tensor in trainer.optimiser.tensors().items()}


def test_what_is_written_is_read(tmp_path):
    tensors = {"whole": TABLE, "turned": TABLE.T, "part": TABLE[1:, ::2], "again": TABLE, "one": torch.tensor(3.0)}
    tensors |= {"none": torch.zeros((0, 3)), "counts": torch.tensor([1, 2]), "state": torch.Generator().manual_seed(4).get_state()}
    state = {"iteration": 7, "seconds": 1.5, "names": ["a", "b"]}
    assert not has_checkpoint(tmp_path / "new")
    save_checkpoint(tmp_path / "new", tensors, state)
    found, told = load_checkpoint(tmp_path / "new")
    assert has_checkpoint(tmp_path / "new") and told == state and found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) and found[name].dtype == tensors[name].dtype for name in tensors)
    assert [path.name for path in (tmp_path / "new").iterdir()] == [FILE]


@pytest.mark.parametrize("content", [None, b"", b"\x10\0\0\0\0\0\0\0{}", b"\xff" * 100, "cut"])
def test_what_is_no_checkpoint_is_refused(tmp_path, content):
    if content is not None:
        whole = save_checkpoint(tmp_path, {"table": TABLE}, {"iteration": 1}).read_bytes()
        (tmp_path / FILE).write_bytes(whole[:-5] if content == "cut" else content)
    with pytest.raises(DataError, match=rf"{FILE}: is no checkpoint.*Begin anew"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("content", [None, [], {"format": "other"}, {"format": "worldengine-reconstruction", "format_version": 2}])
def test_safetensors_of_others_are_refused(tmp_path, content):
    save_file({"table": TABLE}, tmp_path / FILE, None if content is None else {METADATA: json.dumps(content)})
    with pytest.raises(DataError, match="is no 'worldengine-reconstruction' of version 1"):
        load_checkpoint(tmp_path)


def test_a_write_that_fails_leaves_the_old_one(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, {"table": TABLE}, {"iteration": 1})

    def fail(_tensors, file, _metadata):
        file.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("worldengine_envs.reconstruction.checkpoint.save_file", fail)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path, {"table": TABLE + 1.0}, {"iteration": 2})
    assert load_checkpoint(tmp_path)[1] == {"iteration": 1}
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_a_process_that_is_killed_leaves_a_whole_checkpoint(tmp_path):
    code = """
import sys, torch
from worldengine_envs.reconstruction.checkpoint import save_checkpoint
for i in range(1000000):
    save_checkpoint(sys.argv[1], {"table": torch.full((500000,), i)}, {"iteration": i})
"""
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    try:
        while not has_checkpoint(tmp_path):
            assert process.poll() is None
            time.sleep(0.02)
        time.sleep(0.3)
    finally:
        process.kill()
        process.wait()
    tensors, state = load_checkpoint(tmp_path)
    assert (tensors["table"] == state["iteration"]).all()


@pytest.mark.parametrize("strategy", ["mcmc", "gradient"])
def test_an_interrupted_training_ends_with_the_same_bits(tmp_path, strategy):
    log, settings = write_log(tmp_path, lidar=True, actor=True), settings_for(strategy)
    whole = training.train(log, tmp_path / "whole", settings)

    def stop(iteration, _psnr, _gaussians):
        if iteration == STOP:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.train(log, tmp_path / "halves", settings, progress=stop)
    seen = []
    resumed = training.train(log, tmp_path / "halves", settings, resume=True, progress=lambda *row: seen.append(row[0]))
    assert seen == list(range(STOP + 1, ITERATIONS + 1))
    expected, found = kept(whole), kept(resumed)
    assert expected.keys() == found.keys()
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []
    assert len(whole.graph) <= settings.max_gaussians
    assert sorted(path.name for path in (tmp_path / "whole" / "previews").iterdir()) == ["000007.jpg", "000014.jpg"]


def test_a_step_that_breaks_keeps_the_last_checkpoint_and_no_half(tmp_path, monkeypatch):
    log, settings = write_log(tmp_path, lidar=True), settings_for("mcmc")
    whole = training.train(log, tmp_path / "whole", settings)
    step = training.GaussianOptimiser.step

    def broken(optimiser, iteration):
        step(optimiser, iteration)
        if iteration == STOP:
            raise KeyboardInterrupt

    monkeypatch.setattr(training.GaussianOptimiser, "step", broken)
    with pytest.raises(KeyboardInterrupt):
        training.train(log, tmp_path / "halves", settings)
    assert load_checkpoint(tmp_path / "halves" / training.CHECKPOINT)[1]["iteration"] == 5
    monkeypatch.undo()
    expected, found = kept(whole), kept(training.train(log, tmp_path / "halves", settings, resume=True))
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []


def test_what_points_lack_is_said_after_an_interruption_too(tmp_path):
    log, settings = write_log(tmp_path, steps=4, moving=False), settings_for("mcmc")
    first, second = (training.Trainer(log, settings) for _ in range(2))
    first.start()
    first.save(tmp_path / "kept")
    second.restore(tmp_path / "kept")
    assert "guess" in first.log.problems[-1] and second.log.problems == first.log.problems


@pytest.mark.parametrize("content", ["{", "[]"])
def test_damaged_settings_are_an_error_that_names_them(tmp_path, content):
    (tmp_path / training.SETTINGS).write_text(content)
    with pytest.raises(DataError, match=training.SETTINGS):
        training.train(write_log(tmp_path), tmp_path, settings_for("mcmc"), resume=True)


def test_resuming_with_other_settings_is_refused(tmp_path):
    log = write_log(tmp_path, lidar=True)
    training.train(log, tmp_path / "run", settings_for("mcmc", seed=1))
    with pytest.raises(DataError, match=r"seed.*begun with seed = 1, not 2"):
        training.train(log, tmp_path / "run", settings_for("mcmc", seed=2), resume=True)
    with pytest.raises(DataError, match=r"already.*--resume"):
        training.train(log, tmp_path / "run", settings_for("mcmc", seed=1))
