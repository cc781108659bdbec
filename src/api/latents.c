/* SPDX-License-Identifier: Apache-2.0
 *
 * latents: lk_latents, what a picture starts from and ends with before it is decoded. */
#include "api/api.h"

#include <stdlib.h>
#include <string.h>

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

bool lk_latents_from_memory(lk_latents **out, const float *data, int channels, int height,
                            int width, lk_error *caller)
{
    enum { MOST = 1 << 20 };
    error e = {0};
    *out = NULL;
    if (!data || channels < 1 || height < 1 || width < 1 || channels > MOST || height > MOST ||
        width > MOST || (int64_t)channels * height > INT32_MAX)
        return api_report(error_set(&e, ERROR_USAGE,
                                    "latents of [%d, %d, %d]: no size that a picture could "
                                    "have",
                                    channels, height, width),
                          &e, caller);
    size_t bytes = (size_t)channels * (size_t)height * (size_t)width * sizeof *data;
    *out = calloc(1, sizeof **out);
    if (*out) (*out)->data = malloc(bytes);
    bool ok = (*out && (*out)->data) || error_memory(&e, "latents", bytes);
    if (ok) {
        memcpy((*out)->shape, (const int[]){channels, height, width}, sizeof(*out)->shape);
        memcpy((*out)->data, data, bytes);
    } else {
        lk_latents_close(out);
    }
    return api_report(ok, &e, caller);
}

void lk_latents_close(lk_latents **l)
{
    if (!l || !*l) return;
    free((*l)->data);
    free(*l);
    *l = NULL;
}

const float *lk_latents_data(const lk_latents *l) { return l->data; }
void lk_latents_shape(const lk_latents *l, int shape[3])
{
    memcpy(shape, l->shape, sizeof l->shape);
}

const lk_latents *lk_image_initial(const lk_image *p)
{
    return p->initial.data ? &p->initial : NULL;
}
const lk_latents *lk_image_final(const lk_image *p) { return p->final.data ? &p->final : NULL; }

bool lk_image_save_latents(const lk_image *p, const char *path, lk_error *caller)
{
    error e = {0};
    bool ok = p->initial.data || error_set(&e, ERROR_USAGE,
                                           "%s: this picture was not generated here, so it has "
                                           "no latents",
                                           path);
    return api_report(ok && latents_write(path, p->initial.data, p->initial.shape, p->final.data,
                                          p->final.shape, p->settings, &e),
                      &e, caller);
}
