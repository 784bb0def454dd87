"""Measures the parts of an AlphaGo run: accuracy of both policies, speed of rollouts, error of the value net.

    python scripts/alphago_report.py runs/alphago --positions 2000

The accuracies are those on held-out games that the run logged. The value net is evaluated on positions from new games (with another
seed) and compared with the best constant.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rlsuite.agents.alphago.rollouts import NONE, playouts
from rlsuite.evaluation.saved_agent import Saved
from rlsuite.runs.metrics import read_metrics


def main() -> None:
    """Prints the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("--positions", type=int, default=2000, help="on which the value net is evaluated")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row for row in read_metrics(given.run / "1_policy") if "test/policy_accuracy" in row]
    print(f"held-out games: policy {rows[-1]['test/policy_accuracy']:.1%}, rollout policy {rows[-1]['test/rollout_accuracy']:.1%}")

    saved = Saved(given.run)
    agent: Any = saved.agent
    net: Any = saved.net
    bf16 = saved.config.learner.precision == "bf16"
    game, weights = agent.game, net.rollouts.weights()
    play_out = playouts(game.rules.play)
    seen = np.repeat(game.new_state().row[None], 2000, 0)
    streams, last, values = np.arange(2000, dtype=np.uint64), np.full(2000, NONE), np.empty(2000, np.float32)
    play_out(seen[:2].copy(), last[:2], streams[:2].copy(), weights, values[:2])
    begin = time.process_time()
    moves = play_out(seen.copy(), last, streams, weights, values)
    spent = time.process_time() - begin
    planes = torch.from_numpy(np.repeat(game.new_state().observation()[None], 1, 0))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        net.policy.evaluate(planes)
        begin = time.process_time()
        for _ in range(100):
            net.policy.evaluate(planes)
        alone = (time.process_time() - begin) / 100
    print(f"rollouts: {moves / 2000:.0f} moves a game, {spent / moves * 1e6:.2f} us of CPU time a move")
    print(f"one evaluation of the policy net: {alone * 1e3:.2f} ms of CPU time")

    collector = agent.collector(net, saved.config.env.num_envs, seed=987_654_321, device=torch.device("cpu"), bf16=bf16)
    made = 0
    while made < given.positions:
        made += collector.advance(0)[0]
    steps = collector.take().steps
    z = steps.extras["outcome"][:, 0]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        v = net.value.evaluate(torch.from_numpy(steps.observation[:, 0])).value.numpy()
    error, constant, right = np.mean((v - z) ** 2), np.var(z), np.mean(np.sign(v) == np.sign(z))
    print(f"{len(z)} new positions: squared error of the value net {error:.3f}, of the best constant {constant:.3f}")
    print(f"its sign is right in {right:.1%}")


if __name__ == "__main__":
    main()
