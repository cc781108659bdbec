/* SPDX-License-Identifier: Apache-2.0
 *
 * bench_model: gives a diffusers folder that has only its configurations (tools/bench/sd15) random
 * float16 weights and a tokenizer of single bytes, for measuring speed and memory. Which weights a
 * network has is found by recording it.
 *
 *   bench_model FOLDER
 *
 * Weights are scaled so that every output stays finite. model_index.json is the caller's to put
 * there when all else is. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "base/platform.h"
#include "file/safetensors.h"
#include "model/model.h"

enum { SIDE = 64, TOKENS = 16, BLOCK = 1 << 16 };

/* What tensors are filled from, one after the other: a generator's state, and room. */
typedef struct filling {
    uint32_t seed;
    float wide[BLOCK];
    uint16_t narrow[BLOCK];
} filling;

static bool has(const char *name, const char *part) { return strstr(name, part) != NULL; }

/* A tensor's mean, and the half width of its numbers around it: matrices of unit gain (the ends of
 * residuals weaker), norms near 1, small biases. */
static void spread_of(const safetensors_entry *t, float *mean, float *width)
{
    static const char *const weaker[] = {"conv2", "to_out", "fc2", "ff.net.2"};
    float deviation = 0.1f, fan_in = 1;
    *mean = t->rank == 1 ? 1 : 0;
    if (t->rank > 1) {
        for (int i = 1; i < t->rank; i++) fan_in *= (float)t->dim[i];
        deviation = 1 / sqrtf(fan_in);
        for (size_t i = 0; i < sizeof weaker / sizeof *weaker; i++)
            if (has(t->name, weaker[i])) deviation = 0.3f / sqrtf(fan_in);
        if (has(t->name, "embeddings.")) deviation = 0.02f;
    } else if (has(t->name, "bias")) {
        *mean = 0;
        deviation = 0.02f;
    }
    *width = sqrtf(3) * deviation;
}

static bool put_random(void *context, const safetensors_entry *t, file_writer *w, error *e)
{
    filling *f = context;
    float mean, width;
    spread_of(t, &mean, &width);
    for (uint64_t left = t->bytes / sizeof *f->narrow; left;) {
        size_t n = left < BLOCK ? (size_t)left : BLOCK;
        for (size_t i = 0; i < n; i++) {
            f->seed = f->seed * 1664525u + 1013904223u;
            f->wide[i] = mean + width * ((float)(f->seed >> 8) / 8388608.0f - 1);
        }
        convert_from_float(f->narrow, DTYPE_F16, f->wide, n);
        if (!file_writer_put(w, f->narrow, n * sizeof *f->narrow, e)) return false;
        left -= n;
    }
    return true;
}

static bool write_weights(const graph *g, const char *path, error *e)
{
    size_t count = graph_weight_count(g);
    safetensors_entry *entry = calloc(count + 1, sizeof *entry);
    filling *f = malloc(sizeof *f);
    bool ok = (entry && f) || error_memory(e, "random weights", sizeof *f);
    for (size_t i = 0; ok && i < count; i++) {
        const tensor *t = graph_weight_at(g, i);
        entry[i] = (safetensors_entry){
            .name = t->name, .type = DTYPE_F16, .rank = t->rank, .bytes = sizeof *f->narrow};
        for (int k = 0; k < t->rank; k++) {
            entry[i].dim[k] = t->dim[k];
            entry[i].bytes *= (uint64_t)t->dim[k];
        }
    }
    if (ok) f->seed = (uint32_t)count;
    ok = ok && safetensors_write_with(path, entry, count, NULL, 0, NULL, put_random, f, e);
    if (ok) printf("%s: %zu tensors\n", path, count);
    free(entry);
    free(f);
    return ok;
}

static bool record_text_encoder(graph *g, const char *config, error *e)
{
    clip_config c;
    if (!clip_config_read(&c, config, e)) return false;
    clip_build(g, &c, graph_input(g, "ids", DTYPE_I32, 2, (int64_t[]){1, c.positions}), 0);
    return true;
}

static bool record_vae(graph *g, const char *config, error *e)
{
    vae_config c;
    if (!vae_config_read(&c, config, e)) return false;
    int64_t image[] = {1, SIDE, SIDE, c.in_channels}, latent[] = {1, 8, 8, c.latent_channels};
    vae_build_encoder(g, &c, graph_input(g, "image", DTYPE_F32, 4, image));
    vae_build_decoder(g, &c, graph_input(g, "latent", DTYPE_F32, 4, latent));
    return true;
}

static bool record_unet(graph *g, const char *config, error *e)
{
    unet_config c;
    if (!unet_config_read(&c, config, e)) return false;
    int64_t x[] = {1, SIDE, SIDE, c.in_channels}, text[] = {1, TOKENS, c.cross_dim};
    unet_build(g, &c, graph_input(g, "x", DTYPE_F32, 4, x),
               graph_input(g, "t", DTYPE_F32, 1, (int64_t[]){1}),
               graph_input(g, "text", DTYPE_F32, 3, text));
    return true;
}

static bool write_network(const char *folder, const char *part, const char *file,
                          bool (*record)(graph *, const char *, error *), error *e)
{
    char *config = string_format("%s/%s/config.json", folder, part);
    char *path = string_format("%s/%s/%s.safetensors", folder, part, file);
    graph *g = NULL;
    bool ok = (config && path) || error_memory(e, "a path", 0);
    ok = ok && graph_open(&g, DTYPE_F32, e) && record(g, config, e) && graph_recorded(g, e) &&
         write_weights(g, path, e);
    graph_close(&g);
    free(config);
    free(path);
    return ok;
}

/* The 256 signs of the byte-level alphabet, the same at a word's end, entries that are never used,
 * and the two special tokens, in all as many as the text encoder has rows; no merges. */
static void print_words(FILE *f, int count)
{
    int id = 0;
    fputc('{', f);
    for (int end = 0; end < 2; end++)
        for (int byte = 0, extra = 0; byte < 256; byte++) {
            bool itself = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) ||
                          byte >= 174;
            fprintf(f, "\"\\u%04x%s\": %d, ", (unsigned)(itself ? byte : 256 + extra++),
                    end ? "</w>" : "", id++);
        }
    for (; id < count - 2; id++) fprintf(f, "\"unused%d</w>\": %d, ", id, id);
    fprintf(f, "\"<|startoftext|>\": %d, \"<|endoftext|>\": %d}\n", id, id + 1);
}

static bool write_text(const char *folder, const char *name, const char *text, size_t size,
                       error *e)
{
    char *path = path_join(folder, name);
    bool ok = path && file_write(path, text, size, e);
    free(path);
    return ok;
}

static bool write_tokenizer(const char *folder, error *e)
{
    static const char merges[] = "#version: 0.2\n";
    char *at = path_join(folder, "tokenizer"),
         *config = path_join(folder, "text_encoder/config.json");
    char *text = NULL;
    size_t size = 0;
    clip_config c;
    bool ok = at && config && clip_config_read(&c, config, e) && path_make_dir(at, e);
    FILE *f = ok ? open_memstream(&text, &size) : NULL;
    if (f) print_words(f, c.vocab);
    ok = f && fclose(f) == 0 && write_text(at, "vocab.json", text, size, e) &&
         write_text(at, "merges.txt", merges, sizeof merges - 1, e);
    free(text);
    free(config);
    free(at);
    return ok;
}

int main(int argc, char **argv)
{
    error e = {0};
    if (argc != 2) {
        fprintf(stderr, "use: bench_model FOLDER (with configurations: tools/bench/sd15)\n");
        return 2;
    }
    if (write_network(argv[1], "unet", "diffusion_pytorch_model", record_unet, &e) &&
        write_network(argv[1], "vae", "diffusion_pytorch_model", record_vae, &e) &&
        write_network(argv[1], "text_encoder", "model", record_text_encoder, &e) &&
        write_tokenizer(argv[1], &e))
        return 0;
    fprintf(stderr, "bench_model: %s\n", e.text[0] ? e.text : "memory is out");
    return 1;
}
