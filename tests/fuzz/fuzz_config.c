/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as the configuration of each network and of a scheduler; what is taken gives a
 * schedule. */
#include "fuzz.h"

#include "model/config.h"
#include "model/schedule.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    error e = {0};
    clip_config clip;
    unet_config unet;
    vae_config vae;
    scheduler_config scheduler;
    fuzz_file f = fuzz_open(data, size);
    fuzz_check(clip_config_read(&clip, f.path, &e), &e);
    e = (error){0};
    fuzz_check(unet_config_read(&unet, f.path, &e), &e);
    e = (error){0};
    fuzz_check(vae_config_read(&vae, f.path, &e), &e);
    e = (error){0};
    bool ok = scheduler_config_read(&scheduler, f.path, &e);
    fuzz_check(ok, &e);
    if (ok) {
        noise_schedule s;
        ok = noise_schedule_open(&s, &scheduler, &e);
        fuzz_check(ok, &e);
        if (ok) noise_schedule_close(&s);
        scheduler_config_close(&scheduler);
    }
    fuzz_close(&f);
    return 0;
}
