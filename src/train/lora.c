/* SPDX-License-Identifier: Apache-2.0
 *
 * lora: see lora.h. */
#include "train/lora.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/arena.h"
#include "base/half.h"
#include "base/number.h"
#include "base/platform.h"
#include "file/json.h"
#include "file/safetensors.h"
#include "model/lora_names.h"
#include "model/nn.h"

#define DOWN ".lora_A.weight"
#define UP ".lora_B.weight"
#define WEIGHT ".weight"

lora_branch lora_branch_of(const train_settings *s)
{
    if (!s->lora_rank) return (lora_branch){0};
    double alpha = s->lora_alpha > 0 ? s->lora_alpha : s->lora_rank;
    return (lora_branch){s->lora_rank, (float)(alpha / s->lora_rank)};
}

/* ---- which there are ---- */

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);
    return n > m && strcmp(name + n - m, end) == 0;
}

bool lora_is_part(const char *name) { return ends_with(name, DOWN) || ends_with(name, UP); }

/* The layer of a weight that has a branch beside it; false: it has none. */
static bool adapted_layer(const weight *w, char layer[NAME_LENGTH])
{
    size_t n = strlen(w->name), end = strlen(WEIGHT);
    if (w->rank != 2 || !ends_with(w->name, WEIGHT) || n >= NAME_LENGTH) return false;
    snprintf(layer, NAME_LENGTH, "%.*s", (int)(n - end), w->name);
    return nn_is_adapted(layer);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const weight *)a)->name, ((const weight *)b)->name);
}

static void memory_free(void *storage)
{
    arena_free(storage);
    free(storage);
}

/* An empty set with memory of its own. */
static bool set_begin(weight_set *out, size_t most, error *e)
{
    *out = (weight_set){.item = calloc(most + 1, sizeof *out->item),
                        .storage = calloc(1, sizeof(arena)),
                        .storage_free = memory_free};
    return (out->item && out->storage) ||
           error_memory(e, "a LoRA's matrices", most * sizeof *out->item);
}

static bool add_matrix(weight_set *set, const char *layer, const char *end, int64_t rows,
                       int64_t columns, error *e)
{
    const char *name = arena_format(set->storage, "%s%s", layer, end);
    if (!name) return error_memory(e, "a LoRA's matrices", NAME_LENGTH);
    set->item[set->count++] = (weight){name, DTYPE_F32, 2, {rows, columns}, NULL};
    return true;
}

static bool set_open(weight_set *out, const weight_set *base, int rank, error *e)
{
    char layer[NAME_LENGTH];
    bool ok = set_begin(out, 2 * base->count, e);
    for (size_t i = 0; ok && i < base->count; i++) {
        const weight *w = &base->item[i];
        if (!adapted_layer(w, layer)) continue;
        int64_t most = w->dim[0] < w->dim[1] ? w->dim[0] : w->dim[1];
        ok = rank <= most ||
             error_set(e, ERROR_USAGE,
                       "--lora_rank %d is more than %s has, which is %lld x %lld: "
                       "use at most %lld, or train without --lora_rank",
                       rank, layer, (long long)w->dim[0], (long long)w->dim[1], (long long)most);
        ok = ok && add_matrix(out, layer, DOWN, rank, w->dim[1], e) &&
             add_matrix(out, layer, UP, w->dim[0], rank, e);
    }
    if (ok) qsort(out->item, out->count, sizeof *out->item, by_name);
    return ok;
}

bool lora_open(lora_sets *l, const model *m, const train_settings *s, error *e)
{
    *l = (lora_sets){0};
    if (!s->lora_rank) return true;
    if (set_open(&l->unet, &m->unet_weights, s->lora_rank, e) &&
        (!s->train_text_encoder || set_open(&l->clip, &m->clip_weights, s->lora_rank, e)))
        return true;
    lora_close(l);
    return false;
}

void lora_close(lora_sets *l)
{
    weight_set_close(&l->unet);
    weight_set_close(&l->clip);
    *l = (lora_sets){0};
}

/* ---- what they begin with ---- */

typedef struct placed {
    uint64_t place;
    weight *down, *up;
} placed;

static int by_place(const void *a, const void *b)
{
    const placed *l = a, *r = b;
    return (l->place > r->place) - (l->place < r->place);
}

/* Layers in PyTorch's order of modules, which is the one that cloneofsimo counted them in. */
static size_t list_layers(weight_set *set, bool is_clip, placed *list)
{
    size_t count = 0;
    for (size_t i = 0; i < set->count; i++) {
        weight *w = &set->item[i];
        char name[NAME_LENGTH];
        if (!ends_with(w->name, DOWN)) continue;
        int layer = (int)(strlen(w->name) - strlen(DOWN));
        snprintf(name, sizeof name, "%.*s" UP, layer, w->name);
        weight *up = weight_find(set, name);
        snprintf(name, sizeof name, "%.*s" WEIGHT, layer, w->name);
        list[count++] = (placed){lora_place(is_clip ? NETWORK_CLIP : NETWORK_UNET, name, true), w,
                                 up};
    }
    qsort(list, count, sizeof *list, by_place);
    return count;
}

/* PEFT makes both as torch's Linear, whose uniform numbers are drawn and given up, and fills the
 * first with normal ones of deviation 1 / rank. */
static bool draw_layer(const placed *p, arena *memory, rng *random, error *e)
{
    size_t down = (size_t)weight_elements(p->down), up = (size_t)weight_elements(p->up);
    float *a = arena_alloc(memory, down * sizeof *a), *b = arena_alloc(memory, up * sizeof *b);
    if (!a || !b) return error_memory(e, "a LoRA's matrices", (down + up) * sizeof *a);
    for (size_t i = 0; i < down + up; i++) rng_u32(random);
    rng_randn(random, a, down);
    float deviation = (float)(1.0 / (double)p->down->dim[0]);
    for (size_t i = 0; i < down; i++) a[i] *= deviation;
    p->down->data = a;
    p->up->data = b;
    return true;
}

static bool draw_set(weight_set *set, bool is_clip, rng *random, error *e)
{
    placed *list = calloc(set->count + 1, sizeof *list);
    if (!list) return error_memory(e, "a LoRA's matrices", set->count * sizeof *list);
    bool ok = true;
    size_t count = list_layers(set, is_clip, list);
    for (size_t i = 0; ok && i < count; i++) ok = draw_layer(&list[i], set->storage, random, e);
    free(list);
    return ok;
}

bool lora_draw(lora_sets *l, rng *random, error *e)
{
    return draw_set(&l->unet, false, random, e) && draw_set(&l->clip, true, random, e);
}

/* ---- files ---- */

char *lora_spell(lora_spelling spelling, bool is_clip, const char *name)
{
    bool down = ends_with(name, DOWN);
    int layer = (int)(strlen(name) - strlen(down ? DOWN : UP));
    const char *part = down ? "down" : "up";
    if (spelling == LORA_DIFFUSERS)
        return string_format("%s.%.*s.%s.%s.weight", is_clip ? "text_encoder" : "unet", layer, name,
                             is_clip ? "lora_linear_layer" : "lora", part);
    char *text = string_format("lora_%s_%.*s", is_clip ? "te" : "unet", layer, name);
    for (char *c = text; c && *c; c++)
        if (*c == '.') *c = '_';
    char *whole = text ? string_format("%s.lora_%s.weight", text, part) : NULL;
    free(text);
    return whole;
}

/* The entries of a file, with their names. */
typedef struct entries {
    safetensors_entry *item;
    size_t count;
} entries;

static void entries_free(entries *l)
{
    for (size_t i = 0; i < l->count; i++) free((void *)(uintptr_t)l->item[i].name);
    free(l->item);
}

static bool add_entry(entries *l, char *name, const weight *w, error *e)
{
    safetensors_entry *to = &l->item[l->count];
    if (!name) return error_memory(e, "a LoRA's names", NAME_LENGTH);
    l->count++;
    *to = (safetensors_entry){.name = name, .type = w->type, .rank = w->rank, .data = w->data};
    to->bytes = (uint64_t)weight_elements(w) * dtype_size(w->type);
    for (int d = 0; d < w->rank; d++) to->dim[d] = w->dim[d];
    return true;
}

/* "lora_unet_..._to_q.alpha" of "lora_unet_..._to_q.lora_down.weight" */
static char *alpha_name(const char *name)
{
    return string_format("%.*s.alpha", (int)strcspn(name, "."), name);
}

static bool add_set(entries *l, lora_spelling spelling, bool is_clip, const weight_set *set,
                    const float *alpha, error *e)
{
    const weight scalar = {.type = DTYPE_F32, .data = alpha};
    bool ok = true;
    for (size_t i = 0; ok && i < set->count; i++) {
        const weight *w = &set->item[i];
        char *name = lora_spell(spelling, is_clip, w->name);
        ok = add_entry(l, name, w, e);
        if (ok && spelling == LORA_KOHYA && ends_with(w->name, DOWN))
            ok = add_entry(l, alpha_name(name), &scalar, e);
    }
    return ok;
}

static void describe_network(json_t **j, const char *prefix, const train_settings *s, bool is_clip)
{
    static const char *const unet[] = {"to_k", "to_q", "to_v", "to_out.0"};
    static const char *const clip[] = {"q_proj", "k_proj", "v_proj", "out_proj"};
    char key[64];
    json_t *targets = json_array();
    for (int i = 0; i < 4; i++) json_add(&targets, json_string((is_clip ? clip : unet)[i]));
    json_t *of[] = {json_string("LORA"),
                    json_integer(s->lora_rank),
                    json_real(s->lora_alpha),
                    json_real(0),
                    json_string("gaussian"),
                    json_string("none"),
                    json_false(),
                    json_false(),
                    targets};
    static const char *const keys[] = {"peft_type",         "r",    "lora_alpha", "lora_dropout",
                                       "init_lora_weights", "bias", "use_rslora", "use_dora",
                                       "target_modules"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        snprintf(key, sizeof key, "%s.%s", prefix, keys[i]);
        json_put(j, key, of[i]);
    }
}

/* PEFT's configuration, as diffusers writes and reads it: what its default does not say. */
static char *adapter_metadata(const train_settings *s)
{
    json_t *j = json_object();
    describe_network(&j, "unet", s, false);
    if (s->train_text_encoder) describe_network(&j, "text_encoder", s, true);
    char *text = json_text(j, JSON_SORT_KEYS | JSON_INDENT(2));
    json_decref(j);
    return text;
}

bool lora_write(const char *path, lora_spelling spelling, const weight_set *unet,
                const weight_set *clip, const train_settings *s, char *hash, error *e)
{
    float alpha = (float)s->lora_alpha;
    entries l = {.item = calloc(2 * (unet->count + clip->count) + 1, sizeof *l.item)};
    char rank[32], *peft = adapter_metadata(s);
    snprintf(rank, sizeof rank, "%d", s->lora_rank);
    number_text alpha_text = number_exact(s->lora_alpha);
    const safetensors_pair diffusers[] = {{"lora_adapter_metadata", peft}},
                           kohya[] = {{"ss_network_module", "networks.lora"},
                                      {"ss_network_dim", rank},
                                      {"ss_network_alpha", alpha_text.text},
                                      {"ss_base_model_version", "sd_v1"}};
    bool ok = (l.item && peft) || error_memory(e, path, unet->count * sizeof *l.item);
    ok = ok && add_set(&l, spelling, false, unet, &alpha, e) &&
         add_set(&l, spelling, true, clip, &alpha, e);
    bool is_kohya = spelling == LORA_KOHYA;
    ok = ok && safetensors_write_hashed(path, l.item, l.count, is_kohya ? kohya : diffusers,
                                        is_kohya ? 4 : 1, hash, e);
    free(peft);
    entries_free(&l);
    return ok;
}

/* ---- the model that they make ---- */

/* w as float32 with scale * (up down) added: in the order of sums in which model/lora.c merges the
 * file, so that --lora makes the same bytes. */
static const float *sum_of(const weight *w, const weight *down, const weight *up, float scale,
                           arena *memory)
{
    int64_t rows = w->dim[0], columns = w->dim[1], rank = down->dim[0];
    size_t n = (size_t)(rows * columns), few = (size_t)(rank * (rows + columns) + columns);
    float *out = arena_alloc(memory, n * sizeof *out), *a = malloc(few * sizeof *a);
    if (out && a) {
        float *b = a + rank * columns, *row = b + rank * rows;
        convert_to_float(out, w->data, w->type, n);
        convert_to_float(a, down->data, down->type, (size_t)(rank * columns));
        convert_to_float(b, up->data, up->type, (size_t)(rank * rows));
        for (int64_t i = 0; i < rows; i++) {
            for (int64_t j = 0; j < columns; j++) row[j] = 0;
            for (int64_t k = 0; k < rank; k++) {
                float factor = b[i * rank + k];
                for (int64_t j = 0; j < columns; j++) row[j] += factor * a[k * columns + j];
            }
            for (int64_t j = 0; j < columns; j++) out[i * columns + j] += scale * row[j];
        }
    }
    free(a);
    return a ? out : NULL;
}

bool lora_apply(weight_set *out, const weight_set *base, const weight_set *lora,
                const train_settings *s, error *e)
{
    float scale = lora_branch_of(s).scale;
    char layer[NAME_LENGTH], name[2][NAME_LENGTH + 16];
    if (!set_begin(out, base->count, e)) return false;
    memcpy(out->item, base->item, base->count * sizeof *out->item);
    out->count = base->count;
    for (size_t i = 0; i < base->count; i++) {
        weight *w = &out->item[i];
        if (!adapted_layer(w, layer)) continue;
        snprintf(name[0], sizeof name[0], "%s" DOWN, layer);
        snprintf(name[1], sizeof name[1], "%s" UP, layer);
        const weight *down = weight_find(lora, name[0]), *up = weight_find(lora, name[1]);
        w->data = sum_of(w, down, up, scale, out->storage);
        w->type = DTYPE_F32;
        if (!w->data) return error_memory(e, "a model with its LoRA", sizeof *w);
    }
    return true;
}

double lora_applied_bytes(const lora_sets *l)
{
    const weight_set *sets[] = {&l->unet, &l->clip};
    double sum = 0;
    for (int k = 0; k < 2; k++) /* sorted: what goes down, and behind it what goes up again */
        for (size_t i = 0; i + 1 < sets[k]->count; i += 2)
            sum += (double)(sets[k]->item[i].dim[1] * sets[k]->item[i + 1].dim[0]) * sizeof(float);
    return sum;
}
