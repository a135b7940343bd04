"""Which candidates of a family go into a pack, and what to say about them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from worldengine_envs.cli.build_settings import PackSettings
from worldengine_envs.cli.judging import LEVELS, Outcome

CHUNK = 16  # candidates judged side by side


class Family:
    """The candidates of one family, and which of them are chosen."""

    def __init__(self, name: str, count: int, settings: PackSettings):
        self.name, self.count = name, count
        self.chosen: list[Outcome] = []  # by seed
        self.known: dict[int, Outcome] = {}  # judged before this build began
        self._first, self._limits = settings.first_seed, settings.acceptance
        self._outcomes: dict[int, Outcome] = {}  # judged
        self._asked = self._reached = self._first  # seeds below the first are being judged, below the second considered

    @property
    def complete(self) -> bool:
        """Whether as many as wanted are chosen."""
        return len(self.chosen) == self.count

    def next_seeds(self) -> list[int]:
        """Returns seeds that somebody has to judge; none while those being judged may do, or if the family is given up."""
        while self._asked - self._reached < self.count - len(self.chosen):
            if self._asked - self._first >= self._limits.most_candidates * self.count:
                return []
            seeds = range(self._asked, self._asked + CHUNK)
            self._asked += CHUNK
            fresh = [seed for seed in seeds if seed not in self.known]
            self.add([self.known[seed] for seed in seeds if seed in self.known])
            if fresh:
                return fresh
        return []

    def add(self, outcomes: list[Outcome]) -> None:
        """Takes in what was judged; chosen are the first good seeds of each parity, in whatever order verdicts come in."""
        self._outcomes |= {outcome.seed: outcome for outcome in outcomes}
        while self._reached in self._outcomes and not self.complete:
            self._consider(self._outcomes[self._reached])
            self._reached += 1

    def _consider(self, outcome: Outcome) -> None:
        same = [o for o in self.chosen if o.seed % 2 == outcome.seed % 2]
        half, limits = self.count // 2, self._limits
        if outcome.refused or len(same) == half:
            return
        for kind, most in (("trivial", limits.most_trivial), ("unsolved", limits.most_unsolved)):
            if getattr(outcome, kind) and sum(getattr(o, kind) for o in same) + 1 > most * (len(same) + 1):
                self._outcomes[outcome.seed] = replace(outcome, refused=f"enough {kind} ones")
                return
        self.chosen.append(outcome)

    def summary(self) -> str:
        """Returns lines for people: how many fitted, why others did not, and how baselines fare by thirds of difficulty."""
        tried = [self._outcomes[seed] for seed in range(self._first, self._reached)]
        reasons = Counter(o.refused for o in tried if o.refused)
        good = len(tried) - sum(reasons.values())
        lines = [f"{self.name}: {len(self.chosen)} of {self.count} wanted; {good} of {len(tried)} candidates fit"]
        lines += [f"  {count:4d} {reason}" for reason, count in reasons.most_common(6)]
        if self.chosen:
            shares = [
                f"{100 * sum(getattr(o, k) for o in self.chosen) / len(self.chosen):.0f} % {k}" for k in ("trivial", "unsolved")
            ]
            lines.append(f"  chosen: {', '.join(shares)}; success, pdms-live over 4 s by difficulty:")
            for level in LEVELS:
                lines.append(f"  {level:>8}" + _fares([o for o in self.chosen if o.level == level]))
        return "\n".join(lines)


def _fares(outcomes: list[Outcome]) -> str:
    """Returns how many scenarios there are and how the baselines fare in them."""
    cells = [f"{len(outcomes):4d}"]
    for name in outcomes[0].pdms if outcomes else ():
        success, pdms = (sum(getattr(o, what)[name] for o in outcomes) / len(outcomes) for what in ("success", "pdms"))
        cells.append(f"{name} {success:.2f} {pdms:.2f}")
    return "  ".join(cells)
