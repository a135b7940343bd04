"""From a camera log to a Gaussian scene whose actors can be moved."""
