"""Prints a digest of the city's scenarios by family: the same on every machine and version of Python.

python benchmarks/city_hashes.py [--seeds 20] [--families cut_in,turn]
"""

import argparse
import hashlib
import platform

import numpy as np

from worldengine_envs.city import FAMILIES, make_scenario
from worldengine_envs.errors import DataError
from worldengine_envs.scenario.quantise import scenario_hash


def digest(family: str, seeds: range) -> str:
    """Returns the SHA-256 (hex) over the hashes and labels of a family's scenarios."""
    sha = hashlib.sha256()
    for seed in seeds:
        try:
            scenario = make_scenario(family, seed)
            sha.update(f"{scenario_hash(scenario)} {scenario.tags} {scenario.parent}".encode())
        except DataError as error:
            sha.update(error.problem.encode())
    return sha.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20, help="of each family")
    parser.add_argument("--families", default="", help="names with commas between, all if empty")
    settings = parser.parse_args()
    families = settings.families.split(",") if settings.families else list(FAMILIES)
    print(f"# Python {platform.python_version()}, numpy {np.__version__}, {platform.machine()}, {settings.seeds} seeds")
    for family in families:
        print(f"{family:22s} {digest(family, range(settings.seeds))}", flush=True)


if __name__ == "__main__":
    main()
