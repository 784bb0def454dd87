"""The places of handicap stones in the Go Text Protocol, version 2 (section 4.1.1). Points are (column, row), both from 0."""

from itertools import product

Point = tuple[int, int]


def most_fixed(size: int) -> int:
    """The largest handicap with fixed points; 0 if there is none."""
    return 0 if size < 7 else 4 if size == 7 or size % 2 == 0 else 9


def fixed(size: int, stones: int) -> list[Point]:
    """The fixed points of a handicap of 2 to `most_fixed` stones."""
    edge = 3 if size >= 13 else 2
    low, high, middle = edge, size - 1 - edge, size // 2
    corners = [(low, low), (high, high), (low, high), (high, low)]
    sides = [(low, middle), (high, middle), (middle, low), (middle, high)]
    if stones < 5:
        return corners[:stones]
    return [*corners, *sides[: (stones - 4) // 2 * 2], *([(middle, middle)] if stones % 2 else [])]


def free(size: int, stones: int) -> list[Point]:
    """The points of a free handicap: the fixed points, then those that are farthest from other stones and not at the edge."""
    found = fixed(size, min(stones, most_fixed(size)))
    while len(found) < stones:
        left = [point for point in product(range(size), range(size)) if point not in found]
        found.append(max(left, key=lambda point: (min(*point, *(size - 1 - at for at in point)) > 0, _distance(point, found))))
    return found


def _distance(point: Point, stones: list[Point]) -> int:
    """The number of steps to the nearest stone."""
    return min((abs(point[0] - column) + abs(point[1] - row) for column, row in stones), default=0)
