"""Heads that write texts token by token: captions of pictures, and translations of texts.

Shapes: N pictures, P places of a map, F features of a place, S units of the decoder, L tokens of a text at most, K tokens of the
vocabulary, R rows of a search. As an input, token K is the beginning of a text; as an output, its end.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from rlsuite.core.errors import UsageError, unknown
from rlsuite.core.types import State
from rlsuite.vision.necks import Maps
from rlsuite.vision.reading import Shape, TextHead, columns, core_of, run_whole, step_of
from rlsuite.vision.texts import NONE

POOLS = ("attend", "gap", "flatten")


class Memory(NamedTuple):
    """The places of a map that a decoder attends to while it writes."""

    values: Tensor  # [N,P,F]
    keys: Tensor  # [N,P,S]


class Carry(NamedTuple):
    """The state of a decoder between two tokens."""

    state: State  # of its core, leaves [N,...]
    out: Tensor  # [N,S]: the core's last output, the query for where to look next
    begins: bool  # whether nothing has been written yet


class Writer(TextHead):
    """A memory core writes a text, token by token, from the last map.

    With pool=gap or flatten, the averaged or flattened map is the core's first input, before all tokens (NIC, Vinyals et al. 2015).
    With pool=attend, the core's last output weights the places of the map before every token, by additive attention; their weighted
    mean is an input together with the last token, and also of the layer that chooses the next one (Bahdanau et al. 2015, sections
    3.1 and A.1.2; Xu et al. 2015 for pictures). Places have learned positions. An `encoder` first runs over the columns of the map.
    Unlike Bahdanau's, the decoder starts from a state of zeros, and one dense layer chooses a token.
    """

    def __init__(
        self,
        shape: Shape,
        classes: int,
        core: str = "lstm",
        size: int = 256,
        pool: str = "attend",
        longest: int = 40,
        encoder: str = "none",
    ):
        """`shape`: of the backbone's last map. `size`: units of the cores, and of a token's embedding. `longest`: L."""
        super().__init__()
        if pool not in POOLS:
            raise unknown("pool", pool, POOLS)
        channels, height, width = shape
        self.end, self.longest, self.pool = classes, longest, pool
        self.encoder = None if encoder == "none" else core_of(encoder, channels * height, size)
        features, places = (channels, height * width) if self.encoder is None else (self.encoder.features, width)
        attends = pool == "attend"
        self.grid = (height, width) if self.encoder is None else (1, width)  # of the places
        self.embed = nn.Embedding(classes + 1, size)
        self.core = core_of(core, size + (features if attends else 0), size)
        if self.core.looks_ahead:
            raise UsageError(f"core={core} reads what is still to be written: it can be an encoder or read columns (ctc)")
        if attends:
            self.places = nn.Parameter(torch.zeros(places, features))
            self.key, self.query = nn.Linear(features, size), nn.Linear(self.core.features, size, bias=False)
            self.score = nn.Linear(size, 1, bias=False)
        else:
            self.picture = nn.Linear(features * places if pool == "flatten" else features, size)
        self.last = nn.Linear(self.core.features + (features if attends else 0), classes + 1)

    def check(self, text: NDArray[np.int64], where: str) -> None:
        """See `TextHead`."""
        if len(text) > self.longest:
            raise UsageError(f"{where}: its text has {len(text)} tokens, but the head writes at most longest={self.longest}")

    def look(self, maps: Maps) -> Memory:
        """The memory to attend to, from the last map."""
        if self.encoder is None:
            values = maps[-1].flatten(2).transpose(1, 2)  # [N,P,F]
        else:
            values = run_whole(self.encoder, columns(maps[-1])).transpose(0, 1)
        if self.pool == "attend":
            values = values + self.places
            return Memory(values, self.key(values))
        seen = values.mean(1) if self.pool == "gap" else values.flatten(1)
        return Memory(values, self.picture(seen).unsqueeze(1))

    def begin(self, memory: Memory) -> Carry:
        """The state before the first token."""
        rows, device = len(memory.values), memory.values.device
        state = tuple(leaf.to(device) for leaf in self.core.initial_state(rows))
        carry = Carry(state, torch.zeros(rows, self.core.features, device=device), True)
        return carry if self.pool == "attend" else self._run(memory.keys[:, 0], carry)

    def _run(self, x: Tensor, carry: Carry) -> Carry:
        x = x.unsqueeze(0)  # [1,N,...]
        out, state = self.core(x, step_of(x, carry.begins), carry.state)
        return Carry(state, out[0], False)

    def step(self, memory: Memory, carry: Carry, token: Tensor) -> tuple[Tensor, Carry, Tensor]:
        """The logits [N,K+1] of the token after `token` [N], the state after it, and, with attention, the places' weights [N,P]."""
        x = self.embed(token)
        if self.pool != "attend":
            carry = self._run(x, carry)
            return self.last(carry.out).float(), carry, memory.values.new_zeros(len(x), 0)
        energy = self.score(torch.tanh(memory.keys + self.query(carry.out).unsqueeze(1))).squeeze(-1)  # [N,P]
        weights = energy.float().softmax(1)
        context = (weights.unsqueeze(-1) * memory.values).sum(1)  # [N,F]
        carry = self._run(torch.cat([x, context.to(x.dtype)], 1), carry)
        return self.last(torch.cat([carry.out, context.to(carry.out.dtype)], 1)).float(), carry, weights

    def forward(self, maps: Maps, text: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [L+1,N,K+1] after each beginning of `text` [N,L], and the weights [L+1,N,P] of the places (teacher forcing)."""
        memory = self.look(maps)
        carry, inputs = self.begin(memory), F.pad(text.clamp(min=0), (1, 0), value=self.end)
        logits, weights = [], []
        for token in inputs.unbind(1):
            found, carry, looked = self.step(memory, carry, token)
            logits.append(found)
            weights.append(looked)
        return torch.stack(logits), torch.stack(weights)

    def losses(self, maps: Maps, images: Tensor, labels: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean cross-entropy [N] of the tokens of `text` [N,L] and its end, and metrics."""
        text = labels["text"]
        lengths = (text != NONE).sum(1)
        text = text[:, : max(1, int(lengths.max()))]
        logits, _ = self(maps, text)
        target = F.pad(text, (0, 1), value=NONE)
        target = target.scatter(1, lengths.unsqueeze(1), self.end)  # [N,L+1]
        loss = F.cross_entropy(logits.permute(1, 2, 0), target, ignore_index=NONE, reduction="none").sum(1) / (lengths + 1)
        right = (logits.detach().argmax(-1).transpose(0, 1) == target) | (target == NONE)
        return loss, {"losses/exact": right.all(1).float().mean()}

    def predict(self, maps: Maps, images: Tensor) -> Tensor:
        """Texts [N,L] i64."""
        memory = self.look(maps)
        seen = Memory(*(leaf.repeat_interleave(self.beam, 0) for leaf in memory))

        def step(token: Tensor, carry: Carry) -> tuple[Tensor, Carry]:
            logits, carry, _ = self.step(seen, carry, token)
            return logits.log_softmax(-1), carry

        return beam_search(step, self.begin(seen), len(images), self.end, self.beam, self.longest)

    def looked_at(self, maps: Maps, text: Tensor) -> Tensor:
        """The weights [N,L,P] of the places before each token of `text` [N,L]. UsageError for a head without attention."""
        if self.pool != "attend":
            raise UsageError(f"pool={self.pool} has no attention to draw: it looks at all of the picture once")
        return self(maps, text)[1][:-1].transpose(0, 1)  # type: ignore[no-any-return]


def beam_search(
    step: Callable[[Tensor, Carry], tuple[Tensor, Carry]], carry: Carry, count: int, end: int, beam: int, longest: int
) -> Tensor:
    """The most probable texts [N,L] i64 found by a beam search that keeps `beam` beginnings of each; 1 is greedy search.

    `step` maps the last tokens [R] and the state of R = N * beam rows to log-probabilities [R,K+1] and the state after them; `end`
    is the token that a text begins and ends with. Texts end after `longest` tokens. `count`: N.
    """
    device = carry.out.device
    token = torch.full((count * beam,), end, device=device)
    score = torch.full((count, beam), float("-inf"), device=device)
    score[:, 0] = 0.0  # all beginnings are the same still
    texts = torch.zeros(count, beam, 0, dtype=torch.int64, device=device)
    over = torch.zeros(count, beam, dtype=torch.bool, device=device)
    stay = torch.full((end + 1,), float("-inf"), device=device)
    stay[end] = 0.0  # a text that is over stays as it is
    first = torch.arange(count, device=device).unsqueeze(1) * beam  # [N,1] the first row of each picture
    for _ in range(longest):
        log_probs, carry = step(token, carry)
        log_probs = torch.where(over.unsqueeze(-1), stay, log_probs.view(count, beam, -1))  # [N,beam,K+1]
        score, best = (score.unsqueeze(-1) + log_probs).flatten(1).topk(beam, 1)
        origin, chosen = best // (end + 1), best % (end + 1)  # [N,beam]
        rows = (first + origin).flatten()
        carry = carry._replace(state=tuple(leaf[rows] for leaf in carry.state), out=carry.out[rows])
        texts = torch.cat([texts.gather(1, origin.unsqueeze(-1).expand(-1, -1, texts.shape[2])), chosen.unsqueeze(-1)], 2)
        over, token = chosen == end, chosen.flatten()
        if over.all():
            break
    best = texts[:, 0]  # topk sorts
    return best.masked_fill(best == end, NONE)


def caption(shape: Shape, classes: int, core: str = "lstm", size: int = 256, pool: str = "attend", longest: int = 40) -> Writer:
    """A writer of captions, on the map itself."""
    return Writer(shape, classes, core, size, pool, longest)


def seq2seq(
    shape: Shape, classes: int, encoder: str = "bidirectional(core=gru)", core: str = "gru", size: int = 128, longest: int = 40
) -> Writer:
    """A writer with an encoder over the columns, and attention (Bahdanau et al. 2015)."""
    return Writer(shape, classes, core, size, "attend", longest, encoder)
