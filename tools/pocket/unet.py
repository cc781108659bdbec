# SPDX-License-Identifier: Apache-2.0
"""UNet and text encoder together on the latents, learning rate by the clock, averaged weights saved at the end."""
import json
import os
import time

import numpy as np
import torch
from safetensors.torch import save_file

import finish
import models as M
import muon
import shared
from shared import Words, log


class Net(torch.nn.Module):
    def __init__(self, unet, text):
        super().__init__()
        self.unet, self.text = unet, text

    def forward(self, xt, t, ids, e, w):
        y = self.unet(xt, t, self.text(ids), return_dict=False)[0].float()
        d = (y - e).square().mean((1, 2, 3))
        return (d * w).mean(), torch.stack([(d * w).mean(), d.mean()]).detach()


class Latents:
    """The latents so far with their captions, on the device, and batches of them."""

    def __init__(self, pool, o, empty):
        self.pool, self.device, self.B, self.empty = pool, o.device, o.batch, empty
        self.z = torch.empty(pool.cap, 4, 16, 16, dtype=torch.float16, device=o.device)
        self.ids = torch.empty(pool.cap, 3, 32, dtype=torch.int16, device=o.device)
        self.valid = torch.empty(0, dtype=torch.long, device=o.device)  # those with captions
        self.have = 0
        self.schedule = M.Schedule(o.device)

    def update(self):
        n, have = int(self.pool.encoded[0]), self.have
        self.z[have:n] = torch.from_numpy(self.pool.z[have:n]).to(self.device)
        self.ids[have:n] = torch.from_numpy(self.pool.ids[have:n]).to(self.device)
        self.valid = torch.cat([self.valid, have + (self.ids[have:n, 0, 0] >= 0).nonzero()[:, 0]])
        self.have = n

    def batch(self):
        """Noised latents, timesteps, tokens (10 % empty), noise, min-SNR weights."""
        B, device = self.B, self.device
        i = self.valid[torch.randint(len(self.valid), (B,), device=device)]
        c = self.ids[i, torch.randint(3, (B,), device=device)].long()
        c = torch.where(torch.rand(B, 1, device=device) < .1, self.empty, c)
        t = torch.randint(1000, (B,), device=device)
        x = self.z[i].float()
        e = torch.randn_like(x)
        a = self.schedule.ac[t].view(-1, 1, 1, 1)
        xt = (a.sqrt() * x + (1 - a).sqrt() * e).contiguous(memory_format=torch.channels_last)
        return xt, t, c, e.contiguous(memory_format=torch.channels_last), self.schedule.weight[t]


def quiet_words(text, words):
    """Tokens outside the captions: sks loud enough to be told apart (rms .15), the others .1."""
    g = torch.Generator().manual_seed(3)
    e = text.text_model.embeddings.token_embedding.weight
    with torch.no_grad():
        free = torch.from_numpy(words.free.astype(np.int64))
        e[free] = torch.randn(len(free), e.shape[1], generator=g) * .1
        e[words.sks] = torch.randn(e.shape[1], generator=g) * .15


def save(weights, path, words, tiny):
    """The averaged weights as float16 folders, names as in Stable Diffusion 1.x."""
    def part(name):
        return {k[5:]: v.float().cpu().contiguous() for k, v in weights.items() if k.startswith(name)}

    unet = M.build_unet(tiny)
    unet.load_state_dict(part("unet."))
    unet.half().save_pretrained(path + "/unet")
    os.makedirs(path + "/text_encoder", exist_ok=True)
    save_file({k: v.half() for k, v in part("text.").items()}, path + "/text_encoder/model.safetensors",
              metadata={"format": "pt"})
    with open(path + "/text_encoder/config.json", "w") as f:
        json.dump(M.text_config(len(words.v), words.bos, words.eos), f, indent=2)


def run(pool, o):
    torch.manual_seed(2)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.enable_cudnn_sdp(False)
    torch.set_num_threads(max(1, (os.cpu_count() or 2) // 8))
    words = Words()
    text = M.Text(len(words.v))
    quiet_words(text, words)
    net = Net(M.build_unet(o.tiny).to(o.device, memory_format=torch.channels_last), text.to(o.device))
    latents = Latents(pool, o, torch.from_numpy(words.ids("").astype(np.int64)).to(o.device))
    opt = muon.Muon(list(net.named_parameters()), lr=.02, adam_lr=1e-3)
    mean = muon.Mean(net, .999 if not o.tiny else .99)
    guard = muon.Guard(mean, opt)
    while not pool.encoded[0]:
        time.sleep(.1)
    begin = shown = time.time()
    fresh, end, hold = 0, shared.START + o.unet_end, .3
    step, stats = 0, None
    while (now := time.time()) < end:
        u = (now - begin) / (end - begin)
        if now > fresh:
            latents.update()
            fresh = now + 2
        with torch.autocast(o.device, torch.bfloat16, enabled=o.device == "cuda"):
            loss, s = net(*latents.batch())
        loss.backward()
        rate = 1 if u < hold else .5 * (1 + np.cos(np.pi * (u - hold) / (1 - hold)))
        opt.step(min(1, (step + 1) / 100) * (.003 + .997 * rate))
        opt.zero()
        mean.step()
        step += 1
        stats = s if stats is None else stats.lerp(s, .02)
        if now - shown > o.every:
            v = stats.tolist()
            shown = now
            if guard.check(np.isfinite(v).all()):
                log("unet: not a number; back to the last good weights, half the rate")
                stats = None
                continue
            log(f"unet step {step} {step * o.batch / (now - begin):.0f} samples/s seen {step * o.batch / 1e6:.2f}M "
                f"pool {len(latents.valid)} weighted {v[0]:.4f} mse {v[1]:.4f}")
    save(mean.state(), o.out + "/model", words, o.tiny)
    finish.run(o)
