# SPDX-License-Identifier: Apache-2.0
"""The autoencoder: train until a given time, then keep encoding new pictures for the UNet."""
import os
import time

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

import models as M
import muon
import shared
from shared import log


def losses(vae, x, e, blur):
    """The loss of a batch, and what to show of it: l1, squared error, KL divergence, whiteness, the latents' noise."""
    mean, logvar = vae.quant_conv(vae.encoder(x)).float().chunk(2, 1)
    logvar = logvar.clamp(-20, 10)
    z = mean + e * ((.5 * logvar).exp() + blur)
    d = vae.decoder(vae.post_quant_conv(z)).float() - x
    l1, mse = d.abs().mean(), d.square().mean()
    dx = (d[..., 1:] - d[..., :-1]).abs().mean() + (d[..., 1:, :] - d[..., :-1, :]).abs().mean()
    ms = sum(F.avg_pool2d(d, k).abs().mean() for k in (2, 4, 8)) / 3
    kl = .5 * (mean ** 2 + logvar.exp() - 1 - logvar).mean()
    # four latent channels of unit variance, uncorrelated: none may die
    f = mean.permute(1, 0, 2, 3).reshape(4, -1)
    f = f - f.mean(1, keepdim=True)
    white = ((f @ f.T / f.shape[1] - torch.eye(4, device=x.device)) ** 2).mean()
    white = white + (mean.mean((0, 2, 3)) ** 2).mean()
    loss = l1 + .4 * dx + .3 * ms + mse + 1e-4 * kl + .02 * white
    return loss, torch.stack([l1, mse, kl, white, logvar.exp().mean()]).detach()


def pictures(x, device):
    """uint8 [N,128,128,3] -> [N,3,128,128] in -1..1, channels last in memory."""
    x = x if torch.is_tensor(x) else torch.from_numpy(x)
    return (x.to(device).permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def train(vae, pool, o, fast):
    """Until o.vae_end; leaves the average of the weights in vae."""
    B = o.vae_batch
    while pool.count() < o.first:
        time.sleep(.05)
    opt = muon.Muon(list(vae.named_parameters()), lr=.02, adam_lr=1e-3, weight_decay=.003)
    mean = muon.Mean(vae, .998)
    guard = muon.Guard(mean, opt)
    cap = min(pool.cap, o.vae_pool)
    pics = torch.empty(cap, 128, 128, 3, dtype=torch.uint8, device=o.device)
    have = step = 0
    stats = None
    begin = shown = time.time()
    fresh, end = 0, shared.START + o.vae_end
    while (now := time.time()) < end:
        u = (now - begin) / (end - begin)
        if now > fresh and have < cap:
            n = min(pool.count(), cap, have + 4096)
            pics[have:n] = torch.from_numpy(pool.pics[have:n]).to(o.device)
            have, fresh = n, now + .5
        x = pics[torch.randint(have, (B,), device=o.device)]
        x = torch.where(torch.rand(B, 1, 1, 1, device=o.device) < .5, x.flip(2), x)
        e = torch.randn(B, 4, 16, 16, device=o.device)
        # the decoder learns to bear small errors of the UNet's
        blur = torch.rand(B, 1, 1, 1, device=o.device) * (.06 if u > .4 else 0.0)
        with fast():
            loss, s = losses(vae, pictures(x, o.device), e, blur)
        loss.backward()
        opt.step(min(1, (step + 1) / 60) * (.01 + .99 * .5 * (1 + np.cos(np.pi * u))))
        opt.zero()
        mean.step()
        step += 1
        stats = s if stats is None else stats.lerp(s, .05)
        if now - shown > o.every:
            v = stats.tolist()
            shown = now
            if guard.check(np.isfinite(v).all()):
                log("vae: not a number; back to the last good weights, half the rate")
                stats = None
                continue
            log(f"vae step {step} {step * B / (now - begin):.0f} pictures/s pool {have} l1 {v[0]:.4f} "
                f"psnr {10 * np.log10(4 / v[1]):.2f} kl {v[2]:.2f} white {v[3]:.3f} noise {v[4] ** .5:.3f}")
    vae.load_state_dict(mean.state())
    vae.eval()


@torch.no_grad()
def quality(vae, pool, device):
    """How good, in float32, on the newest pictures."""
    c = pool.count()
    mse = []
    for q in pictures(pool.pics[max(c - 128, 0):c], device).split(32):
        z = vae.quant_conv(vae.encoder(q))[:, :4]
        mse.append(F.mse_loss(vae.decoder(vae.post_quant_conv(z)).clamp(-1, 1), q).item())
    log("vae PSNR %.2f dB" % (10 * np.log10(4 / np.mean(mse))))


def save(vae, scale, path):
    out = AutoencoderKL.from_config(vae.config)
    out.load_state_dict({k: v.float().cpu().contiguous() for k, v in vae.state_dict().items()})
    out.register_to_config(scaling_factor=round(scale, 6))
    out.half().save_pretrained(path)


@torch.no_grad()
def follow(vae, pool, o, fast):
    """Encode what there is, save the autoencoder with its scale, and go on with new pictures till the end."""
    done, scale = 0, 0.0
    unit = 256 if o.device == "cuda" else 8
    while True:
        n = done + min(pool.count() - done, 4096) // unit * unit  # whole batches: one shape
        if n <= done:
            time.sleep(.2)
            continue
        zs = []
        for q in torch.from_numpy(pool.pics[done:n]).to(o.device).split(unit):
            with fast():
                m, v = vae.quant_conv(vae.encoder(pictures(q, o.device))).float().chunk(2, 1)
            zs.append(m + (.5 * v.clamp(-20, 10)).exp() * torch.randn_like(m))
        z = torch.cat(zs)
        if not scale:
            scale = 1 / z.std().item()
            log("latents' deviation", [round(v, 3) for v in z.std((0, 2, 3)).tolist()])
            save(vae, scale, o.out + "/model/vae")
        pool.z[done:n] = (z * scale).half().cpu().numpy()
        pool.encoded[0] = done = n


def run(pool, o):
    torch.manual_seed(1)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.enable_cudnn_sdp(False)
    torch.set_num_threads(max(1, (os.cpu_count() or 2) // 8))
    vae = M.build_vae(o.tiny)
    with torch.no_grad():  # begin with little noise
        vae.quant_conv.weight[4:] *= .1
        vae.quant_conv.bias[4:] = -4.0
    vae = vae.to(o.device, memory_format=torch.channels_last)

    def fast():
        return torch.autocast(o.device, torch.bfloat16, enabled=o.device == "cuda")

    train(vae, pool, o, fast)
    quality(vae, pool, o.device)
    follow(vae, pool, o, fast)
