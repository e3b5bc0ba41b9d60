"""A convolution over single patches as one product: equal to torch's, and only where it is one."""

import pytest
import torch
from triptych_trainer.forward.patch_products import patches_as_products


@pytest.mark.parametrize("kernel", [(2, 4, 4), (3, 3)])
@pytest.mark.parametrize("bias", [True, False])
def test_values_and_gradients_are_those_of_the_convolution(kernel, bias):
    torch.manual_seed(1)
    convolution = (torch.nn.Conv3d if len(kernel) == 3 else torch.nn.Conv2d)(3, 5, kernel, stride=kernel, bias=bias)
    found = []
    for is_open in (False, True):
        pixels = torch.randn(7, 3, *kernel, generator=torch.Generator().manual_seed(2), requires_grad=True)
        convolution.zero_grad()
        with patches_as_products([convolution] if is_open else []):
            out = convolution(pixels)
        (out**2).sum().backward()
        assert out.grad_fn.name().startswith("View" if is_open else "Convolution"), "the product was really taken"
        found.append([out, pixels.grad, *(parameter.grad for parameter in convolution.parameters())])
    for stock, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, stock, rtol=1e-5, atol=1e-5)


def test_other_convolutions_stay_as_they_are():
    class Own(torch.nn.Conv2d):
        pass

    padded = torch.nn.Conv2d(3, 5, 4, stride=4, padding=1)
    grouped = torch.nn.Conv2d(4, 4, 4, stride=4, groups=2)
    wrapped = torch.nn.Conv2d(3, 5, 4, stride=4)
    wrapped.forward = lambda pixels: pixels
    whole = torch.nn.Conv2d(3, 5, 4, stride=4)
    modules = [padded, grouped, wrapped, whole, Own(3, 5, 4)]
    with patches_as_products(modules):
        assert [("forward" in vars(module)) for module in modules] == [False, False, True, True, False]
        assert wrapped(3) == 3
        assert whole(torch.zeros(1, 3, 8, 8)).shape == (1, 5, 2, 2), "an image of several patches is convolved"
    assert "forward" not in vars(whole)
    assert wrapped(3) == 3
