"""Writes envs/boards/connect_four_positions.csv: Connect Four positions of six classes, with the exact result of every move.

    pip install bitbully bitbully-databases
    python scripts/connect_four_positions.py envs/boards/connect_four_positions.csv --count 1000 --seed 1

Positions are reached by uniformly random moves from the empty board, and the game is not over yet. The number of stones is uniform
in its range, so early and late positions are equally frequent. The classes are those of Pascal Pons: beginning (at most 14 stones),
middle (15 to 28) or end (more); easy (perfect play ends the game within 13 moves), medium (14 to 27) or hard (28 or more). The
positions of a class are all different. The columns of the file are those of `rlsuite.boardgames.graded_positions`: class; moves
(columns a to g of the board, from the empty board); and scores, 1, 0 or -1 for the result of the player who moves there (win, draw,
loss).
"""

import argparse
import csv
import random
import time
from pathlib import Path

from bitbully import BitBully, Board

COLUMNS = "abcdefg"
STONES = {"end": (29, 40), "middle": (15, 28), "beginning": (0, 14)}
REMAINING = {"easy": (0, 13), "medium": (14, 27), "hard": (28, 42)}
CLASSES = [
    ("end", "easy"),
    ("middle", "easy"),
    ("middle", "medium"),
    ("beginning", "easy"),
    ("beginning", "medium"),
    ("beginning", "hard"),
]


def random_moves(rng: random.Random, stones: int) -> list[int] | None:
    """Moves to a random position with that many stones; None if the game is over by then."""
    board, moves = Board(), []
    for _ in range(stones):
        move = rng.choice([m for m in range(7) if board.is_legal_move(m)])
        board.play(move)
        moves.append(move)
        if board.is_game_over():
            return None
    return moves


def main() -> None:
    """Writes the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=1000, help="positions of each class")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng, solver = random.Random(args.seed), BitBully()
    rows = []
    for part, level in CLASSES:
        started, seen = time.time(), set()
        while len(seen) < args.count:
            moves = random_moves(rng, rng.randint(*STONES[part]))
            if moves is None:
                continue
            board = Board([*moves])
            key = board.to_string()
            if key in seen:
                continue
            scores = solver.score_all_moves(board)
            remaining = solver.score_to_moves_left(max(scores.values()), board)
            if REMAINING[level][0] <= remaining <= REMAINING[level][1]:
                seen.add(key)
                results = " ".join(f"{COLUMNS[m]}={(scores[m] > 0) - (scores[m] < 0)}" for m in range(7) if m in scores)
                rows.append([f"{part}-{level}", " ".join(COLUMNS[move] for move in moves), results])
        print(f"{part}-{level}: {len(seen)} positions, {time.time() - started:.0f} s", flush=True)
    with args.out.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([["class", "moves", "scores"], *rows])


if __name__ == "__main__":
    main()
