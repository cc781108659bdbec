# SPDX-License-Identifier: Apache-2.0
"""The whole training on one GPU machine, by the clock: python pocket.py OUT [--tiny]

From the first second: picture makers on most cores. Beside them two GPU processes: the autoencoder (trains, then
encodes what the makers bring, to the end), and UNet with text encoder (train on the growing latents). They leave
OUT/model, a Stable Diffusion folder, and OUT/samples.png. --tiny runs it all on a CPU, small and untrained, in one and a
half minutes, to try the code.
"""
import argparse
import os
import signal
import sys
import time
import traceback

import shared
from shared import log

p = argparse.ArgumentParser()
p.add_argument("out")
p.add_argument("--tiny", action="store_true")
p.add_argument("--vae_end", type=float, default=180)  # seconds from the start
p.add_argument("--unet_end", type=float, default=513)
p.add_argument("--batch", type=int, default=1536)
p.add_argument("--vae_batch", type=int, default=64)
o = p.parse_args()
o.device, o.makers = "cuda", max(2, (os.cpu_count() or 2) - 3)
o.cap, o.first, o.vae_pool, o.every = 420000, 2000, 120000, 10
if o.tiny:
    o.device, o.makers, o.vae_end, o.unet_end = "cpu", 2, 50, 75
    o.cap, o.first, o.vae_pool, o.every, o.batch, o.vae_batch = 240, 80, 240, 5, 8, 4
pool = shared.Pool(o.cap, o.makers)
kids = {}


def fork(name, function, *arguments):
    """Calls it in a child process."""
    sys.stdout.flush()
    kids[name] = os.fork()
    if kids[name]:
        return
    code = 1
    try:
        function(*arguments)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def ended(name):
    """Whether a child has ended; one that failed ends the whole training."""
    pid, status = os.waitpid(kids[name], os.WNOHANG)
    if pid:
        del kids[name]
    if status:
        sys.exit(f"{name} failed")
    return pid != 0


def train_vae():
    import vae
    vae.run(pool, o)


def train_unet():
    import unet
    unet.run(pool, o)


def main():
    os.makedirs(o.out, exist_ok=True)
    for rank in range(o.makers):  # no torch in this process: one that has touched the GPU may not fork
        fork(f"maker {rank}", shared.maker, pool, rank, 11, 25000)
    log("device", o.device, "makers", o.makers)
    fork("vae", train_vae)
    fork("unet", train_unet)
    shown = 0
    while not ended("unet"):
        if "vae" in kids:
            ended("vae")
        if time.time() - shown > 20:
            shown = time.time()
            log("pictures made", pool.count(), "latents", int(pool.encoded[0]))
        time.sleep(.1)


try:
    main()
finally:
    for pid in kids.values():
        os.kill(pid, signal.SIGKILL)
