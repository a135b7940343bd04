"""The rasteriser of 3D Gaussians for CPUs: projection, tile lists, blending front to back."""
