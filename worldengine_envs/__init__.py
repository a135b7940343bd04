"""World Engine: every long-tail driving scenario is a Gymnasium environment whose return is its PDM Score.

Importing this package registers the ids of all packs that are found (``WorldEngine/<pack>-v0`` and
``WorldEngine/<pack>.<scenario>-v0``); it reads their manifests only and loads no torch, numba or gsplat. PettingZoo gets the same
ids for many agents as soon as it is imported.
"""

from worldengine_envs.envs.parallel_registration import register_pettingzoo
from worldengine_envs.envs.registration import register_packs, scenarios

__all__ = ["register_packs", "register_pettingzoo", "scenarios"]
__version__ = "0.1.0"

register_packs()
