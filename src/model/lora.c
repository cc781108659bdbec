/* SPDX-License-Identifier: Apache-2.0
 *
 * lora: see lora.h. Formulas are those of kohya's networks, of LyCORIS (LoCon, LoHa, LoKr) and of
 * PEFT: a weight [out, in, kh, kw] becomes weight + strength * alpha / rank * change, or what
 * dora.h makes of that. All sums are float32, each number's in one order. */
#include "model/lora.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "base/number.h"
#include "base/platform.h"
#include "base/sha256.h"
#include "file/json.h"
#include "file/torch.h"
#include "model/detect.h"
#include "model/dora.h"
#include "model/lora_list.h"
#include "model/lora_names.h"
#include "model/overlay.h"

#define STRENGTH_MAX 1000.0f /* of a LoRA: what is larger was mistyped */
#define WEIGHT_MAX 65504.0f  /* what float16, in which models are given away, can hold */

#define FILE_NAME "pytorch_lora_weights.safetensors" /* of diffusers */

enum { NETWORKS = 2, SHOWN = 3, HASH_DIGITS = 12, RANK_MAX = 4096 };

/* ---- what can be changed ---- */

typedef struct target {
    const char *key;
    int which; /* 0: UNet, 1: text encoder */
    size_t index;
} target;

/* What a file has for one weight. */
typedef struct change {
    const safetensors_entry *part[LORA_PARTS];
    const char *name; /* of one of them; NULL: there is none */
} change;

typedef struct merging {
    const model *m;
    const weight_set *set[NETWORKS];
    float **copy[NETWORKS]; /* [set->count], in memory; NULL: not changed so far */
    change *change[NETWORKS];
    target *target;
    size_t targets;
    arena memory; /* of copies: the model's, when all is well */
    arena passing;
    thread_pool *pool;
    /* of the file in hand */
    const lora_choice *lora;
    safetensors file;
    json_t *settings; /* PEFT's, of diffusers; or NULL */
    size_t matched, unmatched;
    char first[400]; /* the names of some that fit nothing */
    size_t copied;   /* bytes */
    error *e;
} merging;

static int compare_targets(const void *a, const void *b)
{
    const target *l = a, *r = b;
    int order = strcmp(l->key, r->key);
    return order ? order : l->which - r->which;
}

static bool add_target(merging *g, int which, size_t index, const char *weight_name)
{
    char key[NAME_LENGTH];
    if (!lora_key_of(weight_name, key)) return true;
    const char *kept = arena_strdup(&g->passing, key);
    if (!kept) return error_memory(g->e, "the names of modules", NAME_LENGTH);
    g->target[g->targets++] = (target){kept, which, index};
    return true;
}

/* Each weight under diffusers' name, the UNet's under the original ones too, the text encoder's as
 * transformers 5 has them. */
static bool list_targets(merging *g)
{
    const naming original = {
        .network = NETWORK_UNET, .ldm = true, .prefix = "", .unet = &g->m->unet};
    size_t most = 2 * (g->set[0]->count + g->set[1]->count) + 1;
    char name[NAME_LENGTH];
    g->target = arena_alloc(&g->passing, most * sizeof *g->target);
    if (!g->target) return error_memory(g->e, "the names of modules", most * sizeof *g->target);
    for (int k = 0; k < NETWORKS; k++)
        for (size_t i = 0; i < g->set[k]->count; i++) {
            const weight *w = &g->set[k]->item[i];
            if (w->rank < 2) continue;
            if (!add_target(g, k, i, w->name)) return false;
            if (k && !strncmp(w->name, "text_model.", 11) && !add_target(g, k, i, w->name + 11))
                return false;
            if (!k && naming_spell(&original, w->name, 0, name) && strcmp(name, w->name) != 0 &&
                !add_target(g, k, i, name))
                return false;
        }
    qsort(g->target, g->targets, sizeof *g->target, compare_targets);
    return true;
}

static const target *find_target(const merging *g, const lora_name *n)
{
    target key = {.key = n->key, .which = n->network == NETWORK_UNET ? 0 : 1};
    return bsearch(&key, g->target, g->targets, sizeof key, compare_targets);
}

/* ---- cloneofsimo's numbers ---- */

typedef struct counted {
    uint64_t place;
    size_t index;
} counted;

static int compare_places(const void *a, const void *b)
{
    const counted *l = a, *r = b;
    return (l->place > r->place) - (l->place < r->place);
}

typedef struct count_list {
    counted *item;
    size_t count;
} count_list;

static bool list_counted(merging *g, int which, bool late, count_list *out)
{
    const weight_set *set = g->set[which];
    out->count = 0;
    out->item = arena_alloc(&g->passing, (set->count + 1) * sizeof *out->item);
    if (!out->item) return error_memory(g->e, "the numbers of modules", set->count);
    for (size_t i = 0; i < set->count; i++) {
        uint64_t place = lora_place(which ? NETWORK_CLIP : NETWORK_UNET, set->item[i].name, late);
        if (place) out->item[out->count++] = (counted){place, i};
    }
    qsort(out->item, out->count, sizeof *out->item, compare_places);
    return true;
}

/* Whether every module counted so can be changed by what the file has under its number. */
static bool count_fits(const merging *g, int which, const count_list *list)
{
    char name[64];
    for (size_t i = 0; i < list->count; i++) {
        const weight *w = &g->set[which]->item[list->item[i].index];
        snprintf(name, sizeof name, "%s:%zu:up", which ? "text_encoder" : "unet", i);
        const safetensors_entry *up = safetensors_find(&g->file, name);
        if (up && (up->rank < 2 || up->dim[0] != w->dim[0])) return false;
    }
    return true;
}

/* ---- the file's tensors ---- */

static bool fail_file(const merging *g, error_code code, const char *what)
{
    return error_set(g->e, code, "%s: %s", g->lora->path, what);
}

static void note_unmatched(merging *g, const char *name)
{
    size_t n = strlen(g->first);
    if (g->unmatched++ < SHOWN)
        snprintf(g->first + n, sizeof g->first - n, "%s%.110s", n ? ", " : "", name);
}

static bool put_part(merging *g, int which, size_t index, lora_part part,
                     const safetensors_entry *t)
{
    change *c = &g->change[which][index];
    if (c->part[part])
        return error_set(g->e, ERROR_MODEL, "%s: %.150s and %.150s change the same", g->lora->path,
                         c->part[part]->name, t->name);
    c->part[part] = t;
    c->name = t->name;
    g->matched++;
    return true;
}

static bool sort_part(merging *g, const safetensors_entry *t, const count_list *counted_in)
{
    lora_name n;
    if (!lora_name_read(&n, t->name)) {
        note_unmatched(g, t->name);
        return true;
    }
    int which = n.network == NETWORK_UNET ? 0 : 1;
    if (n.index >= 0) {
        if ((size_t)n.index < counted_in[which].count)
            return put_part(g, which, counted_in[which].item[n.index].index, n.part, t);
        note_unmatched(g, t->name);
        return true;
    }
    const target *found = find_target(g, &n);
    if (found) return put_part(g, which, found->index, n.part, t);
    note_unmatched(g, t->name);
    return true;
}

static bool refuse_xl(const merging *g)
{
    for (size_t i = 0; i < g->file.count; i++)
        if (!strncmp(g->file.entry[i].name, "lora_te2_", 9) ||
            strstr(g->file.entry[i].name, "text_encoder_2"))
            return fail_file(g, ERROR_MODEL,
                             "is a LoRA for Stable Diffusion XL; it fits no Stable Diffusion 1");
    return true;
}

static bool sort_parts(merging *g)
{
    count_list list[NETWORKS], late;
    for (int k = 0; k < NETWORKS; k++) {
        memset(g->change[k], 0, g->set[k]->count * sizeof *g->change[k]);
        if (!list_counted(g, k, false, &list[k])) return false;
    }
    if (!list_counted(g, 0, true, &late)) return false;
    if (!count_fits(g, 0, &list[0])) list[0] = late;
    g->matched = g->unmatched = 0;
    g->first[0] = 0;
    for (size_t i = 0; i < g->file.count; i++)
        if (!sort_part(g, &g->file.entry[i], list)) return false;
    if (!g->matched && !detect_for_lora(g->lora->path, g->e)) return false;
    return g->matched ||
           error_set(g->e, ERROR_MODEL,
                     "%s: none of its %zu tensors changes anything in this model (%s%s)",
                     g->lora->path, g->file.count, g->first, g->unmatched > SHOWN ? ", ..." : "");
}

/* ---- matrices ---- */

typedef struct matrix {
    float *data;
    int64_t rows, columns, depth; /* depth: of a kernel's places, last; 1 else */
} matrix;

static bool no_room(const merging *g, int64_t n)
{
    return error_memory(g->e, g->lora->path, (unsigned long long)n * sizeof(float));
}

static bool matrix_make(const merging *g, matrix *out, int64_t rows, int64_t columns, int64_t depth)
{
    *out = (matrix){NULL, rows, columns, depth};
    out->data = calloc((size_t)(rows * columns * depth) + 1, sizeof(float));
    return out->data || no_room(g, rows * columns * depth);
}

static void matrix_free(matrix *m) { free(m->data); }

/* The numbers of a part as float32. */
static bool matrix_read(const merging *g, const safetensors_entry *t, matrix *out)
{
    int64_t depth = 1;
    *out = (matrix){0};
    if (t->type != DTYPE_F32 && t->type != DTYPE_F16 && t->type != DTYPE_BF16 &&
        t->type != DTYPE_F64)
        return error_set(g->e, ERROR_MODEL, "%s: %.150s is %s; F32, F16, BF16 and F64 are read",
                         g->lora->path, t->name, dtype_name(t->type));
    if (!t->bytes)
        return error_set(g->e, ERROR_MODEL, "%s: %.150s is empty", g->lora->path, t->name);
    for (int d = 2; d < t->rank; d++) depth *= t->dim[d];
    if (!matrix_make(g, out, t->rank > 0 ? t->dim[0] : 1, t->rank > 1 ? t->dim[1] : 1, depth))
        return false;
    void *aligned = malloc((size_t)t->bytes + 1);
    if (!aligned) {
        matrix_free(out);
        *out = (matrix){0};
        return no_room(g, (int64_t)t->bytes);
    }
    memcpy(aligned, t->data, (size_t)t->bytes);
    convert_to_float(out->data, aligned, t->type, (size_t)t->bytes / dtype_size(t->type));
    free(aligned);
    return true;
}

typedef struct multiplying {
    float *out;
    const float *a, *b;
    int64_t inner, columns;
} multiplying;

static void multiply_row(void *context, int row, int worker)
{
    const multiplying *p = context;
    float *out = p->out + row * p->columns;
    (void)worker;
    for (int64_t m = 0; m < p->inner; m++) {
        float a = p->a[row * p->inner + m];
        const float *b = p->b + m * p->columns;
        for (int64_t i = 0; i < p->columns; i++) out[i] += a * b[i];
    }
}

/* a [rows, inner] by b [inner, columns, depth]; the kernels of a are of one place. */
static bool multiply(const merging *g, matrix *out, const matrix *a, const matrix *b)
{
    if (!matrix_make(g, out, a->rows, b->columns, b->depth)) return false;
    multiplying p = {out->data, a->data, b->data, a->columns, b->columns * b->depth};
    thread_pool_run(g->pool, (int)a->rows, multiply_row, &p);
    return true;
}

static bool transpose(const merging *g, matrix *out, const matrix *a)
{
    if (!matrix_make(g, out, a->columns, a->rows, 1)) return false;
    for (int64_t i = 0; i < a->rows; i++)
        for (int64_t k = 0; k < a->columns; k++)
            out->data[k * a->rows + i] = a->data[i * a->columns + k];
    return true;
}

/* Tucker's form: a [p, i], core [i, j, k], b [j, r] -> [p, r, k] */
static bool tucker(const merging *g, matrix *out, const matrix *a, const matrix *core,
                   const matrix *b)
{
    matrix half = {0};
    *out = (matrix){0};
    bool ok = multiply(g, &half, a, core) && matrix_make(g, out, a->rows, b->columns, core->depth);
    for (int64_t p = 0; ok && p < half.rows; p++)
        for (int64_t j = 0; j < half.columns; j++)
            for (int64_t r = 0; r < b->columns; r++)
                for (int64_t k = 0; k < core->depth; k++)
                    out->data[(p * b->columns + r) * core->depth + k] +=
                        half.data[(p * half.columns + j) * core->depth + k] *
                        b->data[j * b->columns + r];
    matrix_free(&half);
    return ok;
}

/* ---- changes ---- */

static bool misfit(const merging *g, const change *c, const weight *w)
{
    char is[96] = "", *at = is;
    for (int i = 0; i < w->rank && at < is + 80; i++)
        at += snprintf(at, (size_t)(is + 96 - at), "%s%lld", i ? "x" : "", (long long)w->dim[i]);
    return error_set(g->e, ERROR_MODEL,
                     "%s: is for a model of other sizes: %.150s does not fit %s, which is %s here",
                     g->lora->path, c->name, w->name, is);
}

/* Whether a part has this shape, but for places of kernels that are one. */
static bool is_shaped(const matrix *m, int64_t rows, int64_t columns, int64_t depth)
{
    return m->rows == rows && m->columns == columns && m->depth == depth;
}

/* down [r, in, kh, kw], up [out, r]; with mid [r, r, kh, kw] down is [r, in]. */
static bool change_of_lora(const merging *g, const change *c, const weight *w, const int64_t dim[3],
                           matrix *out, int64_t *rank)
{
    matrix up = {0}, down = {0}, mid = {0};
    const safetensors_entry *core = c->part[LORA_MID];
    bool ok = matrix_read(g, c->part[LORA_UP], &up) && matrix_read(g, c->part[LORA_DOWN], &down) &&
              (!core || matrix_read(g, core, &mid));
    *rank = down.rows;
    if (ok && up.columns != down.rows)
        ok = error_set(g->e, ERROR_MODEL,
                       "%s: is damaged: %.150s is of rank %lld and %.150s of rank %lld",
                       g->lora->path, c->part[LORA_DOWN]->name, (long long)down.rows,
                       c->part[LORA_UP]->name, (long long)up.columns);
    if (ok && (down.rows > RANK_MAX || !is_shaped(&up, dim[0], down.rows, 1) ||
               !is_shaped(&down, down.rows, dim[1], core ? 1 : dim[2]) ||
               (core && !is_shaped(&mid, down.rows, down.rows, dim[2]))))
        ok = misfit(g, c, w);
    ok = ok && (core ? tucker(g, out, &up, &mid, &down) : multiply(g, out, &up, &down));
    matrix_free(&up);
    matrix_free(&down);
    matrix_free(&mid);
    return ok;
}

static int64_t t_depth(const safetensors_entry *part, const matrix *t)
{
    return part ? t->depth : 1;
}

/* a [out, r] by b [r, in * k]; with a core t [r, r, kh, kw] a is [r, out] and b [r, in]. */
static bool factor(const merging *g, const change *c, const weight *w,
                   const safetensors_entry *a_part, const safetensors_entry *b_part,
                   const safetensors_entry *t_part, matrix *out, int64_t *rank)
{
    matrix a = {0}, b = {0}, t = {0}, turned = {0};
    *out = (matrix){0};
    bool ok = matrix_read(g, a_part, &a) && matrix_read(g, b_part, &b) &&
              (!t_part || matrix_read(g, t_part, &t));
    *rank = b.rows;
    bool fits = ok && a.depth == 1 && b.rows <= RANK_MAX &&
                (t_part ? t.rows == a.rows && t.columns == b.rows && b.depth == 1
                        : a.columns == b.rows);
    int64_t rows = t_part ? a.columns : a.rows;
    /* no larger than what it is a factor of */
    fits = fits && rows <= weight_elements(w) / (b.columns * b.depth * t_depth(t_part, &t));
    if (ok && !fits) ok = misfit(g, c, w);
    ok = ok && (t_part ? transpose(g, &turned, &a) && tucker(g, out, &turned, &t, &b)
                       : multiply(g, out, &a, &b));
    matrix_free(&a);
    matrix_free(&b);
    matrix_free(&t);
    matrix_free(&turned);
    return ok;
}

static bool change_of_loha(const merging *g, const change *c, const weight *w, const int64_t dim[3],
                           matrix *out, int64_t *rank)
{
    const safetensors_entry *const *p = c->part;
    int64_t n = dim[0] * dim[1] * dim[2], second;
    matrix other = {0};
    bool ok = factor(g, c, w, p[LOHA_1A], p[LOHA_1B], p[LOHA_T1], out, rank) &&
              factor(g, c, w, p[LOHA_2A], p[LOHA_2B], p[LOHA_T2], &other, &second);
    if (ok && (out->rows * out->columns * out->depth != n ||
               other.rows * other.columns * other.depth != n || out->rows != dim[0] ||
               other.rows != dim[0]))
        ok = misfit(g, c, w);
    for (int64_t i = 0; ok && i < n; i++) out->data[i] *= other.data[i];
    matrix_free(&other);
    return ok;
}

/* The one factor of a LoKr, which may be a product itself. */
static bool read_factor(const merging *g, const change *c, const weight *w,
                        const safetensors_entry *whole, const safetensors_entry *a,
                        const safetensors_entry *b, const safetensors_entry *t, matrix *out,
                        int64_t *rank)
{
    if (whole) return matrix_read(g, whole, out);
    if (a && b) return factor(g, c, w, a, b, t, out, rank);
    return fail_file(g, ERROR_MODEL, "a LoKr lacks one of its factors");
}

/* Kronecker's product of [a, b] and [c, d, kh, kw]. */
static bool change_of_lokr(const merging *g, const change *c, const weight *w, const int64_t dim[3],
                           matrix *out, int64_t *rank)
{
    const safetensors_entry *const *p = c->part;
    matrix one = {0}, two = {0};
    int64_t first = 0, second = 0;
    bool ok = read_factor(g, c, w, p[LOKR_1], p[LOKR_1A], p[LOKR_1B], NULL, &one, &first) &&
              read_factor(g, c, w, p[LOKR_2], p[LOKR_2A], p[LOKR_2B], p[LOKR_T2], &two, &second);
    *rank = second ? second : first;
    /* a product of factors has its kernel's places among its columns */
    if (ok && two.depth == 1 && dim[2] > 1 && two.columns % dim[2] == 0) {
        two.columns /= dim[2];
        two.depth = dim[2];
    }
    if (ok && (one.depth != 1 || one.rows * two.rows != dim[0] ||
               one.columns * two.columns != dim[1] || two.depth != dim[2]))
        ok = misfit(g, c, w);
    ok = ok && matrix_make(g, out, dim[0], dim[1], dim[2]);
    for (int64_t i = 0; ok && i < dim[0]; i++)
        for (int64_t k = 0; k < dim[1]; k++) {
            float factor1 = one.data[i / two.rows * one.columns + k / two.columns];
            const float *from = two.data +
                                (i % two.rows * two.columns + k % two.columns) * two.depth;
            for (int64_t x = 0; x < dim[2]; x++)
                out->data[(i * dim[1] + k) * dim[2] + x] = factor1 * from[x];
        }
    matrix_free(&one);
    matrix_free(&two);
    return ok;
}

/* ---- scales ---- */

/* A number that a PEFT setting gives for a module: by pattern, or for all. */
static double peft_number(const merging *g, int which, const char *name, const char *pattern,
                          const char *module, double fallback)
{
    char key[64];
    snprintf(key, sizeof key, "%s.%s", which ? "text_encoder" : "unet", pattern);
    json_t *patterns = json_object_get(g->settings, key),
           *value = json_object_get(patterns, module);
    if (!value && !strncmp(module, "text_model.", 11))
        value = json_object_get(patterns, module + 11);
    snprintf(key, sizeof key, "%s.%s", which ? "text_encoder" : "unet", name);
    if (!json_is_number(value)) value = json_object_get(g->settings, key);
    return json_is_number(value) ? json_number_value(value) : fallback;
}

/* The one number of an alpha, NaN where it is not one; some trainers write a whole number. */
static bool read_alpha(const merging *g, const safetensors_entry *t, double *out)
{
    matrix m;
    if (t->type == DTYPE_I64) {
        int64_t whole = 0;
        if (t->bytes == sizeof whole) memcpy(&whole, t->data, sizeof whole);
        *out = t->bytes == sizeof whole ? (double)whole : NAN;
        return true;
    }
    if (!matrix_read(g, t, &m)) return false;
    *out = m.rows * m.columns * m.depth == 1 ? (double)m.data[0] : NAN;
    matrix_free(&m);
    return true;
}

/* alpha / rank; without an alpha it is the rank. */
static bool scale_of(const merging *g, const change *c, int which, const weight *w, int64_t rank,
                     double *out)
{
    double alpha = (double)rank, divisor = (double)rank;
    char module[NAME_LENGTH], key[64];
    *out = 1;
    if (!rank) return true;
    if (c->part[LORA_ALPHA]) {
        if (!read_alpha(g, c->part[LORA_ALPHA], &alpha)) return false;
    } else if (g->settings) {
        snprintf(module, sizeof module, "%.*s", (int)(strlen(w->name) - strlen(".weight")),
                 w->name);
        alpha = peft_number(g, which, "lora_alpha", "alpha_pattern", module, alpha);
        snprintf(key, sizeof key, "%s.use_rslora", which ? "text_encoder" : "unet");
        if (json_is_true(json_object_get(g->settings, key))) divisor = sqrt(divisor);
    }
    if (!isfinite(alpha))
        return error_set(g->e, ERROR_MODEL, "%s: the alpha of %.150s is no number", g->lora->path,
                         c->name);
    *out = alpha / divisor;
    return true;
}

/* ---- merging ---- */

static float *copy_of(merging *g, int which, size_t index)
{
    float **copy = &g->copy[which][index];
    const weight *w = &g->set[which]->item[index];
    size_t n = (size_t)weight_elements(w);
    if (*copy) return *copy;
    *copy = arena_alloc(&g->memory, n * sizeof(float));
    if (*copy)
        convert_to_float(*copy, w->data, w->type, n);
    else
        no_room(g, (int64_t)n);
    if (*copy) g->copied += n * sizeof(float);
    return *copy;
}

/* Copies are made one by one: whether there will be room for the last is asked before the first. */
static bool check_room(const merging *g)
{
    double need = 0, have = (double)memory_available();
    for (int k = 0; k < NETWORKS; k++)
        for (size_t i = 0; i < g->set[k]->count; i++)
            if (g->change[k][i].name && !g->copy[k][i])
                need += (double)weight_elements(&g->set[k]->item[i]) * sizeof(float);
    return need <= have ||
           error_set(g->e, ERROR_MEMORY,
                     "%s: float32 copies of the weights that it changes need %s of memory, and %s "
                     "can be had; close other programs, or merge it into a model of half the size: "
                     "likeness convert IN OUT --lora FILE --dtype f16",
                     g->lora->path, number_bytes(need).text, number_bytes(have).text);
}

static bool find_change(const merging *g, const change *c, const weight *w, const int64_t dim[3],
                        matrix *out, int64_t *rank)
{
    const safetensors_entry *const *p = c->part;
    *out = (matrix){0};
    if (p[LORA_DOWN] && p[LORA_UP]) return change_of_lora(g, c, w, dim, out, rank);
    if (p[LOHA_1A] && p[LOHA_1B] && p[LOHA_2A] && p[LOHA_2B])
        return change_of_loha(g, c, w, dim, out, rank);
    if (p[LOKR_1] || p[LOKR_1A] || p[LOKR_2] || p[LOKR_2A])
        return change_of_lokr(g, c, w, dim, out, rank);
    return error_set(g->e, ERROR_MODEL,
                     "%s: beside %.150s the other parts of its change are missing", g->lora->path,
                     c->name);
}

/* A DoRA's lengths are of outputs ([out], PEFT's kernels [1,out,1,1]), or of inputs ([1,in]), which
 * only dora_scale can be. */
static bool merge_dora(merging *g, const change *c, const weight *w, const int64_t dim[3],
                       const matrix *by, double scale, float *copy)
{
    const safetensors_entry *t = c->part[DORA_OUTPUT] ? c->part[DORA_OUTPUT] : c->part[DORA_SCALE];
    matrix m = {0};
    if (!matrix_read(g, t, &m)) return false;
    bool by_input = t == c->part[DORA_SCALE] && m.rows == 1 && t->rank > 1;
    bool ok = m.rows * m.columns * m.depth == dim[by_input] || misfit(g, c, w);
    ok = ok &&
         dora_merge(copy, by->data, dim, (float)scale, m.data, by_input, g->lora->weight, g->e);
    matrix_free(&m);
    return ok;
}

/* No NaN, and nothing that is out of all measure. */
static bool check_copy(const merging *g, const weight *w, const float *copy, const matrix *by)
{
    int64_t n = weight_elements(w), i = 0;
    while (i < n && fabsf(copy[i]) <= WEIGHT_MAX) i++;
    if (i == n) return true;
    if (!isfinite(by->data[i]) || !isfinite(copy[i]))
        return error_set(g->e, ERROR_NUMERIC, "%s: with it %s holds a NaN or an infinity",
                         g->lora->path, w->name);
    return error_set(g->e, ERROR_NUMERIC,
                     "%s: with it, at weight %s, %s holds %s, which no weight is: give a smaller "
                     "weight, or another copy of it",
                     g->lora->path, number_exact_float(g->lora->weight).text, w->name,
                     number_exact_float(copy[i]).text);
}

static bool merge_one(merging *g, int which, size_t index)
{
    const change *c = &g->change[which][index];
    const weight *w = &g->set[which]->item[index];
    int64_t dim[3] = {w->dim[0], w->dim[1], 1}, rank = 0, n = weight_elements(w);
    double scale = 0;
    float *copy = NULL;
    matrix by = {0};
    for (int d = 2; d < w->rank; d++) dim[2] *= w->dim[d];
    bool ok = find_change(g, c, w, dim, &by, &rank) && scale_of(g, c, which, w, rank, &scale) &&
              (copy = copy_of(g, which, index));
    if (ok && (c->part[DORA_OUTPUT] || c->part[DORA_SCALE])) {
        ok = merge_dora(g, c, w, dim, &by, scale, copy);
    } else if (ok) {
        float factor = (float)((double)g->lora->weight * scale);
        for (int64_t i = 0; i < n; i++) copy[i] += factor * by.data[i];
    }
    ok = ok && check_copy(g, w, copy, &by);
    matrix_free(&by);
    return ok;
}

/* What the file says of itself, where diffusers saved it. */
static bool read_settings(merging *g)
{
    for (size_t i = 0; i < g->file.metadata_count; i++) {
        const safetensors_pair *p = &g->file.metadata[i];
        if (strcmp(p->key, "lora_adapter_metadata") != 0) continue;
        g->settings = json_parse(p->value, strlen(p->value), 0, NULL);
        if (!json_is_object(g->settings))
            return fail_file(g, ERROR_FORMAT, "its lora_adapter_metadata is no JSON object");
    }
    return true;
}

static bool merge_file(merging *g)
{
    bool ok = refuse_xl(g) && read_settings(g) && sort_parts(g) && check_room(g);
    for (int k = 0; k < NETWORKS; k++)
        for (size_t i = 0; ok && i < g->set[k]->count; i++)
            if (g->change[k][i].name) ok = merge_one(g, k, i);
    json_decref(g->settings);
    g->settings = NULL;
    return ok;
}

/* "name: 0123456789ab", as AUTOMATIC1111 hashes them: a safetensors file's without its header. */
static char *name_and_hash(const merging *g)
{
    const char *slash = strrchr(g->lora->path, '/'), *name = slash ? slash + 1 : g->lora->path;
    const char *dot = strrchr(name, '.');
    const mapped_file *map = &g->file.map;
    size_t begin = 0;
    char hash[65];
    if (map->size > 8 && map->data[8] == '{') {
        for (int i = 8; i-- > 0;) begin = begin << 8 | map->data[i];
        begin += 8;
    }
    sha256_of(hash, map->data + begin, map->size - begin);
    return string_format("%.*s: %.*s",
                         (int)(dot && dot > name ? dot - name : (ptrdiff_t)strlen(name)), name,
                         HASH_DIGITS, hash);
}

/* Puts a text and what parts it from what is there behind *list; false when memory is out. */
static bool add_text(char **list, const char *between, char *text)
{
    char *longer = text ? string_format("%s%s%s", *list ? *list : "", *list ? between : "", text)
                        : NULL;
    free(text);
    if (!longer) return false;
    free(*list);
    *list = longer;
    return true;
}

typedef struct told {
    char *notes, *hashes, *weights, *aliases;
} told;

static void told_close(told *t)
{
    free(t->notes);
    free(t->hashes);
    free(t->weights);
    free(t->aliases);
    *t = (told){0};
}

/* What the model says already, of the one that it derives from. */
static bool told_before(told *t, const model *m, error *e)
{
    const char *const from[] = {m->lora_hashes, m->lora_weights, m->lora_aliases};
    char **const to[] = {&t->hashes, &t->weights, &t->aliases};
    for (int i = 0; i < 3; i++)
        if (from[i] && !(*to[i] = strdup(from[i])))
            return error_memory(e, m->path, strlen(from[i]));
    return true;
}

static void told_give(told *t, model *m, char **notes)
{
    free(m->lora_hashes);
    free(m->lora_weights);
    free(m->lora_aliases);
    m->lora_hashes = t->hashes;
    m->lora_weights = t->weights;
    m->lora_aliases = t->aliases;
    *notes = t->notes;
}

static bool tell(merging *g, told *t)
{
    bool ok = true;
    if (g->unmatched)
        ok = add_text(&t->notes, "\n",
                      string_format("%s: %zu of its tensors fit nothing in this model "
                                    "(%s%s)",
                                    g->lora->path, g->unmatched, g->first,
                                    g->unmatched > SHOWN ? ", ..." : ""));
    char *hash = name_and_hash(g);
    const char *colon = hash ? strrchr(hash, ':') : NULL;
    if (colon)
        ok = ok && add_text(&t->weights, ", ",
                            string_format("%.*s: %s", (int)(colon - hash), hash,
                                          number_exact_float(g->lora->weight).text));
    ok = add_text(&t->hashes, ", ", hash) && ok;
    const char *alias = lora_alias(&g->file);
    if (alias) ok = add_text(&t->aliases, "", string_format("\n%s\n", alias)) && ok;
    return (ok && colon) || error_memory(g->e, g->lora->path, 64);
}

/* ---- the model's new weights ---- */

static void point_to_copies(weight_set *set, float *const *copy)
{
    for (size_t i = 0; i < set->count; i++)
        if (copy[i]) {
            set->item[i].type = DTYPE_F32;
            set->item[i].data = copy[i];
        }
}

/* Both sets with the copies in their places. The UNet's, which is closed last, has the memory. */
static bool replace_sets(merging *g, model *m)
{
    arena none = {0};
    if (!weight_set_overlay(&m->clip_weights, &none, g->e) ||
        !weight_set_overlay(&m->unet_weights, &g->memory, g->e))
        return false;
    point_to_copies(&m->unet_weights, g->copy[0]);
    point_to_copies(&m->clip_weights, g->copy[1]);
    return true;
}

static bool start(merging *g)
{
    for (int k = 0; k < NETWORKS; k++) {
        size_t n = g->set[k]->count + 1;
        g->copy[k] = arena_alloc(&g->passing, n * sizeof *g->copy[k]);
        g->change[k] = arena_alloc(&g->passing, n * sizeof *g->change[k]);
        if (!g->copy[k] || !g->change[k])
            return error_memory(g->e, "the list of weights", n * sizeof *g->change[k]);
    }
    return list_targets(g);
}

/* One LoRA of the list, by its file. */
static bool add_file(merging *g, const lora_choice *its, told *t)
{
    g->lora = its;
    bool ok = fabsf(its->weight) <= STRENGTH_MAX || /* no NaN is */
              error_set(g->e, ERROR_USAGE,
                        "%s: its weight is %s; give one from -1000 to 1000 (1: as it was trained)",
                        its->path, number_exact_float(its->weight).text);
    if (!ok || !tensors_open(&g->file, its->path, g->e)) return false;
    ok = merge_file(g) && tell(g, t);
    safetensors_close(&g->file);
    return ok;
}

/* A folder's file is the one that diffusers leaves there. */
static bool add_lora(merging *g, const lora_choice *its, told *t)
{
    if (!path_is_dir(its->path)) return add_file(g, its, t);
    char *path = path_join(its->path, FILE_NAME);
    bool ok = path || error_memory(g->e, its->path, strlen(its->path));
    ok = ok &&
         (path_is_file(path) ||
          error_set(g->e, ERROR_FILE,
                    "%s: this folder holds no " FILE_NAME "; give the LoRA's file", its->path));
    ok = ok && add_file(g, &(lora_choice){path, its->weight}, t);
    g->lora = NULL;
    free(path);
    return ok;
}

bool model_add_loras(model *m, const lora_choice *list, size_t count, thread_pool *pool,
                     char **notes, error *e)
{
    merging g = {.m = m, .set = {&m->unet_weights, &m->clip_weights}, .pool = pool, .e = e};
    told t = {0};
    *notes = NULL;
    if (!count) return true;
    if (m->kind != MODEL_STABLE_DIFFUSION)
        return error_set(e, ERROR_MODEL, "%s: is an unconditional model, which LoRAs are not for",
                         m->path);
    bool ok = told_before(&t, m, e) && start(&g);
    for (size_t i = 0; ok && i < count; i++) ok = add_lora(&g, &list[i], &t);
    ok = ok && replace_sets(&g, m);
    if (ok) {
        m->copied = g.copied;
        told_give(&t, m, notes);
    } else {
        told_close(&t);
    }
    arena_free(&g.memory);
    arena_free(&g.passing);
    return ok;
}
