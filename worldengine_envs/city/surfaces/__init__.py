"""What the city looks like: the ground, what stands beside the road, models of what moves, and the light."""
