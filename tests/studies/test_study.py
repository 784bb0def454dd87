"""Files of studies: what they amount to, and what is wrong with them."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from rlsuite.core.errors import RlsuiteError, UsageError
from rlsuite.runs import run_folder
from rlsuite.studies import study as studies
from rlsuite.studies.study import Range

SMALL: dict[str, Any] = {"config": "classic/dqn", "seeds": 2}


def test_a_grid_is_every_combination_with_the_first_seed_first() -> None:
    axes = {"learner.learning_rate": [0.001, 0.002], "net.hidden": {"low": 16, "high": 64, "log": True, "count": 3}}
    study = studies.load({**SMALL, "axes": axes, "games": ["CartPole-v1", "Acrobot-v1"]})
    trials = studies.grid(study)
    assert len(trials) == len({trial.name for trial in trials}) == 2 * 2 * 3 * 2
    assert trials[0].name == "learning_rate=0.001__hidden=16__CartPole-v1__seed1"
    assert [trial.overrides["seed"] for trial in trials] == [1] * 12 + [2] * 12
    config = trials[-1].resolve()
    assert (config.learner.learning_rate, config.net.hidden, config.env.id, config.run.threads) == (0.002, 64, "Acrobot-v1", 1)


def test_ranges() -> None:
    assert Range(low=1, high=9, count=3).values() == [1, 5, 9]
    assert Range(low=1e-4, high=1e-2, log=True, count=3).values() == [0.0001, 0.001, 0.01]


def test_lists_of_games_and_several_configs() -> None:
    study = studies.load({"config": ["atari/dqn", "atari/c51"], "seeds": [7], "games": "atari5"})
    assert len(studies.grid(study)) == 10
    assert studies.grid(study)[0].name == "atari-dqn__BattleZone-v5__seed7"
    studies.check(study)


def test_a_config_beside_the_study_is_found(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("agent: {name: dqn}\nenv: {id: CartPole-v1}\nnet: {torso: mlp}\n")
    (tmp_path / "study.yaml").write_text("config: mine.yaml\nseeds: 1\noverrides:\n  net: {hidden: 16}\n")
    [trial] = studies.grid(studies.load(tmp_path / "study.yaml"))
    assert trial.resolve().net.hidden == 16


SEARCH = {**SMALL, "axes": {"learner.learning_rate": {"low": 1e-4, "high": 1e-2}}, "search": {"trials": 2}}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sedes": 3}, "unknown key sedes; did you mean seeds"),
        ({"config": "classic/dqm"}, "unknown config 'classic/dqm'; did you mean classic/dqn"),
        ({"seeds": []}, "no trials: seeds is empty"),
        ({"seeds": True}, "seeds: must be a list of integers, or a number from 1 to"),
        ({"seeds": 10**9}, "seeds: must be a list of integers, or a number from 1 to"),
        ({"seeds": [1, 1]}, "seeds holds 1 twice"),
        ({"seeds": [1, -3]}, "greater than or equal to 0"),
        ({"axes": {"agent.epsilon_end": {"low": 0, "high": 1, "count": 5}}}, "fewer whole numbers between 0 and 1; write 0.0 for"),
        ({"axes": {"net.hidden": []}}, "no trials: axes.net.hidden is empty"),
        ({"axes": {"net.hidden": 16}}, r"net.hidden = 16: an axis is a list of values, or \{low, high"),
        ({"axes": {"net.hidden": ["many"]}}, "net.hidden = 'many': must be"),
        ({"axes": {"net.hiden": [16]}}, "unknown key net.hiden; did you mean net.hidden"),
        ({"axes": {"net.hidden": [16, 16]}}, "an axis has a value twice"),
        ({"axes": {"net.hidden": {"low": 16, "high": 64}}}, "axes.net.hidden: a range needs count, or a search"),
        ({"axes": {"net.hidden": {"low": 64, "high": 16, "count": 2}}}, "low 64 must be below high 16"),
        ({"axes": {"net.hidden": {"low": 1, "high": 16, "cuont": 2}}}, "net.hidden.cuont"),
        ({"axes": {"seed": [1, 2]}}, "seed: a study names these by its key seeds"),
        ({"axes": {"net.hidden": [8]}, "overrides": {"net.hidden": 8}}, "net.hidden is an axis and an override"),
        ({"games": "atari10k"}, "unknown list of games 'atari10k'; did you mean atari100k"),
        ({"games": ["ALE/Pongg-v5"]}, "Pongg"),
        ({"search": {"trials": 2}}, "nothing to search over without axes"),
        ({**SEARCH, "search": {"trials": 0}}, "search.trials = 0"),
        ({**SEARCH, "search": {"trials": 1, "sampler": "tpee"}}, "search.sampler = 'tpee'"),
        ({**SEARCH, "config": ["classic/dqn", "classic/ppo"]}, "search: goes over the axes of one config"),
        ({**SEARCH, "overrides": {"eval.every_agent_steps": None}}, "search: its objective needs periodic evaluations"),
        ({**SEARCH, "games": ["CartPole-v1", "Acrobot-v1"]}, "CartPole-v1 has no human score"),
    ],
)
def test_a_bad_study_is_refused_in_a_line(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):  # noqa: PT012 (whichever of them finds it)
        study = studies.load({**SMALL, **changes})
        studies.check(study)
        if study.search is None:
            studies.grid(study)


def test_a_folder_of_another_study_is_refused_with_what_differs(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    studies.keep(studies.load({**SMALL, "axes": {"net.hidden": [16]}}), folder)
    studies.keep(studies.load({**SMALL, "axes": {"net.hidden": [16]}, "seeds": 3}), folder)  # more seeds may be appended
    assert yaml.safe_load((folder / "study.yaml").read_text())["seeds"] == [1, 2, 3]
    with pytest.raises(UsageError, match=r"of another study \(axes\.net\.hidden = \[32\], there \[16\]\)"):
        studies.keep(studies.load({**SMALL, "seeds": 3, "axes": {"net.hidden": [32]}}), folder)
    with pytest.raises(UsageError, match="seeds"):
        studies.keep(studies.load({**SMALL, "seeds": 1, "axes": {"net.hidden": [16]}}), folder)


def test_a_study_with_a_search_is_another_one_than_without(tmp_path: Path) -> None:
    study = {**SMALL, "axes": {"net.hidden": [16, 32]}}
    studies.keep(studies.load(study), tmp_path / "grid")
    with pytest.raises(UsageError, match=r"of another study \(search\.trials = 2, there None"):
        studies.keep(studies.load({**study, "search": {"trials": 2}}), tmp_path / "grid")


def test_a_study_file_that_says_the_same_is_left_as_it_is(tmp_path: Path) -> None:
    text = "# my study\nconfig: classic/dqn\nseeds: [1, 2]\n"
    (tmp_path / "study.yaml").write_text(text)
    studies.keep(studies.load(tmp_path / "study.yaml"), tmp_path)
    assert (tmp_path / "study.yaml").read_text() == text


def test_the_folders_of_trials_that_have_not_begun_are_named_too(tmp_path: Path) -> None:
    studies.keep(studies.load(SMALL), tmp_path)
    assert [path.name for path in studies.run_folders(tmp_path)] == ["seed1", "seed2"]


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UsageError, match="is not empty and holds no study"):
        studies.keep(studies.load(SMALL), tmp_path)


def test_a_trial_that_was_changed_is_refused(tmp_path: Path) -> None:
    [trial, _] = studies.grid(studies.load(SMALL))
    run_folder.create(trial.resolve(), tmp_path)
    studies.refuse_changed(trial, tmp_path)
    other = studies.trial(studies.load(SMALL), {"net.hidden": 32}, None, 1)
    with pytest.raises(
        RlsuiteError, match=r"began with other settings: net\.hidden = 128, the study's is 32; .*choose another --out"
    ):
        studies.refuse_changed(other, tmp_path)
    path = tmp_path / "config.yaml"
    path.write_text(path.read_text().replace("hidden: 128", "hidden: 64"))
    with pytest.raises(RlsuiteError, match=r"was changed: net\.hidden = 64, the study's is 128; put it back"):
        studies.refuse_changed(trial, tmp_path)
