"""PettingZoo ids: those of Gymnasium, for ``pettingzoo.make("parallel", id)``.

PettingZoo knows environments of other packages only once they call its ``register``, and ``import worldengine_envs`` must not
import it. So the ids are handed over as soon as both are imported, in whichever order: at once where PettingZoo already is, else
at the end of its import. Without PettingZoo nothing happens; ``register_pettingzoo`` does it by hand.
"""

from __future__ import annotations

import importlib.util
import sys
import threading

from gymnasium.envs.registration import registry

NAMESPACE = "WorldEngine"
ENTRY_POINT = "worldengine_envs.envs.parallel_env:DrivingParallelEnv"


def register_pettingzoo() -> None:
    """Registers all World Engine ids with PettingZoo, which it imports; ids that exist are left as they are.

    Raises:
        ImportError: PettingZoo is not there, or is older than 1.27.
    """
    try:
        from pettingzoo import parallel_registry, register
    except ImportError as error:
        raise ImportError(f"{error}; many agents need `pip install 'pettingzoo>=1.27'`") from error
    for env_id, spec in list(registry.items()):
        if spec.namespace == NAMESPACE and env_id not in parallel_registry:
            register("parallel", env_id, ENTRY_POINT, kwargs=dict(spec.kwargs))


def offer_to_pettingzoo() -> None:
    """Registers all World Engine ids with PettingZoo if that is imported, else lets its import do so."""
    if "pettingzoo" in sys.modules:
        _register_if_new_enough()
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _register_if_new_enough() -> None:
    if hasattr(sys.modules["pettingzoo"], "parallel_registry"):  # before 1.27 there was no registry
        register_pettingzoo()


class _Finder:
    """Sees PettingZoo being imported: hands on what the ordinary finders find, and registers when it is loaded.

    It stays until then, for many libraries first ask ``importlib.util.find_spec`` whether PettingZoo is there.
    """

    def __init__(self):
        self._asking = threading.local()  # while the others are asked, this one has to be silent

    def find_spec(self, name: str, path=None, target=None):
        """Returns the spec of PettingZoo with a loader that registers, None for all other modules."""
        if name != "pettingzoo" or getattr(self._asking, "now", False):
            return None
        self._asking.now = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._asking.now = False
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module):
                execute(module)
                if self in sys.meta_path:
                    sys.meta_path.remove(self)
                _register_if_new_enough()

            spec.loader.exec_module = exec_module
        return spec
