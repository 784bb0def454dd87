"""Writes a run as a folder to share: the files needed to act, the score, and a README with the metadata that model hubs read."""

import json
import shutil
from pathlib import Path
from typing import Any

import yaml

from rlsuite.config import loader
from rlsuite.core.errors import CheckpointError, UsageError
from rlsuite.core.files import parse_json, reading
from rlsuite.evaluation.saved_agent import Saved
from rlsuite.nets.pretrained import without_files
from rlsuite.runs import checkpoint, pretrained_agents, run_folder, trust
from rlsuite.version import __version__


def write_folder(path: Path, folder: Path, name: str) -> dict[str, Any]:
    """Copies the parts of a run that acting needs into `folder`, with a README; returns the facts in the README.

    The score is that of the last `rlsuite evaluate` or of the run's final evaluation, if there is one.
    """
    saved = Saved(path)
    source = saved.path
    facts = copy_agent(saved, folder)
    evaluation = source.with_name(f"{source.name}.evaluation.json")
    score = _score(evaluation) if evaluation.exists() else None
    if pretrained_agents.is_name(path):
        one = pretrained_agents.card(str(path))
        score = {"mean": one.score, "mean_interval": [one.low, one.high], "episodes": one.games}
        shutil.copy(one.folder / "card.json", folder / "card.json")
    if score is not None:
        (folder / "evaluation.json").write_text(json.dumps(score, indent=1) + "\n")
    videos = sorted((source.parents[1] / "videos").glob("*.mp4"))
    for video in videos[-1:]:
        shutil.copy(video, folder / "replay.mp4")
    (folder / "README.md").write_text(readme(saved, name, score))
    return {"format": "folder", **facts, "score": None if score is None else score["mean"], "video": bool(videos)}


def _score(evaluation: Path) -> dict[str, Any]:
    """The content of an `evaluation.json`. CheckpointError if it is damaged."""
    with reading(evaluation, kind=CheckpointError):
        data = evaluation.read_bytes()
    try:
        found: dict[str, Any] = parse_json(data)
        interval = found.get("mean_interval")
        numbers = [found["mean"], found["episodes"], *(interval or ())]
        sound = all(isinstance(one, int | float) for one in numbers) and len(numbers) == (4 if interval else 2)
    except (ValueError, TypeError, KeyError, AttributeError):
        sound = False
    if not sound:
        raise CheckpointError(f"{evaluation} is damaged or was edited: remove it to share the agent without a score")
    return found


def copy_agent(saved: Saved, folder: Path) -> dict[str, Any]:
    """Copies the weights, config and spec of an agent into a new run folder; returns its facts.

    Paths of initial weights, demonstrations and teachers are left out. UsageError if the config names code other than rlsuite's.
    """
    if named := trust.executed(loader.as_mapping(saved.config)):
        what = ", ".join(f"{key} = {value}" for key, value in named.items())
        raise UsageError(f"{saved.path} names code of its own ({what}), which a folder to share would not hold")
    net = without_files(saved.config.net)
    replay = saved.config.replay.model_copy(update={"demonstrations": None, "demonstration_ratio": None})
    # It must still be known as a student, whose scores are logits; the teachers' paths do not matter.
    names = [one if pretrained_agents.is_name(one) else Path(one).name for one in saved.config.distill.teachers]
    distill = saved.config.distill.model_copy(update={"teachers": names})
    config = saved.config.model_copy(update={"net": net, "replay": replay, "distill": distill})
    weights_of = checkpoint.load(saved.path, weights_only=True).weights
    path = checkpoint.save(folder, saved.agent_steps, weights_of, {}, run_folder.metadata(config, saved.spec), with_arrays=False)
    (folder / "config.yaml").write_text(loader.dump(config))
    weights: dict[str, Any] = json.loads((path / "COMPLETE").read_text())["files"]["weights.safetensors"]
    return {"agent_steps": saved.agent_steps, "bytes": weights["bytes"], "sha256": weights["sha256"]}


def readme(saved: Saved, name: str, score: dict[str, Any] | None) -> str:
    """The README of a shared agent. It begins with the YAML block that model hubs read."""
    config, env = saved.config, saved.config.env.id
    front: dict[str, Any] = {
        "library_name": "rlsuite",
        "pipeline_tag": "reinforcement-learning",
        "tags": ["reinforcement-learning", "rlsuite", config.agent.name, env.split("(")[0].replace("/", "-")],
    }
    told = "It has not been evaluated."
    if score is not None:
        result = {
            "task": {"type": "reinforcement-learning", "name": "reinforcement-learning"},
            "dataset": {"name": env, "type": env.split("(")[0].replace("/", "-")},
            "metrics": [{"type": "mean_reward", "name": "mean_reward", "value": score["mean"], "verified": False}],
        }
        front["model-index"] = [{"name": name, "results": [result]}]
        interval = score.get("mean_interval")
        between = f", 95% interval {interval[0]:.2f} to {interval[1]:.2f}" if interval else ""
        told = f"Mean return {score['mean']:.2f} over {score['episodes']} games{between}."
    block = yaml.safe_dump(front, sort_keys=False)
    return f"""---
{block}---

# {name}

`{config.agent.name}` on `{env}`, trained for {saved.agent_steps:,} agent steps with rlsuite {__version__}
(`rlsuite train {config.name} seed={config.seed}`; all settings are in `config.yaml`). {told}

```bash
rlsuite evaluate .
```

```python
import rlsuite

agent = rlsuite.load(".")  # of this folder
env = agent.make_env(1)
observation, _ = env.reset(seed=0)
action, state = agent.act(observation, agent.initial_state(1))
```

The weights are in safetensors, everything else is JSON and YAML: nothing here can run code.
"""
