"""The procedural world: streets, traffic and families of driving, made on demand from a family's name and a seed."""


def __getattr__(name):
    if name in ("make_scenario", "FAMILIES", "FAMILY_NAMES"):
        from worldengine_envs.city import maker

        return getattr(maker, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
