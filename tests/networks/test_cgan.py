"""The conditional GAN's networks against section 4.1 of its paper."""

import pytest
import torch
from torch import Tensor, nn

from gan_lightning.networks.cgan import CGANDiscriminator, CGANGenerator
from tests.support import count


def test_parameter_counts_of_the_paper() -> None:
    with torch.device("meta"):
        generator, discriminator = CGANGenerator(100, 28, 1, 10), CGANDiscriminator(28, 1, classes=10)
    own = (100 + 1) * 200 + (10 + 1) * 1000
    assert count(generator) == own + (200 + 1000 + 1) * 1200 + (1200 + 1) * 784 == 2_413_984
    own = (784 + 1) * 240 * 5 + (10 + 1) * 50 * 5
    assert count(discriminator) == own + (240 + 50 + 1) * 240 * 4 + 240 + 1 == 1_224_351


def test_the_discriminator_is_the_papers_on_images_in_0_1() -> None:
    torch.manual_seed(0)
    discriminator, images, y = CGANDiscriminator(4, 1, classes=3).eval(), torch.rand(5, 1, 4, 4), torch.arange(5) % 3
    nn.init.normal_(discriminator.head.weight)

    def largest(name: str, x: Tensor, pieces: int) -> Tensor:
        weight, bias = (discriminator.get_parameter(f"{name}.0.{part}") for part in ("weight", "bias"))
        return (x @ weight.T + bias).view(len(x), -1, pieces).max(2).values

    hidden = torch.cat([largest("images", images.flatten(1), 5), largest("labels", torch.eye(3)[y], 5)], 1)
    expected = discriminator.head(largest("trunk", hidden, 4))[:, 0]
    assert expected.std() > 0
    torch.testing.assert_close(discriminator(2 * images - 1, y), expected)


@pytest.mark.parametrize("classes", [0, 3])
def test_shapes_and_range(classes: int) -> None:
    generator, y = CGANGenerator(5, 8, 3, classes), torch.tensor([0, 1, 2, 0])
    images = generator(100 * torch.rand(4, 5), y if classes else None)
    assert images.shape == (4, 3, 8, 8)
    assert images.abs().max() <= 1
    assert CGANDiscriminator(8, 3, classes=classes)(images, y if classes else None).shape == (4,)
    assert CGANDiscriminator(8, 3, pack=2)(images).shape == (2,)
    assert CGANDiscriminator(8, 3, classes=3, conditioning="projection")(images, y).shape == (4,)


def test_labels_change_images_and_logits() -> None:
    torch.manual_seed(0)
    generator, discriminator = CGANGenerator(5, 8, 1, 3).eval(), CGANDiscriminator(8, 1, classes=3).eval()
    one, other = generator(torch.rand(1, 5).expand(2, -1), torch.tensor([0, 1]))
    assert (one - other).abs().max() > 1e-3
    logits = discriminator(one.expand(2, 1, 8, 8), torch.tensor([0, 1]))
    assert logits[0] != logits[1]


def test_dropout_in_both_players() -> None:
    torch.manual_seed(0)
    z, y = torch.rand(2, 5), torch.tensor([0, 1])
    generator, discriminator = CGANGenerator(5, 8, 1, 3), CGANDiscriminator(8, 1, classes=3)
    for network, x in ((generator, z), (discriminator, torch.rand(2, 1, 8, 8))):
        assert sum(isinstance(module, nn.Dropout) for module in network.modules()) == 3
        assert not torch.equal(network(x, y), network(x, y))
        network.eval()
        assert torch.equal(network(x, y), network(x, y))
