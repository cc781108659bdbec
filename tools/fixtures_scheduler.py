# SPDX-License-Identifier: Apache-2.0
"""Writes tests/fixtures/scheduler.json: runs of diffusers' DDIMScheduler and DDPMScheduler that
tests/test_generate_sampler.c repeats.

Every run starts from one [1,1,4,4] draw of a generator with the run's seed (where the variance is
learned, the network gives [1,2,4,4]), later draws come from the same generator, and the "network" is
the polynomial 0.6 x + 0.0002 t - 0.05 x^2 (and 0.3 x for a learned range,
0.02 + 0.01 x^2 for a learned variance).
Run with a Python that has torch and diffusers 0.42:  python tools/fixtures_scheduler.py
"""
import json
import pathlib
import warnings

import numpy
import torch
from diffusers import DDIMScheduler, DDPMScheduler

warnings.filterwarnings("ignore")

SD = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
          set_alpha_to_one=False, steps_offset=1)
LINEAR = dict(beta_start=0.0001, beta_end=0.02, beta_schedule="linear", clip_sample=True)
COSINE = dict(beta_schedule="squaredcos_cap_v2")
SIGMOID = dict(beta_start=0.0001, beta_end=0.02, beta_schedule="sigmoid")


def runs():
    """(name, sampler, steps, config, arguments of step)"""
    for steps in (200, 50, 10):
        yield f"ddim sd {steps}", "ddim", steps, SD, {}
        yield f"ddpm sd {steps}", "ddpm", steps, SD, {}
        large = SD | dict(variance_type="fixed_large")
        yield f"ddpm sd fixed_large {steps}", "ddpm", steps, large, {}
    yield "ddim sd 30 (does not divide)", "ddim", 30, SD, {}
    yield "ddpm sd 30 (does not divide)", "ddpm", 30, SD, {}
    yield "ddim sd trailing 30", "ddim", 30, SD | dict(timestep_spacing="trailing"), {}
    yield "ddpm sd trailing 30", "ddpm", 30, SD | dict(timestep_spacing="trailing"), {}
    yield "ddim sd linspace 30", "ddim", 30, SD | dict(timestep_spacing="linspace"), {}
    yield "ddpm sd linspace 30", "ddpm", 30, SD | dict(timestep_spacing="linspace"), {}
    yield "ddim sd eta 0.5", "ddim", 20, SD, dict(eta=0.5)
    yield "ddim sd eta 1", "ddim", 50, SD, dict(eta=1.0)
    yield "ddim sd alpha one", "ddim", 20, SD | dict(set_alpha_to_one=True), {}
    yield "ddim one step", "ddim", 1, SD, {}
    yield "ddim every step but one", "ddim", 999, SD, {}
    yield "ddim linear clip", "ddim", 50, LINEAR, {}
    yield "ddim linear clip eta 1", "ddim", 50, LINEAR, dict(eta=1.0)
    yield "ddim clipped output", "ddim", 50, LINEAR, dict(use_clipped_model_output=True)
    yield "ddim clipped output eta", "ddim", 25, LINEAR, \
        dict(use_clipped_model_output=True, eta=0.7)
    yield "ddim clip range", "ddim", 25, LINEAR | dict(clip_sample_range=0.6), {}
    yield "ddpm clip range", "ddpm", 25, LINEAR | dict(clip_sample_range=0.6), {}
    yield "ddpm linear all", "ddpm", 1000, LINEAR, {}
    yield "ddpm linear fixed_small_log", "ddpm", 50, \
        LINEAR | dict(variance_type="fixed_small_log"), {}
    yield "ddpm learned", "ddpm", 50, LINEAR | dict(variance_type="learned"), {}
    yield "ddpm learned_range", "ddpm", 50, LINEAR | dict(variance_type="learned_range"), {}
    threshold = LINEAR | dict(thresholding=True, sample_max_value=3.0,
                              dynamic_thresholding_ratio=0.9)
    yield "ddim thresholding", "ddim", 30, threshold, {}
    yield "ddpm thresholding", "ddpm", 30, threshold, {}
    yield "ddim thresholding default", "ddim", 20, LINEAR | dict(thresholding=True), {}
    yield "ddim thresholding high", "ddim", 20, \
        threshold | dict(dynamic_thresholding_ratio=0.97), {}
    yield "ddim squaredcos", "ddim", 40, COSINE, {}
    yield "ddpm squaredcos v", "ddpm", 40, COSINE | dict(prediction_type="v_prediction"), {}
    yield "ddpm sigmoid", "ddpm", 40, SIGMOID, {}
    yield "ddim sample", "ddim", 40, SD | dict(prediction_type="sample"), {}
    yield "ddim sample eta clip", "ddim", 40, LINEAR | dict(prediction_type="sample"), dict(eta=1.0)
    yield "ddpm sample", "ddpm", 40, LINEAR | dict(prediction_type="sample"), {}
    zero = SD | dict(rescale_betas_zero_snr=True, timestep_spacing="trailing",
                     prediction_type="v_prediction")
    yield "ddim v zero snr", "ddim", 50, zero, {}
    yield "ddim v zero snr eta", "ddim", 50, zero, dict(eta=0.9)
    yield "ddpm v zero snr", "ddpm", 50, zero, {}
    trained = dict(num_train_timesteps=20, clip_sample=False,
                   trained_betas=[0.002 + 0.004 * i for i in range(20)])
    yield "ddpm trained betas", "ddpm", 10, trained, {}
    yield "ddim few timesteps", "ddim", 7, LINEAR | dict(num_train_timesteps=100), {}


def network(x, t, learned):
    m = 0.6 * x + 0.0002 * t - 0.05 * x * x
    if learned == "learned":
        m = torch.cat([m, 0.02 + 0.01 * x * x], 1)
    if learned == "learned_range":
        m = torch.cat([m, 0.3 * x], 1)
    return m


def numbers(tensor):
    """The shortest decimals that read back as these float32."""
    return [float(str(v)) for v in tensor.detach().numpy().astype(numpy.float32).ravel()]


def trace(seed, name, sampler, steps, config, arguments):
    kind = {"ddim": DDIMScheduler, "ddpm": DDPMScheduler}[sampler]
    scheduler = kind.from_config(config)
    scheduler.set_timesteps(steps)
    generator = torch.Generator("cpu").manual_seed(seed)
    x = torch.randn(1, 1, 4, 4, generator=generator)
    for t in scheduler.timesteps:
        m = network(x, t.item(), config.get("variance_type"))
        x = scheduler.step(m, t, x, generator=generator, **arguments).prev_sample
    t = scheduler.timesteps.tolist()
    picked = [i * (len(scheduler.betas) - 1) // 9 for i in range(10)]
    return dict(name=name, seed=seed, sampler=sampler, steps=steps, config=config,
                arguments=arguments, timesteps=t if len(t) <= 50 else t[:3] + t[-3:], index=picked,
                alphas=numbers(scheduler.alphas_cumprod[picked]), out=numbers(x))


def main():
    out = pathlib.Path(__file__).parent.parent / "tests" / "fixtures" / "scheduler.json"
    rows = [json.dumps(trace(seed, *run)) for seed, run in enumerate(runs(), 42)]
    out.write_text("[\n" + ",\n".join(rows) + "\n]\n")
    print(f"{out}: {len(rows)} runs")


if __name__ == "__main__":
    main()
