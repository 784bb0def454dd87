"""Recorded episodes to learn from, in our own folder format or as Minari datasets.

    <folder>/demonstrations.json     format, environment id, spaces, number of steps, returns of the episodes
    <folder>/observation.npy ...     one stream of steps, episode after episode; frames as single planes

A folder is written under a temporary name next to its destination and then renamed. Arrays are read without pickle, and everything
is checked on reading.

Shapes: N steps, n actions of an episode, S planes of a frame stack, P pixels of a plane.
"""

import json
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

from rlsuite.core.errors import RlsuiteError, UsageError, one_line
from rlsuite.core.files import parse_json
from rlsuite.core.spaces import from_plain
from rlsuite.core.types import EnvSpec, Step, describe, other_spaces, part_of, spec_of, translations
from rlsuite.replay.stacks import stack_rows

FORMAT = 1
_FILE = "demonstrations.json"
_LEAVES = ("observation", "reward", "first", "last", "terminal", "action")


class Demonstrations(NamedTuple):
    """Whole episodes of one environment. An episode of n actions has n + 1 steps."""

    env_id: str
    spec: EnvSpec
    steps: Step  # leaves [N,...]

    def episodes(self) -> Iterator[Step]:
        """The episodes one by one, leaves [n+1,...]."""
        begins = np.flatnonzero(self.steps.first)
        for begin, end in zip(begins, [*begins[1:], len(self.steps.first)], strict=True):
            yield part_of(self.steps, slice(begin, end))

    def returns(self) -> list[float]:
        """The undiscounted return of every episode."""
        return [float(episode.reward.sum()) for episode in self.episodes()]


def check_new(folder: Path) -> None:
    """Checks that `save` will be able to write `folder`, and makes its parent folders. UsageError if not."""
    if folder.exists():
        raise UsageError(f"{folder} exists already: name a new folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder.parent):
            pass
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror or error}") from error


def save(demonstrations: Demonstrations, folder: Path) -> None:
    """Writes demonstrations to a new folder. UsageError if it exists already, or if the steps are not whole episodes."""
    check_new(folder)
    temporary = folder.with_name(f".{folder.name}.part")
    _check_stream(demonstrations, "the recording")
    spec = demonstrations.spec
    document = {
        "format": FORMAT,
        "env_id": demonstrations.env_id,
        "spec": spec._asdict(),
        "steps": len(demonstrations.steps.first),
        "returns": demonstrations.returns(),
    }
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        for name in _LEAVES:
            np.save(temporary / f"{name}.npy", getattr(demonstrations.steps, name), allow_pickle=False)
        (temporary / _FILE).write_text(json.dumps(document, indent=1) + "\n")
        os.replace(temporary, folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise RlsuiteError(f"could not write {folder}: {error.strerror or error}") from error


def has_actions(path: Path) -> bool:
    """Whether a recording has actions; our own folders may have none, if the play was only watched."""
    return not (path / _FILE).is_file() or (path / "action.npy").exists()


def load(path: Path, spec: EnvSpec | None = None, env_id: str | None = None, actions: bool = True) -> Demonstrations:
    """Reads demonstrations from our own folder, or from a Minari dataset, given by its id or its folder (which contains `data/`).

    `spec`: the spec of an environment that they must fit. `env_id`: the environment that they must come from; not checked for
    Minari datasets, which may use other ids. `actions`: require actions; otherwise missing ones are 0. A UsageError names the file
    and what is wrong with it.
    """
    ours = (path / _FILE).is_file()
    if actions and not has_actions(path):
        raise UsageError(f"{path} has no actions (action.npy): `rlsuite label {path} --with RUN --out DIR` writes one that has")
    if ours:
        found = _own(path)
    elif path.is_dir() and not (path / "data").is_dir():
        raise UsageError(f"{path} contains neither {_FILE} nor a Minari dataset (data/)")
    else:
        found = _minari(path)
    _check_stream(found, path)
    if ours and env_id not in (None, found.env_id):
        raise UsageError(f"{path} was recorded in {found.env_id}, not in {env_id}")
    if spec is not None:
        if ours and found.spec.frames_per_step != spec.frames_per_step:
            raise UsageError(f"{path} has {found.spec.frames_per_step} frames a step, this environment has {spec.frames_per_step}")
        found = _fitting(found, spec, path)
    return found


def _own(folder: Path) -> Demonstrations:
    try:
        document = parse_json((folder / _FILE).read_text())
        if document["format"] != FORMAT:
            raise UsageError(f"{folder / _FILE}: format = {document['format']}, but this version reads format {FORMAT}")
        spec = spec_of(document["spec"])
        env_id, count = str(document["env_id"]), int(document["steps"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{folder / _FILE} is damaged: {type(error).__name__}: {error}") from error
    leaves: dict[str, Any] = {}
    if not has_actions(folder):
        leaves["action"] = np.zeros((count, *spec.action_shape), spec.action_dtype)
    for name in _LEAVES[: len(_LEAVES) - len(leaves)]:
        file = folder / f"{name}.npy"
        try:
            leaf = np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError, BadZipFile) as error:
            raise UsageError(f"{file} cannot be read: {error}") from error
        if not isinstance(leaf, np.ndarray):
            raise UsageError(f"{file} contains several arrays, but must contain one")
        if leaf.ndim == 0 or len(leaf) != count:
            raise UsageError(f"{file} has {len(leaf) if leaf.ndim else 'no'} steps, but {_FILE} says {count}: it is truncated")
        leaves[name] = leaf
    planes = spec.observation_shape[1:] if spec.stack > 1 else spec.observation_shape
    if leaves["observation"].shape[1:] != planes or leaves["observation"].dtype.name != spec.observation_dtype:
        raise UsageError(
            f"{folder / 'observation.npy'} has {leaves['observation'].dtype} {list(leaves['observation'].shape[1:])}, "
            f"but {_FILE} says {spec.observation_dtype} {list(planes)}"
        )
    if leaves["action"].shape[1:] != spec.action_shape:
        raise UsageError(
            f"{folder / 'action.npy'} has shape {list(leaves['action'].shape[1:])}, but {_FILE} says {list(spec.action_shape)}"
        )
    for name, dtype in (("reward", "float32"), ("first", "bool"), ("last", "bool"), ("terminal", "bool")):
        if leaves[name].dtype.name != dtype or leaves[name].ndim != 1:
            raise UsageError(f"{folder / f'{name}.npy'} must be {dtype} [N], not {leaves[name].dtype} {list(leaves[name].shape)}")
    return Demonstrations(env_id, spec, Step(**leaves, extras={}))


def _minari(path: Path) -> Demonstrations:
    try:
        import minari
    except ImportError as error:
        what = "a Minari dataset" if path.is_dir() else "there is no such folder, and a Minari dataset of that name"
        raise UsageError(f"{path}: {what} needs the package minari (pip install 'rlsuite[demonstrations]')") from error
    where = path if path.is_dir() else Path(os.environ.get("MINARI_DATASETS_PATH", Path.home() / ".minari" / "datasets")) / path
    if not where.is_dir():
        raise UsageError(f"{path}: there is no such folder" + ("" if path.is_absolute() else f", and no Minari dataset {where}"))
    _refuse_without_spaces(where, path)
    try:
        data = minari.MinariDataset(path / "data") if path.is_dir() else minari.load_dataset(str(path))
        env_id = data.env_spec.id if data.env_spec is not None else "unknown"
        spaces, action_space = data.observation_space, data.action_space
        episodes = list(data.iterate_episodes())
    except Exception as error:  # anything that the library and its file formats may raise
        raise UsageError(f"{path} cannot be read as a Minari dataset: {type(error).__name__}: {error}") from error
    try:
        spec = describe(SimpleNamespace(single_observation_space=spaces, single_action_space=action_space, metadata={}))
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    if not episodes:
        raise UsageError(f"{path} contains no episodes")
    streams = [_stream(episode, spec, (spaces, action_space), f"{path}: episode {episode.id}") for episode in episodes]
    whole = {name: np.concatenate([stream[name] for stream in streams]) for name in _LEAVES}
    return Demonstrations(env_id, spec, Step(**whole, extras={}))


def _refuse_without_spaces(where: Path, path: Path) -> None:
    """UsageError for a dataset without spaces: Minari would make the environment to find them, which can run any code."""
    file = where / "data" / "metadata.json"
    try:
        metadata = parse_json(file.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as a Minari dataset: {file}: {one_line(error)}") from error
    spaces = ("observation_space", "action_space")
    if not (isinstance(metadata, dict) and all(isinstance(metadata.get(name), str) for name in spaces)):
        raise UsageError(f"{path}: {file} does not have both {' and '.join(spaces)}")


def _stream(episode: Any, spec: EnvSpec, spaces: tuple[Any, Any], where: str) -> dict[str, NDArray[Any]]:
    """A Minari episode (n actions, n + 1 observations) as steps: each reward moves to the observation that came with it.

    `spaces`: the dataset's, of observations and of actions.
    """
    actions, rewards = np.asarray(episode.actions), np.asarray(episode.rewards, np.float32)
    n, observation, parts = len(actions), episode.observations, {}
    if isinstance(observation, dict):
        parts = {f"observations[{key!r}]": (np.asarray(observation.get(key)), part) for key, part in spaces[0].spaces.items()}
    else:
        observation = np.asarray(observation)
        parts = {"observations": (observation, spaces[0])}
    lengths = {**{name: part.shape[0] - 1 if part.ndim else -1 for name, (part, _) in parts.items()}, "rewards": len(rewards)}
    lengths |= {"terminations": len(episode.terminations), "truncations": len(episode.truncations)}
    for name, length in lengths.items():
        if length != n:
            raise UsageError(f"{where} has {n} actions, but {length} {name}" + " after the first" * (name == "observations"))
    ends = np.asarray(episode.terminations, bool) | np.asarray(episode.truncations, bool)
    if n == 0 or not ends[-1] or ends[:-1].any():
        raise UsageError(
            f"{where} must end at its last action and only there, but its flags end it at {np.flatnonzero(ends).tolist()}"
        )
    for name, (given, space) in {**parts, "actions": (actions, spaces[1])}.items():
        if given.shape[1:] != space.shape:
            raise UsageError(f"{where} has {name} {list(given.shape[1:])}, but their space is {list(space.shape)}")
    observed, chosen = translations(spec)
    try:
        observation, actions = observed.to_agent(observation), chosen.to_agent(actions)
    except RlsuiteError as error:
        raise UsageError(f"{where}: {error}") from error
    at = np.arange(n + 1)
    blank = np.zeros((1, *actions.shape[1:]), actions.dtype)
    return {
        "observation": observation.astype(spec.observation_dtype, copy=False),
        "reward": np.concatenate([np.zeros(1, np.float32), rewards]),
        "first": at == 0,
        "last": at == n,
        "terminal": (at == n) & bool(episode.terminations[-1]),
        "action": np.concatenate([actions, blank]),
    }


def _check_stream(found: Demonstrations, path: Path | str) -> None:
    steps, spec = found.steps, found.spec
    count = len(steps.first)
    if count == 0 or not steps.first[0]:
        raise UsageError(f"{path}: `first` must mark the first step, because episodes must be whole")
    if not steps.last[-1]:
        raise UsageError(f"{path}: `last` does not mark the last step: the last episode is incomplete, or its flag is missing")
    gaps = np.flatnonzero(steps.first[1:] != steps.last[:-1])
    if gaps.size:
        raise UsageError(f"{path}: step {gaps[0]}: `last` and the `first` of the next step disagree: a flag is missing")
    if (steps.terminal & ~steps.last & steps.first).any():
        raise UsageError(f"{path}: step {int(np.flatnonzero(steps.terminal & steps.first)[0])} is both `first` and `terminal`")
    acted = ~steps.last
    if spec.num_actions:
        wrong = acted & ((steps.action < 0) | (steps.action >= spec.num_actions))
        if steps.action.dtype.kind not in "iu" or wrong.any():
            bad = steps.action[wrong][:1].tolist() or [str(steps.action.dtype)]
            raise UsageError(f"{path}: actions must be whole numbers below {spec.num_actions}, found {bad[0]}")
    if spec.num_states is not None and ((steps.observation < 0) | (steps.observation >= spec.num_states)).any():
        raise UsageError(f"{path}: observations must be whole numbers below {spec.num_states}")
    for name in ("reward", "observation", "action"):
        leaf = getattr(steps, name)
        if leaf.dtype.kind == "f" and not np.isfinite(leaf).all():
            raise UsageError(f"{path}: {name} of step {int(np.argwhere(~np.isfinite(leaf))[0][0])} is not finite")


def _fitting(found: Demonstrations, spec: EnvSpec, path: Path) -> Demonstrations:
    """The demonstrations converted to an environment with this `spec`. UsageError if the spaces differ."""
    has, observation = found.spec, found.steps.observation
    if spec.stack > 1 and has.stack == 1 and observation.shape[1:] == spec.observation_shape:
        observation = np.ascontiguousarray(observation[:, -1])  # the newest plane of every stack
        has = has._replace(stack=spec.stack)
    if spec.stack > 1 and has.stack == 1 and observation.shape[1:] == spec.observation_shape[1:]:
        has = has._replace(stack=spec.stack, observation_shape=spec.observation_shape)
    if (difference := other_spaces(spec, has)) is not None:
        raise UsageError(f"{path} was recorded with {difference} as in this environment")
    dtype = np.float32 if spec.action_shape else np.int64
    return Demonstrations(
        found.env_id, spec, found.steps._replace(observation=observation, action=found.steps.action.astype(dtype))
    )


def check_minari(dataset_id: str) -> None:
    """Checks that `save_minari` will be able to write this dataset. UsageError if not."""
    try:
        import minari
    except ImportError as error:
        raise UsageError("Minari datasets need the package minari (pip install 'rlsuite[demonstrations]')") from error
    try:
        minari.namespace.validate_namespace(dataset_id.rpartition("/")[0])
        taken = dataset_id in minari.list_local_datasets()
    except Exception as error:
        raise UsageError(f"Minari refuses {dataset_id}: {error}") from error
    if taken or not re.fullmatch(r"[\w/-]+-v\d+", dataset_id):
        raise UsageError(f"Minari refuses {dataset_id}: " + ("it exists already" if taken else "it must read namespace/name-v0"))


def save_minari(demonstrations: Demonstrations, dataset_id: str) -> None:
    """Writes a local Minari dataset `namespace/name-v0`, with whole frame stacks. UsageError if Minari is missing or refuses it."""
    try:
        import minari
        from minari.data_collector import EpisodeBuffer
    except ImportError as error:
        raise UsageError("Minari datasets need the package minari (pip install 'rlsuite[demonstrations]')") from error
    spec = demonstrations.spec
    dtype = np.dtype(spec.observation_dtype)
    low, high = (np.iinfo(dtype).min, np.iinfo(dtype).max) if dtype.kind in "iu" else (-np.inf, np.inf)
    space: Any = Box(low, high, spec.observation_shape, dtype.type) if spec.num_states is None else Discrete(spec.num_states)
    actions: Any = Discrete(spec.num_actions) if spec.num_actions else Box(-np.inf, np.inf, spec.action_shape, np.float32)
    space, actions = (
        ours if own is None else from_plain(own) for ours, own in ((space, spec.observation_space), (actions, spec.action_space))
    )
    observed, chosen = translations(spec)
    buffers = []
    for index, episode in enumerate(demonstrations.episodes()):
        n = len(episode.reward) - 1
        ends = np.arange(n) == n - 1
        buffers.append(
            EpisodeBuffer(
                id=index,
                observations=observed.to_env(stacks(episode.observation, spec.stack)),
                actions=chosen.to_env(episode.action[:-1]),
                rewards=episode.reward[1:],
                terminations=ends & bool(episode.terminal[-1]),
                truncations=ends & ~bool(episode.terminal[-1]),
            )
        )
    about = f"Recorded by rlsuite in {demonstrations.env_id}."
    try:
        with warnings.catch_warnings(action="ignore"):  # about author, code and other missing metadata
            minari.create_dataset_from_buffers(
                dataset_id, buffers, observation_space=space, action_space=actions, description=about
            )
    except Exception as error:  # a name that is taken or not allowed, a full disk, ...
        raise UsageError(f"Minari refuses {dataset_id}: {error}") from error


def stacks(planes: NDArray[Any], stack: int) -> NDArray[Any]:
    """Planes [n,...] of one episode as the frame stacks [n,S,...] that an agent sees; unchanged where nothing is stacked."""
    if stack == 1:
        return planes
    rows = np.maximum(np.arange(len(planes))[:, None] + np.arange(1 - stack, 1), -1)  # [n,S]
    stacks = stack_rows(planes.reshape(len(planes), -1), rows)  # [n,P,S]
    return np.moveaxis(stacks, -1, 1).reshape(len(planes), stack, *planes.shape[1:])
