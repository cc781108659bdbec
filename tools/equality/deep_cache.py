# SPDX-License-Identifier: Apache-2.0
"""Makes, with diffusers on the CPU in float32, pictures whose UNet reuses deep features (DeepCache).

python tools/equality/deep_cache.py DIR [--model models/pocket] [--threads 1]

DIR/<slug>-<sampler>-<N>-<seed>.png   50 steps, guidance 7.5; the whole UNet in every N-th evaluation

What is reused is what DeepCache's own pipeline reuses by default (branch 0, uniform): the input of the last layer of the
last up block. In an evaluation between, conv_in, that layer, and the output's norm and convolution are computed anew;
everything else is skipped. Here the UNet's forward is replaced by one that calls these four by themselves. Evaluations
are counted as they come: DeepCache's own counting looks a timestep up in the scheduler's list, which is the same for
samplers that ask once a step.
"""
import argparse
import os

from reference_pictures import SAMPLERS, SEVEN, TWO, slug


class Deep:
    """Stands for a UNet's forward."""

    def __init__(self, unet, interval):
        self.unet, self.interval, self.count = unet, interval, 0
        self.whole = unet.forward
        self.kept = None
        block = unet.up_blocks[-1]
        # what goes into the last resnet: deep features, and the first skip behind them
        self.last = block.resnets[-1]
        self.attention = block.attentions[-1] if getattr(block, "attentions", None) else None
        self.last.register_forward_pre_hook(self.keep)
        unet.forward = self

    def keep(self, module, inputs):
        skip = self.unet.conv_in.out_channels
        self.kept = inputs[0][:, :inputs[0].shape[1] - skip]

    def __call__(self, sample, timestep, encoder_hidden_states, **kw):
        import torch
        self.count += 1
        if (self.count - 1) % self.interval == 0:
            return self.whole(sample, timestep, encoder_hidden_states, **kw)
        u = self.unet
        temb = u.time_embedding(u.get_time_embed(sample=sample, timestep=timestep))
        kept = self.kept
        x = self.last.forward(torch.cat([kept, u.conv_in(sample)], dim=1), temb)
        if self.attention is not None:
            x = self.attention(x, encoder_hidden_states=encoder_hidden_states, return_dict=False)[0]
        return (u.conv_out(u.conv_act(u.conv_norm_out(x))),)

    def close(self):
        self.unet.forward = self.whole
        self.last._forward_pre_hooks.clear()


def jobs():
    """(name, prompt, sampler, interval, seed)"""
    for prompt in SEVEN:
        for seed in (42, 43, 44):
            yield f"{slug(prompt)}-ddim-3-{seed}", prompt, "ddim", 3, seed
    for sampler in ("ddim", "euler_a", "dpmpp_2m", "heun", "unipc"):
        for interval in (2, 3, 5):
            if (sampler, interval) != ("ddim", 3):
                yield f"{slug(TWO[0])}-{sampler}-{interval}-42", TWO[0], sampler, interval, 42


def main():
    p = argparse.ArgumentParser()
    p.add_argument("dir")
    p.add_argument("--model", default=os.path.join(os.path.dirname(__file__), "../../models/pocket"))
    p.add_argument("--threads", type=int, default=1)
    a = p.parse_args()

    import diffusers
    import torch

    torch.set_num_threads(a.threads)
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(a.model, torch_dtype=torch.float32, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    config = pipe.scheduler.config
    os.makedirs(a.dir, exist_ok=True)
    for name, prompt, sampler, interval, seed in jobs():
        pipe.scheduler = getattr(diffusers, SAMPLERS[sampler]).from_config(config)
        deep = Deep(pipe.unet, interval)
        image = pipe(prompt, num_inference_steps=50, guidance_scale=7.5,
                     generator=torch.Generator("cpu").manual_seed(seed)).images[0]
        deep.close()
        image.save(os.path.join(a.dir, name + ".png"))
        print(name, flush=True)


if __name__ == "__main__":
    main()
