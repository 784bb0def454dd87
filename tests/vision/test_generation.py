"""Autoencoders and GANs: losses by hand, turns, what is measured, and what is refused."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from rlsuite.config.schema import LearnerConfig
from rlsuite.core.errors import UsageError
from rlsuite.learning.learner import Learner
from rlsuite.vision import baselines, frechet, metrics
from rlsuite.vision import model as model_module
from rlsuite.vision.baselines import pca_squared_error
from rlsuite.vision.config import ModelConfig
from rlsuite.vision.data import Data, InMemory
from rlsuite.vision.evaluate import evaluate_until
from rlsuite.vision.generation import autoencoders, gans
from rlsuite.vision.model import Model, make_model
from rlsuite.vision.sample import between, samples, to_bytes
from rlsuite.vision.supervised import DataStore, Supervised

HEADS = [
    *("autoencoder(latent=4)", "autoencoder(latent=4,denoise=0.2,up=transpose,norm=instance)", "vae(latent=4,beta=2)"),
    *(
        "gan(latent=4,hidden=8)",
        "dcgan(latent=4)",
        "dcgan(latent=4,min_max=true,up=resize)",
        "conditional_gan(latent=4,rate=0.5,r1=1)",
    ),
    "stylegan(latent=4,depth=2)",
]
LOG2 = math.log(2)


def pictures(count: int = 24, classes: int = 3) -> InMemory:
    """Squares whose place depends on the class."""
    rng = np.random.default_rng(0)
    label = np.arange(count) % classes
    images = rng.integers(0, 40, (count, 1, 16, 16)).astype(np.uint8)
    for image, kind in zip(images, label, strict=True):
        image[0, 4 * kind : 4 * kind + 4, 2:9] += 200
    return InMemory(images, {"label": label})


DATA = Data(pictures(), pictures(12), ("a", "b", "c"), (1, 16, 16), ("classify",))


def model(head: str, backbone: str = "dcgan(width=8,depth=2)") -> Model:
    torch.manual_seed(0)
    return make_model(backbone, head, 3, 1, size=(16, 16))


def learner(head: str, **more: Any) -> Learner:
    task = Supervised(ModelConfig(backbone="dcgan(width=8,depth=2)", head=head), DATA)
    return Learner(
        task, LearnerConfig(**{"learning_rate": 2e-3, "optimizer_epsilon": 1e-8, "channels_last": False, **more}), seed=1
    )


def test_every_head_is_covered() -> None:
    assert {head.split("(")[0] for head in HEADS} == {name for name, kind in model_module.HEADS.items() if kind.task == "generate"}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("head", HEADS)
def test_every_head_learns_and_is_measured(head: str, precision: str) -> None:
    torch.manual_seed(0)
    one = learner(head, precision=precision)
    store, seen = DataStore(DATA.train, 1), []
    for _ in range(12):
        update = one.step(one.stage(store.sample(12)))
        seen.append({name: float(value) for name, value in update.metrics.items()})
    assert all(math.isfinite(value) for row in seen for value in row.values())
    if "gan" not in head:
        assert seen[-1]["losses/loss"] < seen[0]["losses/loss"]
    else:
        assert {"losses/discriminator_loss", "losses/generator_loss", "losses/d_real", "losses/d_fake"} <= set(seen[-1])
    random = torch.get_rng_state()
    found = [
        evaluate_until(lambda done, of: False, one.net, DATA, "generate", torch.device("cpu"), size, precision == "bf16")
        for size in (12, 12)
    ]
    assert found[0] is not None
    assert found[1] is not None
    assert {**found[0], "pictures_per_second": 0} == {**found[1], "pictures_per_second": 0}
    assert torch.equal(random, torch.get_rng_state())  # so that evaluations change no training
    assert one.net.training
    assert isinstance(one.net, Model)
    assert all(math.isfinite(value) for value in found[0].values())
    assert one.net.maker.main in found[0]
    if one.net.maker.samples:
        made, asked = samples(one.net, 7, 1, precision == "bf16")
        assert made.shape == (7, 1, 16, 16)
        assert made.dtype == np.uint8
        assert (asked is None) == (one.net.maker.classes is None)


def test_the_loss_of_an_autoencoder_by_hand() -> None:
    found, true = torch.tensor([[[[0.0, 1.0]]], [[[0.5, 0.5]]]]), torch.tensor([[[[0.0, 0.0]]], [[[0.5, 0.1]]]])
    assert autoencoders.squared_error(found, true).tolist() == pytest.approx([0.5, 0.08])
    assert autoencoders.psnr(0.01) == pytest.approx(20)


def test_the_elbo_by_hand() -> None:
    """All logits 0: each of 256 pixels costs log 2 nats, whatever its grey. KL(N(1, 4) || N(0, 1)) = (1 + 4 - 1 - log 4) / 2."""
    assert autoencoders.kl_from_normal(torch.tensor([[1.0, 0.0]]), torch.tensor([[math.log(4), 0.0]])).tolist() == pytest.approx(
        [(1 + 4 - 1 - math.log(4)) / 2]
    )
    vae = model("vae(latent=2,beta=3)")
    head = vae.head
    assert isinstance(head, autoencoders.Vae)
    torch.nn.init.zeros_(head.decoder.ups[-1][-1].weight)  # type: ignore[index, union-attr, arg-type]
    torch.nn.init.zeros_(head.decoder.ups[-1][-1].bias)  # type: ignore[index, union-attr, arg-type]
    torch.nn.init.zeros_(head.encoder.weight)
    with torch.no_grad():
        head.encoder.bias.copy_(torch.tensor([1.0, 0.0, math.log(4), 0.0]))
    images = torch.from_numpy(DATA.train.take(np.arange(4))[0])
    kl = (4 - math.log(4)) / 2
    loss, seen = vae.losses(images, {})
    assert loss.tolist() == pytest.approx([256 * LOG2 + 3 * kl] * 4)
    assert float(seen["losses/elbo"]) == pytest.approx(-256 * LOG2 - kl)
    assert float(seen["losses/kl"]) == pytest.approx(kl)


def test_the_losses_of_a_gan_by_hand() -> None:
    """D(x) = 3/4 and D(G(z)) = 1/4: logits ±log 3."""
    real, fake = torch.tensor([math.log(3)]), torch.tensor([-math.log(3)])
    assert gans.discriminator_loss(real, fake).tolist() == pytest.approx([-2 * math.log(3 / 4)])
    assert gans.generator_loss(fake, min_max=False).tolist() == pytest.approx([-math.log(1 / 4)])
    assert gans.generator_loss(fake, min_max=True).tolist() == pytest.approx([math.log(3 / 4)])
    half = torch.zeros(1)
    assert gans.discriminator_loss(half, half).tolist() == pytest.approx([2 * LOG2])  # V = -log 4 at the optimum


@pytest.mark.parametrize(("min_max", "slope"), [(False, -1.0), (True, 0.0)])
def test_the_generator_learns_where_d_is_sure_only_by_the_trick(min_max: bool, slope: float) -> None:
    fake = torch.tensor([-20.0], requires_grad=True)
    gans.generator_loss(fake, min_max).sum().backward()
    assert fake.grad is not None
    assert float(fake.grad) == pytest.approx(slope, abs=1e-6)


@pytest.mark.parametrize("kind", ["gan", "dcgan", "conditional_gan", "stylegan"])
def test_the_gradient_penalty_by_hand(kind: str) -> None:
    """D(x) = 2 Σ x of 16x16 pixels: |∇D|² = 4 * 256. G has none."""
    found = model(f"{kind}(latent=4,r1=3)", "dcgan(width=8,depth=2,norm=none)")
    head, labels = found.head, {"label": torch.tensor([0, 2])}
    assert isinstance(head, gans.Gan)
    head.judge = lambda pictures, label, embed: 2 * pictures.sum((1, 2, 3))  # type: ignore[method-assign]
    images = torch.zeros(2, 1, 16, 16, dtype=torch.uint8)
    for part, penalty in (("discriminator", 4 * 256.0), ("generator", 0.0)):
        head.r1 = 3.0
        torch.manual_seed(1)
        loss, logged = found.losses(images, labels, part)
        head.r1 = 0.0
        torch.manual_seed(1)
        plain, _ = found.losses(images, labels, part)
        assert float(logged.get("losses/r1", torch.zeros(()))) == penalty
        torch.testing.assert_close(loss - plain, torch.full((2,), 1.5 * penalty))


@pytest.mark.parametrize("head", [head for head in HEADS if "gan" in head])
def test_a_turn_changes_the_weights_of_its_part_only(head: str) -> None:
    one = learner(head)
    batch = one.stage(DataStore(DATA.train, 1).sample(12))
    turn, seen = one._turn, []

    def watched(part: Any, *given: Any) -> Any:
        before = {name: p.detach().clone() for name, p in one.net.named_parameters()}
        out = turn(part, *given)
        moved = {name for name, p in one.net.named_parameters() if not torch.equal(p, before[name])}
        seen.append((part.name, {"generator" if "generator" in name else "discriminator" for name in moved}))
        return out

    one._turn = watched  # type: ignore[method-assign]
    one.step(batch)
    assert seen == [("discriminator", {"discriminator"}), ("generator", {"generator"})]
    rates = [part.optimizer.param_groups[0]["lr"] for part in one.parts]
    assert rates == [1e-3 if "rate=0.5" in head else 2e-3, 2e-3]


def test_a_conditional_gan_is_told_classes() -> None:
    gan = model("conditional_gan(latent=4)").eval()
    head = gan.head
    assert isinstance(head, gans.ConditionalGan)
    code = torch.randn(1, 4).expand(3, -1)
    made = head.decode(code, torch.arange(3))
    assert not torch.allclose(made[0], made[1])
    torch.nn.init.normal_(head.vectors.weight)
    same = torch.from_numpy(DATA.train.take(np.zeros(3, np.int64))[0])
    features = gan.maps(same)[-1].flatten(1)
    expected = head.score(features)[:, 0] + torch.stack([features[k] @ head.vectors.weight[k] for k in range(3)])
    torch.testing.assert_close(head.judge(autoencoders.unit(same), torch.arange(3), gan.maps), expected)


@pytest.mark.parametrize("components", [1, 5])
def test_pca_is_scikit_learns(components: int) -> None:
    x, y = (part.images.reshape(len(part), -1) / 255 for part in (pictures(40), pictures(12)))
    pca = PCA(components).fit(x)
    expected = float(((pca.inverse_transform(pca.transform(y)) - y) ** 2).mean())
    assert pca_squared_error(pictures(40), pictures(12), components) == pytest.approx(expected, rel=1e-3)


def test_pca_takes_fewer_of_large_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "_FIT_PIXELS", 25 * 256)
    train = pictures(40)
    fewer = InMemory(*train.take(np.linspace(0, 39, 25).astype(np.int64)))
    assert pca_squared_error(train, pictures(12), 2) == pytest.approx(pca_squared_error(fewer, pictures(12), 2), rel=1e-6)


def test_the_frechet_distance_by_hand() -> None:
    """Gaussians with diagonal covariances: Σ (μ - ν)² + (σ - τ)²."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 3))
    x = (x - x.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T  # mean 0 and covariance 1 exactly
    assert frechet.distance(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet.distance(x, x + np.array([1, 2, 0])) == pytest.approx(5)
    assert frechet.distance(x, x * [3, 1, 2]) == pytest.approx(4 + 0 + 1)
    turned = x * [3, 1, 2] @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
    assert frechet.distance(x * 2, turned) == pytest.approx(1 + 1 + 0)


def test_auroc_by_hand() -> None:
    assert metrics.auroc(np.array([3.0, 1.0]), np.array([0.0, 2.0])) == 0.75
    assert metrics.auroc(np.array([1.0]), np.array([1.0])) == 0.5
    assert math.isnan(metrics.auroc(np.array([1.0]), np.array([])))


def test_interpolations_stay_as_far_from_the_middle_as_their_ends() -> None:
    a, b = torch.tensor([2.0, 0, 0]), torch.tensor([0, 2.0, 0])
    way = between(a, b, torch.tensor([[0.0], [0.5], [1.0]]))
    torch.testing.assert_close(way[[0, 2]], torch.stack([a, b]))
    torch.testing.assert_close(way[1], torch.tensor([2**0.5, 2**0.5, 0]))
    assert to_bytes(torch.tensor([0.0, 0.5, 1.0])).tolist() == [0, 128, 255]


@pytest.mark.parametrize(
    ("backbone", "head", "more", "message"),
    [
        ("impala", "autoencoder(latent=0)", {}, r"autoencoder\(latent=0\): latent must be above 0"),
        ("impala", "gan(r1=-1)", {}, r"gan\(r1=-1\): r1 must be 0 or more"),
        ("impala", "gan(r1=nan)", {}, r"gan\(r1=nan\): r1 must be 0 or more"),
        ("impala", "gan(rate=inf)", {}, r"gan\(rate=inf\): rate must be above 0"),
        ("impala", "vae(latnt=3)", {}, "unknown parameter of vae 'latnt'; did you mean latent"),
        ("impala", "vae(up=resise)", {}, "up=resise: must be transpose or resize"),
        ("impala", "dcgan", {"neck": "fpn"}, "model.neck must be none"),
        ("dcgan(depth=5)", "vae", {}, "pictures of 16x16 are smaller than the stride of its last map, 32"),
        ("nature", "vae", {}, "images of 16x16 are too small for this backbone"),
        ("impala", "vae(norm=bach)", {}, "unknown norm of a decoder 'bach'; did you mean batch"),
    ],
)
def test_what_a_model_that_makes_pictures_refuses(backbone: str, head: str, more: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_model(backbone, head, 3, 1, size=(16, 16), **more)


def test_a_conditional_gan_needs_classes() -> None:
    segmented = DATA._replace(tasks=("segment",))
    with pytest.raises(UsageError, match=r"conditional_gan is to classify, but the labels of this data are to segment"):
        Supervised(ModelConfig(backbone="impala", head="conditional_gan"), segmented)
    assert Supervised(ModelConfig(backbone="impala", head="dcgan"), segmented).task == "generate"


def test_truncated_codes_stay_within_their_bounds() -> None:
    maker, rng = model("vae(latent=4)").maker, torch.Generator().manual_seed(0)
    codes = maker.codes(1000, rng, 0.7)
    assert codes.shape == (1000, 4)
    assert codes.abs().max() <= 0.7
    assert codes.std() == pytest.approx(0.39, abs=0.02)  # of a normal distribution cut off there
    assert maker.codes(1000, rng).abs().max() > 2


def test_models_without_a_generator_make_no_samples() -> None:
    with pytest.raises(UsageError, match="the head Classify has no generator to sample from"):
        samples(model("linear"), 3, 0, False)
    with pytest.raises(UsageError, match="autoencoder: it has no generator"):
        samples(model("autoencoder"), 3, 0, False)


def test_a_discriminator_that_is_not_finite_is_named() -> None:
    one = learner("dcgan(latent=4)")
    with torch.no_grad():
        one.net.head.score.bias.fill_(float("nan"))  # type: ignore[union-attr, operator]
    with pytest.raises(Exception, match=r"learner step 1: discriminator: head\.score\.bias, a weight of the net, is not finite"):
        one.step(one.stage(DataStore(DATA.train, 1).sample(12)))


def test_noise_is_taken_off_in_the_units_of_pictures() -> None:
    head = model("autoencoder(latent=4,denoise=0.5)").head
    assert isinstance(head, autoencoders.Autoencoder)
    clean = torch.full((1, 1, 16, 16), 0.9)
    noise: Tensor = torch.ones_like(clean)
    assert float(head.noisy(clean, -noise)[0, 0, 0, 0]) == pytest.approx(0.4)
    assert float(head.noisy(clean, noise).max()) == 1
    assert head.metrics({"squared_error": 0.1, "noisy": 0.01, "denoised": 0.001}) == pytest.approx(
        {"psnr": 10, "squared_error": 0.1, "noisy_psnr": 20, "denoised_psnr": 30}
    )
