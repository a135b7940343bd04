"""Fixtures that every test may use."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with reference numbers and real recordings beside the repository; tests that need it skip where it is absent."""
    folder = Path(__file__).resolve().parents[1].parent / "shared"
    if not folder.is_dir():
        pytest.skip("the folder ../shared with reference data is not there")
    return folder


@pytest.fixture(scope="session", autouse=True)
def scene_cache(tmp_path_factory) -> Path:
    """Scenes that tests make are kept in a folder of the run, not in the user's cache, unless that is asked for."""
    folder = Path(os.environ.get("WORLDENGINE_CACHE") or tmp_path_factory.mktemp("scenes"))
    os.environ["WORLDENGINE_CACHE"] = str(folder)
    return folder


@pytest.fixture
def recorder(monkeypatch):
    """What draws in all environments of a test: ``camera_worlds.Recorder``, with stand-ins for the city's models."""
    from camera_worlds import Recorder, small_model

    from worldengine_envs.envs import assets

    made = Recorder()
    monkeypatch.setattr("worldengine_envs.rendering.renderer.make_renderer", lambda *_: made)
    monkeypatch.setattr("worldengine_envs.city.gaussians.model_gaussians", small_model, raising=False)
    monkeypatch.setattr(assets, "_shared", type(assets._shared)())
    return made
