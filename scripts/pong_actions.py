"""How many actions of Pong a labelled recording has right where they matter: `python scripts/pong_actions.py TRUE LABELLED`.

NOOP and FIRE do the same, RIGHT and RIGHTFIRE, and LEFT and LEFTFIRE. An action matters where the player's paddle can move: where
all of it is seen in the pictures before and after the action. At the wall a part of it is out of sight, and between two points it
is not drawn at all. For recordings of 64x64 pictures, as `atari/pong_actions` has them.

Shapes: N steps.
"""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rlsuite.replay import demonstrations

SAME = np.array([0, 0, 1, 2, 1, 2])  # of NOOP, FIRE, RIGHT, LEFT, RIGHTFIRE, LEFTFIRE
COLUMN, TOP, BOTTOM, BACKGROUND = 56, 11, 58, 87  # the paddle's column and the field's rows and brightness
WHOLE = 0.9  # share of the paddle's usual brightness, summed over the column, from which all of it is seen


def paddle_is_whole(pictures: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Whether all of the right paddle is seen in pictures [N,64,64]: bool [N]."""
    column = pictures[:, TOP:BOTTOM, COLUMN].astype(np.int64) - BACKGROUND  # [N,rows]
    seen = column.clip(0).sum(1)
    usual = np.median(seen[seen > 0.5 * np.percentile(seen, 95)])
    whole: NDArray[np.bool_] = seen >= WHOLE * usual
    return whole


def main(true: Path, labelled: Path) -> None:
    """Prints the shares of actions that are right."""
    steps, named = demonstrations.load(true).steps, demonstrations.load(labelled).steps
    acted = ~steps.last
    whole = paddle_is_whole(steps.observation)
    matters = acted & whole & np.roll(whole, -1)
    exact, alike = steps.action == named.action, SAME[steps.action] == SAME[named.action]
    print(f"the same action:                        {exact[acted].mean():.1%} of {acted.sum():,}")
    print(f"one that does the same:                 {alike[acted].mean():.1%} of {acted.sum():,}")
    print(f"one that does the same, where it matters: {alike[matters].mean():.1%} of {matters.sum():,}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
