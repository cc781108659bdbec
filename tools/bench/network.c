/* SPDX-License-Identifier: Apache-2.0
 *
 * network: see network.h. */
#include "network.h"

#include <stdlib.h>
#include <string.h>

#include "base/random.h"

static tensor *job_input(job *j, const char *name, dtype type, int rank, const int64_t *dim)
{
    tensor *t = graph_input(j->g, name, type, rank, dim);
    j->input[j->inputs++] = t;
    return t;
}

bool job_record(job *j, const model *m, const char *row, int64_t size, error *e)
{
    if (strcmp(row, "unet") == 0) {
        tensor *x = job_input(j, "x", DTYPE_F32, 4,
                              (int64_t[]){2, size / 8, size / 8, m->unet.in_channels});
        tensor *t = job_input(j, "t", DTYPE_F32, 1, (int64_t[]){2});
        tensor *text = NULL;
        if (m->unet.conditional)
            text = job_input(j, "text", DTYPE_F32, 3,
                             (int64_t[]){2, m->clip.positions, m->unet.cross_dim});
        j->output = unet_build(j->g, &m->unet, x, t, text);
        j->weights = &m->unet_weights;
    } else if (strcmp(row, "vae") == 0) {
        int64_t dim[] = {1, size / 8, size / 8, m->vae.latent_channels};
        j->output = vae_build_decoder(j->g, &m->vae, job_input(j, "latent", DTYPE_F32, 4, dim));
        j->weights = &m->vae_weights;
    } else if (strcmp(row, "text") == 0) {
        int64_t dim[] = {2, m->clip.positions};
        j->output = clip_build(j->g, &m->clip, job_input(j, "ids", DTYPE_I32, 2, dim), 0);
        j->weights = &m->clip_weights;
        j->vocabulary = m->clip.vocab;
    } else {
        return error_set(e, ERROR_USAGE, "no row is called %s: use guided, unet, vae or text", row);
    }
    graph_output(j->g, j->output);
    return true;
}

size_t tensor_count(const tensor *t)
{
    size_t n = 1;
    for (int i = 0; i < t->rank; i++) n *= (size_t)t->dim[i];
    return n;
}

bool job_fill(job *j, error *e)
{
    rng r;
    rng_seed(&r, 0);
    for (int i = 0; i < j->inputs; i++) {
        size_t n = tensor_count(j->input[i]);
        float *noise = malloc(n * sizeof *noise);
        if (!noise) return error_memory(e, "an input", n * sizeof *noise);
        if (j->input[i]->type == DTYPE_I32) {
            int32_t *ids = (int32_t *)noise;
            for (size_t k = 0; k < n; k++) ids[k] = (int32_t)rng_below(&r, (uint32_t)j->vocabulary);
        } else if (j->input[i]->rank == 1) {
            for (size_t k = 0; k < n; k++) noise[k] = 500;
        } else {
            rng_randn(&r, noise, n);
        }
        bool ok = graph_write(j->g, j->input[i], noise, e);
        free(noise);
        if (!ok) return false;
    }
    return true;
}
