"""Writes the files of this folder with PyTorch. Run by hand, never by tests: `python make.py` (torch 2.11, numpy)."""

import collections
import json
import pickle
import zipfile
from pathlib import Path

import torch

HERE = Path(__file__).parent
LEGACY = {"_use_new_zipfile_serialization": False}


def values(*shape, dtype=torch.float32):
    """0, 1/4, 2/4, … in row-major order: exact in every float type of these sizes."""
    count = 1
    for side in shape:
        count *= side
    return (torch.arange(count) / 4).reshape(shape).to(dtype)


def everything():
    base = values(4, 6)
    state = collections.OrderedDict()
    state["plain"] = base
    state["transposed"] = base.t()
    state["row"] = base[2]
    state["column"] = base[:, 1]
    state["window"] = base[1:3, 2:5]
    state["tied"] = state["plain"]
    state["expanded"] = values(3)[:, None].expand(3, 4)
    state["scalar"] = torch.tensor(2.5)
    state["empty"] = torch.zeros(0, 3)
    state["f16"] = values(2, 3, dtype=torch.float16)
    state["bf16"] = values(2, 3, dtype=torch.bfloat16)
    state["f64"] = values(2, 3, dtype=torch.float64)
    state["i64"] = torch.tensor([1, -2, 3])
    state["u8"] = torch.tensor([1, 255], dtype=torch.uint8)
    state["bool"] = torch.tensor([True, False])
    state["parameter"] = torch.nn.Parameter(values(2, 2))
    state["cube"] = values(2, 3, 4).permute(2, 0, 1)
    return state


def nested():
    weights = collections.OrderedDict(a=values(2), b=values(3))
    average = collections.OrderedDict(a=values(2) + 10, b=values(3) + 10)
    optimiser = {"state": {0: {"step": torch.tensor(3.0), "exp_avg": values(2)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]}
    return {"model": weights, "ema": average, "opt": optimiser, "epoch": 7, "name": "x", "none": None, "flag": True}


class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(2, 3, 1)
        self.inner = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU())
        self.register_buffer("mean", torch.zeros(3))
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(values(*parameter.shape))

    def forward(self, x):
        return self.inner((self.conv(x).mean((2, 3)) - self.mean) + torch.tensor([1.0, 2.0, 3.0]))


class Danger:
    def __reduce__(self):
        import os

        return (os.system, ("touch /tmp/latte-was-here",))


def main():
    state = everything()
    torch.save(state, HERE / "everything.pt")
    torch.save(state, HERE / "everything_protocol4.pt", pickle_protocol=4)
    torch.save(state, HERE / "everything_legacy.pt", **LEGACY)
    torch.save(nested(), HERE / "nested.pt")
    torch.save(nested(), HERE / "nested_legacy.pt", **LEGACY)
    torch.save({"a": values(2).to(torch.float8_e4m3fn), "b": torch.tensor([7], dtype=torch.uint16)}, HERE / "new_dtypes.pt")
    torch.save({"model": Small().state_dict()}, HERE / "module.pt")
    torch.save({"a": values(2), "danger": Danger()}, HERE / "danger.pt")
    torch.save({"a": values(2), "danger": Danger()}, HERE / "danger_legacy.pt", **LEGACY)
    torch.jit.script(Small()).save(str(HERE / "scripted.pt"))
    torch.jit.trace(Small(), torch.zeros(1, 2, 2, 2)).save(str(HERE / "traced.pt"))
    sizes = {"torch": torch.__version__}
    half = {"first": values(2, 2), "second": values(3)}
    torch.save({"first": half["first"]}, HERE / "pytorch_model-00001-of-00002.bin")
    torch.save({"second": half["second"]}, HERE / "pytorch_model-00002-of-00002.bin")
    index = {"metadata": sizes, "weight_map": {"first": "pytorch_model-00001-of-00002.bin", "second": "pytorch_model-00002-of-00002.bin"}}
    (HERE / "pytorch_model.bin.index.json").write_text(json.dumps(index, indent=1))
    # A zip that another program packed again, compressed.
    with zipfile.ZipFile(HERE / "nested.pt") as source, zipfile.ZipFile(HERE / "deflated.pt", "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    pickle.dump({"a": 1}, (HERE / "no_torch.pkl").open("wb"), protocol=2)


main()
