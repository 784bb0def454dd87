"""Heads that read or write texts, and CTC, which reads the columns of a picture from left to right.

Shapes: N pictures, T columns of the backbone's last map, L tokens of a text at most, K tokens of the vocabulary.
"""

import math
from abc import abstractmethod

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from rlsuite.config.spec_string import parse_call
from rlsuite.core.errors import UsageError, unknown
from rlsuite.core.registry import memory_cores
from rlsuite.core.types import Step
from rlsuite.nets.memory import Core, named_core
from rlsuite.vision.data import Pictures
from rlsuite.vision.head import Head
from rlsuite.vision.necks import Maps
from rlsuite.vision.texts import NONE

Shape = tuple[int, ...]  # (C,H,W)
Float = NDArray[np.float64]
Prefixes = dict[tuple[int, ...], tuple[float, float]]  # text -> log-probabilities of its paths: ending with a blank, with a token


class TextHead(Head):
    """Base class of heads that learn the label `text` [N,L] i64, whose rows end with -1, and predict such rows."""

    beam = 1  # texts that the search keeps at every step; 1: the best token is taken each time

    @abstractmethod
    def check(self, text: NDArray[np.int64], where: str) -> None:
        """UsageError if it cannot learn the text [L]; `where`: its name in the error."""

    def check_labels(self, pictures: Pictures) -> None:
        """Checks the texts of all training pictures."""
        for row in range(len(pictures)):
            text = pictures.take(np.array([row]))[1]["text"][0]
            self.check(text[text != NONE], f"training picture {row}")


def core_of(text: str, features: int, size: int) -> Core:
    """The memory core that `text` names, such as lstm or causal(levels=3). UsageError for a core that is not shipped.

    A saved model may come from someone else, so a head's core must not be code from outside rlsuite.
    """
    name, _ = parse_call("core", text)
    if name not in memory_cores.shipped:
        raise unknown("core", name, memory_cores.shipped)
    return named_core(text, features, size, "core")


def step_of(x: Tensor, begins: bool) -> Step:
    """The step [T,N] that a core gets with its inputs x [T,N,D]; `begins`: they begin a sequence."""
    none = torch.zeros(x.shape[:2], device=x.device)
    first = torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device)
    first[0] = begins
    return Step(x, none, first, torch.zeros_like(first), torch.zeros_like(first), torch.zeros_like(first, dtype=torch.int64), {})


def run_whole(core: Core, x: Tensor) -> Tensor:
    """The core's outputs [T,N,D'] for whole sequences x [T,N,D]."""
    state = tuple(leaf.to(x.device) for leaf in core.initial_state(x.shape[1]))
    out: Tensor = core(x, step_of(x, begins=True), state)[0]
    return out


def columns(last: Tensor) -> Tensor:
    """The columns of a map, from left to right: [N,C,H,W] -> [W,N,C*H]."""
    return last.permute(3, 0, 1, 2).flatten(2)


class Ctc(TextHead):
    """Connectionist temporal classification (Graves et al. 2006): a memory core over the columns, then a token or none for each.

    The probability of a text is the sum over all ways to spread it over the columns: a token may span several columns, and blanks
    may separate two tokens and must do so if these are equal. The blank is token K.
    """

    def __init__(self, shape: Shape, classes: int, core: str = "bidirectional", size: int = 128):
        """`shape`: of the backbone's last map. `size`: units of the core."""
        super().__init__()
        channels, height, self.columns = shape
        self.blank = classes
        self.core = core_of(core, channels * height, size)
        self.last = nn.Linear(self.core.features, classes + 1)

    def check(self, text: NDArray[np.int64], where: str) -> None:
        """See `TextHead`: every token needs a column, and so does the blank between two equal ones."""
        if len(text) == 0:
            raise UsageError(f"{where}: its text is empty, so all columns would be blank; leave it out")
        needed = len(text) + int((text[1:] == text[:-1]).sum())
        if needed > self.columns:
            raise UsageError(
                f"{where}: its text of {len(text)} tokens takes {needed} columns, but the backbone's last map has {self.columns}; "
                "use wider pictures or a backbone with a smaller stride"
            )

    def forward(self, maps: Maps) -> Tensor:
        """Log-probabilities [T,N,K+1] f32."""
        return F.log_softmax(self.last(run_whole(self.core, columns(maps[-1]))).float(), -1)

    def losses(self, maps: Maps, images: Tensor, labels: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """-log p [N] of `text` [N,L], and metrics."""
        log_probs, text = self(maps), labels["text"]
        lengths = (text != NONE).sum(1)
        given = torch.full((len(text),), len(log_probs), device=text.device)
        loss = F.ctc_loss(log_probs, text.clamp(min=0), given, lengths, self.blank, reduction="none")
        found = fitted(greedy(log_probs.detach(), self.blank), text.shape[1])
        return loss, {"losses/exact": (found == text).all(1).float().mean()}

    def predict(self, maps: Maps, images: Tensor) -> Tensor:
        """Texts [N,L] i64."""
        log_probs: Tensor = self(maps)
        if self.beam == 1:
            return greedy(log_probs, self.blank)
        found = [prefix_beam_search(each, self.beam)[0] for each in log_probs.double().cpu().numpy().swapaxes(0, 1)]
        rows = [torch.tensor(text, dtype=torch.int64, device=log_probs.device) for text in found]
        return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=NONE)


def fitted(rows: Tensor, length: int) -> Tensor:
    """Rows [N,L'] of texts as [N,`length`]. A longer text ends with an invalid token, so that it equals no text of that length."""
    cut = F.pad(rows, (0, max(0, length - rows.shape[1])), value=NONE)
    too_long = (cut[:, length:] != NONE).any(1)
    cut = cut[:, :length].clone()
    cut[too_long, -1] = NONE - 1
    return cut


def greedy(log_probs: Tensor, blank: int) -> Tensor:
    """The best path of log_probs [T,N,K+1] as texts [N,L]: equal neighbours are merged, then blanks are removed."""
    path = log_probs.argmax(-1).transpose(0, 1)  # [N,T]
    kept = path != blank
    kept[:, 1:] &= path[:, 1:] != path[:, :-1]
    place = torch.where(kept, kept.cumsum(1) - 1, path.shape[1])  # all others are put where they are cut off
    rows = torch.full((len(path), path.shape[1] + 1), NONE, device=path.device)
    return rows.scatter(1, place, path)[:, : int(kept.sum(1).max())]


def prefix_beam_search(log_probs: Float, beam: int) -> tuple[tuple[int, ...], float]:
    """The most probable text of log_probs [T,K+1], whose last token is the blank, and its log-probability (Hannun et al. 2014).

    After every column, it keeps the `beam` most probable beginnings of texts, each with two sums over its paths: those that end
    with a blank, and those that end with its last token. If the beam holds all beginnings, the result is exact.
    """
    blank = log_probs.shape[1] - 1
    kept: Prefixes = {(): (0.0, -math.inf)}
    for column in log_probs.tolist():
        found: Prefixes = {}
        for text, (blanked, ended) in kept.items():
            both = _sum(blanked, ended)
            _add(found, text, both + column[blank], ended + column[text[-1]] if text else -math.inf)
            for token in range(blank):
                # After the same token only a path that ends with a blank makes a new one.
                _add(found, (*text, token), -math.inf, column[token] + (blanked if text[-1:] == (token,) else both))
        kept = dict(sorted(found.items(), key=lambda entry: -_sum(*entry[1]))[:beam])
    best = next(iter(kept))
    return best, _sum(*kept[best])


def _add(found: Prefixes, text: tuple[int, ...], blanked: float, ended: float) -> None:
    old = found.get(text, (-math.inf, -math.inf))
    found[text] = _sum(old[0], blanked), _sum(old[1], ended)


def _sum(a: float, b: float) -> float:
    """log(exp(a) + exp(b))."""
    low, high = min(a, b), max(a, b)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))
