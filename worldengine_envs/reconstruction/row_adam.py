"""Adam for tables of which each image asks a few rows: the others rest."""

from __future__ import annotations

import torch
from torch import Tensor

BETAS, EPS = (0.9, 0.999), 1e-12


class RowAdam:
    """Adam (Kingma and Ba 2015) whose moments and steps are counted by row.

    torch's Adam goes on moving a row for many steps after its only gradient, and since it takes all of these steps for evidence
    that gradients are small, an image that comes by every few hundred iterations moves its row by 30 times the rate.

    Args:
        tables: Leaf tensors by name; rows along the first dimension.
    """

    def __init__(self, tables: dict[str, Tensor]):
        self.tables = tables
        self.mean = {name: torch.zeros_like(table, requires_grad=False) for name, table in tables.items()}
        self.square = {name: torch.zeros_like(table, requires_grad=False) for name, table in tables.items()}
        self.count = {name: torch.zeros(len(table), dtype=torch.int64, device=table.device) for name, table in tables.items()}

    @torch.no_grad()
    def step(self, name: str, rows: Tensor, rate: float) -> None:
        """Moves rows (M,) of a table, each once, along their gradients."""
        table = self.tables[name]
        if table.grad is None or not len(rows):
            return
        gradient, like = table.grad[rows], (-1, *[1] * (table.dim() - 1))
        self.count[name][rows] += 1
        steps = self.count[name][rows].to(table.dtype).reshape(like)
        mean = self.mean[name][rows].lerp(gradient, 1.0 - BETAS[0])
        square = self.square[name][rows].lerp(gradient * gradient, 1.0 - BETAS[1])
        self.mean[name][rows], self.square[name][rows] = mean, square
        scaled = (square / (1.0 - BETAS[1] ** steps)).sqrt() + EPS
        table[rows] -= rate * (mean / (1.0 - BETAS[0] ** steps)) / scaled

    def tensors(self) -> dict[str, Tensor]:
        """Returns what has to be kept to go on."""
        parts = {"mean": self.mean, "square": self.square, "count": self.count}
        return {f"{name}.{part}": table for part, tables in parts.items() for name, table in tables.items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Goes on from what ``tensors`` gave."""
        for key, table in self.tensors().items():
            table.copy_(tensors[key])
