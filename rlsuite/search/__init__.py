"""Search in trees: arrays of many games (`tree`), and one call for a batch of positions (`search`)."""

from rlsuite.search.search import Evaluate, SearchResult, search, uniform_evaluator
from rlsuite.search.tree import Puct

__all__ = ["Evaluate", "Puct", "SearchResult", "search", "uniform_evaluator"]
