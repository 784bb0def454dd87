"""Search in trees: arrays of many games (`tree`), and one call for a batch of positions (`search`)."""

from rlsuite.search.gumbel import Gumbel
from rlsuite.search.puct import Puct
from rlsuite.search.search import Evaluate, SearchResult, search, uniform_evaluator

__all__ = ["Evaluate", "Gumbel", "Puct", "SearchResult", "search", "uniform_evaluator"]
