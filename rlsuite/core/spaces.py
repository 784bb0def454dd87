"""Translates observations and actions between an environment's spaces and the agent's.

Only this module knows the dtypes, bounds, starts and layouts of spaces.

Agents see arrays of moderate numbers; their actions are numbers from 0, or vectors around [-1, 1]. Collectors, stores and nets hold
arrays in the agent's form; environments and a user's own loop give and take them in the environment's form. No function here
changes its argument.

| the environment's observations    | the agent sees                                                                     |
| --------------------------------- | ---------------------------------------------------------------------------------- |
| Discrete(n, start)                | a number counted from 0                                                            |
| MultiDiscrete                     | its one-hot vectors, one after the other, int8                                     |
| MultiBinary                       | the same shape, int8                                                               |
| Box, pictures of bytes [C,H,W]    | the same; [H,W,C] with at most four channels becomes [C,H,W]                       |
| Box of int8 or booleans, or of    | the same values, int8                                                              |
| integers from -100 to 100         |                                                                                    |
| any other Box                     | float32; elements with bounds over 100 are scaled to [-1, 1]; where the bounds are |
|                                   | over a million, or only one is there, symlog(x) = sign(x) ln(1 + |x|) instead      |
|                                   | (Hafner et al. 2023); a single number becomes a vector of one                      |
| Dict of the above, with at most   | a float32 vector of all other parts, one after the other in the order of their     |
| one picture of bytes              | keys, numbers of a Discrete one-hot; a picture alone stays one; a picture and a    |
|                                   | vector become one row of bytes, uint8: the picture's, then the vector's            |

| the environment's actions | the agent chooses                                                                    |
| ------------------------- | ------------------------------------------------------------------------------------ |
| Discrete(n, start)        | a number counted from 0                                                              |
| MultiDiscrete             | the number of a combination of its values, counted from 0, the last part fastest     |
| Box                       | a float32 vector: [-1, 1] is spread over the bounds where both are finite, 0 is one  |
|                           | away from a single bound; then it is clipped to the bounds, rounded for integers,    |
|                           | and given the Box's shape and dtype                                                  |

Shapes: L environments, A dimensions of a continuous action, V numbers of a vector.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space
from numpy.typing import NDArray

from rlsuite.core.errors import RlsuiteError, UsageError

Array = NDArray[Any]
Plain = tuple[Any, ...]  # a space as nested tuples of numbers and strings, which JSON keeps

LARGE = 100.0  # numbers up to this go into a net as they are
_CATEGORIES = 100_000  # maximum total size of an observation's one-hot vectors
_BOUND = 1e6  # a larger bound only says what fits into the dtype
_COMBINATIONS = 4096  # maximum combinations of the values of a MultiDiscrete action: a net has an output for each


class Translation(NamedTuple):
    """The translation between one of an environment's spaces and the agent's, in both directions."""

    space: Any  # the agent's: Discrete from 0, or a Box
    to_agent: Callable[[Any], Array]  # [L,...] of the environment's, a dict of them for a Dict -> [L,...] of the agent's
    to_env: Callable[[Any], Any]  # the inverse, up to rounding and clipping
    same: bool = False  # both spaces hold the same arrays
    picture: tuple[int, ...] | None = None  # (C,H,W) if the agent's are the bytes of a picture, followed by those of a vector


SAME = Translation(None, np.asarray, np.asarray, same=True)


def observations(space: Space[Any], stack: int = 1) -> Translation:
    """The translation of an observation space. UsageError for an unsupported space. `stack`: planes of a frame stack."""
    match space:
        case Discrete():
            return _discrete(space)
        case MultiDiscrete():
            return _one_hot(space)
        case MultiBinary():
            return _cast(Box(0, 1, space.shape, np.int8), space)
        case Box():
            return _observed_box(space, stack)
        case Dict():
            return _parts(space)
    raise UsageError(
        f"observations must be a Box, Discrete, MultiDiscrete, MultiBinary or a Dict of these; the environment's space is {space}: "
        "wrap it, for example in gymnasium.wrappers.FlattenObservation"
    )


def actions(space: Space[Any]) -> Translation:
    """The translation of an action space. UsageError for an unsupported space."""
    match space:
        case Discrete():
            return _discrete(space)
        case MultiDiscrete():
            return _combinations(space)
        case Box():
            return _chosen_box(space)
    raise UsageError(
        f"actions must be Discrete, MultiDiscrete or a Box; the environment's space is {space}: wrap it in one that takes either"
    )


def plain(space: Space[Any]) -> Plain:
    """A supported space as plain data, from which `from_plain` restores it."""
    match space:
        case Discrete():
            return ("Discrete", int(space.n), int(space.start), _dtype(space))
        case MultiDiscrete():
            return ("MultiDiscrete", _nested(space.nvec), _nested(space.start), _dtype(space))
        case MultiBinary():
            return ("MultiBinary", tuple(space.shape))
        case Box():
            low = _bounds(space.low, space.bounded_below)
            return ("Box", tuple(space.shape), _dtype(space), low, _bounds(space.high, space.bounded_above))
        case Dict():
            return ("Dict", *((key, plain(part)) for key, part in sorted(space.spaces.items())))
    raise TypeError(f"{space} is not supported")


def from_plain(data: Plain) -> Space[Any]:
    """The space that `plain` returned as `data`. ValueError for anything else."""
    try:
        return _from_plain(data)
    except TypeError as error:  # not nested tuples
        raise ValueError(f"not a space: {data!r:.100}") from error


@cache
def _from_plain(data: Plain) -> Space[Any]:
    try:
        match data:
            case ("Discrete", n, start, dtype):
                return Discrete(n, start=start, dtype=np.dtype(dtype).type)
            case ("MultiDiscrete", nvec, start, dtype):
                return MultiDiscrete(np.array(nvec), np.dtype(dtype).type, start=np.array(start))
            case ("MultiBinary", shape):
                return MultiBinary(shape)
            case ("Box", shape, dtype, low, high):
                kind = np.dtype(dtype).type
                return Box(_filled(low, -np.inf, shape, kind), _filled(high, np.inf, shape, kind), shape, kind)
            case ("Dict", *parts):
                return Dict({key: _from_plain(part) for key, part in parts})
    except (TypeError, ValueError, AssertionError, OverflowError, MemoryError) as error:
        raise ValueError(f"not a space: {data!r:.100}") from error
    raise ValueError(f"not a space: {data!r:.100}")


def _dtype(space: Space[Any]) -> str:
    return str(np.dtype(space.dtype).name)


def _nested(array: Array) -> Any:
    def tuples(value: Any) -> Any:
        return tuple(map(tuples, value)) if isinstance(value, list) else value

    return tuples(array.tolist())


def _bounds(bound: Array, finite: NDArray[np.bool_]) -> Any:
    """A Box's bounds as plain data: one number if all are equal, else nested tuples; None where there is no bound."""
    held = (bound.astype(np.int8) if bound.dtype == np.bool_ else bound).astype(object)
    held[~finite] = None
    first = held.flat[0] if held.size else None
    alike = all(one == first for one in held.flat)
    return (first.item() if isinstance(first, np.generic) else first) if alike else _nested(held)


def _filled(bound: Any, without: float, shape: tuple[int, ...], dtype: Any) -> Any:
    if bound is None:
        return without
    if not isinstance(bound, tuple):
        return bound
    kind = np.float64 if np.issubdtype(dtype, np.integer) or dtype is np.bool_ else dtype
    return np.array([without if one is None else one for one in np.array(bound, object).flat], kind).reshape(shape)


def _discrete(space: Discrete) -> Translation:
    start, dtype, n = space.start, np.dtype(space.dtype), int(space.n)

    def to_agent(given: Array) -> Array:
        counted = (np.asarray(given) - start).astype(np.int64, copy=False)
        if (counted < 0).any() or (counted >= n).any():
            raise RlsuiteError(f"{np.asarray(given).tolist()} is not in the environment's space {space}")
        return counted

    same = start == 0 and dtype == np.int64
    return Translation(Discrete(n), to_agent, lambda ours: (np.asarray(ours) + start).astype(dtype, copy=False), same)


def _one_hot(space: MultiDiscrete) -> Translation:
    sizes, starts = space.nvec.reshape(-1).astype(np.int64), np.asarray(space.start).reshape(-1).astype(np.int64)
    ends = np.cumsum(sizes)
    if not 1 <= ends[-1] <= _CATEGORIES:
        raise UsageError(f"observations in {space} would be {ends[-1]:,} numbers, one for each value; at most {_CATEGORIES:,} are")
    begins = ends - sizes

    def to_agent(given: Array) -> Array:
        numbers = np.asarray(given).reshape(len(given), -1).astype(np.int64) - starts + begins  # [L,number of parts]
        if (numbers < begins).any() or (numbers >= ends).any():
            raise RlsuiteError(f"{np.asarray(given).tolist()} is not in the environment's space {space}")
        one_hot = np.zeros((len(numbers), int(ends[-1])), np.int8)
        np.put_along_axis(one_hot, numbers, 1, 1)
        return one_hot

    def to_env(ours: Array) -> Array:
        numbers = [part.argmax(1) for part in np.split(np.asarray(ours), ends[:-1], 1)]
        return (np.stack(numbers, 1) + starts).astype(space.dtype).reshape(-1, *space.shape)

    return Translation(Box(0, 1, (int(ends[-1]),), np.int8), to_agent, to_env)


def _one_hot_number(space: Discrete) -> Translation:
    several = _one_hot(MultiDiscrete([int(space.n)], np.dtype(space.dtype).type, start=[int(space.start)]))
    return several._replace(to_env=lambda ours: several.to_env(ours)[:, 0])


def _combinations(space: MultiDiscrete) -> Translation:
    sizes, starts = space.nvec.reshape(-1).astype(np.int64), np.asarray(space.start).reshape(-1).astype(np.int64)
    count = int(np.prod(sizes.astype(object)))
    if not 1 <= count <= _COMBINATIONS:
        raise UsageError(
            f"actions in {space} would be {count:,} combinations, one output of the net for each; at most {_COMBINATIONS:,} are"
        )

    def to_agent(given: Array) -> Array:
        parts = np.asarray(given).reshape(-1, len(sizes)).astype(np.int64) - starts  # [L,number of parts]
        if (parts < 0).any() or (parts >= sizes).any():
            raise RlsuiteError(f"{np.asarray(given).tolist()} is not in the environment's space {space}")
        return np.asarray(np.ravel_multi_index(tuple(parts.T), tuple(sizes)), np.int64)

    def to_env(ours: Array) -> Array:
        parts = np.stack(np.unravel_index(np.asarray(ours), tuple(sizes)), -1)  # [L,number of parts]
        return (parts + starts).astype(space.dtype).reshape(-1, *space.shape)

    return Translation(Discrete(count), to_agent, to_env)


def _parts(space: Dict) -> Translation:
    """The translation of a Dict with at most one picture of bytes, and any number of parts that become vectors."""
    found: dict[str, Translation] = {}
    if not all(isinstance(key, str) for key in space.spaces):
        raise UsageError(
            f"the parts of an observation must have names that are strings; the environment's are {list(space.spaces)}"
        )
    for key, part in sorted(space.spaces.items()):
        if 0 in (part.shape or ()):
            raise UsageError(f"the environment's {key!r} is {part}, which has no elements: leave it out")
        if not isinstance(part, Box | Discrete | MultiDiscrete | MultiBinary):
            raise UsageError(
                f"the parts of an observation must be Box, Discrete, MultiDiscrete or MultiBinary; the environment's "
                f"{key!r} is {part}: wrap it, for example in gymnasium.wrappers.FlattenObservation"
            )
        found[key] = _one_hot_number(part) if isinstance(part, Discrete) else observations(part)
    pictures = [key for key, part in found.items() if len(part.space.shape) == 3 and part.space.dtype == np.uint8]
    vectors = [key for key in found if key not in pictures]
    if len(pictures) > 1 or not found:
        have = " and ".join(map(repr, pictures)) or "nothing"
        raise UsageError(f"an observation may have one picture and any number of vectors; the environment's has {have}: wrap it")
    if len(found) == 1:
        key = next(iter(found))
        only = found[key]
        return only._replace(
            to_agent=lambda given: only.to_agent(given[key]), to_env=lambda ours: {key: only.to_env(ours)}, same=False
        )
    sizes = [int(np.prod(found[key].space.shape)) for key in vectors]

    def vector(given: dict[str, Array]) -> Array:  # [L,V]
        parts = [found[key].to_agent(given[key]).reshape(-1, size) for key, size in zip(vectors, sizes, strict=True)]
        return np.concatenate(parts, 1).astype(np.float32)

    def from_vector(ours: Array) -> dict[str, Array]:
        parts = np.split(ours, np.cumsum(sizes)[:-1], 1)
        shaped = {key: part.reshape(-1, *found[key].space.shape) for key, part in zip(vectors, parts, strict=True)}
        return {key: found[key].to_env(shaped[key].astype(found[key].space.dtype)) for key in vectors}

    if not pictures:
        return Translation(Box(-np.inf, np.inf, (sum(sizes),), np.float32), vector, from_vector)
    name = pictures[0]
    picture = found[name]
    split = int(np.prod(picture.space.shape))  # bytes of the picture

    def to_agent(given: dict[str, Array]) -> Array:
        numbers = vector(given)
        if not np.isfinite(numbers).all():
            raise RlsuiteError(f"the environment returned an observation that is not finite: {numbers.tolist()!s:.200}")
        pixels = np.ascontiguousarray(picture.to_agent(given[name])).reshape(len(numbers), split)
        return np.concatenate([pixels, numbers.view(np.uint8)], 1)

    def to_env(ours: Array) -> dict[str, Array]:
        pixels, numbers = ours[:, :split].reshape(-1, *picture.space.shape), np.ascontiguousarray(ours[:, split:])
        parts = {name: picture.to_env(pixels), **from_vector(numbers.view(np.float32))}
        return {key: parts[key] for key in space.spaces}

    both = Box(0, 255, (split + 4 * sum(sizes),), np.uint8)
    return Translation(both, to_agent, to_env, picture=tuple(picture.space.shape))


def batch_of(given: Any, space: Space[Any], name: str = "observations") -> int:
    """The size L of a batch of an environment's observations. ValueError, which calls them `name`, if they do not fit the space."""
    if isinstance(space, Dict):
        if not isinstance(given, dict) or (missing := [key for key in space.spaces if key not in given]):
            what = f"no {missing[0]!r}" if isinstance(given, dict) else type(given).__name__
            raise ValueError(f"observations must be a dict with {', '.join(space.spaces)}, got {what}")
        sizes = {batch_of(given[key], part, f"observations[{key!r}]") for key, part in space.spaces.items()}
        if len(sizes) > 1:
            raise ValueError(f"the parts of observations have different numbers of rows: {sorted(sizes)}")
        return sizes.pop()
    shape = np.shape(given)
    if len(shape) == 0 or shape[1:] != space.shape:
        wanted = ", ".join(map(str, ("B", *(space.shape or ()))))
        raise ValueError(f"{name} must be [{wanted}], got {list(shape)}")
    return int(shape[0])


def _cast(ours: Box, space: Space[Any]) -> Translation:
    """A translation that changes only dtype and shape, not values."""
    return Translation(
        ours,
        lambda given: np.asarray(given).astype(ours.dtype).reshape(-1, *ours.shape),
        lambda seen: np.asarray(seen).astype(space.dtype).reshape(-1, *(space.shape or ())),
    )


def _observed_box(space: Box, stack: int) -> Translation:
    low, high, whole = space.low, space.high, space.dtype != np.bool_ and np.issubdtype(space.dtype, np.integer)
    if stack > 1:
        return SAME._replace(space=space)
    shape: tuple[int, ...] = space.shape
    if len(shape) == 3 and shape[2] <= 4 < min(shape[:2]):  # channels last
        moved = _observed_box(Box(np.moveaxis(low, 2, 0), np.moveaxis(high, 2, 0), (shape[2], *shape[:2]), space.dtype.type), 1)
        return Translation(
            moved.space,
            lambda given: moved.to_agent(np.ascontiguousarray(np.moveaxis(np.asarray(given), 3, 1))),
            lambda ours: np.moveaxis(moved.to_env(ours), 1, 3),
        )
    if len(shape) == 3 and space.dtype == np.uint8 and high.max(initial=0) > LARGE:
        return SAME._replace(space=space)
    if space.dtype in (np.bool_, np.int8) or (whole and low.min(initial=0) >= -LARGE and high.max(initial=0) <= LARGE):
        least, most = (bound.astype(np.int8).reshape(shape or (1,)) for bound in (low, high))
        ours = Box(least, most, shape or (1,), np.int8)
        return SAME._replace(space=ours) if ours == space else _cast(ours, space)

    shape = shape or (1,)
    low, high = low.astype(np.float64).reshape(shape), high.astype(np.float64).reshape(shape)
    below, above = space.bounded_below.reshape(shape), space.bounded_above.reshape(shape)
    size = np.maximum(np.where(below, abs(low), 0.0), np.where(above, abs(high), 0.0))  # the larger bound's magnitude
    scaled = below & above & (size > LARGE) & (size <= _BOUND)
    logarithmic = (size > LARGE) & ~scaled
    middle, half = _halves(low, high, scaled)

    def to_agent(given: Array) -> Array:
        x = np.asarray(given).reshape(-1, *shape)
        if scaled.any():
            x = (x - middle) / half
        if logarithmic.any():
            x = np.where(logarithmic, np.sign(x) * np.log1p(abs(x.astype(np.float64))), x)
        return x.astype(np.float32, copy=False)

    def to_env(ours: Array) -> Array:
        x = np.asarray(ours).astype(np.float64)
        grown = np.sign(x) * np.expm1(np.minimum(abs(x), 700.0))
        return _fitted(np.where(logarithmic, grown, x) * half + middle, space)

    float32 = Box(-np.inf, np.inf, shape, np.float32)
    if not (scaled | logarithmic).any() and space.dtype == np.float32 and space.shape:
        return SAME._replace(space=space)
    return Translation(float32, to_agent, to_env)


def _chosen_box(space: Box) -> Translation:
    size = int(np.prod(space.shape))
    if size == 0:
        raise UsageError(f"actions must have at least one dimension; the environment's space is {space}")
    low, high = space.low.astype(np.float64).reshape(-1), space.high.astype(np.float64).reshape(-1)  # [A]
    spread = (space.bounded_below & space.bounded_above).reshape(-1)  # [A]
    if np.issubdtype(space.dtype, np.integer) or space.dtype == np.bool_:
        low, high = low - 0.5, high + 0.5  # every integer gets an equal share
    middle, half = _halves(low, high, spread)
    below, above = (one.reshape(-1) & ~spread for one in (space.bounded_below, space.bounded_above))
    middle = np.where(below, low + 1.0, np.where(above, high - 1.0, middle))  # 0 is one away from a single bound, as samples are

    def to_env(ours: Array) -> Array:
        x = np.asarray(ours).astype(np.float64).reshape(-1, size)
        return _fitted(np.where(spread, np.clip(x, -1.0, 1.0), x) * half + middle, space)

    def to_agent(given: Array) -> Array:
        x = np.asarray(given).astype(np.float64).reshape(-1, size)
        return ((x - middle) / half).astype(np.float32)

    return Translation(Box(-np.inf, np.inf, (size,), np.float32), to_agent, to_env)


def _halves(low: Array, high: Array, where: NDArray[np.bool_]) -> tuple[Array, Array]:
    """The middle between two bounds and the distance to either (never 0) at `where`; 0 and 1 elsewhere."""
    low, high = np.where(where, low, -1.0), np.where(where, high, 1.0)
    half = high / 2 - low / 2
    return low / 2 + high / 2, np.where(half > 0, half, 1.0)


def _fitted(x: Array, space: Box) -> Array:
    """Numbers [L,...] f64 as elements of a Box: rounded for integers, clipped to its bounds, in its shape and dtype."""
    x = x.reshape(-1, *space.shape)
    if space.dtype == np.bool_:
        return np.asarray(x >= 0.5)
    if not np.issubdtype(space.dtype, np.integer):
        with np.errstate(over="ignore"):  # beyond the dtype is infinite, and clipped
            return np.clip(x.astype(space.dtype), space.low, space.high)
    limits: Any = np.iinfo(np.dtype(space.dtype).name)
    largest = np.nextafter(np.float64(limits.max), 0.0)  # float64 rounds the largest int64 up, out of its range
    whole: Array = np.rint(np.clip(x, float(limits.min), largest)).astype(space.dtype)
    return np.clip(whole, space.low, space.high)
