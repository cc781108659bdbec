/* SPDX-License-Identifier: Apache-2.0
 *
 * describe: what a model is, in lines for people. */
#include "generate/describe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "model/hash.h"
#include "pipeline/fit.h"

/* "9,497,092" */
static void write_count(FILE *out, unsigned long long n)
{
    if (n >= 1000) {
        write_count(out, n / 1000);
        fprintf(out, ",%03llu", n % 1000);
    } else {
        fprintf(out, "%llu", n);
    }
}

static void write_set(FILE *out, const char *name, const weight_set *set)
{
    unsigned long long count = 0, of_type[DTYPE_COUNT] = {0};
    for (size_t i = 0; i < set->count; i++) {
        count += weight_elements(&set->item[i]);
        of_type[set->item[i].type]++;
    }
    fprintf(out, "  %-14s", name);
    write_count(out, count);
    fprintf(out, " parameters in %zu tensors,", set->count);
    for (int t = 0; t < DTYPE_COUNT; t++)
        if (of_type[t]) fprintf(out, " %s", dtype_name((dtype)t));
    fputs("; ", out);
}

static void write_list(FILE *out, const int *list, int n)
{
    for (int i = 0; i < n; i++) fprintf(out, "%s%d", i ? "-" : "", list[i]);
}

static void write_scheduler(FILE *out, const scheduler_config *c)
{
    static const char *const betas[] = {"linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid"};
    static const char *const predicts[] = {"epsilon", "v_prediction", "sample"};
    fprintf(out, "  %-14s%s, %d steps, predicts %s, betas ", "scheduler", c->class_name,
            c->train_steps, predicts[c->predicts]);
    if (c->trained_betas)
        fputs("as listed\n", out);
    else
        fprintf(out, "%s %s to %s%s\n", betas[c->betas], number_exact_float(c->beta_start).text,
                number_exact_float(c->beta_end).text, c->zero_snr ? ", zero terminal SNR" : "");
}

/* "  added words   <sks-dog>, <hat>" */
static void write_added(FILE *out, const tokenizer *t)
{
    enum { MOST = 12 };
    const char *word;
    int id;
    for (size_t i = 0; i <= MOST && (word = tokenizer_added(t, i, &id)); i++) {
        if (i) fputs(", ", out);
        if (i == 0) fprintf(out, "  %-14s", "added words");
        fputs(i < MOST ? word : "...", out);
    }
    if (tokenizer_added(t, 0, &id)) fputc('\n', out);
}

static void write_model(FILE *out, const model *m, const char *hash)
{
    const unet_config *u = &m->unet;
    bool conditional = m->kind == MODEL_STABLE_DIFFUSION;
    int size = u->sample_size * fit_factor(m);
    fprintf(out, "%s\n  %-14s%s, %s\n", m->path, "model",
            conditional ? "Stable Diffusion" : "unconditional DDPM", m->format);
    fprintf(out, "  %-14s%dx%d\n", "pictures", size, size);
    if (conditional) {
        write_set(out, "text encoder", &m->clip_weights);
        fprintf(out, "%d layers of %d, %d tokens\n", m->clip.layers, m->clip.hidden,
                m->clip.positions);
        if (m->tokens) write_added(out, m->tokens);
    }
    write_set(out, "unet", &m->unet_weights);
    fputs("levels ", out);
    write_list(out, u->channels, u->blocks);
    fputc('\n', out);
    if (conditional) {
        write_set(out, "autoencoder", &m->vae_weights);
        fputs("levels ", out);
        write_list(out, m->vae.channels, m->vae.blocks);
        fprintf(out, ", latents of %d channels scaled by %s\n", m->vae.latent_channels,
                number_exact_float(m->vae.scaling_factor).text);
    }
    write_scheduler(out, &m->scheduler);
    fprintf(out, "  %-14s%s\n", "hash", hash);
}

char *model_describe(const model *m, thread_pool *pool, const work_watch *watch, error *e)
{
    char hash[65];
    if (!model_hash_watched(m, pool, watch, hash, e)) return NULL;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out) {
        write_model(out, m, hash);
        if (fclose(out) == 0 && text) return text;
    }
    free(text);
    error_memory(e, "a description", size);
    return NULL;
}
