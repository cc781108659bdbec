/* SPDX-License-Identifier: Apache-2.0
 *
 * latents: lk_latents, the noise a picture starts from, and the latents of a picture that was made. */
#include "api/api.h"

#include <stdlib.h>

#include "file/latents.h"

bool lk_latents_open(lk_latents **out, const char *path, lk_error *caller)
{
    error e = {0};
    *out = calloc(1, sizeof **out);
    bool ok = (*out || error_memory(&e, "latents", sizeof **out)) &&
              latents_read(&(*out)->data, (*out)->shape, path, &e);
    if (!ok) lk_latents_close(out);
    return api_report(ok, &e, caller);
}

void lk_latents_close(lk_latents **l)
{
    if (!*l) return;
    free((*l)->data);
    free(*l);
    *l = NULL;
}

bool lk_picture_save_latents(const lk_picture *p, const char *path, lk_error *caller)
{
    error e = {0};
    const generate_result *r = &p->latents;
    int shape[3] = {r->channels, r->height, r->width};
    bool ok = r->initial || error_set(&e, ERROR_USAGE, "%s: this picture was not generated here, so it has "
                                      "no latents", path);
    return api_report(ok && latents_write(path, r->initial, r->final, shape, p->settings, &e), &e, caller);
}
