"""The batched world: bank of compiled scenarios, ego and traffic, tracker, map index; numba over plain arrays."""
