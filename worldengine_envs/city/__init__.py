"""The procedural world: streets, traffic and families of driving, made on demand from a family's name and a seed."""

_LAZY = {"make_scenario": "maker", "FAMILIES": "families", "COMMON": "families", "RARE": "families"}


def __getattr__(name):
    if name in _LAZY:
        import importlib

        return getattr(importlib.import_module(f"worldengine_envs.city.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
