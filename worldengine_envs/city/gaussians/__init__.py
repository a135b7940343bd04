"""The city's surfaces as 3D Gaussians: scenes of streets and models of actors, made on demand."""

_LAZY = {"make_scene": "scene", "model_gaussians": "models"}


def __getattr__(name):
    if name in _LAZY:
        import importlib

        return getattr(importlib.import_module(f"worldengine_envs.city.gaussians.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
