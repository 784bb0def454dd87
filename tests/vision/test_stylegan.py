"""StyleGAN by hand: AdaIN, mixing, truncation, and its pictures."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from rlsuite.core.errors import UsageError
from rlsuite.vision.generation.stylegan import MAPPING_RATE, MappingLayer, Styled, StyleGan, StyleGenerator
from rlsuite.vision.model import Model, make_model
from rlsuite.vision.sample import write_samples


def model(head: str = "stylegan(latent=4,depth=2)") -> tuple[Model, StyleGan]:
    torch.manual_seed(0)
    found = make_model("dcgan(width=8,depth=3)", head, 3, 1, size=(32, 32))
    assert isinstance(found.head, StyleGan)
    return found, found.head


def test_a_style_sets_mean_and_scale_of_every_channel() -> None:
    layer = Styled(3, 5, (8, 8), 4).eval()
    w = torch.randn(2, 4)
    y = layer(torch.randn(2, 3, 8, 8), w)
    scale, mean = layer.style(w).chunk(2, 1)
    torch.testing.assert_close(y.mean((2, 3)), mean, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(y.std((2, 3), unbiased=False), scale.abs(), atol=1e-2, rtol=1e-2)


def test_noise_is_new_in_training_and_fixed_otherwise() -> None:
    layer = Styled(3, 5, (8, 8), 4)
    torch.nn.init.ones_(layer.strength)
    x, w = torch.randn(2, 3, 8, 8), torch.randn(2, 4)
    assert not torch.equal(layer(x, w), layer(x, w))
    layer.eval()
    assert torch.equal(layer(x, w), layer(x, w))


def test_the_mapping_network_keeps_the_size_of_codes_and_learns_slowly() -> None:
    torch.manual_seed(0)
    found = make_model("dcgan(width=8,depth=3)", "stylegan(latent=64)", 3, 1, size=(32, 32))
    assert 0.5 < float(found.head.generator.styles(torch.randn(500, 64)).detach().std()) < 2  # type: ignore[union-attr, operator]
    layer, x = MappingLayer(64), torch.randn(8, 64)
    before = layer(x)
    optimizer = torch.optim.Adam(layer.parameters(), lr=1e-3)
    before.sum().backward()
    optimizer.step()
    step = MAPPING_RATE * 1e-3 * (x.abs().sum(1) + 1)  # Adam's first step is the learning rate, against the gradient's sign
    moved = (layer(x) - before).abs().detach()
    assert bool((moved <= 1.01 * step[:, None]).all())
    assert float(moved.max()) > 0


def test_layers_after_the_crossing_have_the_other_style() -> None:
    _, head = model()
    generator = head.generator.eval()
    assert isinstance(generator, StyleGenerator)
    assert [layer.noise.shape[-1] for layer in generator.layers] == [4, 8, 8, 16, 16, 32, 32]  # type: ignore[union-attr, index]
    a, b = generator.styles(torch.randn(2, 4)).split(1)
    assert torch.equal(generator.synthesis(a, b, torch.tensor([7])), generator.synthesis(a, a, torch.tensor([3])))
    assert torch.equal(generator.synthesis(a, b, torch.tensor([0])), generator.synthesis(b, b, torch.tensor([3])))
    assert not torch.equal(generator.synthesis(a, b, torch.tensor([3])), generator.synthesis(a, b, torch.tensor([4])))


def test_truncation_leads_to_the_mean_style_that_training_has_seen() -> None:
    _, head = model()
    generator, code = head.generator, torch.randn(3, 4)
    w = generator.styles(code)
    torch.testing.assert_close(generator.mean, 0.005 * w.mean(0).detach())
    generator.eval()
    torch.testing.assert_close(generator.styles(code, 0.0), generator.mean.expand(3, -1))
    torch.testing.assert_close(generator.styles(code, 0.5), (generator.mean + w) / 2)


def test_d_sees_how_much_the_pictures_of_a_batch_differ() -> None:
    """By hand: two maps of two features, which differ by 2 and by 6, have a mean deviation of (1 + 3) / 2."""
    _, head = model()
    head.score = torch.nn.Linear(3, 1)
    with torch.no_grad():
        head.score.weight.copy_(torch.tensor([[0.0, 0.0, 10.0]]))
        head.score.bias.zero_()
    maps = torch.tensor([[1.0, 0.0], [3.0, 6.0]])[..., None, None]
    judged = head.judge(torch.zeros(2, 1, 32, 32), None, lambda pictures: [maps])
    torch.testing.assert_close(judged, torch.full((2,), 20.0))
    judged = head.judge(torch.zeros(1, 1, 32, 32), None, lambda pictures: [maps[:1]])
    assert float(judged.detach()) < 1e-2


def test_its_samples_show_mixing_and_truncation(tmp_path: Path) -> None:
    found, _ = model()
    written = write_samples(found, tmp_path, 20, 0, False)
    assert [path.name for path in written] == ["grid.png", "interpolation.png", "mixing.png", "truncation.png"]
    shown: Tensor = torch.from_numpy(np.asarray(Image.open(written[2])).copy())
    assert shown.shape == (356, 356, 3)
    assert int(shown[:32, :32].max()) == 0  # nothing in the corner
    assert Image.open(written[3]).size == (356, 176)
    assert found.training


@pytest.mark.parametrize("size", [(28, 28), (32, 48)])
def test_pictures_of_other_sizes(size: tuple[int, int]) -> None:
    head = make_model("dcgan(width=8,depth=2)", "stylegan(latent=4)", 3, 1, size=size).head
    assert isinstance(head, StyleGan)
    assert head.decode(torch.randn(3, 4)).shape == (3, 1, *size)


def test_a_last_map_of_one_pixel_is_refused() -> None:
    with pytest.raises(UsageError, match="1x1 has no pixels that AdaIN could normalise over; use fewer strides"):
        make_model("dcgan(width=4,depth=5,norm=none)", "stylegan(latent=4)", 3, 1, size=(32, 32))
