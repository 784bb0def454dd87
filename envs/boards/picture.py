"""Pictures of positions, drawn from the board's text, for `render_mode="rgb_array"` and videos."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from rlsuite.core.game import BoardState

_CELL = 24  # pixels per character
_WOOD, _INK, _STONES = (222, 184, 135), (40, 30, 20), {"x": (20, 20, 20), "o": (245, 245, 240)}


def picture(state: BoardState) -> NDArray[np.uint8]:
    """A picture [H,W,3] u8 of a position. All pictures of a game have the first position's size; text that does not fit is cut."""
    first, lines = str(state.game.new_state()).splitlines(), str(state).splitlines()
    image = Image.new("RGB", (_CELL * max(map(len, first)), _CELL * len(first)), _WOOD)
    draw, font, radius = ImageDraw.Draw(image), ImageFont.load_default(0.7 * _CELL), 0.42 * _CELL
    stones = state.game.observation_shape[1] if state.game.presentation.board not in ("chess", "text") else 0  # lines of cells
    for y, line in enumerate(lines):
        for x, character in enumerate(line):
            across, down = (x + 0.5) * _CELL, (y + 0.5) * _CELL
            if y < stones and character in _STONES:
                draw.ellipse((across - radius, down - radius, across + radius, down + radius), _STONES[character])
            else:
                draw.text((across, down), character, _INK, font, anchor="mm")
    return np.array(image)
