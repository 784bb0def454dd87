"""Reports: published columns, runs and studies; what cannot stand in one table is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from helpers import finished_run

from rlsuite.core.errors import RlsuiteError, UsageError
from rlsuite.factories import evaluation_seed
from rlsuite.studies import pages
from rlsuite.studies.report import report

PUBLISHED = {  # of the 26 games, as printed beside the tables that they come from
    "SPR": (0.616, 0.396, 0.415),
    "DrQ_eps": (0.465, 0.313, 0.321),
    "CURL": (0.261, 0.092, 0.132),
    "DER": (0.350, 0.189, 0.196),
    "BBF": (2.247, 0.917, 1.139),
}
CARTPOLE = {"run.agent_steps": 1_000, "eval.every_agent_steps": 400, "eval.stop_at_return": None}


def pong(folder: Path, seed: int, score: float, **more: Any) -> Path:
    overrides = {"env.id": "ALE/Pong-v5", "seed": seed, **more}
    return finished_run(folder, "atari/dqn", overrides, [score - 1, score + 1], [(50, -20.0), (100, score)])


@pytest.mark.parametrize("agent", PUBLISHED)
def test_published_columns_give_the_published_aggregates(agent: str) -> None:
    column = report(baseline="atari100k")["columns"][agent]
    found = tuple(column["aggregates"][name] for name in ("mean", "median", "iqm_of_game_means"))
    assert found == pytest.approx(PUBLISHED[agent], abs=0.0005)
    assert "iqm_over_runs" not in column["aggregates"]  # not known of one number a game
    assert column["games"] == 26


def test_runs_beside_a_baseline(tmp_path: Path) -> None:
    runs = [pong(tmp_path / "a", 1, -20.7), pong(tmp_path / "b", 2, 14.6)]
    runs.append(finished_run(tmp_path / "c", "atari/dqn", {"env.id": "ALE/Alien-v5", "seed": 1}, [7127.7], [(50, 227.8)]))
    document = report(runs, "atari100k")
    [(label, agent)] = document["agents"].items()
    assert label == "atari/dqn"
    game = agent["games"]["pong"]
    assert game["scores"] == pytest.approx([-20.7, 14.6])
    assert game["human_normalised"] == pytest.approx(0.5)
    assert game["interval_over"] == "runs"
    assert agent["games"]["alien"]["interval_over"] == "episodes"
    assert agent["games_at_or_above_human"] == 1
    aggregates = {name: one["value"] for name, one in agent["aggregates"].items()}
    expected = {"mean": 0.75, "median": 0.75, "iqm_over_runs": 2 / 3, "iqm_of_game_means": 0.75, "optimality_gap": 0.25}
    assert aggregates == pytest.approx(expected)
    assert agent["aggregates"]["mean"]["interval"] == pytest.approx((0.5, 1.0))
    # A published aggregate over 26 games is no match for ours over two: the columns are of the same games.
    assert document["columns"]["SPR"]["games"] == 2
    assert document["columns"]["SPR"]["scores"]["pong"] == -5.41
    assert any(text.startswith("env.life_loss = False") for text in document["differs_from_baseline"])


def test_curves_rest_on_the_last_evaluation_so_far(tmp_path: Path) -> None:
    runs = [
        finished_run(tmp_path / str(seed), "classic/dqn", {**CARTPOLE, "seed": seed}, [1.0], evaluations)
        for seed, evaluations in ((1, [(400, 10.0), (800, 20.0)]), (2, [(408, 30.0), (808, 50.0)]))
    ]
    curve = report(runs)["agents"]["classic/dqn"]["curve"]
    assert curve["agent_steps"] == [408, 800]
    assert curve["iqm_over_runs"] == [20.0, 25.0]


def test_without_human_scores_nothing_is_averaged_over_games(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run", "classic/dqn", CARTPOLE, [10.0, 30.0])
    document = report([run])
    assert document["agents"]["classic/dqn"]["aggregates"] is None
    assert document["agents"]["classic/dqn"]["games"]["CartPole-v1"]["mean"] == 20.0
    assert "no human score" in pages.markdown(document)


def test_agents_are_told_apart_by_what_differs(tmp_path: Path) -> None:
    runs = [
        pong(tmp_path / f"{rate}-{seed}", seed, rate, **{"learner.learning_rate": rate / 1e5})
        for rate in (1.0, 2.0)
        for seed in (1, 2)
    ]
    document = report(runs)
    names = ["atari/dqn (learner.learning_rate=1e-05)", "atari/dqn (learner.learning_rate=2e-05)"]
    assert list(document["agents"]) == names
    better = {(one["better"], one["than"]): one["value"] for one in document["improvement"]}
    assert better == {(names[0], names[1]): 0.0, (names[1], names[0]): 1.0}
    with pytest.raises(UsageError, match="are the same run twice"):
        report([*runs, pong(tmp_path / "again", 1, 1.0, **{"learner.learning_rate": 1e-5})])


def test_protocols_are_not_mixed(tmp_path: Path) -> None:
    runs = [pong(tmp_path / "a", 1, 1.0), pong(tmp_path / "b", 2, 2.0, **{"env.protocol": "sticky", "run.agent_steps": 777_777})]
    with pytest.raises(UsageError, match=r"env\.protocol = classic \(a\) and sticky \(b\); run\.agent_steps = .*--mixed-protocols"):
        report(runs)
    assert report(runs, mixed_protocols=True)["protocol"]["env.protocol"] == ["classic", "sticky"]


def test_what_cannot_be_reported_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to report on"):
        report()
    with pytest.raises(UsageError, match="does not exist"):
        report([tmp_path / "none"])
    run = finished_run(tmp_path / "run", "classic/dqn", CARTPOLE, [10.0])
    with pytest.raises(UsageError, match="baseline atari100k has no row for CartPole-v1"):
        report([run], "atari100k")
    evaluation = next((run / "checkpoints").glob("*.evaluation.json"))
    text = evaluation.read_text()
    evaluation.write_text(text.replace('"mean": 10.0', '"mean": 500.0'))
    with pytest.raises(RlsuiteError, match="damaged or was edited"):
        report([run])
    periodic = json.loads(text) | {"seed": evaluation_seed(1, final=False)}
    evaluation.write_text(json.dumps(periodic))  # of the best weights so far, which a run has long before it is finished
    with pytest.raises(UsageError, match="has no final evaluation yet"):
        report([run])


def test_pages(tmp_path: Path) -> None:
    runs = [pong(tmp_path / str(seed), seed, float(seed)) for seed in (1, 2)]
    written = pages.write(report(runs, "atari100k"), tmp_path / "out")
    assert [path.name for path in written] == ["report.md", "report.json", "profiles.png", "curves.png"]
    text = written[0].read_text()
    assert "| IQM over runs | IQM of game means |" in text
    assert "random and human scores of `atari100k`" in text
    assert "`env.protocol` classic" in text
    assert "Not the baseline's protocol" in text
    assert json.loads(written[1].read_text())["games"] == ["pong"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written[2:])
