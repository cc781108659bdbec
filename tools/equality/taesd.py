# SPDX-License-Identifier: Apache-2.0
"""Makes a tiny autoencoder of TAESD's shape with random weights, and with diffusers on the CPU in float32 the pictures
that the pocket model gives through it.

python tools/equality/taesd.py DIR [--model models/pocket] [--threads 1]

DIR-nets/tiny                        AutoencoderTiny, as diffusers saves it
DIR-nets/taesd_decoder.safetensors   its decoder in the original names; .pth: the same by torch.save
DIR/<name>.png                       the pictures, as in jobs()
"""
import argparse
import os
import re


def jobs():
    """(name, sampler, steps, guidance, seed, width)"""
    yield "folder", "ddim", 20, 7.5, 42, 128
    yield "guided", "dpmpp_2m", 20, 5.0, 7, 128
    yield "wide", "euler_a", 20, 7.5, 42, 160


def make_net(folder):
    import torch
    from diffusers import AutoencoderTiny
    from safetensors.torch import save_file
    torch.manual_seed(5)
    net = AutoencoderTiny().eval()
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape) * (1.0 / (p.numel() / p.shape[0]) ** 0.5 if p.dim() > 1 else 0.05))
        # a picture that is neither black nor white
        last = net.decoder.layers[-1]
        y = net.decoder(torch.randn(1, 4, 16, 16)) / 2 + 0.5 - last.bias[:, None, None]
        last.weight *= 0.25 / y.std()
        last.bias.copy_(0.5 - y.mean(dim=(0, 2, 3)) * 0.25 / y.std())
    net.save_pretrained(os.path.join(folder, "tiny"))
    decoder = {re.sub(r"^decoder\.layers\.(\d+)", lambda m: str(int(m[1]) + 1), k): v.contiguous()
               for k, v in net.state_dict().items() if k.startswith("decoder.")}
    save_file(decoder, os.path.join(folder, "taesd_decoder.safetensors"))
    torch.save(decoder, os.path.join(folder, "taesd_decoder.pth"))
    return net


def main():
    p = argparse.ArgumentParser()
    p.add_argument("dir")
    p.add_argument("--model", default=os.path.join(os.path.dirname(__file__), "../../models/pocket"))
    p.add_argument("--threads", type=int, default=1)
    a = p.parse_args()

    import diffusers
    import torch
    from reference_pictures import SAMPLERS

    torch.set_num_threads(a.threads)
    os.makedirs(a.dir + "-nets", exist_ok=True)
    os.makedirs(a.dir, exist_ok=True)
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(a.model, torch_dtype=torch.float32, safety_checker=None,
                                                             vae=make_net(a.dir + "-nets"))
    pipe.set_progress_bar_config(disable=True)
    config = pipe.scheduler.config
    for name, sampler, steps, guidance, seed, width in jobs():
        pipe.scheduler = getattr(diffusers, SAMPLERS[sampler]).from_config(config)
        pipe("a photo of a dog", num_inference_steps=steps, guidance_scale=guidance, width=width, height=128,
             generator=torch.Generator("cpu").manual_seed(seed)).images[0].save(os.path.join(a.dir, name + ".png"))
        print(name, flush=True)


if __name__ == "__main__":
    main()
