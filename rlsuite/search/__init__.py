"""Search in trees: arrays of many games (`tree`), and one call for a batch of positions (`search`)."""

from rlsuite.search.evaluators import Cached, Evaluate, plane_evaluator, rollout_evaluator, uniform_evaluator
from rlsuite.search.gumbel import Gumbel
from rlsuite.search.puct import Puct
from rlsuite.search.search import SearchResult, search

__all__ = [
    "Cached",
    "Evaluate",
    "Gumbel",
    "Puct",
    "SearchResult",
    "plane_evaluator",
    "rollout_evaluator",
    "search",
    "uniform_evaluator",
]
