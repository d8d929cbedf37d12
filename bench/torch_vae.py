"""The autoencoders that latte's are timed against, in PyTorch, as a competent user would run them.

`encoder` and `decoder` are Stable Diffusion's: PyTorch's own convolutions, group norms and scaled dot-product attention. The
decoder of Stable Video Diffusion, which sees all frames of a clip, is diffusers'.
"""

import torch
from torch import nn
from torch.nn import functional as F

LEVELS, LAYERS, GROUPS, LATENT = (128, 256, 512, 512), 2, 32, 4


def norm(channels):
    return nn.GroupNorm(GROUPS, channels, eps=1e-6)


class Resnet(nn.Module):
    def __init__(self, channels, out):
        super().__init__()
        self.norm1, self.conv1 = norm(channels), nn.Conv2d(channels, out, 3, padding=1)
        self.norm2, self.conv2 = norm(out), nn.Conv2d(out, out, 3, padding=1)
        self.shortcut = nn.Conv2d(channels, out, 1) if channels != out else nn.Identity()

    def forward(self, x):
        h = self.conv1(F.silu(self.norm1(x)))
        return self.shortcut(x) + self.conv2(F.silu(self.norm2(h)))


class Attention(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.norm, self.qkv, self.out = norm(channels), nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)

    def forward(self, x):
        n, c, h, w = x.shape
        y = self.norm(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(y)[:, None].chunk(3, dim=-1)
        y = self.out(F.scaled_dot_product_attention(q, k, v)[:, 0])
        return x + y.transpose(1, 2).reshape(n, c, h, w)


class Down(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x):
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Up(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def middle(channels):
    return [Resnet(channels, channels), Attention(channels), Resnet(channels, channels)]


def encoder():
    layers, channels = [nn.Conv2d(3, LEVELS[0], 3, padding=1)], LEVELS[0]
    for level, out in enumerate(LEVELS):
        for _ in range(LAYERS):
            layers.append(Resnet(channels, out))
            channels = out
        if level + 1 < len(LEVELS):
            layers.append(Down(out))
    layers += middle(channels)
    layers += [norm(channels), nn.SiLU(), nn.Conv2d(channels, 2 * LATENT, 3, padding=1), nn.Conv2d(2 * LATENT, 2 * LATENT, 1)]
    return nn.Sequential(*layers)


def decoder():
    channels = LEVELS[-1]
    layers = [nn.Conv2d(LATENT, LATENT, 1), nn.Conv2d(LATENT, channels, 3, padding=1), *middle(channels)]
    for level, out in enumerate(reversed(LEVELS)):
        for _ in range(LAYERS + 1):
            layers.append(Resnet(channels, out))
            channels = out
        if level + 1 < len(LEVELS):
            layers.append(Up(out))
    layers += [norm(channels), nn.SiLU(), nn.Conv2d(channels, 3, 3, padding=1)]
    return nn.Sequential(*layers)


class TemporalDecoder(nn.Module):
    """diffusers' decoder for one clip of so many frames, at the published size."""

    def __init__(self, frames):
        super().__init__()
        from diffusers import AutoencoderKLTemporalDecoder  # slow to import, and only needed here

        self.frames = frames
        self.vae = AutoencoderKLTemporalDecoder(
            down_block_types=("DownEncoderBlock2D",) * len(LEVELS), block_out_channels=LEVELS, layers_per_block=LAYERS,
            latent_channels=LATENT,
        )

    def forward(self, latents):  # [frames, channels, h, w]
        return self.vae.decode(latents, num_frames=self.frames, return_dict=False)[0]


class EachFrame(nn.Module):
    """One frame after the other, as the pipelines do to bound the memory."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return torch.cat([self.network(frame) for frame in x.split(1)])


def case(model, mode, size, frames):
    """The network and its input: pixels or latents [frames, channels, h, w]."""
    height, width = size
    if mode == "encode":
        return EachFrame(encoder()), torch.randn(frames, 3, height, width)
    network = TemporalDecoder(frames) if model == "VAE-T" else EachFrame(decoder())
    return network, torch.randn(frames, LATENT, height // 8, width // 8)
