"""Skip-gram: its loss by hand, what pairs and noise are drawn, and vectors that tell two groups of words apart."""

import math

import numpy as np
import pytest
import torch

from rlsuite.core.errors import UsageError
from rlsuite.core.types import Trajectory, to_tensors
from rlsuite.learning.skip_gram import Pairs, SkipGram, Vectors, learn, negative_sampling

SAME = np.arange(6, dtype=np.int32)[None]  # no symmetry but the identity


def test_the_loss_is_that_worked_out_by_hand() -> None:
    """σ(log 3) = 3/4, σ(-0) = 1/2, σ(-log 3) = 1/4: L = -log 3/4 - log 1/2 - log 1/4 = log(32/3)."""
    word = torch.tensor([[1.0, 0.0], [2.0, 0.0]])
    near = torch.tensor([[math.log(3), 5.0], [math.log(3) / 2, -7.0]])
    noise = torch.tensor([[[0.0, 9.0], [math.log(3), 0.0]], [[0.0, 1.0], [math.log(3) / 2, 2.0]]])
    torch.testing.assert_close(negative_sampling(word, near, noise), torch.full((2,), math.log(32 / 3)))


def test_the_objective_takes_words_from_the_one_table_and_context_from_the_other() -> None:
    net = Vectors(6, 2)
    with torch.no_grad():
        net.words.weight.copy_(torch.arange(12.0).view(6, 2) / 10)
        net.contexts.weight.copy_(-torch.arange(12.0).view(6, 2) / 10)
    sample = Pairs([[0, 1, 2]], SAME, 2, 3, seed=0).sample(5)
    steps = to_tensors(sample.trajectory.steps, torch.device("cpu"))
    found = SkipGram(6, 2).loss(net, net, Trajectory(steps, ()), torch.Generator())
    for row in range(5):
        word, near = int(steps.action[0, row]), int(steps.extras["near"][0, row])
        v = net.words.weight[word]
        expected = -torch.sigmoid(v @ net.contexts.weight[near]).log()
        for noise in steps.extras["noise"][0, row]:
            expected = expected - torch.sigmoid(-v @ net.contexts.weight[noise]).log()
        torch.testing.assert_close(found.loss[row], expected)


def test_pairs_are_drawn_by_distance_both_ways_and_noise_by_counts_to_the_power_of_three_quarters() -> None:
    pairs = Pairs([[0, 1, 2], [3] * 16], SAME, 2, 4, seed=0)
    sample = pairs.sample(40_000).trajectory.steps
    drawn = np.stack([sample.action[0], sample.extras["near"][0]], 1)
    found = {tuple(pair): float((drawn == pair).all(1).mean()) for pair in ([0, 1], [1, 0], [0, 2], [2, 0], [3, 3], [0, 3], [1, 1])}
    total = 2 * (2 + 0.5) + 2 * (15 + 14 * 0.5)
    assert found[0, 1] == pytest.approx(1 / total, abs=0.003)
    assert found[1, 0] == pytest.approx(1 / total, abs=0.003)
    assert found[0, 2] == pytest.approx(0.5 / total, abs=0.003)
    assert found[3, 3] == pytest.approx(44 / total, abs=0.01)
    assert found[0, 3] == found[1, 1] == 0
    shares = np.bincount(sample.extras["noise"].reshape(-1), minlength=6) / sample.extras["noise"].size
    np.testing.assert_allclose(shares, np.array([1, 1, 1, 8, 0, 0]) / 11, atol=0.005)  # 16^(3/4) = 8


def test_symmetries_turn_both_words_of_a_pair() -> None:
    symmetries = np.array([[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0]], np.int32)
    sample = Pairs([[0, 1]], symmetries, 1, 2, seed=0).sample(500).trajectory.steps
    assert set(zip(sample.action[0].tolist(), sample.extras["near"][0].tolist(), strict=True)) == {(0, 1), (1, 0), (5, 4), (4, 5)}
    assert set(sample.extras["noise"].reshape(-1).tolist()) == {0, 1, 4, 5}


def test_words_near_the_same_words_get_vectors_that_are_alike() -> None:
    texts = [[0, 2], [1, 2], [3, 5], [4, 5]] * 20
    found, again = (learn(Pairs(texts, SAME, 2, 5, seed=1), width=4, passes=200, seed=1) for _ in range(2))
    assert np.array_equal(found.vectors, again.vectors)
    unit = found.vectors / np.linalg.norm(found.vectors, axis=1, keepdims=True)
    cosines = unit @ unit.T
    assert cosines[0, 1] > 0.9
    assert cosines[3, 4] > 0.9
    assert cosines[:2, 3:5].max() < 0.6
    assert found.loss < 0.9 * found.untrained
    assert found.untrained == pytest.approx(6 * math.log(2))


def test_games_of_one_move_teach_nothing() -> None:
    with pytest.raises(UsageError, match="no game has two moves"):
        Pairs([[1], []], SAME, 2, 5, seed=0)
