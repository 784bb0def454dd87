"""Between an environment's spaces and an agent's: dtypes, bounds, starts and layouts, for random spaces and by hand."""

import json
from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, Graph, MultiBinary, MultiDiscrete, Space, Text, Tuple

from rlsuite.core.errors import RlsuiteError, UsageError
from rlsuite.core.spaces import actions, batch_of, from_plain, observations, plain
from rlsuite.core.types import as_tuples

DTYPES: tuple[Any, ...] = (np.bool_, np.float32, np.float64, np.float16, np.uint8, np.int8, np.int16, np.int32, np.int64, np.uint32)


def random_box(rng: np.random.Generator) -> Box:
    dtype = np.dtype(rng.choice(DTYPES))
    shape: tuple[int, ...] = tuple(rng.integers(1, 6, rng.integers(0, 4)).tolist())
    if dtype.kind == "f":
        size = float(rng.choice([1e-3, 1.0, 50.0, 1000.0, 3e4]))
        low = rng.uniform(-size, size, shape)
        high = low + rng.uniform(0.1, 1.0, shape) * size
        if rng.random() < 0.3:
            low, high = np.where(rng.random(shape) < 0.5, -np.inf, low), np.where(rng.random(shape) < 0.5, np.inf, high)
        return Box(low.astype(dtype), high.astype(dtype), shape, dtype.type)
    if dtype == np.bool_:
        return Box(0, 1, shape, np.bool_)
    limits = np.iinfo(dtype)
    if rng.random() < 0.3:
        return Box(limits.min, limits.max, shape, dtype.type)
    low = rng.integers(max(limits.min, -1000), min(limits.max, 1000), shape)
    high = np.minimum(low + rng.integers(0, 1000, shape), limits.max)
    return Box(low.astype(dtype), high.astype(dtype), shape, dtype.type)


def random_observations(rng: np.random.Generator) -> Space[Any]:
    """Any space that agents can see."""
    match rng.integers(5):
        case 0:
            return Discrete(int(rng.integers(1, 10)), start=int(rng.integers(-5, 6)))
        case 1:
            shape = tuple(rng.integers(1, 4, rng.integers(1, 3)).tolist())
            return MultiDiscrete(rng.integers(1, 6, shape), start=rng.integers(-3, 4, shape))
        case 2:
            return MultiBinary(tuple(rng.integers(1, 5, rng.integers(1, 4)).tolist()))
        case _:
            return random_box(rng)


def random_actions(rng: np.random.Generator) -> Space[Any]:
    """Any space that agents can choose from."""
    return Discrete(int(rng.integers(2, 6)), start=int(rng.integers(-5, 6))) if rng.random() < 0.4 else random_box(rng)


@pytest.mark.parametrize("seed", range(200))
def test_random_spaces_are_translated_there_and_back(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for space, make in ((random_observations(rng), observations), (random_actions(rng), actions)):
        space.seed(seed)
        translation = make(space)
        given = np.stack([np.asarray(space.sample()) for _ in range(3)])  # [L,...]
        kept = given.copy()
        ours = translation.to_agent(given)
        np.testing.assert_array_equal(given, kept)
        assert ours.shape == (3, *translation.space.shape)
        assert ours.dtype == translation.space.dtype
        assert np.isfinite(ours).all()
        if make is observations and translation.space.dtype != np.uint8 and isinstance(translation.space, Box):
            assert abs(ours.astype(float)).max() <= 128
        back = translation.to_env(ours)
        assert back.shape == given.shape
        assert back.dtype == given.dtype
        assert all(space.contains(one) for one in back)
        if isinstance(space, Box):
            span = np.maximum(1.0, np.minimum(abs(given.astype(float)), 1e30))
            assert (abs(back.astype(float) - given.astype(float)) / span).max() < 0.01
        else:
            np.testing.assert_array_equal(back, given)
        again = from_plain(as_tuples(json.loads(json.dumps(plain(space)))))
        assert again == space
        assert again.dtype == space.dtype
        np.testing.assert_array_equal(make(again).to_agent(given), ours)


@pytest.mark.parametrize("seed", range(200))
def test_whatever_an_agent_chooses_is_in_the_space(seed: int) -> None:
    rng = np.random.default_rng(1000 + seed)
    space = random_box(rng)
    size = int(np.prod(space.shape))
    for scale in (0.5, 3.0, 1e6):
        chosen = actions(space).to_env((rng.normal(size=(4, size)) * scale).astype(np.float32))
        assert all(space.contains(one) for one in chosen)


def test_discrete_spaces_are_counted_from_0() -> None:
    for make in (observations, actions):
        translation = make(Discrete(3, start=-1))
        assert translation.space == Discrete(3)
        assert translation.to_agent(np.array([-1, 0, 1])).tolist() == [0, 1, 2]
        assert translation.to_env(np.array([0, 1, 2])).tolist() == [-1, 0, 1]
    assert observations(Discrete(3)).same


def test_multidiscrete_observations_become_one_hot_vectors() -> None:
    translation = observations(MultiDiscrete([2, 3], start=[0, 5]))
    assert translation.to_agent(np.array([[1, 5], [0, 7]])).tolist() == [[0, 1, 1, 0, 0], [1, 0, 0, 0, 1]]
    with pytest.raises(RlsuiteError, match=r"\[\[0, 4\]\] is not in the environment's space MultiDiscrete"):
        translation.to_agent(np.array([[0, 4]]))


def test_pictures_of_bytes_stay_and_channels_move_to_the_front() -> None:
    assert observations(Box(0, 255, (3, 8, 9), np.uint8)).same
    translation = observations(Box(0, 255, (8, 9, 3), np.uint8))
    picture = np.random.default_rng(0).integers(0, 256, (2, 8, 9, 3), np.uint8)
    ours = translation.to_agent(picture)
    assert translation.space == Box(0, 255, (3, 8, 9), np.uint8)
    np.testing.assert_array_equal(ours, picture.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(translation.to_env(ours), picture)
    planes = observations(Box(0, 1, (2, 8, 8), np.uint8))  # a net must not divide them by 255
    assert planes.space.dtype == np.int8


def test_observations_of_moderate_size_are_taken_as_they_are() -> None:
    space = Box(np.array([-4.8, -np.inf], np.float32), np.array([4.8, np.inf], np.float32))
    assert observations(space).same
    assert observations(Box(-100, 100, (3,), np.float32)).same
    assert observations(Box(-128, 127, (2, 7, 7), np.int8)).same  # the planes of board games


def test_large_observations_become_moderate() -> None:
    translation = observations(Box(np.array([0.0, -1.0]), np.array([1000.0, 1.0]), dtype=np.float64))
    np.testing.assert_allclose(translation.to_agent(np.array([[0.0, 0.5], [750.0, -1.0]])), [[-1, 0.5], [0.5, -1]])
    assert translation.to_agent(np.zeros((1, 2))).dtype == np.float32
    wide = observations(Box(-(2**62), 2**62, (1,), np.int64)).to_agent(np.array([[7], [-100], [2**61]]))
    np.testing.assert_allclose(wide[:, 0], [np.log(8), -np.log(101), np.log1p(2.0**61)], rtol=1e-6)
    assert observations(Box(0, 1, (), np.float32)).to_agent(np.array([0.25], np.float32)).tolist() == [[0.25]]


def test_actions_are_spread_over_the_bounds_clipped_and_rounded() -> None:
    box = actions(Box(np.array([0.0, -1.0]), np.array([1000.0, 3.0]), dtype=np.float64))
    assert box.to_env(np.array([[-1, -1], [0, 0.5], [9, -9]], np.float32)).tolist() == [[0, -1], [500, 2], [1000, -1]]
    whole = actions(Box(0, 3, (1,), np.int32))
    chosen = whole.to_env(np.linspace(-1, 1, 8001, dtype=np.float32)[:, None])
    assert np.bincount(chosen[:, 0]) / 8001 == pytest.approx([0.25] * 4, abs=0.001)  # equal shares
    half = actions(Box(np.array([0.0], np.float32), np.array([np.inf], np.float32)))
    assert half.to_env(np.array([[-2.0], [0.0], [7.0]], np.float32)).tolist() == [[0.0], [1.0], [8.0]]
    assert actions(Box(-2, 2, (), np.float32)).to_env(np.array([[0.5]], np.float32)).tolist() == [1.0]


@pytest.mark.parametrize("space", [Tuple([Discrete(2)]), Text(3), Graph(Discrete(2), None)], ids=str)
def test_other_spaces_are_refused_by_name(space: Space[Any]) -> None:
    with pytest.raises(UsageError, match=rf"observations must be a Box, .* the environment's space is {type(space).__name__}"):
        observations(space)
    with pytest.raises(UsageError, match=rf"actions must be Discrete, MultiDiscrete or a Box; .* {type(space).__name__}"):
        actions(space)
    with pytest.raises(UsageError, match=rf"the environment's 'x' is {type(space).__name__}"):
        observations(Dict(x=space))


def test_dicts_are_refused_as_actions_within_dicts_and_with_two_pictures() -> None:
    picture = Box(0, 255, (3, 8, 9), np.uint8)
    with pytest.raises(UsageError, match=r"actions must be Discrete, MultiDiscrete or a Box; .* Dict"):
        actions(Dict(x=Discrete(2)))
    with pytest.raises(UsageError, match=r"the environment's 'x' is Dict"):
        observations(Dict(x=Dict(y=Discrete(2))))
    with pytest.raises(UsageError, match=r"may have one picture and any number of vectors; the environment's has 'a' and 'b'"):
        observations(Dict(a=picture, b=picture))
    with pytest.raises(UsageError, match="the environment's has nothing"):
        observations(Dict())
    with pytest.raises(UsageError, match=r"must have names that are strings; the environment's are \[0\]"):
        observations(Dict({0: Discrete(2)}))  # type: ignore[dict-item]
    with pytest.raises(UsageError, match=r"the environment's 'x' is Box.*, which has no elements"):
        observations(Dict(x=Box(0, 1, (0,)), y=Discrete(2)))


def test_the_parts_of_a_dict_become_a_vector_in_the_order_of_their_keys() -> None:
    space = Dict([("speed", Box(-1, 1, (2,), np.float32)), ("gear", Discrete(3, start=-1)), ("bits", MultiBinary(2))])
    translation = observations(space)
    given = {"speed": np.array([[0.5, -0.5]], np.float32), "gear": np.array([1]), "bits": np.array([[1, 0]], np.int8)}
    assert translation.to_agent(given).tolist() == [[1, 0, 0, 0, 1, 0.5, -0.5]]
    assert translation.space == Box(-np.inf, np.inf, (7,), np.float32)
    assert batch_of(given, space) == 1
    for wrong, complaint in (
        ({"speed": given["speed"]}, "got no 'gear'"),
        (given | {"gear": np.array([1, 0])}, r"different numbers of rows: \[1, 2\]"),
        (given["speed"], "must be a dict with speed, gear, bits, got ndarray"),
        (given | {"speed": np.zeros((1, 3))}, r"observations\['speed'\] must be \[B, 2\], got \[1, 3\]"),
    ):
        with pytest.raises(ValueError, match=complaint):
            batch_of(wrong, space)


def test_a_picture_and_numbers_become_a_row_of_bytes() -> None:
    space = Dict(camera=Box(0, 255, (8, 9, 3), np.uint8), speed=Box(-1, 1, (2,), np.float32))
    translation = observations(space)
    rng = np.random.default_rng(0)
    given = {"camera": rng.integers(0, 256, (4, 8, 9, 3), np.uint8), "speed": rng.normal(size=(4, 2)).astype(np.float32)}
    ours = translation.to_agent(given)
    assert translation.picture == (3, 8, 9)
    assert ours.shape == (4, 8 * 9 * 3 + 4 * 2)
    np.testing.assert_array_equal(ours[:, :216].reshape(4, 3, 8, 9), given["camera"].transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(np.ascontiguousarray(ours[:, 216:]).view(np.float32), given["speed"])
    with pytest.raises(RlsuiteError, match=r"an observation that is not finite: \[\[.*nan"):
        translation.to_agent(given | {"speed": np.full((4, 2), np.nan, np.float32)})
    alone = observations(Dict(camera=space["camera"]))
    assert alone.picture is None
    assert alone.space == Box(0, 255, (3, 8, 9), np.uint8)


@pytest.mark.parametrize("seed", range(100))
def test_random_dicts_are_translated_there_and_back(seed: int) -> None:
    rng = np.random.default_rng(2000 + seed)
    parts = {str(i): random_observations(rng) for i in range(rng.integers(1, 4))}
    if rng.random() < 0.5:
        parts["camera"] = Box(0, 255, (5, 6, 3), np.uint8)
    space = Dict(parts)
    seen = [observations(part).space for part in parts.values()]
    if sum(len(one.shape) == 3 and one.dtype == np.uint8 for one in seen) > 1:
        return  # two pictures
    space.seed(seed)
    translation, samples = observations(space), [space.sample() for _ in range(3)]
    given = {key: np.stack([np.asarray(sample[key]) for sample in samples]) for key in parts}
    ours = translation.to_agent(given)
    assert ours.shape == (3, *translation.space.shape)
    assert ours.dtype == translation.space.dtype
    back = translation.to_env(ours)
    assert back.keys() == given.keys()
    for key, part in parts.items():
        alone = observations(part)
        assert back[key].shape == given[key].shape
        np.testing.assert_allclose(alone.to_agent(back[key]), alone.to_agent(given[key]), rtol=1e-2, atol=1e-2)
        assert all(part.contains(one) for one in back[key])
    again = from_plain(as_tuples(json.loads(json.dumps(plain(space)))))
    assert again == space
    np.testing.assert_array_equal(observations(again).to_agent(given), ours)


def test_multidiscrete_actions_are_counted_as_combinations() -> None:
    space = MultiDiscrete([2, 3], start=[1, -1])
    translation = actions(space)
    assert translation.space == Discrete(6)
    every = translation.to_env(np.arange(6))
    assert every.tolist() == [[1, -1], [1, 0], [1, 1], [2, -1], [2, 0], [2, 1]]
    assert every.dtype == space.dtype
    assert translation.to_agent(every).tolist() == list(range(6))
    assert actions(MultiDiscrete([[2, 2], [2, 2]])).to_env(np.array([5])).tolist() == [[[0, 1], [0, 1]]]
    with pytest.raises(RlsuiteError, match=r"\[\[0, 0\]\] is not in the environment's space"):
        translation.to_agent(np.array([[0, 0]]))
    with pytest.raises(UsageError, match="would be 1,000,000 combinations, one output of the net for each; at most 4,096 are"):
        actions(MultiDiscrete([100, 100, 100]))


@pytest.mark.parametrize(
    "data", [("Box",), ("Box", (2,), "object", 0, 1), ("Discrete", -1, 0, "int64"), ("MultiDiscrete", "x", 0, 0), ()]
)
def test_damaged_descriptions_of_spaces_are_refused(data: Any) -> None:
    with pytest.raises(ValueError, match="not a space"):
        from_plain(data)


def test_observations_outside_their_space_and_huge_one_hot_vectors_are_refused() -> None:
    for given in (-1, 3):
        with pytest.raises(RlsuiteError, match=rf"\[{given}\] is not in the environment's space Discrete\(3\)"):
            observations(Discrete(3)).to_agent(np.array([given]))
    with pytest.raises(UsageError, match="would be 1,099,511,627,779 numbers"):
        observations(MultiDiscrete([2**40, 3]))
