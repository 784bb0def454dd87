"""CTC: its probabilities by brute force and by a forward-backward pass, its searches, what it refuses; runs that read."""

import itertools
import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from rlsuite.cli.vision import app
from rlsuite.core.errors import UsageError
from rlsuite.runs import checkpoint
from rlsuite.vision import predict
from rlsuite.vision.data import lines, text_line
from rlsuite.vision.model import make_model
from rlsuite.vision.reading import Ctc, fitted, greedy, prefix_beam_search
from rlsuite.vision.train import SavedModel, train

Float = NDArray[np.float64]


def random_log_probs(columns: int, tokens: int, seed: int) -> Float:
    """[T,K+1], the blank last."""
    return np.log(np.random.default_rng(seed).dirichlet(np.ones(tokens + 1), columns))


def text_of(path: tuple[int, ...], blank: int) -> tuple[int, ...]:
    return tuple(token for token, _ in itertools.groupby(path) if token != blank)


def all_texts(log_probs: Float) -> dict[tuple[int, ...], float]:
    """The probability of every text, summed over all paths."""
    columns, blank = log_probs.shape[0], log_probs.shape[1] - 1
    found: dict[tuple[int, ...], float] = defaultdict(float)
    for path in itertools.product(range(blank + 1), repeat=columns):
        found[text_of(path, blank)] += math.exp(sum(log_probs[t, token] for t, token in enumerate(path)))
    return found


def forward_backward(log_probs: Float, text: tuple[int, ...]) -> tuple[float, Float]:
    """p(text), and the derivatives [T,K+1] of -log p(text) by the log-probabilities (Graves et al. 2006, section 4.1)."""
    y, blank = np.exp(log_probs), log_probs.shape[1] - 1
    spread = [blank] + [each for token in text for each in (token, blank)]
    columns, states = len(y), len(spread)
    jumps = [s > 1 and spread[s] != blank and spread[s] != spread[s - 2] for s in range(states)]
    alpha, beta = np.zeros((columns, states)), np.zeros((columns, states))
    alpha[0, :2] = [y[0, token] for token in spread[:2]]
    beta[-1, -2:] = 1
    for t in range(1, columns):
        for s in range(states):
            before = alpha[t - 1, s] + (alpha[t - 1, s - 1] if s else 0) + (alpha[t - 1, s - 2] if jumps[s] else 0)
            alpha[t, s] = before * y[t, spread[s]]
    for t in range(columns - 2, -1, -1):
        for s in range(states):
            for after in (s, s + 1, s + 2):
                if after < states and (after < s + 2 or jumps[after]):
                    beta[t, s] += beta[t + 1, after] * y[t + 1, spread[after]]
    p = float(alpha[-1, -2:].sum())
    through = np.zeros_like(y)  # probability of the paths that have this token in this column
    for s, token in enumerate(spread):
        through[:, token] += alpha[:, s] * beta[:, s]
    assert np.allclose(through.sum(1), p)  # every path has some token in every column
    return p, -through / p


@pytest.mark.parametrize("columns", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("tokens", [1, 2])
def test_the_loss_is_the_sum_over_all_ways_to_spread_a_text(columns: int, tokens: int) -> None:
    """Brute force, the forward-backward pass and the loss agree on every text that fits, and so do the gradients of the latter."""
    log_probs = random_log_probs(columns, tokens, seed=columns)
    probabilities = all_texts(log_probs)
    assert sum(probabilities.values()) == pytest.approx(1)
    for text, probability in probabilities.items():
        if not text:
            continue
        p, gradient = forward_backward(log_probs, text)
        given = torch.from_numpy(log_probs)[:, None].float().requires_grad_()
        head = Ctc((1, 1, columns), tokens, "rnn", 2)
        head.forward = lambda maps, given=given: given  # type: ignore[method-assign, misc]
        loss, _ = head.losses([], torch.zeros(1), {"text": torch.tensor([[*text, -1, -1]])})
        assert p == pytest.approx(probability)
        assert float(loss.detach()) == pytest.approx(-math.log(probability), rel=1e-4)
        loss.sum().backward()
        # torch's gradient is that of the logits under the log_softmax that must come before: softmax - occupancy.
        assert given.grad is not None
        np.testing.assert_allclose(given.grad[:, 0].numpy(), np.exp(log_probs) + gradient, atol=1e-5)


@pytest.mark.parametrize("seed", range(8))
def test_searches_agree_with_brute_force(seed: int) -> None:
    """A wide beam finds the most probable text, which need not be that of the best path; a narrow one is no better."""
    log_probs = random_log_probs(5, 2, seed)
    probabilities = all_texts(log_probs)
    best = max(probabilities, key=lambda text: probabilities[text])
    found, score = prefix_beam_search(log_probs, 1000)
    assert found == best
    assert score == pytest.approx(math.log(probabilities[best]))
    assert prefix_beam_search(log_probs, 1)[1] <= score + 1e-12
    paths = itertools.product(range(3), repeat=5)
    path = max(paths, key=lambda path: sum(log_probs[t, token] for t, token in enumerate(path)))
    row = greedy(torch.from_numpy(log_probs)[:, None], 2)[0]
    assert tuple(row[row >= 0].tolist()) == text_of(path, 2)


def test_the_best_path_may_not_be_the_best_text() -> None:
    log_probs = np.log(np.array([[0.4, 0.6], [0.4, 0.6]]))
    assert greedy(torch.from_numpy(log_probs)[:, None], 1).shape == (1, 0)  # 0.36
    assert prefix_beam_search(log_probs, 4)[0] == (0,)  # 0.4 * 0.6 * 2 + 0.4 * 0.4 = 0.64


def test_equal_neighbours_are_one_token_unless_a_blank_parts_them() -> None:
    path = torch.tensor([[0, 0, 2, 0, 1, 1], [2, 2, 2, 2, 2, 2], [1, 0, 1, 0, 1, 0]])
    log_probs = torch.nn.functional.one_hot(path.T, 3).float().log()
    assert greedy(log_probs, 2).tolist() == [[0, 0, 1, -1, -1, -1], [-1] * 6, [1, 0, 1, 0, 1, 0]]


def test_texts_of_another_length_are_not_equal() -> None:
    rows = torch.tensor([[0, 1, 2], [0, 1, -1], [0, -1, -1]])
    assert fitted(rows, 2).tolist() == [[0, -2], [0, 1], [0, -1]]
    assert fitted(rows[1:], 4).tolist() == [[0, 1, -1, -1], [0, -1, -1, -1]]


def test_it_learns_a_line_by_heart() -> None:
    torch.manual_seed(0)
    model = make_model("dcgan(width=8,depth=2)", "ctc(core=gru,size=16)", 3, 1, size=(16, 32))
    images = torch.randint(0, 256, (2, 1, 16, 32), dtype=torch.uint8)
    labels = {"text": torch.tensor([[0, 0, 2, -1], [1, -1, -1, -1]])}
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(40):
        loss, metrics = model.losses(images, labels)
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
    assert float(metrics["losses/exact"]) == 1
    model.eval()
    with torch.no_grad():
        assert model.predict(images).tolist() == [[0, 0, 2], [1, -1, -1]]
        model.search(5)
        assert model.predict(images).tolist() == [[0, 0, 2], [1, -1, -1]]


@pytest.mark.parametrize(
    ("head", "backbone", "size", "message"),
    [
        ("ctc(core=lstn)", "impala", (32, 32), "unknown core 'lstn'; did you mean lstm"),
        ("ctc(core=mine.py:Core)", "impala", (32, 32), "unknown core 'mine.py:Core'"),
        ("ctc(core=lstm(window=3))", "impala", (32, 32), "unknown parameter of lstm 'window'"),
        ("ctc(size=0)", "impala", (32, 32), "size must be above 0"),
        ("ctc(beam=4)", "impala", (32, 32), "unknown parameter of ctc 'beam'"),
        ("ctc", "impala", (32, 4), "smaller than the stride of its last map, 8"),
    ],
)
def test_what_a_reader_refuses(head: str, backbone: str, size: tuple[int, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_model(backbone, head, 3, 1, size=size)


def test_a_neck_is_refused() -> None:
    with pytest.raises(UsageError, match=r"model\.neck must be none"):
        make_model("impala", "ctc", 3, 1, size=(32, 32), neck="fpn")


def test_labels_that_cannot_be_read_are_refused() -> None:
    head = Ctc((4, 1, 5), 3, "rnn", 4)
    head.check(np.array([0, 0, 1, 2]), "x")
    head.check(np.array([0, 1, 0, 1, 0]), "x")
    with pytest.raises(UsageError, match=r"^x: its text is empty, so all columns would be blank"):
        head.check(np.array([], np.int64), "x")
    with pytest.raises(UsageError, match=r"^x: its text of 4 tokens takes 6 columns, but the backbone's last map has 5"):
        head.check(np.array([0, 0, 1, 1]), "x")


def test_lines_are_drawn_where_they_fit() -> None:
    config = text_line.Config(name="text_line", pictures=60, characters="01x", longest=3, width=40)
    data, again, other = (text_line.load(config, seed) for seed in (1, 1, 2))
    images, labels = data.train.take(np.arange(60))
    assert images.shape == (60, 1, 24, 40)
    assert {int((row >= 0).sum()) for row in labels["text"]} == {1, 2, 3}
    assert np.array_equal(images, again.train.take(np.arange(60))[0])
    assert not np.array_equal(images, other.train.take(np.arange(60))[0])
    assert np.array_equal(data.test.take(np.arange(6))[0], other.test.take(np.arange(6))[0])  # the test stays
    with pytest.raises(UsageError, match=r"data\.characters = '010': '0' is there more than once"):
        text_line.load(config.model_copy(update={"characters": "010"}), 1)
    with pytest.raises(UsageError, match=r"data\.width = 24: the text '[01x]+' takes \d+ pixels"):
        text_line.load(config.model_copy(update={"longest": 9, "width": 24}), 1)


LINES: dict[str, Any] = {
    "data.pictures": 40,
    "data.longest": 3,
    "data.width": 48,
    "model.backbone": "dcgan(width=8,depth=2)",
    "model.head": "ctc(core=rnn,size=8)",
    "learner.batch_size": 8,
    "run.steps": 32,
    "run.threads": 1,
    "run.device": "cpu",
    "eval.every_steps": None,
}


def test_a_run_reads_and_resumes_bit_for_bit(tmp_path: Path) -> None:
    train("vision/text_line", LINES, tmp_path / "whole")
    half = {**LINES, "run.steps": 16, "learner.learning_rate_anneal_agent_steps": 32}
    train("vision/text_line", half, tmp_path / "half")
    outcome = train(None, {"run.steps": 32}, resume=tmp_path / "half")
    assert outcome.metrics is not None
    assert set(outcome.metrics) == {"exact", "character_error_rate", "pictures_per_second"}
    a, b = (checkpoint.load(checkpoint.find(tmp_path / name)) for name in ("whole", "half"))
    for name in a.weights:
        assert torch.equal(a.weights[name], b.weights[name]), name

    def call(*words: str) -> Any:
        done = CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False)
        assert done.exit_code == 0
        return json.loads(done.stdout)

    assert call("evaluate", str(tmp_path / "whole"), "--beam", "3")["eval"]["character_error_rate"] >= 0
    found = call("predict", str(tmp_path / "whole"), "test", "--count", "2", "--out", str(tmp_path / "out"))
    assert len(found["texts"]) == len(found["pictures"]) == 2
    assert all(set(text) <= set("0123456789") for text in found["texts"])
    with pytest.raises(UsageError, match=r"learned 10 classes, the data has 11 \(new: 'x'\): train a new run on it"):
        train(None, {"data.characters": "0123456789x"}, resume=tmp_path / "half")


def test_a_text_that_does_not_fit_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^training picture \d+: its text of 8 tokens takes \d+ columns, but .* has 7"):
        train(
            "vision/text_line",
            {**LINES, "data.longest": 8, "data.width": 112, "model.backbone": "dcgan(width=4)"},
            tmp_path / "run",
        )
    assert not (tmp_path / "run").exists()


def written(folder: Path, texts: dict[str, str]) -> None:
    for name in texts:
        Image.fromarray(np.zeros((8, 16, 3), np.uint8)).save(folder / name)
    (folder / "texts.tsv").write_text("".join(f"{name}\t{text}\n" for name, text in texts.items()))


def test_your_own_lines(tmp_path: Path) -> None:
    written(tmp_path, {f"{n}.png": "ab b" if n % 2 else "b" for n in range(10)})
    data = lines.load(lines.Config(name="lines", path=str(tmp_path), width=64), 1)
    assert (data.classes, data.shape, len(data.train), len(data.test)) == ((" ", "a", "b"), (3, 32, 64), 8, 2)
    assert {tuple(row.tolist()) for row in data.train.take(np.arange(8))[1]["text"]} == {(1, 2, 0, 2), (2, -1, -1, -1)}
    assert lines.load(lines.Config(name="lines", path=str(tmp_path), tokens="words"), 1).classes == ("ab", "b")
    settings = {
        **LINES,
        "data": {"name": "lines", "path": str(tmp_path)},
        "run.steps": 8,
        "model.backbone": "dcgan(width=4,depth=2)",
    }
    for key in ("data.pictures", "data.longest", "data.width"):
        settings.pop(key)
    run = train("vision/text_line", settings, tmp_path / "run").run
    written(tmp_path, {f"{n}.png": "abc" for n in range(10)})
    for going_on in (
        lambda: train(None, {"run.steps": 16}, resume=run),
        lambda: predict.show(SavedModel(run), "test", tmp_path, 1),
    ):
        with pytest.raises(UsageError, match=r"learned 3 classes, the data has 3 \(new: 'c'; gone: ' '\)"):
            going_on()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a.png\t  \n", r"texts\.tsv, line 1: 'a\.png\\t  ' has no text"),
        ("a.png\tx\na.png x\n", r"texts\.tsv, line 2: 'a\.png x' has no text; it must be a picture's name, a tab, and its text"),
        ("b.png\tx\n", r"texts\.tsv, line 1: there is no picture .*b\.png"),
        ("a.png\tx\n", "1 pictures; it takes two at least"),
        (None, r"texts\.tsv cannot be read"),
    ],
)
def test_lists_of_texts_that_are_refused(tmp_path: Path, content: str | None, message: str) -> None:
    Image.fromarray(np.zeros((8, 16, 3), np.uint8)).save(tmp_path / "a.png")
    if content is not None:
        (tmp_path / "texts.tsv").write_text(content)
    with pytest.raises(UsageError, match=message):
        lines.load(lines.Config(name="lines", path=str(tmp_path)), 1)
