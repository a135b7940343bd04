"""Where Gaussians start, and how far away the surfaces are that images show: from LiDAR, from optical flow, else at random."""

from worldengine_envs.reconstruction.points.depths import view_depths
from worldengine_envs.reconstruction.points.find import find_points
from worldengine_envs.reconstruction.points.types import DepthSamples, Points

__all__ = ["DepthSamples", "Points", "find_points", "view_depths"]
