"""In place of gsplat on machines without CUDA: its functions that the renderer calls, in plain torch, slow, by its rules of 1.6.

Arguments, shapes and types are those of gsplat 1.5.3 and 1.6 alike, and what gsplat refuses is refused here.
"""

import math

import torch


def fully_fused_projection(
    means, covars, quats, scales, viewmats, Ks, width, height, eps2d=0.3, near_plane=0.01, far_plane=1e10, radius_clip=0.0,
    packed=False, sparse_grad=False, calc_compensations=False, camera_model="pinhole", opacities=None,
):  # fmt: skip
    n, cameras = len(means), len(viewmats)
    assert quats is None and scales is None and not packed and n > 0
    assert means.shape == (n, 3) and covars.shape == (n, 6) and opacities.shape == (n,)
    assert viewmats.shape == (cameras, 4, 4) and Ks.shape == (cameras, 3, 3)
    assert all(a.dtype == torch.float32 for a in (means, covars, opacities, viewmats, Ks))
    turn, move = viewmats[:, None, :3, :3], viewmats[:, None, :3, 3]
    p = (turn @ means[..., None])[..., 0] + move
    full = covars[:, [0, 1, 2, 1, 3, 4, 2, 4, 5]].reshape(n, 3, 3)
    full = turn @ full @ turn.transpose(-1, -2)
    focal, center = Ks[:, None, [0, 1], [0, 1]], Ks[:, None, [0, 1], [2, 2]]
    size = torch.tensor([width, height], dtype=torch.float32)
    margin = 0.3 * 0.5 * size / focal
    z = p[..., 2:]
    slope = torch.minimum(torch.maximum(p[..., :2] / z, -(center / focal + margin)), (size - center) / focal + margin)
    jacobian = torch.zeros(cameras, n, 2, 3)
    jacobian[..., [0, 1], [0, 1]] = focal / z
    jacobian[..., 2] = -focal * slope / z
    cov = jacobian @ full @ jacobian.transpose(-1, -2)
    before = cov[..., 0, 0] * cov[..., 1, 1] - cov[..., 0, 1] ** 2
    xx, yy, xy = cov[..., 0, 0] + eps2d, cov[..., 1, 1] + eps2d, cov[..., 0, 1]
    det = xx * yy - xy * xy
    factor = (before / det).clamp_min(0.005**2).sqrt()
    alpha = opacities * factor if calc_compensations else opacities.expand(cameras, n)
    extent = (2 * torch.log((alpha * 255).clamp_min(1))).sqrt().clamp_max(3.33)
    radii = torch.stack([(extent * xx.sqrt()).ceil(), (extent * yy.sqrt()).ceil()], -1)
    at = focal * p[..., :2] / z + center
    seen = (p[..., 2] >= near_plane) & (p[..., 2] <= far_plane) & (det > 0) & (alpha >= 1 / 255)
    seen &= ((at + radii > 0) & (at - radii < size)).all(-1) & (radii > radius_clip).any(-1)
    radii = torch.where(seen[..., None], radii, 0).int()
    conics = torch.stack([yy, -xy, xx], -1) / det[..., None]
    return radii, at, p[..., 2], conics, factor if calc_compensations else None


def isect_tiles(
    means2d, radii, depths, tile_size, tile_width, tile_height, sort=True, segmented=False, packed=False,
    n_images=None, image_ids=None, gaussian_ids=None,
):  # fmt: skip
    n = len(means2d)
    assert packed and sort and not segmented and n > 0 and tile_size == 16
    assert radii.shape == (n, 2) and radii.dtype == torch.int32 and depths.shape == (n,)
    assert image_ids.shape == gaussian_ids.shape == (n,) and image_ids.dtype == gaussian_ids.dtype == torch.int64
    assert all(a.is_contiguous() for a in (means2d, radii, depths, image_ids, gaussian_ids))
    bits = math.floor(math.log2(tile_width * tile_height)) + 1
    grid = torch.tensor([tile_width, tile_height])
    low = torch.minimum(((means2d - radii) / tile_size).floor().clamp_min(0).long(), grid).tolist()
    high = torch.minimum(((means2d + radii) / tile_size).ceil().clamp_min(0).long(), grid).tolist()
    depth, image = depths.view(torch.int32).tolist(), image_ids.tolist()
    entries = [
        (image[i] << (32 + bits) | (row * tile_width + column) << 32 | depth[i], i)
        for i in range(n)
        for row in range(low[i][1], high[i][1])
        for column in range(low[i][0], high[i][0])
    ]
    entries.sort(key=lambda entry: entry[0])
    keys, ids = zip(*entries, strict=True)
    count = torch.tensor([(b[0] - a[0]) * (b[1] - a[1]) for a, b in zip(low, high, strict=True)])
    return count.int(), torch.tensor(keys), torch.tensor(ids, dtype=torch.int32)


def isect_offset_encode(isect_ids, n_images, tile_width, tile_height):
    tiles = tile_width * tile_height
    key = isect_ids >> 32
    bits = math.floor(math.log2(tiles)) + 1
    number = (key >> bits) * tiles + (key & ((1 << bits) - 1))
    offsets = torch.searchsorted(number, torch.arange(n_images * tiles))
    return offsets.int().reshape(n_images, tile_height, tile_width)


def rasterize_to_pixels(
    means2d, conics, colors, opacities, image_width, image_height, tile_size, isect_offsets, flatten_ids,
    backgrounds=None, masks=None, packed=False, absgrad=False,
):  # fmt: skip
    n, channels = colors.shape
    assert packed and backgrounds is None and masks is None and channels in (3, 4)
    assert means2d.shape == (n, 2) and conics.shape == (n, 3) and opacities.shape == (n,)
    assert flatten_ids.dtype == isect_offsets.dtype == torch.int32
    images, rows, columns = isect_offsets.shape
    out = torch.zeros(images, rows * tile_size, columns * tile_size, channels + 1)
    ends = torch.cat([isect_offsets.flatten()[1:], torch.tensor([len(flatten_ids)])]).reshape(isect_offsets.shape)
    inside = torch.arange(tile_size) + 0.5
    for image in range(images):
        for row in range(rows):
            for column in range(columns):
                ids = flatten_ids[isect_offsets[image, row, column] : ends[image, row, column]].long()
                dx = means2d[ids, 0, None, None] - (column * tile_size + inside)
                dy = means2d[ids, 1, None, None] - (row * tile_size + inside)[:, None]
                a, b, c = conics[ids].T[..., None, None]
                sigma = 0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy
                alpha = (opacities[ids, None, None] * torch.exp(-sigma)).clamp_max(0.99)
                alpha = torch.where((sigma >= 0) & (alpha >= 1 / 255), alpha, 0)
                after = torch.cumprod(1 - alpha, 0)
                weight = torch.where(after > 1e-4, alpha * after / (1 - alpha), 0)
                block = torch.einsum("kyx,kc->yxc", weight, torch.cat([colors[ids], torch.ones(len(ids), 1)], 1))
                y, x = row * tile_size, column * tile_size
                out[image, y : y + tile_size, x : x + tile_size] = block
    out = out[:, :image_height, :image_width]
    return out[..., :channels], out[..., channels:]
