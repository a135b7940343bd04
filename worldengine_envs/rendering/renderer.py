"""Which renderer draws: the CPU's, which runs everywhere, or gsplat's, which needs a CUDA device."""

from __future__ import annotations

import importlib.util
import re
import sys

from worldengine_envs.errors import WorldEngineError
from worldengine_envs.rendering.frames import Renderer, RenderSettings

RENDERERS = ("auto", "cpu", "gsplat")
OLDEST_GSPLAT = (1, 5, 3)  # before, binning had other arguments


class RendererError(WorldEngineError, RuntimeError):
    """The renderer that was asked for cannot run here."""


def make_renderer(renderer: str = "auto", device: str | None = None, settings: RenderSettings | None = None) -> Renderer:
    """Returns a renderer.

    Args:
        renderer: "cpu"; "gsplat"; or "auto", which is gsplat where it runs and else the CPU, with one line on stderr that says
            why. Only "auto" without a device falls back.
        device: "cpu", or a CUDA device such as "cuda" or "cuda:1"; None leaves it to the renderer.
        settings: How Gaussians are drawn.

    Raises:
        RendererError: There is no such renderer, it does not fit the device, or gsplat cannot run here.
    """
    settings = RenderSettings() if settings is None else settings
    if renderer not in RENDERERS:
        raise RendererError(f"renderer {renderer!r}: there are {', '.join(RENDERERS)}")
    on_cpu = device is not None and str(device).split(":")[0] == "cpu"
    if renderer == "cpu" or (renderer == "auto" and on_cpu):
        if device is not None and not on_cpu:
            raise RendererError(f"the CPU renderer does not draw on {device}. Use renderer='gsplat', or device='cpu'")
        return _cpu_renderer(settings)
    if on_cpu:
        raise RendererError("gsplat does not draw on the CPU. Use renderer='cpu', or a CUDA device")
    reason = why_not_gsplat(device)
    if reason is None:
        from worldengine_envs.rendering.gsplat_renderer import GsplatRenderer

        return GsplatRenderer(settings, device or "cuda")
    if renderer == "gsplat" or device is not None:
        where = f"on {device}" if device is not None else "here"
        raise RendererError(f"gsplat cannot draw {where}: {reason}. renderer='cpu' draws the same images anywhere")
    _say_once(f"worldengine: cameras are drawn on the CPU, since {reason}")
    return _cpu_renderer(settings)


def why_not_gsplat(device: str | None = None) -> str | None:
    """Returns why gsplat cannot draw on the device (None: the default CUDA device), in a clause, or None where it can.

    The first call on a machine builds gsplat's CUDA extension, which takes minutes. Torch is loaded only where gsplat is there.
    """
    for name in ("torch", "gsplat"):
        if importlib.util.find_spec(name) is None:
            return f"{name} is not installed (pip install gsplat; it needs an NVIDIA GPU and the CUDA toolkit)"
    import torch

    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    if not torch.cuda.is_available():
        return "torch finds no CUDA device"
    index = torch.device(device or "cuda").index
    if index is not None and index >= torch.cuda.device_count():
        return f"there is no {device}, only {torch.cuda.device_count()} CUDA device(s)"
    try:  # compilers and linkers fail in many ways; torch and the loader report all of them as one of these
        import gsplat
        from gsplat.cuda._backend import _C as extension
    except (ImportError, OSError, RuntimeError) as error:
        return f"gsplat's CUDA extension does not build or load ({_first_line(error)})"
    version = tuple(int(number) for number in re.findall(r"\d+", gsplat.__version__)[:3])
    if version < OLDEST_GSPLAT:
        return f"gsplat {gsplat.__version__} is too old (pip install 'gsplat>=1.5.3')"
    if extension is None:
        return "gsplat finds no CUDA toolkit (nvcc) to build its extension with"
    return None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _cpu_renderer(settings: RenderSettings) -> Renderer:
    from worldengine_envs.rendering.cpu.renderer import CpuRenderer

    return CpuRenderer(settings)


def _say_once(line: str) -> None:
    if line not in _said:
        _said.add(line)
        print(line, file=sys.stderr, flush=True)


_said: set[str] = set()
