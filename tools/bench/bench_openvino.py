# SPDX-License-Identifier: Apache-2.0
"""Measures another peer: the UNet of Stable Diffusion 1.5 as OpenVINO runs it on the CPU, converted from diffusers'.

python tools/bench/bench_openvino.py MODEL [--threads 2] [--repeats 3] [--size 512] [--types float32,bfloat16]

One UNet evaluation at batch 2 (one guided step), as bench_diffusers.py's. Each type is a process of its own, which
converts the module (openvino.convert_model, float32), lets go of it, compiles it for --threads threads with that
INFERENCE_PRECISION_HINT, runs it once to warm up and says the median of the repeats. Its memory is that of the runs:
the peak since the model was compiled.
Prints a row a line: {"row", "type", "layout", "seconds", "peak_mb"}, layout being OpenVINO's version.
"""
import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time


def convert(folder, size, path):
    """The UNet as OpenVINO's file at `path`; in a process of its own, whose memory goes with it."""
    import openvino
    import torch
    from diffusers import UNet2DConditionModel
    net = UNet2DConditionModel.from_pretrained(folder, subfolder="unet", torch_dtype=torch.float32).eval()

    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x, t, context):
            return self.net(x, t, encoder_hidden_states=context, return_dict=False)[0]

    text = net.config.cross_attention_dim
    example = (torch.randn(2, 4, 8, 8), torch.tensor(500), torch.randn(2, 77, text))  # small: it is run to be traced
    with torch.no_grad():
        model = openvino.convert_model(Plain(), example_input=example,
                                       input=[(2, 4, size // 8, size // 8), (), (2, 77, text)])
    openvino.save_model(model, path, compress_to_fp16=False)


def memory_peak():
    """VmHWM in MB; begun anew where the kernel lets us."""
    for line in open("/proc/self/status", encoding="utf-8"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0


def measure(a):
    """One type, in this process."""
    import numpy
    import openvino
    core = openvino.Core()
    hint = {"float32": "f32", "bfloat16": "bf16"}[a.types]
    model = core.compile_model(a.model, "CPU", {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": a.threads,
                                                "NUM_STREAMS": 1})
    gc.collect()
    try:
        open("/proc/self/clear_refs", "w", encoding="utf-8").write("5")
    except OSError:
        pass
    rng = numpy.random.default_rng(0)
    shapes = [list(i.shape) for i in model.inputs]
    types = [i.get_element_type().to_dtype() for i in model.inputs]
    inputs = [rng.standard_normal(s).astype(t) if s else numpy.array(500, t) for s, t in zip(shapes, types)]
    request = model.create_infer_request()
    seconds = []
    for i in range(a.repeats + 1):
        start = time.perf_counter()
        out = request.infer(inputs)[model.output(0)]
        if i > 0 or a.repeats == 0:
            seconds.append(time.perf_counter() - start)
    if not numpy.isfinite(out).all():
        sys.exit("bench_openvino: the output is not finite")
    print(json.dumps({"row": "unet", "type": a.types, "layout": "OpenVINO " + openvino.__version__.split("-")[0],
                      "seconds": statistics.median(seconds), "peak_mb": memory_peak()}))


def run(a, model, types, step):
    env = dict(os.environ, OMP_NUM_THREADS=str(a.threads), OPENVINO_TELEMETRY="0")
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        env.pop(name, None)
    command = [sys.executable, os.path.abspath(__file__), model, "--step", step, "--types", types, "--threads",
               str(a.threads), "--repeats", str(a.repeats), "--size", str(a.size), "--path", a.path]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, check=False)
    if done.returncode != 0:
        sys.exit(f"bench_openvino: {step} {types} failed ({done.returncode}):\n{done.stderr[-2000:]}")
    return done.stdout.strip().splitlines()[-1:]


def main():
    p = argparse.ArgumentParser()
    p.add_argument("model")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--repeats", type=int, default=3, help="0: the first run counts")
    p.add_argument("--size", type=int, default=512)
    p.add_argument("--types", default="float32,bfloat16")
    p.add_argument("--step", help=argparse.SUPPRESS)
    p.add_argument("--path", help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.step == "convert":
        return convert(a.model, a.size, a.path)
    if a.step == "measure":
        return measure(a)
    with tempfile.TemporaryDirectory() as folder:
        a.path = os.path.join(folder, "unet.xml")
        run(a, a.model, "float32", "convert")
        for types in a.types.split(","):
            print(run(a, a.path, types, "measure")[0], flush=True)


if __name__ == "__main__":
    main()
