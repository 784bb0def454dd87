"""Writers: beam search by brute force, attention by hand, texts learned by heart, and the data that they write about."""

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

from rlsuite.cli.vision import app
from rlsuite.core.errors import UsageError
from rlsuite.runs import checkpoint
from rlsuite.vision import attention, predict, texts
from rlsuite.vision.data import number_words, ram, scenes
from rlsuite.vision.model import make_model
from rlsuite.vision.train import SavedModel, train
from rlsuite.vision.writing import Carry, Writer, beam_search

END, LONGEST = 2, 3  # of two tokens


def table(seed: int) -> dict[tuple[int, ...], np.ndarray]:
    """Log-probabilities [K+1] of what follows each beginning of a text."""
    rng = np.random.default_rng(seed)
    beginnings = [text for length in range(LONGEST) for text in itertools.product(range(END), repeat=length)]
    return {text: np.log(rng.dirichlet(np.ones(END + 1))) for text in beginnings}


def brute_force(known: dict[tuple[int, ...], np.ndarray]) -> tuple[int, ...]:
    scores = {}
    for length in range(LONGEST + 1):
        for text in itertools.product(range(END), repeat=length):
            score = sum(known[text[:at]][text[at]] for at in range(length))
            scores[text] = score + (known[text][END] if length < LONGEST else 0.0)
    assert sum(math.exp(score) for score in scores.values()) == pytest.approx(1)
    return max(scores, key=lambda text: scores[text])


def search(tables: list[dict[tuple[int, ...], np.ndarray]], beam: int) -> list[tuple[int, ...]]:
    """Texts that `beam_search` finds; its state is the text so far, as digits of a number with a leading 1."""

    def step(token: Tensor, carry: Carry) -> tuple[Tensor, Carry]:
        so_far = torch.where(token == END, carry.state[0], carry.state[0] * 3 + token)
        rows = []
        for row, number in enumerate(so_far.tolist()):
            digits = []
            while number > 1:
                number, digit = divmod(number, 3)
                digits.insert(0, digit)
            rows.append(tables[row // beam].get(tuple(digits), np.full(END + 1, np.nan)))  # nan: what follows a text that is over
        return torch.tensor(np.stack(rows)), carry._replace(state=(so_far,))

    count = len(tables)
    begin = Carry((torch.ones(count * beam, dtype=torch.int64),), torch.zeros(count * beam, 1), True)
    found = beam_search(step, begin, count, END, beam, LONGEST)
    return [tuple(row[row != texts.NONE].tolist()) for row in found]


def test_a_wide_search_finds_the_most_probable_text() -> None:
    tables = [table(seed) for seed in range(20)]
    assert search(tables, 16) == [brute_force(known) for known in tables]


def test_a_narrow_search_takes_the_best_token_each_time() -> None:
    tables = [table(seed) for seed in range(20)]
    greedy = []
    for known in tables:
        text: tuple[int, ...] = ()
        while len(text) < LONGEST and (token := int(known[text].argmax())) != END:
            text = (*text, token)
        greedy.append(text)
    assert search(tables, 1) == greedy
    assert greedy != [brute_force(known) for known in tables]


HEADS = [
    "caption(core=lstm,size=16,pool=attend)",
    "caption(core=gru,size=16,pool=gap)",
    "caption(core=attention(window=8,heads=2),size=16,pool=flatten)",
    "seq2seq(size=16)",
    "seq2seq(encoder=attention(window=4,heads=2),core=causal(levels=2),size=16)",
]


@pytest.mark.parametrize("head", HEADS)
def test_it_learns_texts_by_heart_and_writes_them_alone(head: str) -> None:
    """What it writes by itself is what it learned with the true tokens before it; and wider searches agree with it."""
    torch.manual_seed(0)
    model = make_model("dcgan(width=4,depth=2)", head, 5, 1, size=(8, 16))
    images = torch.randint(0, 256, (3, 1, 8, 16), dtype=torch.uint8)
    labels = {"text": torch.tensor([[0, 0, 2, -1, -1], [1, -1, -1, -1, -1], [4, 3, 3, 0, -1]])}
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss, metrics = model.losses(images, labels)
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
    assert loss.shape == (3,)
    assert float(metrics["losses/exact"]) == 1
    assert all(p.grad is not None for p in model.parameters())
    model.eval()
    for beam in (1, 4):
        model.search(beam)
        with torch.no_grad():
            found = model.predict(images)
        assert [row[row >= 0].tolist() for row in found] == [[0, 0, 2], [1], [4, 3, 3, 0]]


def test_the_loss_by_hand() -> None:
    """With all weights 0 every token and the end have the probability 1/(K+1)."""
    model = make_model("dcgan(width=4,depth=2)", "caption(size=8)", 5, 1, size=(8, 16))
    assert isinstance(model.head, Writer)
    torch.nn.init.zeros_(model.head.last.weight)
    torch.nn.init.zeros_(model.head.last.bias)
    loss, _ = model.losses(torch.zeros(2, 1, 8, 16, dtype=torch.uint8), {"text": torch.tensor([[0, 1, -1], [2, -1, -1]])})
    assert loss.tolist() == pytest.approx([math.log(6)] * 2)


def test_attention_by_hand() -> None:
    """Scores v·tanh(key + query) of 1 and 0: weights e/(1+e) and 1/(1+e)."""
    torch.manual_seed(0)
    writer = make_model("dcgan(width=4,depth=2)", "caption(size=1)", 5, 1, size=(4, 8)).head
    assert isinstance(writer, Writer)
    for layer, value in ((writer.score, 1.0), (writer.query, 0.0)):
        torch.nn.init.constant_(layer.weight, value)
    memory = writer.look([torch.zeros(1, 8, 1, 2)])
    memory = memory._replace(keys=torch.tensor([[[50.0], [0.0]]]))
    *_, weights = writer.step(memory, writer.begin(memory), torch.tensor([0]))
    torch.testing.assert_close(weights, torch.tensor([[math.e, 1.0]]) / (1 + math.e))


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("caption(pool=mean)", "unknown pool 'mean'"),
        ("caption(core=bidirectional)", "core=bidirectional reads what is still to be written"),
        ("caption(core=lstn)", "unknown core 'lstn'; did you mean lstm"),
        ("seq2seq(encoder=mine.py:Core)", "unknown core 'mine.py:Core'"),
        ("caption(longest=0)", "longest must be above 0"),
        ("caption(encoder=gru)", "unknown parameter of caption 'encoder'"),
    ],
)
def test_what_a_writer_refuses(head: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_model("impala", head, 3, 1, size=(32, 32))


def test_texts_that_are_too_long_are_refused() -> None:
    head = make_model("impala", "caption(longest=3)", 3, 1, size=(32, 32)).head
    assert isinstance(head, Writer)
    head.check(np.array([0, 1, 2]), "x")
    with pytest.raises(UsageError, match=r"^x: its text has 4 tokens, but the head writes at most longest=3"):
        head.check(np.array([0, 1, 2, 2]), "x")


# ---------------------------------------------------------------------------------------------------------- data


def test_captions_of_scenes() -> None:
    config = scenes.Config(name="scenes", pictures=30, labels="captions", objects=3)
    data = scenes.load(config, 1)
    drawn = scenes.load(config.model_copy(update={"labels": "boxes"}), 1)
    rows = np.arange(30)
    assert data.classes == scenes.words(3)
    assert np.array_equal(data.train.take(rows)[0], drawn.train.take(rows)[0])
    for text, classes in zip(data.train.take(rows)[1]["text"], drawn.train.take(rows)[1]["classes"], strict=True):
        assert texts.joined(text, data.classes) == scenes.caption(classes[classes >= 0])


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0, "zero"),
        (10, "ten"),
        (40, "forty"),
        (99, "ninety nine"),
        (100, "one hundred"),
        (1204, "one thousand two hundred four"),
        (300_000, "three hundred thousand"),
        (999_999_999, "nine hundred ninety nine million nine hundred ninety nine thousand nine hundred ninety nine"),
    ],
)
def test_names_of_numbers(number: int, expected: str) -> None:
    assert number_words.name(number) == expected


def test_numbers_to_test_on_are_never_learned() -> None:
    data, other = (number_words.load(number_words.Config(name="number_words", numbers=3000, digits=4), seed) for seed in (1, 2))
    assert (data.shape, data.letters, data.tasks) == ((10, 1, 4), tuple("0123456789"), ("read",))

    def read(part: Any) -> dict[int, str]:
        images, labels = part.take(np.arange(len(part)))
        assert set(np.unique(images)) == {0, 255}
        there = images[:, :, 0].any(1)  # [N,L]
        digits = images[:, :, 0].argmax(1)
        found = {}
        for row in range(len(part)):
            number = int("".join(map(str, digits[row][there[row]])))
            assert there[row].tolist() == [True] * len(str(number)) + [False] * (4 - len(str(number)))
            found[number] = texts.joined(labels["text"][row], data.classes)
        return found

    learned, tested = read(data.train), read(data.test)
    assert not learned.keys() & tested.keys()
    assert tested.keys() == read(other.test).keys()
    assert learned.keys() != read(other.train).keys()
    assert all(number_words.name(number) == text for number, text in (learned | tested).items())
    assert {len(str(number)) for number in tested} == {1, 2, 3, 4}


def bytes_of(**values: int) -> np.ndarray:
    found = np.zeros(128, np.uint8)
    for name, value in values.items():
        found[ram.VARIABLES["pong"][name]] = value
    return found


@pytest.mark.parametrize(
    ("now", "before", "expected"),
    [
        ((60, 60, 100), (64, 64), "ball upper left, moving up left, player below it"),
        ((180, 180, 100), (176, 176), "ball lower right, moving down right, player above it"),
        ((180, 60, 61), (176, 64), "ball upper right, moving up right, player level with it"),
        ((180, 60, 62), (176, 64), "ball upper right, moving up right, player below it"),
        ((205, 0, 100), (205, 0), "no ball"),
        ((205, 0, 100), (203, 60), None),  # it has just left the field
        ((132, 130, 100), (205, 0), None),  # it has just been served
        ((180, 60, 100), (180, 64), None),  # it turns
    ],
)
def test_sentences_about_pong(now: tuple[int, int, int], before: tuple[int, int], expected: str | None) -> None:
    x, y, player = now
    ram_now, ram_before = bytes_of(ball_x=x, ball_y=y, player_y=player), bytes_of(ball_x=before[0], ball_y=before[1])
    assert ram.sentence("pong", ram_now, ram_before) == expected


def test_scores_by_hand() -> None:
    known = np.zeros(128, np.uint8)
    known[[76, 77, 102, 104, 13, 14]] = [0x11, 0x47, 0x03, 0x50, 4, 15]
    assert ram.score("breakout", known, known) == "147"
    assert ram.score("space_invaders", known, known) == "0350"
    assert ram.score("pong", known, known) == "4 15"
    other = known.copy()
    other[77] = 0x46
    assert ram.score("breakout", known, other) is None
    with pytest.raises(UsageError, match="unknown game with a known score 'qbert'"):
        ram.score("qbert", known, known)
    with pytest.raises(UsageError, match="unknown game with sentences 'qbert'"):
        ram.sentence("qbert", known, known)


# ---------------------------------------------------------------------------------------------------------- runs

NUMBERS: dict[str, Any] = {
    "data.numbers": 60,
    "data.digits": 3,
    "model.backbone": "embedding(width=8)",
    "model.head": "seq2seq(size=8)",
    "learner.batch_size": 8,
    "run.steps": 32,
    "run.threads": 1,
    "run.device": "cpu",
    "eval.every_steps": None,
    "eval.pictures": None,
}


def test_a_run_writes_and_resumes_bit_for_bit(tmp_path: Path) -> None:
    done = train("vision/number_words", NUMBERS, tmp_path / "whole")
    assert done.metrics is not None
    assert set(done.metrics) == {"exact", "character_error_rate", "bleu4", "pictures_per_second"}
    half = {**NUMBERS, "run.steps": 16, "learner.learning_rate_anneal_agent_steps": 32}
    train("vision/number_words", half, tmp_path / "half")
    train(None, {"run.steps": 32}, resume=tmp_path / "half")
    a, b = (checkpoint.load(checkpoint.find(tmp_path / name)) for name in ("whole", "half"))
    for name in a.weights:
        assert torch.equal(a.weights[name], b.weights[name]), name

    def call(*words: str) -> Any:
        done = CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False)
        assert done.exit_code == 0
        return json.loads(done.stdout)

    run = str(tmp_path / "whole")
    assert call("evaluate", run, "--beam", "2")["eval"]["exact"] >= 0
    found = call("predict", run, "120", "--out", str(tmp_path / "out"))
    assert Path(found["pictures"][0]).name == "120.png"
    words = found["texts"][0].split()
    assert set(words) <= set(number_words.WORDS)
    assert Image.open(found["pictures"][0]).size[1] == attention.CELL * (len(words) + 1) + 4
    for text, message in {
        "12x": "'12x': 'x' is not a letter that",
        "1234": "'1234' has 4 letters, but",
        "": "'' has 0 letters",
    }.items():
        with pytest.raises(UsageError, match=message):
            predict.show(SavedModel(tmp_path / "whole"), text, tmp_path / "out", 1)
    with pytest.raises(UsageError, match="linear is to classify, but the labels of this data are to read"):
        train("vision/number_words", {**NUMBERS, "model.head": "linear"}, tmp_path / "other")


def test_where_a_caption_looked_is_drawn(tmp_path: Path) -> None:
    settings = {
        "data.pictures": 20,
        "data.size": 32,
        "model.backbone": "dcgan(width=4,depth=3)",
        "learner.batch_size": 8,
        "run.steps": 8,
        "run.threads": 1,
        "run.device": "cpu",
        "eval.every_steps": None,
        "eval.pictures": None,
    }
    run = train("vision/scenes_captions", {**settings, "model.head": "caption(size=8,longest=12)"}, tmp_path / "run").run
    shown = predict.show(SavedModel(run), "test", tmp_path / "out", 1)[0]
    assert shown.text is not None
    assert Image.open(shown.path).size[0] > 100
    silent = SavedModel(run)
    assert isinstance(silent.model.head, Writer)
    silent.model.head.last.bias.data[silent.model.head.end] = 1e3
    shown = predict.show(silent, "test", tmp_path / "out", 1)[0]
    assert shown.text == ""
    assert Image.open(shown.path).size == (160, 160)
    plain = train("vision/scenes_captions", {**settings, "model.head": "caption(size=8,pool=gap,longest=12)"}, tmp_path / "gap").run
    assert Image.open(predict.show(SavedModel(plain), "test", tmp_path / "out", 1)[0].path).size == (320, 320)
    with pytest.raises(UsageError, match=r"^training picture \d+: its text has \d+ tokens, but the head writes at most longest=1"):
        train("vision/scenes_captions", {**settings, "model.head": "caption(size=8,longest=1)"}, tmp_path / "no")


def test_attention_is_drawn_where_it_is() -> None:
    weights = np.array([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]])
    drawn = attention.matrix(weights, ["one", "two"], ["1", "2", ""])
    cell = attention.CELL
    left = drawn.shape[1] - 4 - 3 * cell
    greys = [[drawn[cell * (row + 1) + 5, left + cell * at + 5, 0] for at in range(3)] for row in range(2)]
    assert greys == [[255, 0, 0], [0, 128, 128]]
    image = np.full((1, 32, 32), 200, np.uint8)
    looked = np.zeros((2, 4, 4))
    looked[0, 3, 3] = looked[1, 0, 3] = 1.0
    shown = attention.glances(image, looked, ["one", "two"])
    side = 32 * 5
    assert shown.shape == (side, 2 * side + 4, 3)
    assert shown[-4, side - 4, 0] == shown[18, -4, 0] == 200
    assert shown[-4, 4, 0] == shown[-4, -4, 0] == 50
