"""Puts a trained agent into the package: python scripts/pretrained.py NAME RUN --machine "2 cores of ..."

Copies the weights of the run's newest checkpoint to rlsuite/pretrained/NAME, scores them as `rlsuite evaluate` does, and writes the
card. The agent's score there is that of the copy.
"""

import argparse
import datetime
import json
import shutil
from pathlib import Path

import rlsuite
from rlsuite.evaluation.export.model_card import copy_agent
from rlsuite.evaluation.saved_agent import Saved
from rlsuite.runs import pretrained_agents
from rlsuite.runs.metrics import read_metrics
from rlsuite.version import __version__


def put(name: str, run: Path, machine: str, command: str | None, games: int) -> pretrained_agents.Card:
    """Makes the agent `name` of the package from a run; returns its card."""
    target = Path(pretrained_agents.__file__).parents[1] / "pretrained" / name
    if target.exists():
        shutil.rmtree(target)
    facts = copy_agent(Saved(run), target)
    rows, saved = read_metrics(run), Saved(target)
    config = saved.config
    where = pretrained_agents.PREFIX + name
    card = pretrained_agents.Card(
        name=name,
        task=f"{config.agent.name} on {config.env.id}",
        game=saved.spec.game,
        command=command or f"rlsuite train {config.name} seed={config.seed}",
        seed=config.seed,
        agent_steps=saved.agent_steps,
        minutes=round(rows[-1]["wall_seconds"] / 60, 1),
        machine=machine,
        date=datetime.date.fromtimestamp((run / "metrics.jsonl").stat().st_mtime).isoformat(),
        version=__version__,
        parameters=sum(p.numel() for p in saved.net.parameters()),
        evaluation=f"rlsuite evaluate {where} --episodes {games}",
        score=0.0,
        low=0.0,
        high=0.0,
        games=games,
        sha256=facts["sha256"],
    )
    (target / "card.json").write_text(json.dumps(card._asdict(), indent=1) + "\n")
    summary = rlsuite.evaluate(where, games)
    low, high = summary.mean_interval or (summary.mean, summary.mean)  # equal games have none
    card = card._replace(score=round(summary.mean, 3), low=round(low, 3), high=round(high, 3))
    (target / "card.json").write_text(json.dumps(card._asdict(), indent=1) + "\n")
    return card


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("run", type=Path)
    parser.add_argument("--machine", required=True)
    parser.add_argument("--command", help="that trained it; default: that of the run's config and seed")
    parser.add_argument("--games", type=int, default=100)
    given = parser.parse_args()
    print(put(given.name, given.run, given.machine, given.command, given.games))
