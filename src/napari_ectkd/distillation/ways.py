"""How later generations learn: what measured best."""

from __future__ import annotations

from typing import Any

MEMBERS = 2
"""Networks of each later generation, asked together."""
NETWORKS = ("compact_wide", "residual_small")
"""Of the later generations: the first of these that takes the box."""
HOW: dict[str, Any] = {
    "temperature": 1.0,
    "sharpen": 3.0,
    "surest_share": 0.9,
    "class_offsets": True,
    "balance": 0.0,
}
"""The ways of `DistillConfig` in which a student passes its teacher, as measured."""
