#!/usr/bin/env python3
"""Times the autoencoder of Stable Diffusion in latte and in PyTorch, in turn on this machine, for one frame.

    cargo bench -p latte --bench vae --no-run        # prints the path of the program
    bench/.venv/bin/python bench/vae_peer.py target/release/deps/vae-… [--side 256] [--rounds 5]

The peer is the same network as a competent user would run it: inference mode, PyTorch's own convolutions, group norms and scaled
dot-product attention, contiguous or channels-last memory (whichever is faster is counted), autocast for bfloat16. Each
round runs the peer and then latte; the ratio is the peer's time over latte's, and the table has medians.
"""

import argparse
import statistics
import subprocess
import sys
import time

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


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", help="the bench program `vae` of latte")
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cases", default="decode f32,encode f32,decode bf16,encode bf16")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    ours = subprocess.Popen(
        [args.program, str(args.side), "--on-request"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    print(f"{ours.stdout.readline().strip()}; PyTorch {torch.__version__}", file=sys.stderr)
    inputs = {"decode": torch.randn(1, LATENT, args.side // 8, args.side // 8), "encode": torch.randn(1, 3, args.side, args.side)}
    networks = {"decode": decoder().eval(), "encode": encoder().eval()}

    def peer(case, layout):
        what, dtype = case.split()
        network, x = networks[what].to(memory_format=layout), inputs[what].to(memory_format=layout)
        start = time.perf_counter()
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
            network(x)
        return time.perf_counter() - start

    def latte(case):
        ours.stdin.write(case + "\n")
        ours.stdin.flush()
        return float(ours.stdout.readline())

    layouts = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}
    print("| one frame | PyTorch | layout | latte | ratio |\n|---|---|---|---|---|")
    for case in args.cases.split(","):
        latte(case)
        best, times = min(((peer(case, layout), name) for name, layout in layouts.items())), []
        # bfloat16 without instructions for it takes PyTorch a minute: once is enough.
        rounds = 1 if best[0] > 30 else args.rounds
        for index in range(rounds):
            times.append((peer(case, layouts[best[1]]), latte(case)))
            print(f"  {case}: peer {times[-1][0]:.2f} s, latte {times[-1][1]:.2f} s", file=sys.stderr)
        a, b = (statistics.median(column) for column in zip(*times))
        ratio = statistics.median(peer_s / our_s for peer_s, our_s in times)
        print(f"| {args.side}² {case} | {a:.2f} s | {best[1]} | {b:.2f} s | {ratio:.2f} |", flush=True)
    ours.stdin.close()
    ours.wait()


if __name__ == "__main__":
    main()
