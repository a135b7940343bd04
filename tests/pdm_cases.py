"""Scores reference cases of the real PDM scorer and planner and prints the largest error of each term.

    python tests/pdm_cases.py DIR [--verbose]

DIR holds ``.npz`` cases as described in their FORMAT.md. Exits with 1 where an error is beyond the tolerance: discrete values must
be equal, states agree to 1e-9 (1e-7 at UTM offsets), profiles to 1e-8. Rows that a case flags as unstable or as a tie are left out.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from closed_parity import closed_errors, closed_tolerances
from scorer_parity import scorer_errors, scorer_tolerances

from worldengine_envs.errors import DataError
from worldengine_envs.scoring.cases import load_case


def check_case(path: Path) -> tuple[dict[str, float], dict[str, float], int]:
    """Returns errors and tolerances by term, and the number of proposals of one case."""
    case = load_case(path)
    errors, tolerances = scorer_errors(case), scorer_tolerances(case)
    if "closed_scores" in case:
        errors, tolerances = errors | closed_errors(case), tolerances | closed_tolerances(case)
    return errors, tolerances, len(case["proposals"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--verbose", action="store_true", help="name every term beyond its tolerance in every case")
    arguments = parser.parse_args()
    files = sorted(arguments.folder.glob("*.npz"))
    if not files:
        print(f"no .npz case in {arguments.folder}", file=sys.stderr)
        return 2
    worst: dict[str, tuple[float, str]] = {}
    beyond: dict[str, int] = {}
    scored = flagged = failed = 0
    for file in files:
        try:
            errors, tolerances, count = check_case(file)
        except (DataError, KeyError) as error:
            print(f"{file.name}: cannot be scored: {error!r}", file=sys.stderr)
            failed += 1
            continue
        scored, flagged = scored + count, flagged + int(errors.pop("flagged"))
        for term, error in errors.items():
            if not error <= tolerances.get(term, 0.0):
                beyond[term] = beyond.get(term, 0) + 1
                if arguments.verbose:
                    print(f"{file.stem}: {term} {error:.3g}")
            if term not in worst or not error <= worst[term][0]:
                worst[term] = (error, file.stem)
    for term in sorted(worst):
        error, name = worst[term]
        verdict = f"BEYOND TOLERANCE in {beyond[term]} cases" if term in beyond else "ok"
        print(f"{term:42s} {error:10.3g}  {verdict:8s}  {name if error > 0 else ''}")
    print(f"{len(files) - failed} cases, {scored} proposals, {flagged} flagged rows left out, {len(beyond)} terms beyond tolerance")
    return 1 if beyond or failed else 0


if __name__ == "__main__":
    sys.exit(main())
