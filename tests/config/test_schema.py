"""Every field of every config section is described, and read by some code: an option that nobody reads is a promise that nobody
keeps. Fields that only count under some settings are read under those, and refused under others.

The source is scanned for `<receiver>.<field>`, where the receiver is called as a section or a config is called in this project
(see `RECEIVERS`): `path.name` says nothing about `agent.name`. Reads inside the section's own class count only where they serve a
property that is itself read from outside; a validator's do not.
"""

import ast
import importlib
import inspect
import os
import pkgutil
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import rlsuite
from rlsuite import agents, envs, factories, vision
from rlsuite.agents import AGENTS
from rlsuite.config import schema
from rlsuite.config.describe import description, settings
from rlsuite.config.loader import check, resolve
from rlsuite.config.schema import Config, RuntimeConfig
from rlsuite.config.section import Section
from rlsuite.core.errors import UsageError
from rlsuite.runs.metrics import read_metrics

ROOT = Path(__file__).resolve().parents[2]
RECEIVERS = {
    "axis",
    "study",
    "_study",
    "search",
    "_spec",
    "config",
    "c",
    "cfg",
    "agent",
    "env",
    "net",
    "replay",
    "learner",
    "run",
    "settings",  # the run section of either kind of run, in rlsuite/runtime/session.py
    "eval",
    "distill",
    "runtime",
    "net_config",
    "data",
    "model",
}


def sections() -> list[type[Section]]:
    """All subclasses of Section that the package defines."""
    for package in (agents, envs, vision):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    found: list[type[Section]] = []
    queue: list[type[Section]] = [Section]
    while queue:
        for child in queue.pop().__subclasses__():
            written = getattr(sys.modules[child.__module__], child.__name__, None) is child  # not put together by `resolve`
            if child.__module__.startswith("rlsuite.") and written and child not in found:
                found.append(child)
                queue.append(child)
    return sorted(found, key=lambda one: (one.__module__, one.__name__))


def own_fields() -> list[tuple[str, str, str]]:
    """(module, class, field) of every field, where it is defined."""
    return [(one.__module__, one.__name__, name) for one in sections() for name in one.__annotations__ if name != "model_config"]


def receiver(node: ast.Attribute) -> str | None:
    """`a.b.field` -> b, `b.field` -> b."""
    value = node.value
    if isinstance(value, ast.Attribute):
        return value.attr
    return value.id if isinstance(value, ast.Name) else None


def loads(tree: ast.AST, names: set[str] | None) -> set[str]:
    """Attributes that are read off a receiver called one of `names` (any, if None)."""
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) and (names is None or receiver(node) in names)
    }


def is_validator(function: ast.FunctionDef) -> bool:
    return any("validator" in ast.unparse(decorator) for decorator in function.decorator_list)


def read_fields(sources: dict[str, str], known: set[str]) -> set[str]:
    """Names of fields read outside the sections, and by the sections' own properties that are read outside."""
    outside: set[str] = set()
    properties: dict[str, set[str]] = {}  # property or method -> fields of self that it reads
    for text in sources.values():
        tree = ast.parse(text)
        classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name in known]
        for node in classes:
            for function in node.body:
                if isinstance(function, ast.FunctionDef) and not is_validator(function):
                    properties.setdefault(function.name, set()).update(loads(function, {"self"}))
            node.body = [ast.Pass()]
        outside |= loads(tree, RECEIVERS)
    for name, inner in properties.items():
        if name in outside:
            outside |= inner
    return outside


def all_sources() -> dict[str, str]:
    """rlsuite/ with agents/ and envs/, which stand beside it."""
    paths = [path for folder in ("rlsuite", "agents", "envs") for path in sorted((ROOT / folder).rglob("*.py"))]
    return {str(path.relative_to(ROOT)): path.read_text() for path in paths}


READ = read_fields(all_sources(), {one.__name__ for one in sections()})


@pytest.mark.parametrize(("module", "section", "field"), own_fields())
def test_every_field_is_read(module: str, section: str, field: str) -> None:
    assert field in READ, (
        f"{module}.{section}.{field} is read nowhere: use it or remove it (reads count off {', '.join(sorted(RECEIVERS))})"
    )


@pytest.mark.parametrize(("module", "section", "field"), own_fields())
def test_every_field_is_described_in_a_sentence(module: str, section: str, field: str) -> None:
    """A field that holds a section is described by that section's docstring."""
    owner = getattr(importlib.import_module(module), section)
    kind = owner.model_fields[field].annotation if field in owner.model_fields else None
    text = (kind.__doc__ or "").strip() if inspect.isclass(kind) and issubclass(kind, Section) else description(owner, field)
    if kind is not None:  # a class variable is no setting
        assert text.endswith("."), f"{module}.{section}.{field}: {text!r}"


def test_the_scan_finds_all_sections() -> None:
    names = {one.__name__ for one in sections()}
    direct = {name for name, one in vars(schema).items() if inspect.isclass(one) and issubclass(one, Section)}
    assert direct - {"Section"} <= names
    assert {"ValueConfig", "C51Config", "QRDQNConfig", "IQNConfig"} <= names
    assert {one.__module__ for one in sections()} >= {"rlsuite.envs.atari", "rlsuite.envs.classic", "rlsuite.envs.recall"}
    assert len(own_fields()) > 60
    for target in AGENTS.values():
        module, _, name = target.partition(":")
        assert getattr(importlib.import_module(module), name).Config in sections()


SAMPLE = """
class ReplayConfig(Section):
    used: int = 1
    validated: int = 2
    through: int = 3
    lost: int = 4
    behind: int = 5

    @model_validator(mode="after")
    def _check(self):
        return self.validated

    @property
    def derived(self):
        return self.through

    @property
    def unread(self):
        return self.behind

def f(config, path):
    config.replay.lost = 3
    path.lost
    return config.replay.used + config.derived
"""


def test_the_scan_tells_reads_from_what_only_looks_like_them() -> None:
    """So that it can fail: a write, a validator, another receiver and a property that nobody reads are no reads."""
    read = read_fields({"sample": SAMPLE}, {"ReplayConfig"})
    assert {"used", "through"} <= read
    assert not {"validated", "lost", "behind"} & read


def test_the_thread_count_is_used_where_the_system_tells_no_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS."""
    one = resolve("classic/dqn", ["run.threads=3"])
    assert factories.threads_of(one) == 3
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert factories.threads_of(one) == 3
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert factories.threads_of(resolve("classic/dqn", ["run.threads=null"])) == 5


class Conditional(NamedTuple):
    """A key that counts under some settings only."""

    key: str
    value: Any  # not its default
    on: dict[str, Any]  # settings under which it counts
    off: dict[str, Any]  # and under which it does not
    config: str = "classic/dqn"


PRIORITIZED = ({"replay.prioritized": True}, {"replay.prioritized": False})
EVALUATED = ({"eval.every_agent_steps": 50}, {"eval.every_agent_steps": None})
SCHEDULE = ({"agent.epsilon_ladder": False}, {"agent.epsilon_ladder": True})
LADDER = (SCHEDULE[1], SCHEDULE[0])
ANNEALING = ({"agent.n_steps": 3, "agent.anneal_learner_steps": 9}, {"agent.n_steps": 3, "agent.anneal_learner_steps": None})
RESETS = ({"learner.resets.every_agent_steps": 60}, {"learner.resets.every_agent_steps": None})
RAY: dict[str, Any] = {"runtime.kind": "ray", "runtime.collectors": 2}
ANNEALED = {"replay.prioritized": True, "replay.importance_exponent_end": 0.8}
CONDITIONAL = [
    Conditional("net.memory_size", 32, {"net.memory": "lstm"}, {"net.memory": "none"}, "classic/ppo"),
    Conditional("replay.priority_exponent", 0.2, *PRIORITIZED),
    Conditional("replay.initial_priority", "td", *PRIORITIZED),
    Conditional("replay.importance_exponent_start", 0.9, *PRIORITIZED),
    Conditional("replay.importance_exponent_end", 0.5, ANNEALED | {"replay.importance_anneal_agent_steps": 60}, PRIORITIZED[1]),
    Conditional("replay.importance_anneal_agent_steps", 60, *PRIORITIZED),
    Conditional("replay.importance_anneal_agent_steps", 60, ANNEALED, ANNEALED | {"replay.importance_exponent_start": 0.8}),
    Conditional(
        "learner.learning_rate_anneal_agent_steps", 60, {"learner.learning_rate_end": 1e-4}, {"learner.learning_rate_end": None}
    ),
    Conditional("learner.optimizer_epsilon", 0.1, {"learner.optimizer": "rmsprop"}, {"learner.optimizer": "sgd(momentum=0.9)"}),
    Conditional("learner.resets.until_agent_steps", 90, *RESETS),
    Conditional("learner.resets.keep", 0.5, *RESETS),
    Conditional("agent.epsilon_start", 0.5, *SCHEDULE),
    Conditional("agent.epsilon_end", 0.5, *SCHEDULE),
    Conditional("agent.epsilon_decay_agent_steps", 50, *SCHEDULE),
    Conditional("agent.discount_end", 0.9, *ANNEALING),
    Conditional("agent.n_steps_end", 1, *ANNEALING),
    Conditional("agent.epsilon_base", 0.9, *LADDER),
    Conditional("agent.epsilon_power", 1.0, *LADDER),
    Conditional("agent.noisy_sigma", 0.1, {"agent.noisy": True}, {"agent.noisy": False}),
    Conditional("eval.every_episodes", 3, *EVALUATED),
    Conditional("eval.stop_at_return", -1000.0, *EVALUATED),
]
SERVED = RAY | {"runtime.inference": "server"}
ON_RAY = [
    Conditional("run.threads", 1, RAY, RAY | {"runtime.learner_threads": 1}),
    Conditional("runtime.object_store_gb", 1.0, RAY, RAY | {"runtime.address": "auto"}),
    Conditional("runtime.dashboard", True, RAY, RAY | {"runtime.address": "auto"}),
    Conditional("runtime.publish_learner_steps", 3, RAY, RAY | {"runtime.synchronous": True}),
    Conditional("runtime.calls_in_flight", 3, RAY, RAY | {"runtime.synchronous": True}),
    Conditional("runtime.batches_per_call", 3, RAY, RAY | {"runtime.synchronous": True}),
    Conditional("runtime.batch_calls_in_flight", 2, RAY, RAY | {"runtime.synchronous": True}),
    Conditional("runtime.insert_tolerance_agent_steps", 100, RAY, RAY | {"runtime.synchronous": True}),
    Conditional("runtime.inference", "server", RAY, RAY | {"runtime.address": "auto"}),
    Conditional("runtime.inference_gpus", 0.5, SERVED, RAY),
    Conditional("runtime.collector_gpus", 0.5, RAY, SERVED),
    *(
        Conditional(f"runtime.{name}", value, RAY, {"runtime.kind": "local"})
        for name, value in {
            "address": "auto",
            "collectors": 2,
            "collector_threads": 2,
            "collector_gpus": 0.5,
            "inference": "server",
            "shards": 2,
            "learners": 2,
            "learner_threads": 2,
            "learner_gpus": 0.5,
            "synchronous": True,
            "publish_learner_steps": 3,
            "calls_in_flight": 3,
            "batches_per_call": 3,
            "batch_calls_in_flight": 2,
            "insert_tolerance_agent_steps": 100,
            "restarts": 3,
            "stall_minutes": 1.0,
            "object_store_gb": 1.0,
            "dashboard": True,
        }.items()
    ),
]
BARE = "bare"  # no shipped config: nothing but an environment and an agent
GUMBEL, PUCT = {"agent.method": "gumbel"}, {"agent.method": "puct"}
SELF_PLAY = [
    *(
        Conditional(f"agent.{name}", value, GUMBEL, PUCT, "boards/go")
        for name, value in [("considered", 3), ("c_visit", 9.0), ("c_scale", 0.1)]
    ),
    *(
        Conditional(f"agent.{name}", value, PUCT, GUMBEL, "boards/go")
        for name, value in {
            "c_init": 2.0,
            "fpu_reduction": 0.1,
            "noise_fraction": 0.1,
            "noise_total": 3.0,
            "temperature": 0.5,
        }.items()
    ),
    Conditional("agent.fast_simulations", 4, {"agent.full_fraction": 0.5}, {"agent.full_fraction": 1.0}, "boards/go"),
    Conditional("agent.opening_moves", 3, {"agent.opening_fraction": 0.5}, {"agent.opening_fraction": 0.0}, "boards/go"),
    Conditional("agent.resign_false_positives", 0.1, {"agent.resign": True}, {"agent.resign": False}, "boards/go"),
    Conditional("agent.gate_score", 0.6, {"agent.gate_games": 4}, {"agent.gate_games": 0}, "boards/go"),
    *(
        Conditional(key, value, {"learner.act_with_target": True}, {"learner.act_with_target": False}, config)
        for key, value in {"learner.target_ema": 0.1, "learner.target_period_learner_steps": 7}.items()
        for config in ("boards/go", "classic/cartpole_cloning")
    ),
]
ONCE, TWICE = {"agent.epochs": 1, "agent.minibatches": 1}, {"agent.epochs": 2, "agent.minibatches": 1}
QUEUE, REPLAY = ({"agent.name": name} for name in ("ppo", "dqn"))
TABLE, NET = {"agent.name": "q_learning"}, {"agent.name": "dqn", "net.torso": "onehot"}
ROLLOUT = {"run.collect_agent_steps": 8, "learner.batch_size": 8}
BY_AGENT = [
    *(
        Conditional(
            key, value, REPLAY | {"replay.prioritized": True, "replay.importance_exponent_start": 0.3}, QUEUE | ROLLOUT, BARE
        )
        for key, value in {
            "learner.target_period_learner_steps": 7,
            "learner.target_ema": 0.1,
            "learner.act_with_target": True,
            "learner.prefetch_batches": 1,
            "replay.capacity_agent_steps": 70_000,
            "replay.min_agent_steps": 70,
            "replay.samples_per_insert": 7.0,
            "replay.prioritized": True,
            "replay.priority_exponent": 0.7,
            "replay.importance_anneal_agent_steps": 7,
        }.items()
    ),
    *(
        Conditional(key, value, NET | more, TABLE | {"net.torso": "nature"} | more, BARE)
        for key, value, more in [
            ("net.hidden", 7, {}),
            ("net.layer_norm", True, {}),
            ("net.weights", "somewhere", {}),
            ("net.freeze", True, {}),
            ("net.memory", "lstm", {}),
            ("net.memory_size", 7, {"net.memory": "gru"}),
            ("net.last_action_reward", True, {}),
            ("net.separate_value", True, {}),
        ]
    ),
    Conditional("net.torso", "mlp", {"agent.name": "dqn"}, TABLE, BARE),
    Conditional("agent.spr_steps", 2, {"agent.spr_weight": 1.0}, {"agent.spr_weight": 0.0}),
    Conditional("agent.spr_weight", 1.0, NET, {"agent.name": "iqn"}, BARE),
    Conditional("learner.resets.every_agent_steps", 9, NET, TABLE | {"net.torso": "nature"}, BARE),
    Conditional("agent.target_kl", 0.1, TWICE, ONCE, "classic/ppo"),
    Conditional("agent.value_clip", 0.1, TWICE, ONCE, "classic/ppo"),
    Conditional("agent.clip_c", 2.0, {"agent.v_trace_lambda": 0.5}, {"agent.v_trace_lambda": 0.0}, "classic/impala"),
    Conditional("agent.epsilon_decay_agent_steps", 9, {"agent.epsilon_end": 0.5}, {"agent.epsilon_end": 1.0}),
    Conditional("agent.priority_max_weight", 0.5, *PRIORITIZED, "classic/recall_r2d2"),
    Conditional(
        "agent.stored_state",
        False,
        {"net.memory": "lstm"},
        {"net.memory": "none", "net.last_action_reward": False},
        "classic/recall_r2d2",
    ),
    Conditional(
        "replay.demonstration_ratio",
        0.5,
        {"replay.demonstrations": "here"},
        {"replay.demonstrations": None},
        "classic/key_door_r2d3",
    ),
    Conditional("env.noop_max", 5, {"env.protocol": "classic"}, {"env.protocol": "sticky"}, "atari/pong"),
    Conditional("agent.noise_total", 3.0, PUCT, PUCT | {"agent.noise_fraction": 0.0}, "boards/go"),
    Conditional("agent.temperature", 0.5, PUCT, PUCT | {"agent.temperature_moves": 0}, "boards/go"),
    *(
        Conditional(
            f"agent.{key}", value, {"stages": None, "agent.stage": on}, {"stages": None, "agent.stage": off}, "boards/alphago"
        )
        for key, value, on, off in [
            ("records", "here", "policy", "value"),
            ("records_from_move", 9, "policy", "reinforced"),
            ("records_tested", 0.2, "policy", "value"),
            ("pool_learner_steps", 9, "reinforced", "policy"),
            ("pool_size", 9, "reinforced", "value"),
            ("latest_random_move", 9, "value", "policy"),
            ("mix", 0.1, "value", "reinforced"),
            ("prior_exponent", 0.1, "value", "policy"),
            ("symmetries", False, "value", "reinforced"),
        ]
    ),
]
QUIET = {"eval.every_agent_steps": None, "learner.learning_rate_end": None, "run.threads": None}  # what classic/dqn switches on


def test_all_keys_of_ray_are_among_the_conditional_ones() -> None:
    assert {f"runtime.{name}" for name in RuntimeConfig.model_fields} - {one.key for one in ON_RAY} == {"runtime.kind"}


def resolved(config: str, settings: dict[str, Any]) -> Config:
    """The config with these settings, by their dotted keys."""
    if config != BARE:
        return resolve(config, settings)
    data: dict[str, Any] = {"name": BARE, "env": {"id": "FrozenLake-v1"}}
    for key, value in settings.items():
        *sections, name = key.split(".")
        place = data
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
    return check(data)


@pytest.mark.parametrize("one", [*CONDITIONAL, *ON_RAY, *SELF_PLAY, *BY_AGENT], ids=lambda one: f"{one.key}-{'-'.join(one.off)}")
def test_a_key_without_effect_is_refused(one: Conditional) -> None:
    quiet = {key: value for key, value in QUIET.items() if key != one.key}
    changed = {one.key: one.value}
    found = {setting.key: setting for setting in settings(resolved(one.config, quiet | one.on | changed))}
    assert found[one.key].value == one.value != found[one.key].default
    with pytest.raises(UsageError) as error:
        resolved(one.config, quiet | one.off | changed)
    message = str(error.value)
    assert one.key in message
    assert "no effect without" in message
    assert "\n" not in message
    decides = message.split("no effect without ")[1].split()[0]
    assert decides in found


TINY = {
    "run.agent_steps": 150,
    "run.threads": 1,
    "env.num_envs": 2,
    "net.hidden": 8,
    "eval.episodes": 1,
    "eval.every_agent_steps": None,
    "learner.learning_rate_end": None,
    "learner.batch_size": 8,
}
OFF_POLICY = {"replay.min_agent_steps": 20, "replay.samples_per_insert": 4}
ROLLOUTS = {"run.collect_agent_steps": 8, "agent.minibatches": 2}


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """What a tiny run of a config leaves: steps, losses and evaluations."""

    @cache
    def run(config: str, *overrides: tuple[str, Any]) -> Any:
        tiny = TINY | (ROLLOUTS if config == "classic/ppo" else OFF_POLICY) | {"run.log_seconds": 1e-6}
        result = rlsuite.train(config, tiny | dict(overrides), run_dir=tmp_path_factory.mktemp("run") / "run")
        kept = ("losses/", "eval/")
        rows = [{key: value for key, value in row.items() if key.startswith(kept)} for row in read_metrics(result.run)]
        return result.agent_steps, [row for row in rows if row]

    return run


@pytest.mark.parametrize("one", CONDITIONAL, ids=lambda one: f"{one.key}-{'-'.join(one.off)}")
def test_a_key_that_counts_changes_the_run(one: Conditional, outcome: Callable[..., Any]) -> None:
    before = outcome(one.config, *one.on.items())
    assert before[1]
    assert outcome(one.config, *one.on.items(), (one.key, one.value)) != before


def test_a_key_that_changes_nothing_would_be_noticed(outcome: Callable[..., Any]) -> None:
    """The same run twice leaves the same, so a difference comes from the key."""
    assert outcome("classic/dqn", ("name", "other")) == outcome("classic/dqn")
