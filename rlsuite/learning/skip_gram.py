"""Skip-gram with negative sampling (word2vec): learns vectors of words, such as moves of games, from the words around them.

Mikolov et al. 2013, "Distributed Representations of Words and Phrases", section 2.2, eq. 4. For a word w, a word c near it and K
words n drawn from the noise P(n), whose exponent of the counts is 3/4:

    L = -log σ(v'_c · v_w) - Σ_k log σ(-v'_{n_k} · v_w)

The vectors v are the result; v' are those of words as context. A word at a distance d within a window of R is drawn with the weight
(R - d + 1) / R, as word2vec does by drawing the window's size. Where we differ: frequent words are not subsampled, since a game has
few of them, and a random symmetry of the board is applied to both words of each pair.

Shapes: W words, D numbers per vector, S symmetries, B pairs, K words of noise.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from rlsuite.config.schema import LearnerConfig
from rlsuite.core import cpu
from rlsuite.core.agent import Loss, Objective
from rlsuite.core.errors import UsageError
from rlsuite.core.types import Step, Trajectory
from rlsuite.learning.learner import Learner
from rlsuite.replay import Sample

_BATCH = 512
_EXPONENT = 0.75  # of the counts, in P(n)


class Vectors(nn.Module):
    """The vectors of W words, and their vectors as context, which start at 0."""

    def __init__(self, words: int, width: int):
        super().__init__()
        self.words, self.contexts = nn.Embedding(words, width), nn.Embedding(words, width)
        nn.init.uniform_(self.words.weight, -0.5 / width, 0.5 / width)
        nn.init.zeros_(self.contexts.weight)


class SkipGram(Objective):
    """The skip-gram objective: tells words near a word from noise. `Step.action` is the word, its extras are the others."""

    has_target = False

    def __init__(self, words: int, width: int):
        self.words, self.width = words, width

    def make_net(self) -> Vectors:
        return Vectors(self.words, self.width)

    def loss(self, net: nn.Module, target: nn.Module, trajectory: Trajectory, rng: torch.Generator) -> Loss:
        steps = trajectory.steps
        assert isinstance(net, Vectors)
        word, near = net.words(steps.action[0]), net.contexts(steps.extras["near"][0])  # [B,D]
        noise = net.contexts(steps.extras["noise"][0])  # [B,K,D]
        return Loss(negative_sampling(word, near, noise), None, {})


def negative_sampling(word: Tensor, near: Tensor, noise: Tensor) -> Tensor:
    """The loss L [B] of v_w [B,D], v'_c [B,D] and v'_n [B,K,D]."""
    others = (noise * word.unsqueeze(1)).sum(-1)  # [B,K]
    return -F.logsigmoid((near * word).sum(-1)) - F.logsigmoid(-others).sum(-1)


class Pairs:
    """A store of pairs of nearby words, drawn with weights that depend on their distance, and of noise words."""

    def __init__(self, texts: Sequence[Sequence[int]], symmetries: NDArray[np.int32], window: int, negatives: int, seed: int):
        """`symmetries` [S,W]: each row a permutation of the words. UsageError if no text has two words."""
        words, self.symmetries, self.negatives = symmetries.shape[1], symmetries, negatives
        self.rng, pairs, weights = np.random.default_rng(seed), list[NDArray[np.int64]](), list[NDArray[np.float64]]()
        for text in texts:
            line = np.asarray(text, np.int64)
            for distance in range(1, min(window, len(line) - 1) + 1):
                both = np.stack([line[:-distance], line[distance:]], 1)  # [B,2]
                pairs += [both, both[:, ::-1]]
                weights += [np.full(2 * len(both), (window - distance + 1) / window)]
        if not pairs:
            raise UsageError("no game has two moves, so there is nothing to learn from")
        self.pairs, shares = np.concatenate(pairs), np.concatenate(weights)
        self.shares = np.cumsum(shares / shares.sum())
        counts = np.bincount(
            symmetries[:, np.concatenate([np.asarray(text, np.int64) for text in texts])].reshape(-1), minlength=words
        )
        noise = counts**_EXPONENT
        self.noise = np.cumsum(noise / noise.sum())

    def __len__(self) -> int:
        return len(self.pairs)

    def sample(self, count: int) -> Sample:
        """`count` words in `Step.action` [1,B], with "near" [1,B] and "noise" [1,B,K] as extras, all i64."""
        rows = self._drawn(self.shares, (count,))
        turned = self.symmetries[self.rng.integers(len(self.symmetries), size=count)]  # [B,W]
        word, near = np.take_along_axis(turned, self.pairs[rows], 1).astype(np.int64).T
        extras = {"near": near[None], "noise": self._drawn(self.noise, (1, count, self.negatives))}
        no, none = np.zeros((1, count), bool), np.zeros((1, count), np.float32)
        steps = Step(none, none, no, no, no, word[None], extras)
        return Sample(Trajectory(steps, ()), rows, np.ones(count, np.float32))

    def _drawn(self, shares: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.int64]:
        """Random indices, drawn by the cumulative probabilities `shares`."""
        found: NDArray[np.int64] = np.searchsorted(shares, self.rng.random(shape) * shares[-1], "right").astype(np.int64)
        return found


class Learned(NamedTuple):
    """The learned vectors, with the loss reached."""

    vectors: NDArray[np.float32]  # [W,D]
    loss: float  # mean over the last tenth of the updates
    untrained: float  # loss of untrained vectors: (1 + K) log 2


def learn(pairs: Pairs, width: int, passes: int, seed: int) -> Learned:
    """Learns vectors of `width` numbers from `passes` times as many sampled pairs as there are in `pairs`."""
    cpu.set_up(1)
    words, updates = pairs.symmetries.shape[1], max(-(-passes * len(pairs) // _BATCH), 10)
    config = LearnerConfig(
        batch_size=_BATCH, learning_rate=0.01, learning_rate_end=1e-4, optimizer_epsilon=1e-8, max_grad_norm=None
    )
    learner = Learner(SkipGram(words, width), config, seed=seed, anneal_over=updates)
    losses = []
    for update in range(updates):
        metrics = learner.step(learner.stage(pairs.sample(_BATCH)), update).metrics
        losses.append(metrics["losses/loss"])
    found: Vectors = learner.net  # type: ignore[assignment]
    last = float(torch.stack(losses[-(updates // 10) :]).mean())
    return Learned(found.words.weight.detach().numpy().copy(), last, (1 + pairs.negatives) * float(np.log(2)))
