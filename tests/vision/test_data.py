"""Labelled pictures: generated, from files, from the emulator."""

import gzip
import json
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import rlsuite
from rlsuite.core.errors import RlsuiteError, UsageError
from rlsuite.vision.data import Data, atari, coco, fashion_mnist, folder, objects, padded, ram, scenes, source
from rlsuite.vision.data import emulator as emulators
from rlsuite.vision.data.files import read_picture


def take(data: Data, row: int) -> tuple[Any, dict[str, Any]]:
    images, labels = data.train.take(np.array([row]))
    return images[0], {name: values[0] for name, values in labels.items()}


def test_grey_of_16_bits_is_not_cut_off(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 8).astype(np.uint16)[None].repeat(4, 0)
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "ramp.png")[1, 0], ramp[0] >> 8)


# ---------------------------------------------------------------------------------------------------------- generated


def test_scenes_are_what_their_labels_say() -> None:
    data = scenes.load(scenes.Config(name="scenes", pictures=40), seed=1)
    assert (len(data.train), len(data.test), data.shape) == (40, 4, (3, 64, 64))
    for row in range(40):
        image, labels = take(data, row)
        there = labels["classes"] >= 0
        assert image.shape == data.shape
        assert there.any()
        for mask, box in zip(labels["masks"][there], labels["boxes"][there], strict=True):
            np.testing.assert_array_equal(scenes.box_of(mask), box)
            inside, near = image[:, mask].mean(1), image[:, ~labels["masks"].any(0)].mean(1)
            assert np.abs(inside - near).max() > 10  # it can be seen
        assert (labels["masks"].sum(0) <= 1).all()  # what is covered is not seen
        assert not labels["masks"][~there].any()


def test_scenes_by_seed() -> None:
    config = scenes.Config(name="scenes", pictures=10)
    one, again, other = (scenes.load(config, seed) for seed in (1, 1, 2))
    assert np.array_equal(take(one, 3)[0], take(again, 3)[0])
    assert not np.array_equal(take(one, 3)[0], take(other, 3)[0])
    assert np.array_equal(one.test.take(np.array([0]))[0], other.test.take(np.array([0]))[0])  # the test stays


def test_scenes_with_a_class_for_every_pixel() -> None:
    data = scenes.load(scenes.Config(name="scenes", pictures=5, labels="pixels"), seed=1)
    assert data.classes == ("ground", *scenes.SHAPES)
    assert data.tasks == ("segment",)
    _, labels = take(data, 0)
    assert set(np.unique(labels["mask"])) <= set(range(5))
    assert (labels["mask"] == 0).mean() > 0.4


def test_captions() -> None:
    assert scenes.caption(np.array([0])) == "a circle"
    assert scenes.caption(np.array([1, 0, 1, 3, 3])) == "a circle, two squares and two crosses"


def test_padding() -> None:
    assert padded([np.array([1, 2]), np.array([3])], -1).tolist() == [[1, 2], [3, -1]]
    assert padded([np.zeros((0, 4), np.float32)], 0).shape == (1, 1, 4)


# ---------------------------------------------------------------------------------------------------------- files


def write_idx(path: Path, array: np.ndarray) -> None:
    head = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    data = head + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files_of_a_user(tmp_path: Path, suffix: str) -> None:
    for prefix, count in (("train", 7), ("t10k", 3)):
        write_idx(tmp_path / f"{prefix}-images-idx3-ubyte{suffix}", np.arange(count * 6).reshape(count, 2, 3))
        write_idx(tmp_path / f"{prefix}-labels-idx1-ubyte{suffix}", np.arange(count))
    data = fashion_mnist.load(fashion_mnist.Config(name="fashion_mnist", path=str(tmp_path)), 1)
    assert (len(data.train), len(data.test), data.shape) == (7, 3, (1, 2, 3))
    image, labels = take(data, 1)
    assert image.tolist() == [[[6, 7, 8], [9, 10, 11]]]
    assert labels["label"] == 1


def test_files_that_are_not_idx_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no train-images-idx3-ubyte\.gz"):
        fashion_mnist.load(fashion_mnist.Config(name="fashion_mnist", path=str(tmp_path)), 1)
    for content in (b"", b"junk", struct.pack(">HBBI", 0, 8, 1, 9) + b"abc"):
        (tmp_path / "bad").write_bytes(content)
        with pytest.raises(UsageError, match="is not an IDX file"):
            fashion_mnist.read_idx(tmp_path / "bad")


def paint(path: Path, value: int, size: tuple[int, int] = (20, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), value, np.uint8)).save(path)


def test_a_folder_of_pictures(tmp_path: Path) -> None:
    for number in range(10):
        paint(tmp_path / "dark" / f"{number}.png", 20)
        paint(tmp_path / "light" / f"{number}.jpg", 220)
    data = folder.load(folder.Config(name="folder", path=str(tmp_path), size=16), 1)
    assert (data.classes, data.shape, len(data.train), len(data.test)) == (("dark", "light"), (3, 16, 16), 16, 4)
    images, labels = data.train.take(np.arange(16))
    assert ((images.mean((1, 2, 3)) > 100) == (labels["label"] == 1)).all()


def test_a_folder_with_its_own_test(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for name in ("a", "b"):
            paint(tmp_path / part / name / "0.png", 9)
    data = folder.load(folder.Config(name="folder", path=str(tmp_path), size=8), 1)
    assert (len(data.train), len(data.test)) == (2, 2)
    paint(tmp_path / "test" / "c" / "0.png", 9)
    with pytest.raises(UsageError, match="test has classes that train does not have: c"):
        folder.load(folder.Config(name="folder", path=str(tmp_path), size=8), 1)


def test_what_a_folder_refuses(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a folder"):
        folder.load(folder.Config(name="folder", path=str(tmp_path / "no")), 1)
    (tmp_path / "one").mkdir()
    with pytest.raises(UsageError, match="at least two classes"):
        folder.load(folder.Config(name="folder", path=str(tmp_path)), 1)
    (tmp_path / "broken.png").write_bytes(b"nothing")
    with pytest.raises(RlsuiteError, match="cannot be read as a picture"):
        read_picture(tmp_path / "broken.png")


def test_a_folder_without_training_pictures_of_a_class_or_with_stray_ones_is_refused(tmp_path: Path) -> None:
    """Hidden folders and files are left out."""
    config = folder.Config(name="folder", path=str(tmp_path), size=8)
    for number in range(4):
        for name in ("a", "b", ".hidden"):
            paint(tmp_path / name / f"{number}.png", 9)
    paint(tmp_path / "a" / ".thumbnails" / "0.png", 9)
    data = folder.load(config, 1)
    assert (data.classes, len(data.train), len(data.test)) == (("a", "b"), 6, 2)
    (tmp_path / "c").mkdir()
    with pytest.raises(UsageError, match="the class c has no picture to train on"):
        folder.load(config, 1)
    (tmp_path / "c").rmdir()
    paint(tmp_path / "stray.png", 9)
    with pytest.raises(UsageError, match=r"stray\.png lies beside folders with pictures \(a, b\)"):
        folder.load(config, 1)
    (tmp_path / "stray.png").unlink()
    for broken in (b"", b"nothing", (tmp_path / "a" / "0.png").read_bytes()[:60]):
        (tmp_path / "b" / "1.png").write_bytes(broken)
        with pytest.raises(RlsuiteError, match=r"1\.png cannot be read as a picture"):
            folder.load(config, 1)


def annotations(tmp_path: Path, **changes: Any) -> coco.Config:
    """Two pictures of 20x40, resized to 32x32."""
    for number in range(2):
        paint(tmp_path / f"{number}.png", 50, (20, 40))
    runs = [3 * 20 + 5, 10, 20 * 40 - 3 * 20 - 15]  # down the fourth column
    document = {
        "images": [{"id": 5 + n, "file_name": f"{n}.png", "width": 40, "height": 20} for n in range(2)],
        "categories": [{"id": 30, "name": "dog"}, {"id": 7, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 5, "category_id": 30, "bbox": [10, 5, 20, 10], "segmentation": [[10, 5, 30, 5, 30, 15, 10, 15]]},
            {"id": 2, "image_id": 5, "category_id": 7, "bbox": [3, 5, 1, 10], "segmentation": {"counts": runs, "size": [20, 40]}},
            {"id": 3, "image_id": 6, "category_id": 7, "bbox": [0, 0, 4, 4], "segmentation": [[0, 0, 3, 0, 3, 3]]},
            {"id": 4, "image_id": 6, "category_id": 7, "bbox": [0, 0, 40, 20], "iscrowd": 1, "segmentation": []},
        ],
        **changes,
    }
    (tmp_path / "a.json").write_text(json.dumps(document))
    path = str(tmp_path / "a.json")
    return coco.Config(name="coco", images=str(tmp_path), annotations=path, test_annotations=path, size=32, masks=True)


def test_coco_boxes_and_masks(tmp_path: Path) -> None:
    data = coco.load(annotations(tmp_path), 1)
    assert data.classes == ("cat", "dog")
    image, labels = take(data, 0)
    assert image.shape == (3, 32, 32)
    assert labels["classes"].tolist() == [1, 0]
    np.testing.assert_allclose(labels["boxes"], [[8, 8, 24, 24], [2.4, 8, 3.2, 24]], rtol=1e-6)
    rows, columns = np.nonzero(labels["masks"][0])
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (8, 23, 8, 23)
    rows, columns = np.nonzero(labels["masks"][1])
    assert set(columns) == {2}
    assert (rows.min(), rows.max()) == (8, 23)
    _, second = take(data, 1)
    assert second["classes"].tolist() == [0, -1]  # the crowd is left out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": None}, "are not in COCO's format: no list 'images'"),
        ({"categories": []}, "category 30 is not among the categories"),
        ({"images": [{"id": 5, "file_name": "no.png", "width": 4, "height": 4}]}, r"has no no\.png"),
        ({"images": []}, "0 pictures to train on"),
        ({"images": [{"id": 5, "file_name": "0.png"}]}, r"annotations of 0\.png are not in COCO's format: KeyError 'width'"),
    ],
)
def test_what_coco_refuses(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    config = annotations(tmp_path, **changes)
    with pytest.raises(UsageError, match=message):
        coco.load(config, 1)


def test_a_polygon_covers_the_centres_of_its_pixels() -> None:
    mask = coco.decode_mask([[10, 10, 30, 10, 30, 30, 10, 30]], 40, 40, 40)
    rows, columns = np.nonzero(mask)
    assert (rows.min(), rows.max(), columns.min(), columns.max(), mask.sum()) == (10, 29, 10, 29, 400)


def test_masks_in_another_format_are_refused() -> None:
    with pytest.raises(UsageError, match="run lengths make 3 pixels, the picture has 4"):
        coco.decode_mask({"counts": [1, 2]}, 2, 2, 2)
    with pytest.raises(UsageError, match="polygons or uncompressed run lengths"):
        coco.decode_mask("abc", 2, 2, 2)


def test_digits_need_their_library_and_nothing_else() -> None:
    pytest.importorskip("sklearn")
    data = source("digits").load(source("digits").Config(name="digits"), 1)
    assert (len(data.train), len(data.test), data.shape) == (1437, 360, (1, 32, 32))
    with pytest.raises(UsageError, match=r"unknown data\.name 'digit'; did you mean digits"):
        source("digit")


# ---------------------------------------------------------------------------------------------------------- the emulator


def test_frames_are_those_that_agents_see() -> None:
    """The same actions in the agents' environment give the same planes, except for the rounding of halves."""
    env = rlsuite.make_env("ALE/Pong-v5", num_envs=1, noop_max=0)
    seen, _ = env.reset(seed=0)
    emulator = emulators.Emulator("ALE/Pong-v5", 0)
    emulator.ale.reset_game()
    emulator.planes[:] = 0
    emulator._see(emulator.ale.getScreenGrayscale())
    assert np.abs(seen[0].astype(int) - emulator.planes).max() <= 1
    for step in range(60):
        action = step // 7 % 6
        seen, *_ = env.step(np.array([action]))
        emulator.step(action)
        assert np.abs(seen[0].astype(int) - emulator.planes).max() <= 1
    env.close()


def test_frames_of_another_size() -> None:
    """Sizes that small configs of agents use."""
    env = rlsuite.make_env("ALE/Breakout-v5", num_envs=1, noop_max=0, height=64, width=48, stack=2, full_action_set=True)
    seen, _ = env.reset(seed=0)
    emulator = emulators.Emulator("ALE/Breakout-v5", 0, (2, 64, 48), full_action_set=True)
    emulator.ale.reset_game()
    emulator.planes[:] = 0
    emulator._see(emulator.ale.getScreenGrayscale())
    for step in range(30):
        seen, *_ = env.step(np.array([step % 18]))
        emulator.step(step % 18)
        assert np.abs(seen[0].astype(int) - emulator.planes).max() <= 1
    env.close()
    data = atari.load(atari.Config(name="atari", id="ALE/Pong-v5", labels="boxes", pictures=10, height=64, width=64, stack=2), 1)
    assert data.shape == (2, 64, 64)
    assert take(data, 3)[1]["boxes"].max() <= 64


def test_colours_of_pong_are_classes() -> None:
    config = atari.Config(name="atari", id="ALE/Pong-v5", pictures=40)
    data = atari.load(config, 1)
    assert (len(data.train), len(data.test), data.shape, data.tasks) == (40, 10, (4, 84, 84), ("segment",))
    _, labels = take(data, 20)
    assert labels["mask"].shape == (84, 84)
    assert (labels["mask"] == 0).mean() > 0.7  # the ground
    assert len(np.unique(labels["mask"])) >= 3


def test_boxes_of_pong_are_where_its_ram_says() -> None:
    """In every frame with a ball in play, its box moves with the byte in RAM that holds its position."""
    found = list(emulators.frames("ALE/Pong-v5", 200, seed=3))
    screens = [frame.screen for frame in found]
    rows = atari.PLAYFIELD["pong"]
    kinds = atari.movers(screens, rows)
    assert len(kinds) == 3  # ball and two paddles
    balls, bytes_ = [], []
    for frame in found:
        boxes, _ = atari.boxes_of(frame.screen, kinds, rows)
        small = [box for box in boxes if (box[2] - box[0]) < 1.5]  # paddles are twice as wide
        if len(small) == 1:
            balls.append([(small[0][0] + small[0][2]) / 2, (small[0][1] + small[0][3]) / 2])
            values = ram.variables("pong", frame.ram)
            bytes_.append([values["ball_x"], values["ball_y"]])
    assert len(balls) > 50
    for axis in range(2):
        assert np.corrcoef(np.array(balls)[:, axis], np.array(bytes_)[:, axis])[0, 1] > 0.99


def test_components_by_hand() -> None:
    classes = np.array([[0, 0, -1, 1], [-1, 0, -1, 1], [1, -1, -1, 0]], np.int64)
    found = sorted(map(tuple, atari.components(classes).tolist()))
    assert found == [(0, 0, 2, 2, 0), (0, 2, 1, 3, 1), (3, 0, 4, 2, 1), (3, 2, 4, 3, 0)]


def test_what_the_emulator_refuses() -> None:
    with pytest.raises(UsageError, match="is not a packaged Atari game"):
        atari.load(atari.Config(name="atari", id="CartPole-v1"), 1)
    with pytest.raises(UsageError, match="unknown game with boxes 'qbert'"):
        atari.load(atari.Config(name="atari", id="ALE/Qbert-v5", labels="boxes"), 1)
    with pytest.raises(UsageError, match="unknown game with known variables 'alien'"):
        ram.variables("alien", np.zeros(128, np.uint8))


def test_objects_need_their_package() -> None:
    """Where the package is installed, its boxes are those of the pieces of one colour."""
    try:
        from ocatari.ram import extract_ram_info  # noqa: F401
    except Exception:
        with pytest.raises(UsageError, match=r"data\.labels=objects needs OCAtari"):
            atari.load(atari.Config(name="atari", labels="objects", pictures=10), 1)
        return
    reader = objects.Objects("ALE/Pong-v5")
    assert reader.names == ("Player", "Ball", "Enemy")
    found = list(emulators.frames("ALE/Pong-v5", 60, seed=3))
    kinds = atari.movers([frame.screen for frame in found], (34, 194))
    hits = total = 0
    for frame in found:
        theirs, _ = atari.scaled(*reader.boxes(frame.ram), (84, 84))
        ours, _ = atari.boxes_of(frame.screen, kinds, atari.PLAYFIELD["pong"])
        for box in ours:
            total += 1
            hits += int((np.abs(theirs - box).max(1) < 1.5).any())
    assert hits > 0.8 * total


def test_frames_of_an_agents_games() -> None:
    """The planes are those of the rows asked for, whatever the agent sees; the texts, the digits that are there."""
    settings: dict[str, Any] = {"id": "ALE/Breakout-v5", "stack": 1, "labels": "score", "rows": [0, 24], "height": 24, "width": 160}
    config = atari.Config(name="atari", player="pretrained:breakout", pictures=12, every=2, **settings)
    played = atari.moments(config, 12, 3)
    assert [frame.planes.shape for frame in played] == [(1, 24, 160)] * 12
    assert all((frame.planes[0, :3] == 0).all() for frame in played)  # above the digits
    whole = atari.moments(config.model_copy(update={"rows": [0, 210], "height": 210}), 12, 3)
    for part, all_of_it in zip(played, whole, strict=True):
        assert np.array_equal(part.planes[0], all_of_it.planes[0, :24])
    assert not np.array_equal(played[0].ram, atari.moments(config, 12, 4)[0].ram)
    data = atari.load(config, 1)
    texts = data.train.take(np.arange(len(data.train)))[1]["text"]
    assert (data.shape, data.tasks, texts.shape[1]) == ((1, 24, 160), ("read",), 3)
    for message, changes in {
        "data.player=pretrained:pong plays ALE/Pong-v5, not ALE/Breakout-v5": {"player": "pretrained:pong"},
        "pretrained:go plays go(size=7,komi=9), not an Atari game": {"player": "pretrained:go"},
        "data.rows = [24, 0]: must be two rows": {"rows": [24, 0]},
        "data.rows = [0, 211]: must be two rows": {"rows": [0, 211]},
        "unknown game with a known score 'freeway'": {"id": "ALE/Freeway-v5", "player": None},
    }.items():
        with pytest.raises(UsageError, match=re.escape(message)):
            atari.load(config.model_copy(update=changes), 1)


def test_frames_that_all_show_no_text_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atari.rams, "sentence", lambda *_: None)
    config = atari.Config(name="atari", pictures=10, every=1, labels="sentence")
    with pytest.raises(UsageError, match=r"data\.labels=sentence: none of 10 frames of pong shows one; raise data\.pictures"):
        atari.load(config, 1)


@pytest.mark.parametrize(("game", "steps"), [("Breakout", 200), ("SpaceInvaders", 150), ("Pong", 120)])
def test_scores_are_the_sums_of_the_rewards(game: str, steps: int) -> None:
    emulator = emulators.Emulator(f"ALE/{game}-v5", 5)
    total, action, seen = 0.0, 0, set()
    for step in range(steps):
        if step % 5 == 0:
            action = int(emulator.rng.integers(len(emulator.actions)))
        over = emulator.step(action)
        if over:
            break
        total += emulator.reward
        frame = emulator.frame()
        told = ram.score(emulator.game, frame.ram, frame.before)
        if told is None:
            continue
        numbers = [int(number) for number in told.split()]
        assert (numbers[1] - numbers[0] if game == "Pong" else numbers[0]) == total
        seen.add(total)
    assert len(seen) > 1


def test_sentences_about_pong_are_true_of_its_boxes() -> None:
    """The ball of the sentence is where the piece of its colour is, and so is the player."""
    found = list(emulators.frames("ALE/Pong-v5", 150, seed=3))
    kinds = atari.movers([frame.screen for frame in found], atari.PLAYFIELD["pong"])
    seen = 0
    for frame in found:
        said = ram.sentence("pong", frame.ram, frame.before)
        boxes, _ = atari.boxes_of(frame.screen, kinds, atari.PLAYFIELD["pong"], atari.SCREEN)
        balls = [box for box in boxes if box[2] - box[0] <= 2]  # paddles are 4 wide
        players = [box for box in boxes if box[0] == 140 and box[3] - box[1] == 16]  # not those that leave the field
        if said in (None, "no ball") or len(balls) != 1 or len(players) != 1:
            continue
        seen += 1
        (x, y), middle = (balls[0][:2] + balls[0][2:]) / 2, (players[0][1] + players[0][3]) / 2
        assert said is not None
        if abs(x - 79) > 3:
            assert ("left" if x < 79 else "right") in said.partition(",")[0]
        if abs(y - 114) > 3:
            assert ("upper" if y < 114 else "lower") in said.partition(",")[0]
        if abs(abs(middle - y) - 8) > 4:
            place = "level with" if abs(middle - y) < 8 else "above" if middle < y else "below"
            assert f"player {place} it" in said
    assert seen > 30
