#!/usr/bin/env python3
"""What latte's loader is timed against: a PyTorch DataLoader over PyAV, as a competent user would write it.

Every worker seeks to the key frame before its window by the stream's time base, decodes forward, converts only the frames of
the window to RGB and ends with the last of them. Transforms are those of the official UCF-101 reader: to [0, 1], bilinear
resize of the short side, centre crop, to [-1, 1]. One line of JSON, as `latte data bench` prints.
"""

import argparse
import json
import pathlib
import time

import av
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, Sampler

NUM_FRAMES, INTERVAL = 16, 3


def window(total, generator):
    """The official rule: evenly from the first to the last of 48 frames, rounded down."""
    span = NUM_FRAMES * INTERVAL
    start = int(torch.randint(0, max(1, total - span), (1,), generator=generator))
    return torch.linspace(start, min(start + span, total) - 1, NUM_FRAMES, dtype=torch.float64).long().tolist()


class Videos(Dataset):
    def __init__(self, files, size, threads, reader):
        self.files, self.size, self.threads, self.reader = files, size, threads, reader

    def __len__(self):
        return len(self.files)

    def __getitem__(self, key):
        file, seed = key
        generator = torch.Generator().manual_seed(seed)
        frames = self.whole(file, generator) if self.reader == "whole" else self.seek(file, generator)
        return self.transform(frames)

    def seek(self, file, generator):
        with av.open(self.files[file]) as container:
            stream = container.streams.video[0]
            stream.thread_type = self.threads
            indices = window(stream.frames, generator)
            # Presentation times of a constant rate: frame k is shown at start + k · step.
            step = round(1 / (stream.average_rate * stream.time_base))
            origin = stream.start_time or 0
            wanted = {origin + k * step for k in indices}
            container.seek(origin + indices[0] * step, stream=stream, backward=True)
            frames = []
            for frame in container.decode(stream):
                if frame.pts in wanted:
                    frames.append(torch.from_numpy(frame.to_ndarray(format="rgb24")))
                    if len(frames) == NUM_FRAMES:
                        break
        return torch.stack(frames)

    def whole(self, file, generator):
        """As the official reader: every frame of the video becomes RGB, then the window is picked."""
        with av.open(self.files[file]) as container:
            stream = container.streams.video[0]
            stream.thread_type = self.threads
            frames = [torch.from_numpy(f.to_ndarray(format="rgb24")) for f in container.decode(stream)]
        return torch.stack([frames[k] for k in window(len(frames), generator)])

    def transform(self, frames):
        # [f, h, w, 3] -> [f, 3, h, w]
        clip = frames.permute(0, 3, 1, 2).float().div_(255.0)
        height, width = clip.shape[-2:]
        clip = F.interpolate(clip, scale_factor=self.size / min(height, width), mode="bilinear", align_corners=False)
        top, left = (round((side - self.size) / 2.0) for side in clip.shape[-2:])
        clip = clip[..., top : top + self.size, left : left + self.size]
        return clip.sub(0.5).div_(0.5)


class Endless(Sampler):
    """Every file once per epoch in a random order, with a seed for its window."""

    def __init__(self, files, count, seed):
        self.files, self.count, self.seed = files, count, seed

    def __len__(self):
        return self.count

    def __iter__(self):
        generator = torch.Generator().manual_seed(self.seed)
        given = 0
        while given < self.count:
            for file in torch.randperm(self.files, generator=generator).tolist():
                if given == self.count:
                    return
                yield file, int(torch.randint(0, 2**31, (1,), generator=generator))
                given += 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--clips", type=int, default=300)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=5)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--warm-up", type=int, default=20, help="clips before the timed ones, a multiple of the batch")
    parser.add_argument("--threads", default="NONE", help="PyAV's thread_type: NONE, SLICE, FRAME or AUTO")
    parser.add_argument("--reader", default="seek", choices=["seek", "whole"])
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    files = [str(p) for p in sorted(args.folder.rglob("*.mp4"))]
    data = Videos(files, args.size, args.threads, args.reader)
    sampler = Endless(len(files), args.warm_up + args.clips, args.seed)
    loader = DataLoader(data, batch_size=args.batch, sampler=sampler, num_workers=args.workers, prefetch_factor=2)
    clips, start = 0, None
    for batch in loader:
        assert batch.shape[1:] == (NUM_FRAMES, 3, args.size, args.size)
        clips += len(batch)
        if start is None and clips >= args.warm_up:
            clips, start = 0, time.perf_counter()
    seconds = time.perf_counter() - start
    peer = f"PyTorch {torch.__version__.split('+')[0]}, PyAV {av.__version__}"
    print(json.dumps({"peer": peer, "clips": clips, "seconds": seconds, "clips_per_s": clips / seconds}))


if __name__ == "__main__":
    main()
