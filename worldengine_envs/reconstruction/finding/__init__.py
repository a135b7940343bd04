"""What a log does not say and its LiDAR and images tell: who moves without a box, and how far poses are off."""
