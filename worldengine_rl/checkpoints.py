"""Reading policies from checkpoints without running anything that the file contains."""

from __future__ import annotations

import io
import json
import lzma
import pickle
import zipfile
import zlib
from pathlib import Path

import torch

from worldengine_envs.envs.actions import POSES, action_space
from worldengine_envs.envs.observations import state_space
from worldengine_envs.errors import DataError
from worldengine_envs.rendering.cameras import RIGS
from worldengine_rl.camera_policy import CameraPolicy, camera_space
from worldengine_rl.policies import DrivingPolicy

MAX_CHECKPOINT_BYTES = 2**30  # of one part of a checkpoint, unpacked
MAX_NUMBER = 8192  # of a width, an image's side, ... in a checkpoint's settings
MAX_POLICY_NUMBERS = MAX_CHECKPOINT_BYTES // 4  # of the policy that these settings make, before memory is taken for it
BROKEN_CHECKPOINT = (  # what reading a damaged or foreign file may raise
    OSError,
    EOFError,
    AttributeError,  # JSON that is no object
    KeyError,
    TypeError,  # a name of a rig that is a list
    ValueError,
    RuntimeError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)


def load_policy(path: str | Path, device: str = "cpu") -> DrivingPolicy:
    """Reads the policy of a BRPPO checkpoint (``model.save``): a ``CameraPolicy`` where it has an eye.

    Only the plain settings in its JSON and its tensors are read, never the pickled parts.

    Raises:
        DataError: No such checkpoint, or one made for other observations or actions.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for name in ("data", "policy.pth"):
                if archive.getinfo(name).file_size > MAX_CHECKPOINT_BYTES:
                    raise ValueError(f"{name} unpacks to more than {MAX_CHECKPOINT_BYTES} bytes")
            settings = json.loads(archive.read("data")).get("policy_kwargs", {})
            weights = torch.load(io.BytesIO(archive.read("policy.pth")), map_location=device, weights_only=True)
        plain = {name: value for name, value in settings.items() if not name.startswith(":")}
        _check(plain)
    except BROKEN_CHECKPOINT as error:
        raise DataError(f"not a checkpoint of BRPPO ({error})", file=path, remedy="Give a .zip that train.py wrote") from error
    try:
        with torch.device("meta"):  # shapes without memory
            count = sum(value.numel() for value in _policy_for(weights, plain).state_dict().values())
        if count > MAX_POLICY_NUMBERS:
            raise ValueError(f"its settings make a policy of {count} numbers, more than {MAX_POLICY_NUMBERS}")
        policy = _policy_for(weights, plain)
        policy.load_state_dict(weights)
    except (RuntimeError, AttributeError, KeyError, TypeError, ValueError) as error:
        remedy = "It was made by another version, or with other observations or actions"
        raise DataError(f"the checkpoint does not fit a policy: {error}", file=path, remedy=remedy) from error
    return policy.to(device).eval()


def _check(plain: dict) -> None:
    """Refuses settings that are not what they have to be: names of rigs, and numbers of a sane size."""
    for name, value in plain.items():
        if name == "rig":
            if value not in RIGS:
                raise ValueError(f"rig must be one of {', '.join(RIGS)}")
        elif type(value) is not int or not 1 <= value <= MAX_NUMBER:
            raise ValueError(f"{name} must lie between 1 and {MAX_NUMBER}")


def _policy_for(weights: dict, plain: dict) -> DrivingPolicy:
    """Returns a policy of the kind that the weights are of, untrained."""
    anchors, biases = (weights.get(f"action_net.{name}", ()) for name in ("anchors", "bias"))
    kind = "anchor" if len(anchors) else {2: "control", 3 * POSES: "trajectory"}.get(len(biases))
    actions = action_space(kind, len(anchors))
    if any(name.startswith("eye.") for name in weights):
        space = camera_space(plain["rig"], (plain["image_height"], plain["image_width"]), plain["column_features"])
        return CameraPolicy(space, actions, lambda _: 0.0, **plain)
    return DrivingPolicy(state_space(), actions, lambda _: 0.0, **plain)
