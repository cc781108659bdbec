# SPDX-License-Identifier: Apache-2.0
"""Makes pictures of prompts in AUTOMATIC1111's syntax with transformers' text encoder and diffusers' UNet, schedulers and
VAE in float32: the rules are those of tools/fixtures/prompts.py, every text has its own evaluation of the UNet, at its own
length, as there.

python tools/equality/prompts.py DIR [--model models/pocket] [--threads 1]     DIR/<name>.png
python tools/equality/prompts.py --list                                       name, prompt, negative, sampler, steps, clip skip
"""
import argparse
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "fixtures"))
import prompts as rules  # noqa: E402

LONG = "a photo of a dog, sitting on a green hill under a blue sky with white clouds, " * 5
ROWS = [
    ("plain", "a photo of a dog", "", "ddim", 20, 0),
    ("weights", "a (photo:1.4) of a [dog] in ((snow)), (hat:0.6)", "(blurry:1.3)", "ddim", 20, 0),
    ("long", LONG, "blurry", "ddim", 20, 0),
    ("long-negative", "a photo of a (cat:1.2)", LONG, "ddim", 20, 0),
    ("two-and-three", LONG, LONG + LONG[:200], "ddim", 10, 0),
    ("break", "a photo of a dog BREAK on the (beach:1.3)", "", "ddim", 20, 0),
    ("edit", "a photo of a [dog:cat:0.4]", "", "ddim", 20, 0),
    ("edit-long", "a photo of a [dog:" + LONG + ":7]", "", "ddim", 20, 0),
    ("edit-negative", "a photo of a (dog:1.2)", "[cat:(bird:1.4):0.5]", "ddim", 20, 0),
    ("turns", "a photo of a [dog|cat|bird]", "", "ddim", 20, 0),
    ("turns-weighted", "a [(red:1.5)|blue] car", "", "ddim", 20, 0),
    ("and", "a photo of a dog:0.6 AND a sailboat at sea:0.4", "", "ddim", 20, 0),
    ("and-minus", "a red car:0.7 AND a house :-0.2 AND the [sea:(sky:1.2):0.5]:0.5", "blurry", "ddim", 20, 0),
    ("and-long", "a photo of a dog:0.8 AND " + LONG, "", "ddim", 10, 0),
    ("one-weighted", "a photo of a dog:0.7", "", "ddim", 20, 0),
    ("clip-skip", "a (photo:1.2) of a dog", "a cat", "ddim", 20, 1),
    ("edit-heun", "a photo of a [dog:cat:0.4]", "", "heun", 10, 0),
    ("edit-steps-dpm2", "a photo of a [dog:cat:10]", "", "dpm2", 10, 0),
    ("turns-euler", "a photo of a [dog|cat]", "", "euler", 20, 0),
    ("edit-pndm", "a photo of a [dog:cat:0.4]", "", "pndm", 20, 0),
]
CLASSES = {"ddim": "DDIMScheduler", "euler": "EulerDiscreteScheduler", "heun": "HeunDiscreteScheduler",
           "dpm2": "KDPM2DiscreteScheduler", "pndm": "PNDMScheduler"}
SECOND_ORDER = ("heun", "dpm2")
GUIDANCE = 7.5


class Reader:
    def __init__(self, pipe):
        self.tokenizer, self.encoder = pipe.tokenizer, pipe.text_encoder

    def states(self, ids, skip):
        import torch
        inner = getattr(self.encoder, "text_model", self.encoder)
        out = self.encoder(torch.tensor(ids), output_hidden_states=True)
        return inner.final_layer_norm(out.hidden_states[-1 - skip]) if skip else out.last_hidden_state

    def read(self, schedule, skip):
        """The states of every text of a schedule, all of one length."""
        import torch
        size = self.encoder.config.max_position_embeddings - 2
        cut = [rules.chunks(text, self.tokenizer, size) for _, text in schedule]
        empty = rules.chunks("", self.tokenizer, size)[0]
        longest = max(map(len, cut))
        pieces = []
        for i in range(longest):
            column = [c[i] if i < len(c) else empty for c in cut]
            z = self.states([ids for ids, _ in column], skip)
            was = z.mean()
            z = z * torch.tensor([w for _, w in column])[..., None]
            pieces.append(z * (was / z.mean()))
        return torch.cat(pieces, 1)


def make(pipe, prompt, negative, sampler, steps, skip):
    import diffusers
    import torch
    scheduler = getattr(diffusers, CLASSES[sampler]).from_config(pipe.scheduler.config)
    scheduler.set_timesteps(steps)
    evaluations = steps * (2 if sampler in SECOND_ORDER else 1)
    reader = Reader(pipe)
    read = [(w, s, reader.read(s, skip)) for w, s in ((w, rules.edits(t, evaluations)) for w, t in rules.parts(prompt))]
    no = rules.edits(rules.without_comments(negative), evaluations)
    no_states = reader.read(no, skip)
    longest = max(z.shape[1] for _, _, z in read)
    read = [(w, s, torch.cat([z, z[:, -1:].repeat(1, longest - z.shape[1], 1)], 1)) for w, s, z in read]
    c = pipe.unet.config
    x = torch.randn((1, c.in_channels, c.sample_size, c.sample_size), generator=torch.Generator("cpu").manual_seed(42))
    x = x * scheduler.init_noise_sigma
    for i, t in enumerate(scheduler.timesteps):
        at = i if sampler != "pndm" else i // 4 if i < 12 else i - 9  # its first three steps have four evaluations each
        y = scheduler.scale_model_input(x, t)
        ask = lambda z: pipe.unet(y, t, encoder_hidden_states=z).sample
        u = ask(no_states[rules.text_of(no, at)][None])
        e = u + sum(GUIDANCE * w * (ask(z[rules.text_of(s, at)][None]) - u) for w, s, z in read)
        x = scheduler.step(e, t, x, return_dict=False)[0]
    picture = pipe.vae.decode(x / pipe.vae.config.scaling_factor, return_dict=False)[0]
    return pipe.image_processor.postprocess(picture, output_type="pil")[0]


def main():
    p = argparse.ArgumentParser()
    p.add_argument("dir", nargs="?")
    p.add_argument("--list", action="store_true")
    p.add_argument("--model", default=os.path.join(HERE, "..", "..", "models", "pocket"))
    p.add_argument("--threads", type=int, default=1)
    a = p.parse_args()
    if a.list:
        for row in ROWS:
            print("\t".join(str(v) if v != "" else " " for v in row))
        return
    import torch
    from diffusers import StableDiffusionPipeline
    torch.set_num_threads(a.threads)
    torch.set_grad_enabled(False)
    pipe = StableDiffusionPipeline.from_pretrained(a.model, torch_dtype=torch.float32, safety_checker=None)
    os.makedirs(a.dir, exist_ok=True)
    for name, prompt, negative, sampler, steps, skip in ROWS:
        make(pipe, prompt, negative, sampler, steps, skip).save(os.path.join(a.dir, name + ".png"))


if __name__ == "__main__":
    main()
