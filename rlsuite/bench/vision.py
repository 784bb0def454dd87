"""torsos: updates of an agent with each torso. vision: updates of vision models, in bf16 and channels_last or not."""

import itertools

import numpy as np

from rlsuite.bench.learner import updates
from rlsuite.bench.measure import PLAIN, PONG, BenchSettings, Row, Work, alternate, config, repeated
from rlsuite.config.schema import LearnerConfig
from rlsuite.factories import device_of, make_agent
from rlsuite.learning.learner import Learner
from rlsuite.vision.config import ModelConfig
from rlsuite.vision.data import Data, InMemory
from rlsuite.vision.supervised import DataStore, Supervised

TORSOS = ("nature", "impala", "impala(pool=gap)", "resnet18", "mobilenet_v2")
MODELS = {
    "unet": (ModelConfig(backbone="impala", head="unet(width=16)"), "U-Net on the IMPALA torso"),
    "anchor_free": (
        ModelConfig(backbone="impala", neck="fpn(width=32,finest=2)", head="anchor_free"),
        "one-stage detector on the IMPALA torso",
    ),
}


def bench_torsos(settings: BenchSettings) -> list[Row]:
    """Samples per second of plain DQN on 4x84x84 with every torso, against the Nature torso."""
    contenders = {
        torso: updates(settings, PLAIN, settings.batch, nchw=False, net={"torso": torso}, precision="bf16") for torso in TORSOS
    }
    rates = alternate("torsos", contenders, settings)
    rows = []
    for torso in TORSOS:
        net = make_agent(config(settings, PLAIN, net={"torso": torso}), PONG).make_net()
        parameters = sum(p.numel() for p in net.parameters())
        what = f"Learner.step of plain DQN, batch {settings.batch}, bf16 + channels_last, torso {torso}, {parameters:,} parameters"
        reference = None if torso == "nature" else rates["nature"]
        rows.append(
            Row(f"torsos/{torso}", what + ("" if reference is None else ", against nature"), "samples/s", rates[torso], reference)
        )
    return rows


def bench_vision(settings: BenchSettings) -> list[Row]:
    """Pictures per second of two vision models, in bf16 and channels_last against fp32 and NCHW."""
    batch = 8 if settings.quick else 32
    rows = []
    for name, (model, label) in MODELS.items():
        contenders = {
            "ours": _updates(settings, model, batch, LearnerConfig(batch_size=batch, precision="bf16")),
            "reference": _updates(settings, model, batch, LearnerConfig(batch_size=batch, channels_last=False)),
        }
        rates = alternate(f"vision/{name}", contenders, settings)
        what = f"Learner.step of a {label}, batch {batch} of 4x84x84: bf16 + channels_last, against fp32 NCHW"
        rows.append(Row(f"vision/{name}", what, "pictures/s", rates["ours"], rates["reference"]))
    return rows


def _updates(settings: BenchSettings, model: ModelConfig, batch: int, learner: LearnerConfig) -> Work:
    rng = np.random.default_rng(1)
    n = 2 * batch
    low = rng.uniform(0, 60, (n, 3, 2)).astype(np.float32)
    labels = {
        "mask": rng.integers(5, size=(n, 84, 84)).astype(np.uint8),
        "boxes": np.concatenate([low, low + rng.uniform(2, 20, low.shape).astype(np.float32)], -1),
        "classes": rng.integers(3, size=(n, 3)),
    }
    pictures = InMemory(rng.integers(256, size=(n, 4, 84, 84), dtype=np.uint8), labels)
    task = Supervised(model, Data(pictures, pictures, tuple("abcde"), (4, 84, 84), ("segment", "detect")))
    trained = Learner(task, learner, seed=1, device=device_of(config(settings, PLAIN)))
    store = DataStore(pictures, seed=1)
    batches = itertools.cycle([trained.stage(store.sample(batch)) for _ in range(4)])
    return repeated(lambda: trained.step(next(batches), want_priority=False), batch)
