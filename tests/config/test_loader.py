"""Configs: what is refused and how it is told, overrides, YAML's numbers, and the way out and back."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import rlsuite
from rlsuite.config.loader import RENAMED, as_mapping, check, config_names, dump, mapping, resolve
from rlsuite.config.schema import Config, NetConfig
from rlsuite.core import registry
from rlsuite.core.errors import UsageError

BASE = "classic/dqn"
ROOT = Path(__file__).resolve().parents[2] / "configs"


def refused(*overrides: str, config: str | Path = BASE) -> str:
    with pytest.raises(UsageError) as error:
        resolve(config, overrides)
    return str(error.value)


def everything(config: Config) -> dict[str, Any]:
    return {**config.model_dump(), "agent": config.agent.model_dump(), "env": config.env.model_dump()}


@pytest.mark.parametrize(
    ("override", "told"),
    [
        # a typo: the key and the nearest name
        ("learner.batchsize=64", ["unknown key learner.batchsize", "did you mean learner.batch_size?"]),
        ("learner.Batch_Size=64", ["learner.Batch_Size", "learner.batch_size"]),
        ("larner.batch_size=64", ["unknown key larner", "did you mean learner?"]),
        ("agent.epsilon_ned=0.1", ["agent.epsilon_ned", "did you mean agent.epsilon_end?"]),
        ("env.num_envz=3", ["unknown key env.num_envz", "did you mean env.num_envs?"]),
        ("runtime.kid=local", ["runtime.kid", "did you mean runtime.kind?"]),
        # the right name in the wrong place
        ("batch_size=64", ["unknown key batch_size", "learner.batch_size"]),
        ("agent.batch_size=64", ["unknown key agent.batch_size", "learner.batch_size"]),
        ("run.batch_size=64", ["unknown key run.batch_size", "learner.batch_size"]),
        ("agent.num_envs=4", ["unknown key agent.num_envs", "env.num_envs"]),
        ("learner.agent_steps=4", ["unknown key learner.agent_steps", "run.agent_steps"]),
        # a key of another agent
        ("agent.atoms=51", ["unknown key agent.atoms"]),
        # nothing is near: what there is
        ("net.zzzzzzzz=1", ["unknown key net.zzzzzzzz", "torso", "hidden"]),
        # a wrong type: key, value, what is allowed
        ("learner.batch_size=1.5", ["learner.batch_size", "1.5", "integer"]),
        ("learner.batch_size=many", ["learner.batch_size", "'many'", "integer"]),
        ("learner.batch_size='64'", ["learner.batch_size", "'64'", "integer"]),
        ("learner.batch_size=true", ["learner.batch_size", "True", "integer"]),
        ("learner.learning_rate=fast", ["learner.learning_rate", "'fast'", "number"]),
        ("learner.learning_rate=", ["learner.learning_rate", "None", "number"]),
        ("agent.double=1", ["agent.double", "1", "boolean"]),
        ("name=5", ["name", "5", "string"]),
        ("learner=5", ["learner", "5"]),
        ("env.kwargs=3", ["env.kwargs", "3", "dictionary"]),
        ("seed=010", ["seed", "'010'", "integer"]),  # an octal number to YAML 1.1
        ("run.minutes=1:30", ["run.minutes", "'1:30'", "number"]),  # 90 to YAML 1.1
        # out of range: key, value, the bound
        ("learner.batch_size=0", ["learner.batch_size", "0", "greater than or equal to 1"]),
        ("learner.learning_rate=-0.1", ["learner.learning_rate", "-0.1", "greater than 0"]),
        ("learner.learning_rate=0", ["learner.learning_rate", "greater than 0"]),
        ("agent.discount=1.01", ["agent.discount", "1.01", "less than or equal to 1"]),
        ("env.num_envs=5000", ["env.num_envs", "5000", "4096"]),
        ("seed=-1", ["seed", "-1", "0"]),
        ("seed=2147483648", ["seed", "2147483648"]),
        ("run.threads=0", ["run.threads", "0", "1"]),
        # one of a few
        ("run.device=gpu", ["run.device", "'gpu'", "'auto'", "'cpu'", "'cuda'"]),
        ("runtime=cluster", ["runtime", "'cluster'", "'local'"]),
        # names
        ("learner.optimizer=adm", ["learner.optimizer", "'adm'", "did you mean adam", "rmsprop", "sgd"]),
        ("learner.optimizer=sgd(momentun=0.9)", ["learner.optimizer", "'momentun'", "did you mean momentum", "nesterov"]),
        ("learner.optimizer=sgd(momentum=1)", ["learner.optimizer", "momentum = 1", "below 1"]),
        ("learner.optimizer=adamw(weight_decay=-1)", ["learner.optimizer", "weight_decay = -1", "at least 0"]),
        ("learner.optimizer=rmsprop(centered=1)", ["learner.optimizer", "centered = 1", "true or false"]),
        ("learner.optimizer=sgd(nesterov=true)", ["learner.optimizer", "nesterov needs momentum"]),
        ("agent.name=dqm", ["unknown agent 'dqm'", "did you mean dqn", "c51"]),
        ("env.id=CartPole-v7", ["env.id", "'CartPole-v7'", "did you mean CartPole-v1"]),
        ("agent=dqn", ["agent.name", "'dqn'"]),
        ("env.id=null", ["env.id", "None"]),
    ],
)
def test_refusals_tell_what_to_do(override: str, told: list[str]) -> None:
    message = refused(override)
    for part in told:
        assert part in message, message
    assert "\n" not in message
    assert "pydantic" not in message


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["replay.min_agent_steps=60000"], ["min_agent_steps", "60000", "capacity_agent_steps", "50000"]),
        (["learner.batch_size=60000"], ["learner.batch_size", "60000", "replay.capacity_agent_steps", "50000"]),
        (["learner.cuda_graphs=true", "run.device=cpu"], ["learner.cuda_graphs", "run.device", "cuda"]),
        (["eval.stop_at_return=400", "eval.every_agent_steps=null"], ["stop_at_return", "every_agent_steps"]),
        (["agent.epsilon_start=0", "agent.epsilon_end=0"], ["epsilon_start", "epsilon_end", "noisy"]),
        (["agent={name: c51, v_min: 3, v_max: 2}"], ["v_min", "3", "v_max", "2"]),
    ],
)
def test_impossible_combinations_name_both_sides(overrides: list[str], told: list[str]) -> None:
    message = refused(*overrides)
    for part in told:
        assert part in message, message


@pytest.mark.parametrize(
    "override",
    [
        "learner.learning_rate=.inf",
        "learner.learning_rate=.nan",
        "learner.optimizer_epsilon=.inf",
        "replay.samples_per_insert=.inf",
        "agent.reward_clip=.nan",
        "agent={name: c51, v_max: .inf}",
        "agent={name: c51, v_min: .nan}",
        "agent={name: qrdqn, kappa: .inf}",
    ],
)
def test_numbers_that_are_not_finite_are_impossible_values(override: str) -> None:
    """They would end in nan or in a traceback from deep inside, after the start."""
    assert re.search(r"inf|nan|finite|greater", refused(override))


def test_every_mistake_is_told_at_once() -> None:
    message = refused("learner.batch_size=0", "agent.discout=0.9", "run.threads=x")
    assert "learner.batch_size" in message
    assert "agent.discount" in message
    assert "run.threads" in message


@pytest.mark.parametrize("text", ["learner.batch_size", "=3", "", "learner.batch_size=["])
def test_an_override_that_is_none(text: str) -> None:
    assert f"override {text!r}" in refused(text)


def test_overrides_win_over_the_file_and_the_later_over_the_earlier() -> None:
    config = resolve(
        BASE, ["learner.batch_size=16", "env.num_envs=2", "learner.batch_size=32", "name=mine", "env.kwargs.gravity=9.5"]
    )
    assert config.learner.batch_size == 32
    assert config.env.num_envs == 2
    assert config.name == "mine"
    assert config.env.kwargs == {"gravity": 9.5}  # type: ignore[attr-defined]
    assert config.learner.learning_rate == resolve(BASE).learner.learning_rate  # the rest stays


def test_overrides_as_a_mapping_take_values_as_they_are() -> None:
    config = resolve(BASE, {"learner.batch_size": 16, "agent.reward_clip": None, "name": "x=y"})
    assert config.learner.batch_size == 16
    assert config.name == "x=y"
    with pytest.raises(UsageError, match=r"learner\.batch_size.*'16'"):
        resolve(BASE, {"learner.batch_size": "16"})


def test_a_value_may_hold_an_equals_sign() -> None:
    assert resolve(BASE, ["name=a=b"]).name == "a=b"


def test_another_agent_and_environment_bring_their_own_sections() -> None:
    config = resolve(
        BASE,
        [
            "agent.double=true",
            "agent.name=c51",
            "agent.atoms=21",
            "env={id: ALE/Pong-v5, num_envs: 3, stack: 2}",
            "net.torso=small",
        ],
    )
    assert type(config.agent).__name__ == "C51Config"
    assert config.agent.atoms == 21  # type: ignore[attr-defined]
    assert config.agent.double is True  # type: ignore[attr-defined]  # what both know stays
    assert config.env.stack == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize("override", ["runtime=local", "runtime.kind=local", "runtime={kind: local}"])
def test_the_runtime_by_its_name_alone(override: str) -> None:
    assert resolve(BASE, [override]).runtime.kind == "local"
    assert resolve(BASE, ["runtime=local", override]).runtime.kind == "local"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E-4", 1e-4),
        ("1e+2", 100.0),
        ("2.5e3", 2500.0),
        ("6.25e-5", 6.25e-5),
        (".5", 0.5),
        ("5.", 5.0),
        ("3", 3.0),
        ("1_000", 1000.0),
        ("0.000_1", 1e-4),
    ],
)
def test_numbers_read_as_they_look(text: str, value: float, tmp_path: Path) -> None:
    assert resolve(BASE, [f"learner.learning_rate={text}"]).learner.learning_rate == value
    path = tmp_path / "a.yaml"
    path.write_text(f"agent: {{name: dqn}}\nenv: {{id: CartPole-v1}}\nlearner:\n  learning_rate: {text}\n")
    assert resolve(path).learner.learning_rate == value


@pytest.mark.parametrize(("text", "value"), [("50_000", 50_000), ("7", 7), ("0x10", 16)])
def test_integers_stay_integers(text: str, value: int) -> None:
    config = resolve(BASE, [f"run.agent_steps={text}"])
    assert config.run.agent_steps == value
    assert type(config.run.agent_steps) is int


@pytest.mark.parametrize("text", ["v1", "1a", "1.2.3", "2024-01-02", "010", "1:30", "e5", "run-1e"])
def test_texts_stay_texts(text: str) -> None:
    assert resolve(BASE, [f"name={text}"]).name == text


def test_names_come_from_the_file() -> None:
    assert resolve(BASE).name == BASE


def test_a_yaml_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("agent: {name: dqn}\nenv: {id: CartPole-v1}\n")
    config = resolve(path)
    assert config.name == "mine"
    assert config.learner.batch_size == 32
    assert everything(config) == everything(resolve(str(path)))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("- 1\n- 2\n", "must hold a mapping of sections, not list"),
        ("", "must hold a mapping of sections, not NoneType"),
        ("agent: [\n", "is not YAML"),
        ("seed: 1\nagent: {name: dqn}\nseed: 2\n", "is not YAML: the key seed is there twice"),
        ("agent: {name: dqn, double: true, double: false}\n", "the key double is there twice"),
        ("agent: {name: dqn}\n", "env.id must be a string, got None"),
        ("env: {id: CartPole-v1}\n", "agent.name must be a string, got None"),
        ("agent: !!python/object/apply:os.getcwd []\nenv: {id: CartPole-v1}\n", "is not YAML"),
    ],
)
def test_a_file_that_is_no_config(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    message = refused(config=path)
    assert told in message
    assert "\n" not in message


def test_an_error_begins_with_the_file_unless_an_override_may_have_caused_it(tmp_path: Path) -> None:
    def told(text: str, *overrides: str) -> bool:
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        message = refused(*overrides, config=path)
        assert message.count("mine.yaml") <= 1
        return message.startswith(f"{path}: ")

    wrong = "agent: {name: dqn, n_steps: banana}\nenv: {id: CartPole-v1}\n"
    assert told(wrong)
    assert told(wrong, "seed=3", "agent.double=true")
    assert not told(wrong, "agent.n_steps=apple")
    assert not told(wrong, "agent.n_stepz=3")
    several = "agent: {name: dqn, epsilon_start: 0, epsilon_end: 0}\nenv: {id: CartPole-v1}\n"
    assert told(several)
    assert not told(several, "agent.noisy=false")
    assert told("agent: {name: dqm}\nenv: {id: CartPole-v1}\n", "seed=3")
    assert not told("agent: {name: dqn}\nenv: {id: CartPole-v1}\n", "agent.name=dqm")
    assert told("agent: {name: mine.py}\nenv: {id: CartPole-v1}\n")
    assert told("agent: {name: dqn}\n")
    with pytest.raises(UsageError) as error:
        check({"name": "x", "agent": {"name": "dqn", "n_steps": 0}, "env": {"id": "CartPole-v1"}}, where="runs/old")
    assert str(error.value).startswith("runs/old: agent.n_steps = 0")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert "No such file" in refused(config=tmp_path / "none.yaml")
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    assert "not a text file" in refused(config=binary)
    assert "unknown config 'clasic/dqn'; did you mean classic/dqn" in refused(config="clasic/dqn")


def test_all_shipped_configs_are_listed() -> None:
    files = sorted(str(path.relative_to(ROOT).with_suffix("")) for path in ROOT.rglob("*.yaml"))
    files = [name for name in files if not name.startswith("cluster/")]  # those are for Ray, Kubernetes and Slurm
    assert config_names() == files
    assert {"classic/dqn", "atari/pong"} <= set(files)
    assert not [path for path in ROOT.rglob("*") if path.is_file() and path.suffix != ".yaml"]


@pytest.mark.parametrize("name", [name for name in config_names() if not name.startswith("vision/")])
def test_every_shipped_config_resolves_and_dumps(name: str, tmp_path: Path) -> None:
    config = resolve(name)
    assert config.name == name
    path = tmp_path / "config.yaml"
    path.write_text(dump(config))
    again = resolve(path)
    assert everything(again) == everything(config)
    assert type(again.agent).__name__ == type(config.agent).__name__
    assert dump(again) == dump(config)


def test_the_way_out_and_back_keeps_overrides_of_every_kind(tmp_path: Path) -> None:
    overrides = [
        "learner.learning_rate=1.25e-7",
        "learner.max_grad_norm=null",
        "run.minutes=0.5",
        "agent.reward_clip=2",
        "env.kwargs={sutton_barto_reward: true, max_episode_steps: 77}",
        "seed=123",
        "name='1e-3'",  # a string, though it looks like a number
    ]
    config = resolve(BASE, overrides)
    path = tmp_path / "config.yaml"
    path.write_text(dump(config))
    again = check(mapping(path))
    assert everything(again) == everything(config)
    assert again.learner.learning_rate == 1.25e-7
    assert again.learner.max_grad_norm is None
    assert again.env.kwargs == {"sutton_barto_reward": True, "max_episode_steps": 77}  # type: ignore[attr-defined]


def test_a_resolved_config_cannot_be_changed() -> None:
    config = resolve(BASE)
    with pytest.raises(ValueError, match="frozen"):
        config.learner.batch_size = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["run.collect_agent_steps=1"], ["run.collect_agent_steps = 1", "at least 2"]),
        (["learner.batch_size=12"], ["learner.batch_size = 12", "8 environments", "try 16"]),
        (["agent.minibatches=3"], ["agent.minibatches = 3", "learner.batch_size"]),
        (["agent.minibatches=16"], ["agent.minibatches = 16", "learner.batch_size"]),
        (
            ["replay.prioritized=true"],
            ["replay.prioritized = true has no effect without agent.name =", "ppo"],
        ),
        (
            ["learner.prefetch_batches=1"],
            ["learner.prefetch_batches = 1 has no effect without agent.name ="],
        ),
        (["net.memory=transformer"], ["net.memory", "transformer", "lstm"]),
        (["net.memory=lstm", "net.separate_value=true"], ["separate_value", "memory none"]),
        (["agent.epochs=0"], ["agent.epochs", "0"]),
        (["agent.epsilon_end=0.1"], ["unknown key agent.epsilon_end"]),
    ],
)
def test_rollouts_that_cannot_be_are_refused(overrides: list[str], told: list[str]) -> None:
    message = refused(*overrides, config="classic/ppo")
    assert all(part in message for part in told), message


@pytest.mark.parametrize(("old", "value"), [("env.lanes", 4), ("net.begin_with", "runs/x"), ("runtime.lockstep", True)])
def test_an_old_key_names_the_new_one(old: str, value: Any, tmp_path: Path) -> None:
    """In an override, in a config, and in the config.yaml of a saved run."""
    new, since = RENAMED[old]
    told = f"{old} was renamed to {new} in {since}"
    section, key = old.split(".")
    assert refused(f"{old}={value}") == told
    data = as_mapping(resolve(BASE))
    data[section] = {**data[section], key: value}
    data[section].pop(new.split(".")[1])
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(data))
    assert refused(config=path) == f"{path}: {told}"
    with pytest.raises(UsageError) as error:
        rlsuite.train(resume=tmp_path)
    assert str(error.value) == f"{path}: {told}"


def test_old_keys_of_all_kinds_are_told_at_once_and_new_ones_exist() -> None:
    message = refused("env.lanes=4", "runtime.lockstep=true", "learner.batchsize=3")
    assert "env.num_envs" in message
    assert "runtime.synchronous" in message
    assert "did you mean learner.batch_size?" in message
    data = as_mapping(resolve(BASE))
    for old, (new, _) in RENAMED.items():
        section, key = new.split(".")
        assert key in data[section]
        assert old.split(".")[1] not in data[section]


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (
            ["learner.learning_rate_end=null", "learner.learning_rate_anneal_agent_steps=9"],
            "learner.learning_rate_anneal_agent_steps = 9 has no effect without learner.learning_rate_end (default: null)",
        ),
        (
            ["replay.importance_exponent_end=0.5", "replay.priority_exponent=0.7"],
            "replay.priority_exponent = 0.7 and replay.importance_exponent_end = 0.5 have no effect without "
            "replay.prioritized = true (defaults: 0.6, 1.0)",
        ),
        (["runtime.dashboard=true"], "runtime.dashboard = true has no effect without runtime.kind = ray (default: false)"),
    ],
)
def test_keys_without_effect_say_what_would_make_them_count(overrides: list[str], told: str) -> None:
    assert refused(*overrides) == told


def test_keys_at_their_defaults_are_always_allowed() -> None:
    """As in the config.yaml of every run."""
    assert resolve(BASE, ["replay.priority_exponent=0.6", "runtime.collectors=1"]).replay.prioritized is False


def test_an_override_that_switches_something_off_takes_along_what_depends_on_it() -> None:
    """What the file sets goes back to its default; what other overrides set is refused."""
    config = resolve("atari/pong", ["replay.prioritized=false", "eval.every_agent_steps=null"])
    assert config.replay.importance_anneal_agent_steps == 10_000_000
    assert config.eval.every_episodes == 10
    assert config.eval.stop_at_return is None
    assert as_mapping(check(as_mapping(config))) == as_mapping(config)
    message = refused("replay.prioritized=false", "replay.priority_exponent=0.7", config="atari/pong")
    assert message == "replay.priority_exponent = 0.7 has no effect without replay.prioritized = true (default: 0.6)"
    assert resolve("atari/apex-laptop", ["runtime.kind=local"]).runtime.learner_threads is None
    assert resolve("classic/recall_r2d2", ["net.memory=none"]).net.memory_size == 256


def test_another_agent_takes_along_what_it_ignores() -> None:
    changed = resolve(BASE, ["agent.name=q_learning", "env.id=FrozenLake-v1", "learner.optimizer=sgd"])
    assert changed.net == NetConfig()
    message = refused("agent.name=q_learning", "env.id=FrozenLake-v1", "net.hidden=64", "net.layer_norm=true")
    assert message == (
        "net.hidden = 64 and net.layer_norm = true have no effect without agent.name = an agent that has a net; "
        "q_learning has a table (defaults: 512, false)"
    )


def test_all_keys_without_effect_are_told_at_once() -> None:
    message = refused("learner.optimizer=sgd", "learner.optimizer_epsilon=0.1", "replay.priority_exponent=0.7", "runtime.shards=2")
    assert message.count("has no effect without") == 3


def test_the_config_of_a_run_keeps_no_key_without_effect() -> None:
    """Such as one of an older version that did not refuse it."""
    data = mapping("classic/q_learning") | {"net": {"torso": "onehot", "hidden": 9}}
    assert check(data, saved=True).net == NetConfig()
    with pytest.raises(UsageError, match=r"net\.hidden = 9 has no effect"):
        check(data, {"net.hidden"}, saved=True)


def test_values_of_numpy_and_paths_are_taken_as_overrides(tmp_path: Path) -> None:
    given = {
        "seed": np.int64(3),
        "agent.discount": np.float32(0.5),
        "agent.double": np.bool_(True),
        "learner.batch_size": np.uint8(64),
        "learner.learning_rate": np.float64(0.25),
        "run.agent_steps": np.array(70_000),
        "env.kwargs": {"sizes": [np.int32(2), np.float64(0.5)], "flags": [np.True_, {"on": np.False_}]},
        "net.weights": tmp_path,
    }
    config = resolve(BASE, given)
    assert (config.seed, config.agent.discount, config.agent.double) == (3, 0.5, True)
    assert (config.learner.batch_size, config.learner.learning_rate, config.run.agent_steps) == (64, 0.25, 70_000)
    assert config.env.kwargs == {"sizes": [2, 0.5], "flags": [True, {"on": False}]}
    assert config.net.weights == str(tmp_path)
    assert [type(value) for value in [*config.env.kwargs["sizes"], config.env.kwargs["flags"][0]]] == [int, float, bool]
    with pytest.raises(UsageError, match=r"seed = 1\.5: must be"):
        resolve(BASE, {"seed": np.float64(1.5)})


def test_a_file_with_a_key_without_effect_is_refused_whatever_is_overridden(tmp_path: Path) -> None:
    data = mapping(BASE)
    data["replay"]["priority_exponent"] = 0.7
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(data))
    for overrides in ([], ["seed=3"], ["eval.every_agent_steps=null"]):
        assert "replay.priority_exponent = 0.7 has no effect without replay.prioritized" in refused(*overrides, config=path)


@pytest.mark.parametrize("name", [name for name in config_names() if not name.startswith("vision/")])
def test_shipped_configs_set_no_key_without_effect(name: str) -> None:
    assert everything(check(mapping(name))) == everything(resolve(name))


def test_a_memory_core_or_torso_of_ones_own_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my.py").write_text("")
    monkeypatch.chdir(tmp_path)
    net = resolve("classic/ppo", ["net.memory=my.py:Core(width=3)", "net.torso=my.py:Torso"]).net
    assert net.memory == f"{tmp_path}/my.py:Core(width=3)"
    assert net.torso == f"{tmp_path}/my.py:Torso"
    rlsuite.register_memory_core("mine", object)
    try:
        assert resolve("classic/ppo", ["net.memory=mine(a=1)"]).net.memory == "mine(a=1)"
    finally:
        del registry.memory_cores.registered["mine"]
    assert "unknown memory core 'lstn'; did you mean lstm" in refused("net.memory=lstn(a=1)", config="classic/ppo")
