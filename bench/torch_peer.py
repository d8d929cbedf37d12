#!/usr/bin/env python3
"""What latte is timed against: the same network and the same step in PyTorch, as a competent user would write them.

Scaled dot-product attention, tanh-GELU, fused AdamW, a moving average of the weights, inference mode for sampling, optional
autocast to bfloat16 and torch.compile. Conditioning is worked out once per clip. Autoencoders (torch_vae.py) are run in every
layout of memory, and in bfloat16 with autocast and with weights in bfloat16, and the fastest of these is timed. One line of
JSON, as `latte bench` prints.
"""

import argparse
import copy
import functools
import json
import math
import statistics
import time

import torch
from torch import nn
from torch.nn import functional as F

import torch_vae
from modes import is_class_model, modes_of

SIZES = {"S": (12, 384, 6), "B": (12, 768, 12), "L": (24, 1024, 16), "XL": (28, 1152, 16)}
FRAMES, CHANNELS, SIDE = 16, 4, 32
# What takes longer is not tried twice.
SLOW_S = 8.0


class Block(nn.Module):
    """Attention and MLP, modulated by the clip's vector. Tokens are [sequences, length, width]."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)
        self.modulation = nn.Linear(width, 6 * width)

    def forward(self, x, condition):
        width = x.shape[-1]
        # One clip, one vector: it is broadcast over all sequences of the clip.
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition).chunk(6, dim=-1)
        y = F.layer_norm(x, (width,), eps=1e-6) * (1 + scale1) + shift1
        q, k, v = self.qkv(y).unflatten(-1, (3, self.heads, width // self.heads)).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + gate1 * self.proj(y)
        y = F.layer_norm(x, (width,), eps=1e-6) * (1 + scale2) + shift2
        return x + gate2 * self.fc2(F.gelu(self.fc1(y), approximate="tanh"))


class Network(nn.Module):
    """The interleaved layout for one clip: blocks within frames and across them in turn."""

    def __init__(self, depth, width, heads, patch):
        super().__init__()
        self.patch, self.width = patch, width
        self.embed = nn.Conv2d(CHANNELS, width, patch, patch)
        tokens = (SIDE // patch) ** 2
        self.register_buffer("space", 0.02 * torch.randn(1, tokens, width))
        self.register_buffer("time", 0.02 * torch.randn(1, FRAMES, width))
        self.register_buffer("frequencies", torch.exp(-math.log(10000) * torch.arange(128) / 128))
        self.timestep = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.modulation = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, patch * patch * 2 * CHANNELS)

    def forward(self, latents, t):  # [1, frames, channels, side, side], [1]
        angles = t[:, None].float() * self.frequencies
        condition = F.silu(self.timestep(torch.cat([angles.cos(), angles.sin()], dim=-1)))
        x = self.embed(latents[0]).flatten(2).transpose(1, 2) + self.space  # [frames, tokens, width]
        for index, (spatial, temporal) in enumerate(zip(self.blocks[::2], self.blocks[1::2])):
            x = spatial(x, condition)
            x = x.transpose(0, 1)  # [tokens, frames, width]
            x = temporal(x + self.time if index == 0 else x, condition)
            x = x.transpose(0, 1)
        shift, scale = self.modulation(condition).chunk(2, dim=-1)
        x = self.out(F.layer_norm(x, (self.width,), eps=1e-6) * (1 + scale) + shift)
        rows = SIDE // self.patch
        x = x.reshape(FRAMES, rows, rows, self.patch, self.patch, 2 * CHANNELS).permute(0, 5, 1, 3, 2, 4)
        return x.reshape(1, FRAMES, 2 * CHANNELS, SIDE, SIDE)


class TextToVideo(nn.Module):
    """diffusers' transformer of the published size for one clip under a text of 120 tokens."""

    def __init__(self, frames):
        super().__init__()
        from diffusers import LatteTransformer3DModel  # slow to import, and only needed here

        self.transformer = LatteTransformer3DModel(
            num_attention_heads=16, attention_head_dim=72, in_channels=CHANNELS, out_channels=2 * CHANNELS, num_layers=28,
            cross_attention_dim=1152, attention_bias=True, sample_size=64, patch_size=2, activation_fn="gelu-approximate",
            norm_type="ada_norm_single", norm_elementwise_affine=False, norm_eps=1e-6, caption_channels=4096, video_length=frames,
        )
        self.register_buffer("text", torch.randn(1, 120, 4096))

    def forward(self, latents, t):
        return self.transformer(latents, timestep=t, encoder_hidden_states=self.text, return_dict=False)[0]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="S/2")
    parser.add_argument("--mode", choices=["forward", "train", "encode", "decode"], default="forward")
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--warm-up", type=int, default=2)
    parser.add_argument("--frames", type=int)
    parser.add_argument("--size", default="256x256", help="height x width in pixels, for autoencoders")
    parser.add_argument("--device", default="cpu", help="cpu or cuda:N")
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    modes = modes_of(args.model)
    if args.mode not in modes:
        parser.error(f"the model {args.model} is timed in --mode {' or '.join(modes)} only")
    if args.frames is None:
        args.frames = 1 if args.model == "VAE" else FRAMES
    if is_class_model(args.model) and args.frames != FRAMES:
        parser.error(f"--frames: the class models are timed with {FRAMES} frames only")
    return args


def measure(runs, step):
    """The seconds of each run of `step`. A GPU is given its work and goes on by itself."""
    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    wait()
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        step()
        wait()
        seconds.append(time.perf_counter() - start)
    return seconds


def report(args, seconds, **more):
    print(json.dumps({
        "peer": f"torch {torch.__version__}", "model": args.model, "mode": args.mode, "dtype": args.dtype, "device": args.device,
        "threads": args.threads, "compile": args.compile, "median_s": statistics.median(seconds), "min_s": min(seconds), **more,
    }))


def autoencoder(args):
    """Tries every way, which also warms it up, and times the fastest."""
    size = [int(side) for side in args.size.split("x")]
    network, x = torch_vae.case(args.model, args.mode, size, args.frames)
    network, x = network.to(args.device), x.to(args.device)
    half = args.dtype == "bf16"
    best = None
    for layout in (torch.contiguous_format, torch.channels_last):
        for weights in (torch.float32, torch.bfloat16) if half else (torch.float32,):
            mine = copy.deepcopy(network).eval().to(weights)
            for module in mine.modules():
                if isinstance(module, nn.Conv2d):  # convolutions over frames have no such layouts
                    module.to(memory_format=layout)
            mine = torch.compile(mine) if args.compile else mine
            cast = torch.autocast(args.device.split(":")[0], torch.bfloat16, enabled=half and weights == torch.float32)
            step = functools.partial(infer, mine, x.to(weights, memory_format=layout), cast)
            tries = []
            while len(tries) < max(args.warm_up, 1) and (not tries or tries[-1] < SLOW_S):
                tries += measure(1, step)
            if best is None or min(tries) < best[0]:
                best = (min(tries), step, {"layout": name_of(layout), "weights": name_of(weights)})
    _, step, way = best
    report(args, measure(args.runs, step), **way)


def infer(network, x, cast):
    with torch.inference_mode(), cast:
        network(x)


def name_of(value):
    return str(value).removeprefix("torch.")


def main():
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    if args.model.startswith("VAE"):
        autoencoder(args)
        return
    half = args.dtype == "bf16"
    if args.model == "T2V":
        network = TextToVideo(args.frames)
        latents = torch.randn(1, CHANNELS, args.frames, 64, 64)
        if half:  # as the pipeline runs it: weights and latents in bfloat16
            network, latents = network.to(torch.bfloat16), latents.to(torch.bfloat16)
    else:
        size, patch = args.model.split("/")
        network = Network(*SIZES[size], int(patch))
        latents = torch.randn(1, FRAMES, CHANNELS, SIDE, SIDE)
    network, latents = network.to(args.device), latents.to(args.device)
    call = torch.compile(network) if args.compile else network
    target, t = torch.randn_like(latents), torch.tensor([500], device=args.device)
    cast = torch.autocast(args.device.split(":")[0], torch.bfloat16, enabled=half and args.model != "T2V")

    def forward():
        with torch.inference_mode(), cast:
            call(latents, t)

    weights = list(network.parameters())
    average = [w.detach().clone() for w in weights] if args.mode == "train" else []
    optimizer = torch.optim.AdamW(weights, lr=1e-4, weight_decay=0.0, fused=True)

    def train():
        optimizer.zero_grad(set_to_none=True)
        with cast:
            prediction = call(latents, t)
        F.mse_loss(prediction[:, :, :CHANNELS].float(), target).backward()
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, weights, 1 - 0.9999)

    step = forward if args.mode == "forward" else train
    for _ in range(args.warm_up):
        step()
    report(args, measure(args.runs, step))


if __name__ == "__main__":
    main()
