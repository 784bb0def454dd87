"""What is built for a run, and what is refused before the first step."""

from typing import Any

import pytest

from rlsuite.config.loader import resolve
from rlsuite.core.errors import UsageError
from rlsuite.core.types import describe
from rlsuite.factories import build, make_agent, make_collector_env, make_env, make_spec, refuse_short_sequences


@pytest.mark.parametrize("name", ["boards/tic_tac_toe", "boards/connect_four", "boards/go"])
def test_a_board_games_spec_is_that_of_its_environment(name: str) -> None:
    config = resolve(name, {"env.opponent": "random"})
    env = make_env(config, num_envs=2)
    assert make_spec(config) == describe(env)


def test_self_play_starts_no_opponent(monkeypatch: pytest.MonkeyPatch) -> None:
    from rlsuite.envs.boards import env

    def started(*_: Any) -> None:
        raise AssertionError("an opponent was started that nobody plays")

    monkeypatch.setattr(env, "make_opponent", started)
    config = resolve("boards/tic_tac_toe", {"env.num_envs": 4, "run.threads": 1})
    assert make_collector_env(config)[0] is None
    assert build(config).env is None


@pytest.mark.parametrize(
    ("opponent", "told"),
    [
        ("mtcs(simulations=3)", "did you mean mcts"),
        ("mcts(simulation=3)", "did you mean simulations"),
        ("gtp(command=no-such-engine --mode gtp)", "cannot be started: no program 'no-such-engine'"),
        ("gtp(command='engine \"open')", "is not a command"),
    ],
)
def test_an_opponent_that_could_not_play_is_refused_before_training(opponent: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        build(resolve("boards/tic_tac_toe", {"env.opponent": opponent}))


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("classic/key_door_cloning", {"net.memory": "causal(levels=6)"}, "looks at 64 steps, .*cloning hold 32, .*unroll by 32,"),
        ("classic/key_door_cloning", {"net.memory": "attention", "agent.burn_in": 0}, "looks at 33 steps, .*unroll by 1,"),
        ("classic/cartpole_dt", {"agent.unroll": 16}, "looks at 21 steps, .*transformer hold 16, .*agent.unroll by 5,"),
        ("classic/key_door_masked", {"net.memory": "attention(window=40)"}, "looks at 41 steps, .*masked_steps hold 32, .*by 9,"),
        (
            "classic/recall_r2d2",
            {"net.memory": "causal(levels=7)", "agent.stored_state": False, "agent.burn_in": 9, "agent.unroll": 20},
            "looks at 128 steps, .*r2d2 hold 29, .*agent.unroll by 99,",
        ),
    ],
)
def test_a_core_that_looks_further_back_than_sequences_go_is_refused(name: str, overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        build(resolve(name, {"run.threads": 1, **overrides}))
    assert "\n" not in str(caught.value)


def test_a_stored_state_holds_the_past() -> None:
    """As does burn-in, as far as it goes."""
    build(resolve("classic/recall_r2d2", {"net.memory": "causal(levels=7)", "run.threads": 1})).close()
    config = resolve("classic/key_door_cloning", {"net.memory": "causal(levels=6)", "agent.burn_in": 32})
    refuse_short_sequences(make_agent(config, make_spec(config)), config)


def test_what_was_trained_on_short_sequences_can_still_play() -> None:
    config = resolve("classic/key_door_cloning", {"net.memory": "causal(levels=6)"})
    agent = make_agent(config, make_spec(config))  # as an evaluation makes it
    with pytest.raises(UsageError, match="looks at 64 steps"):
        refuse_short_sequences(agent, config)


@pytest.mark.parametrize("name", ["classic/recall_ppo", "classic/recall_r2d2", "classic/key_door_cloning"])
def test_nobody_acts_with_a_core_that_looks_ahead(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        build(resolve(name, {"net.memory": "bidirectional(core=gru)", "run.threads": 1}))
    agent = resolve(name).agent.name
    assert f"'bidirectional(core=gru)' reads steps that are still to come: agent.name={agent} cannot use that" in str(caught.value)
