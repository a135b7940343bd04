"""Losses and measures against plain float64 references and closed forms."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from worldengine_envs.errors import DataError
from worldengine_envs.reconstruction import losses, metrics
from worldengine_envs.reconstruction.losses import inverse_depth, l1_ssim, out_of_box, shapes

SIZES = [(37, 53), (11, 8), (5, 3), (1, 17), (64, 96)]


def similarity_map(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Returns SSIM at each pixel of (H, W, 3) float64 images: a full 11 x 11 window at each, zeros beyond the edge."""
    line = torch.exp(-(torch.arange(-5, 6, dtype=torch.float64) ** 2) / (2 * 1.5**2))
    window = torch.outer(line, line)[..., None] / line.sum() ** 2

    def under_window(values):
        padded = torch.nn.functional.pad(values, (0, 0, 5, 5, 5, 5))
        return padded.unfold(0, 11, 1).unfold(1, 11, 1).permute(0, 1, 3, 4, 2).mul(window).sum((2, 3))

    mx, my = under_window(x), under_window(y)
    vx, vy, cov = under_window(x * x) - mx**2, under_window(y * y) - my**2, under_window(x * y) - mx * my
    return (2 * mx * my + 1e-4) * (2 * cov + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))


def images(height: int, width: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    target = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    target[: height // 2] = np.sort(target[: height // 2], axis=1)  # smooth and rough parts
    rendered = np.clip(target / 255.0 + rng.normal(0, 0.1, target.shape), 0, 1.2).astype(np.float32)
    usable = rng.random((height, width)) > 0.3
    usable[0, 0] = True
    return rendered, target, usable


def reference(rendered, target, usable):
    """Returns l1, ssim, mse and the gradient of 0.8 l1 - 0.2 ssim, in float64."""
    image = torch.tensor(rendered, dtype=torch.float64, requires_grad=True)
    wanted, where = torch.tensor(target / 255.0), torch.tensor(usable)
    drawn = torch.where(where[..., None], image, wanted)
    l1, ssim = (drawn - wanted).abs()[where].mean(), similarity_map(drawn, wanted)[where].mean()
    (0.8 * l1 - 0.2 * ssim).backward()
    mse = (drawn.detach().clamp(0, 1) - wanted).square()[where].mean()
    return l1.item(), ssim.item(), mse.item(), image.grad.numpy()


@pytest.mark.parametrize("size", SIZES)
def test_images_differ_as_in_float64(size):
    rendered, target, usable = images(*size)
    l1, ssim, mse, gradient = reference(rendered, target, usable)
    image = torch.tensor(rendered, requires_grad=True)
    ours = l1_ssim(image, target, usable)
    (0.8 * ours[0] - 0.2 * ours[1]).backward()
    assert [value.item() for value in ours] == pytest.approx([l1, ssim, mse], abs=2e-6)
    assert np.abs(image.grad.numpy() - gradient).max() < 1e-4 * np.abs(gradient).max()
    assert not image.grad.numpy()[~usable].any()


@pytest.mark.parametrize("size", SIZES[:2])
def test_what_cuda_computes_is_the_same(size):
    rendered, target, usable = images(*size)
    l1, ssim, mse, gradient = reference(rendered, target, usable)
    image = torch.tensor(rendered, dtype=torch.float64, requires_grad=True)
    ours = losses._l1_ssim_torch(image, torch.from_numpy(target), torch.from_numpy(usable))
    (0.8 * ours[0] - 0.2 * ours[1]).backward()
    assert [value.item() for value in ours] == pytest.approx([l1, ssim, mse], abs=1e-9)
    assert np.allclose(image.grad.numpy(), gradient, rtol=1e-6, atol=1e-12)


def test_same_bits_whatever_the_number_of_threads(monkeypatch):
    rendered, target, usable = images(70, 33)
    found = []
    for threads in ("1", "3"):
        monkeypatch.setenv("WORLDENGINE_THREADS", threads)
        image = torch.tensor(rendered, requires_grad=True)
        l1, ssim, _ = l1_ssim(image, target, usable)
        (l1 - ssim).backward()
        found.append((l1.item(), ssim.item(), image.grad.numpy().tobytes()))
    assert found[0] == found[1]


def test_two_images_may_wait_for_their_gradients():
    first, second = images(20, 30, 1), images(20, 30, 2)
    alone = torch.tensor(first[0], requires_grad=True)
    l1_ssim(alone, *first[1:])[1].backward()
    image = torch.tensor(first[0], requires_grad=True)
    waiting = l1_ssim(image, *first[1:])[1]
    l1_ssim(torch.tensor(second[0], requires_grad=True), *second[1:])[1].backward()
    waiting.backward()
    assert torch.equal(image.grad, alone.grad)


def test_a_perfect_image():
    _, target, usable = images(16, 20)
    image = torch.tensor(target / np.float32(255.0), requires_grad=True)
    l1, ssim, _ = l1_ssim(image, target, usable)
    (l1 - ssim).backward()
    assert l1.item() == 0.0
    assert ssim.item() == pytest.approx(1.0, abs=1e-6)
    assert image.grad.abs().max() < 1e-6


def test_images_that_do_not_fit_are_refused():
    rendered, target, usable = images(16, 20)
    for bad in ((rendered[:-1], target, usable), (rendered, target / 255.0, usable), (rendered, target, usable & False)):
        with pytest.raises(DataError):
            l1_ssim(torch.tensor(bad[0]), *bad[1:])


def test_inverse_depth_by_hand():
    depth = torch.tensor([[4.0, 5.0, 10.0], [20.0, 0.0, 7.0]], requires_grad=True)
    alpha = torch.tensor([[1.0, 0.5, 0.01], [1.0, 0.0, 1.0]], requires_grad=True)
    samples = SimpleNamespace(
        pixel=np.array([0, 1, 2, 3, 4, 5]), depth=np.float32([5, 4, 5, 90, 3, 7]), weight=np.float32([1, 2, 1, 1, 1, 4])
    )
    loss = inverse_depth(depth, alpha, samples)
    loss.backward()
    assert loss.item() == pytest.approx(
        (1 * abs(1 / 4 - 1 / 5) + 2 * 0.5 * abs(1 / 5 - 1 / 4)) / 9, rel=1e-6
    )  # the one at 90 m is out
    assert torch.isfinite(depth.grad).all()
    assert depth.grad[0, 0] == pytest.approx(-1 / 16 / 9, rel=1e-5)
    assert depth.grad[0, 1] == pytest.approx(1 / 25 / 9, rel=1e-5)
    assert alpha.grad is None
    nothing = SimpleNamespace(pixel=np.zeros(0, np.int64), depth=np.zeros(0, np.float32), weight=np.zeros(0, np.float32))
    assert inverse_depth(depth, alpha, nothing).item() == 0.0


def test_shapes_by_hand():
    scales = torch.tensor([[0.1, 0.2, 0.3], [0.5, 0.01, 0.2], [4.0, 0.1, 0.2], [90.0, 1.0, 9.0]]).log().requires_grad_()
    node = torch.tensor([0, 2, 0, 1])  # the last is of the sky
    assert shapes(scales, node, 1.0, 0.0).item() == pytest.approx((0.1 + 0.01 + 0.1) / 3)
    assert shapes(scales, node, 0.0, 0.5).item() == pytest.approx(0.5 * (4.0 / 0.2 - 10.0) / 3)
    (2.0 * shapes(scales, node, 1.0, 1.0)).backward()
    ratio = 4.0 / 0.2 / 3
    expected = 2.0 * torch.tensor([[0.1 / 3, 0, 0], [0, 0.01 / 3, 0], [ratio, 0.1 / 3, -ratio], [0, 0, 0]])
    assert torch.allclose(scales.grad, expected, atol=1e-5)
    assert shapes(scales, torch.ones(4, dtype=torch.int64), 1.0, 1.0).item() == 0.0


def test_many_shapes_cost_as_in_torch():
    scales = torch.tensor(np.random.default_rng(0).normal(-2, 2, (500, 3)), dtype=torch.float32, requires_grad=True)
    scales.data[:3], scales.data[3, 0] = -1.0, 40.0  # a ball; a needle beyond all limits
    node = torch.arange(500) % 5
    length = scales[node != 1].sort(dim=1).values.double()
    ratio = (length[:, 2] - length[:, 1]).clamp(max=20.0).exp()
    expected = 0.7 * length[:, 0].exp().mean() + 0.3 * torch.relu(ratio - 10.0).mean()
    (gradient,) = torch.autograd.grad(expected, scales)
    ours = shapes(scales, node, 0.7, 0.3)
    assert ours.item() == pytest.approx(expected.item(), rel=1e-5)
    on_cuda = losses._shapes_torch(scales, node, 0.7, 0.3)
    assert on_cuda.item() == pytest.approx(expected.item(), rel=1e-5)
    for value in (ours, on_cuda):
        mine = torch.autograd.grad(value, scales)[0][3:]
        assert torch.allclose(mine, gradient[3:], rtol=1e-4, atol=1e-9)


def test_only_what_left_its_box_fades():
    means = torch.tensor([[9.0, 0, 0], [9.0, 0, 0], [2.0, 0, 0], [0, 0.0, 0.9], [9.0, 9, 9]])
    node = torch.tensor([0, 2, 2, 3, 1])
    opacities = torch.tensor([1.0, 1.0, 1.0, -1.0, 1.0], requires_grad=True)
    sizes = torch.tensor([[4.5, 2.0, 1.5], [1.0, 1.0, 1.0]])
    loss = out_of_box(means, opacities, node, sizes)
    loss.backward()
    assert loss.item() == pytest.approx((-math.log(1 - 1 / (1 + math.exp(-1.0))) - math.log(1 - 1 / (1 + math.e))) / 3, rel=1e-5)
    assert (opacities.grad > 0).tolist() == [False, True, False, True, False]
    assert out_of_box(means[:1], opacities[:1], node[:1], sizes[:0]).item() == 0.0


def test_psnr_by_hand():
    target = np.full((4, 6, 3), 100, np.uint8)
    image = target.copy()
    image[:2] += 10
    usable = np.zeros((4, 6), bool)
    usable[:2] = True
    error = (10 / 255) ** 2
    assert metrics.psnr(image, target) == pytest.approx(-10 * math.log10(error / 2))
    assert metrics.psnr(image, target, usable) == pytest.approx(-10 * math.log10(error))
    assert metrics.psnr(image / 255.0, target, ~usable) == 100.0
    assert metrics.psnr(np.full((2, 2, 3), 1.5), np.full((2, 2, 3), 255, np.uint8)) == 100.0  # clipped
    with pytest.raises(DataError):
        metrics.psnr(image, target, usable & False)


def test_ssim_is_that_of_windows_that_lie_inside():
    rendered, target, usable = images(40, 50)
    rendered = np.clip(rendered, 0, 1)
    expected = similarity_map(torch.tensor(rendered, dtype=torch.float64), torch.tensor(target / 255.0))[5:-5, 5:-5].numpy()
    assert metrics.ssim(rendered, target) == pytest.approx(expected.mean(), abs=1e-6)
    assert metrics.ssim(rendered, target, usable) == pytest.approx(expected[usable[5:-5, 5:-5]].mean(), abs=1e-6)


def test_depth_errors_by_hand():
    depth = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    found = metrics.relative_depth_errors(depth, np.array([3, 0]), np.array([5.0, 1.0], np.float32))
    assert found == pytest.approx([0.2, 0.0])
