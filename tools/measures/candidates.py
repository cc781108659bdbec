# SPDX-License-Identifier: Apache-2.0
"""Candidates for the measure of likeness, weighed on the pictures that evidence.sh makes: the table of docs/MEASURES.md.

python candidates.py MODEL OUT wizard dog        needs torch, diffusers, transformers, pillow; about five minutes a subject

MODEL is the base; OUT/wizard, OUT/wizard-class and so on as evidence.sh leaves them. All features are the base UNet's, under
the empty prompt, with the same two draws of noise; the diffusion classifiers are judged by one taught model each."""
import glob, json, os, sys
import numpy as np, torch
from PIL import Image
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer
import table

TIMES, DRAWS = (100, 200, 400), 2
torch.set_num_threads(1)

def opened(path):
    net = UNet2DConditionModel.from_pretrained(path + "/unet").float().eval()
    text = CLIPTextModel.from_pretrained(path + "/text_encoder").float().eval(); words = CLIPTokenizer.from_pretrained(path + "/tokenizer")
    c = json.load(open(path + "/scheduler/scheduler_config.json"))
    bar = (1 - torch.linspace(c["beta_start"] ** .5, c["beta_end"] ** .5, 1000) ** 2).cumprod(0)
    return net, lambda s: text(words(s, padding="max_length", max_length=words.model_max_length, truncation=True, return_tensors="pt").input_ids)[0], bar

def pictures(out, subject, animal):
    folders = [subject, subject + "-class", subject + "-unseen"] + (["sister"] if subject == "wizard" else []) + [f"other-{animal}s", subject + "-base", subject + "-plain-drew", subject + "-prior-drew"]
    return [p for f in folders for p in sorted(glob.glob(f"{out}/{f}/*.png"))]

def pixels(path):
    return torch.from_numpy(np.asarray(Image.open(path).convert("RGB").resize((128, 128), Image.BILINEAR), np.float32) / 127.5 - 1).permute(2, 0, 1)[None]

def maps(net, text, bar, z, noise):
    """{(point, time): [pictures, places, channels]}, averaged over the draws."""
    seen, out = {}, {}
    points = {"mid": net.mid_block}
    for i, b in enumerate(net.up_blocks):
        for j, r in enumerate(b.resnets): points[f"up {i}, resnet {j}"] = r
        for j, a in enumerate(getattr(b, "attentions", None) or []): points[f"up {i}, attention {j}"] = a
    hooks = [m.register_forward_hook(lambda m, i, o, n=n: seen.__setitem__(n, o[0] if isinstance(o, tuple) else o)) for n, m in points.items()]
    context = text("").expand(DRAWS, -1, -1)
    for t in TIMES:
        for x in z:
            net(bar[t] ** .5 * x + (1 - bar[t]) ** .5 * noise[:DRAWS], torch.full((DRAWS,), t), context)
            for n, v in seen.items(): out.setdefault((n, t), []).append(v.mean(0).flatten(1).T.numpy().copy())
    for h in hooks: h.remove()
    return {k: np.stack(v) for k, v in out.items()}

def unit(x): return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-9)

def each_left_out(n, own, of_class, f):
    """f(i, own without i, class without i) for each picture."""
    return [f(i, [k for k in own if k != i], [k for k in of_class if k != i]) for i in range(n)]

def pooled(m, own, of_class, whiten):
    """Mean cosine to the subject's pictures minus that to the class's, of channel means and deviations."""
    v = np.concatenate([m.mean(1), m.std(1)], 1)
    def f(i, s, c):
        g = v - v[c].mean(0)
        if whiten: g = g / (v[c].std(0) + 1e-6)
        g = unit(g); return (g[s] @ g[i]).mean() - (g[c] @ g[i]).mean()
    return each_left_out(len(v), own, of_class, f)

def local(m, own, of_class, power, soft):
    """How well the photos' places are found, those counting most that other photos have and the class has not."""
    m = unit(m); n = len(m)
    found = {s: np.einsum("pc,nqc->npq", m[s], m, optimize=True).max(2) for s in own}
    if soft: found = {s: np.exp((b - 1) / soft) for s, b in found.items()}
    def f(i, s, c):
        up = down = 0
        for k in s:
            o = [x for x in s if x != k]; a, z, d = found[k][o].mean(0), found[k][c].mean(0), found[k][c].std(0)
            w = np.clip((a - z) / (d + .02 * abs(z)), 0, None) ** power * (a > z) if power else np.ones_like(a)
            share = (found[k][i] - z) / np.maximum(a - z, 1e-6) if power else found[k][i]
            up += (w * (np.minimum(share, 1) if power else share)).sum(); down += w.sum()
        return up / down
    return each_left_out(n, own, of_class, f)

def misses(model, z, noise, words):
    """The error in predicting the noise at six timesteps, a draw each."""
    net, text, bar = model; t = torch.tensor([int(1000 * (.15 + .75 * k / 6)) for k in range(6)]); a = bar[t].view(-1, 1, 1, 1); context = text(words).expand(6, -1, -1)
    return np.array([((net(a ** .5 * x + (1 - a) ** .5 * noise[:6], t, context).sample - noise[:6]) ** 2).mean().item() for x in z])

def colours(paths, own, of_class):
    v = np.stack([np.histogramdd(((pixels(p)[0].permute(1, 2, 0).reshape(-1, 3) + 1) * 2.999).numpy(), bins=6, range=[(0, 6)] * 3)[0].ravel() ** .5 for p in paths])
    def f(i, s, c): g = unit(v); return (g[s] @ g[i]).mean() - (g[c] @ g[i]).mean()
    return each_left_out(len(v), own, of_class, f)

@torch.no_grad()
def main(model, out, subject, animal):
    eyes = table.read_eyes(f"{os.path.dirname(os.path.abspath(__file__))}/{subject}.eyes"); paths = pictures(out, subject, animal)
    group = [table.group_of(p, eyes) for p in paths]; own = [i for i, g in enumerate(group) if g == 0]; of_class = [i for i, g in enumerate(group) if g == 1]
    vae = AutoencoderKL.from_pretrained(model + "/vae").float().eval(); base = opened(model)
    z = [vae.encode(pixels(p)).latent_dist.mean * vae.config.scaling_factor for p in paths]
    noise = torch.randn((6,) + z[0].shape[1:], generator=torch.Generator().manual_seed(20260)); rows = []
    def row(name, score): rows.append((name, table.figures(list(map(float, score)), paths, eyes)[1])); print("%-52s %s" % (name, " ".join("%7.2f" % v for v in rows[-1][1])), flush=True)
    print("%-52s  unseen  photos     gap    rank     off" % "")
    row("colours, cosine", colours(paths, own, of_class))
    plain = misses(base, z, noise, f"a photo of {animal}")
    for which in ("plain", "prior"): row(f"classifier, judged by {which}", plain - misses(opened(f"{out}/{subject}-{which}"), z, noise, f"a photo of sks {animal}"))
    for (name, t), m in maps(*base, z, noise).items():
        row(f"{name}, t {t}: pooled, centred cosine", pooled(m, own, of_class, False)); row(f"{name}, t {t}: pooled, whitened cosine", pooled(m, own, of_class, True))
        row(f"{name}, t {t}: places, all alike", local(m, own, of_class, 0, 0)); row(f"{name}, t {t}: places, by mark", local(m, own, of_class, 3, 0))
        row(f"{name}, t {t}: places, by mark, exponential", local(m, own, of_class, 3, .2))

if __name__ == "__main__": main(*sys.argv[1:5])
