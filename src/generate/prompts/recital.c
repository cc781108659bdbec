/* SPDX-License-Identifier: Apache-2.0
 *
 * recital: see recital.h. Texts of an evaluation must be of one length, and AUTOMATIC1111 gives
 * each its own. A condition that is shorter than another has its last state repeated, as there;
 * between conditions and negative prompt each is repeated as a whole until the lengths meet, which
 * changes nothing: attention to twice the same keys is attention to them once. */
#include "recital.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "pipeline/layout.h"
#include "pipeline/text.h"

enum { TOGETHER = 16, MOST_CHUNKS = 512 }; /* chunks in a run of the text encoder; N's */

/* Without the negative prompt's part the first condition's is the first. */
static int first_part(const recital *r) { return r->part[0].texts ? 0 : 1; }

int recital_samples(const recital *r) { return r->script->conditions + 1 - first_part(r); }

void recital_close(recital *r)
{
    for (int i = 0; r->part && i <= r->script->conditions; i++) {
        recital_part *p = &r->part[i];
        for (int k = 0; p->text && k < p->texts; k++) chunks_close(&p->text[k]);
        free(p->text);
        free(p->of);
        free(p->times);
        free(p->states);
    }
    free(r->part);
    *r = (recital){0};
}

/* ---- cutting ---- */

static int chunk_count(const recital_part *p) { return p->text[0].count; }

static bool cut_part(recital_part *p, const edits *l, const model *m, error *e)
{
    size_t n = (size_t)l->count;
    int most = 0;
    p->of = malloc(n * sizeof *p->of);
    p->times = calloc(n, sizeof *p->times);
    p->text = calloc(n, sizeof *p->text);
    if (!p->of || !p->times || !p->text) return error_memory(e, "prompts", n * sizeof *p->text);
    for (int i = 0; i < l->count; i++) {
        int k = 0;
        while (k < i && strcmp(l->item[k].text, l->item[i].text) != 0) k++;
        p->of[i] = k < i ? p->of[k] : p->texts;
        p->times[p->of[i]]++;
        if (k < i) continue;
        chunks *own = &p->text[p->texts++];
        if (!chunks_make(own, m->tokens, m->clip.positions, l->item[i].text, e)) return false;
        if (own->count > most) most = own->count;
    }
    for (int k = 0; k < p->texts; k++)
        if (!chunks_fill(&p->text[k], m->tokens, most, e)) return false;
    return true;
}

static int common_multiple(int a, int b)
{
    int x = a, y = b;
    while (y) {
        int rest = x % y;
        x = y;
        y = rest;
    }
    return a / x * b;
}

bool recital_open(recital *r, const script *s, const model *m, bool negative, error *e)
{
    int length = m->clip.positions, longest = 1, all;
    *r = (recital){.script = s, .part = calloc((size_t)s->conditions + 1, sizeof *r->part)};
    if (!r->part) return error_memory(e, "prompts", (size_t)s->conditions * sizeof *r->part);
    if (length < 3)
        return error_set(e, ERROR_USAGE, "this model's text encoder reads %d tokens, too few",
                         length);
    for (int i = negative ? 0 : 1; i <= s->conditions; i++) {
        if (!cut_part(&r->part[i], &s->part[i].texts, m, e)) return false;
        if (i && chunk_count(&r->part[i]) > longest) longest = chunk_count(&r->part[i]);
    }
    all = negative ? common_multiple(longest, chunk_count(&r->part[0])) : longest;
    if (all > MOST_CHUNKS)
        return error_set(e, ERROR_USAGE,
                         "prompt and negative prompt have %d and %d chunks of %d tokens, too many "
                         "together; shorten one of them",
                         longest, negative ? chunk_count(&r->part[0]) : 0, length - 2);
    r->tail = longest * length;
    r->tokens = all * length;
    return true;
}

/* ---- reading ---- */

/* States of the part's chunks before their weights. */
static bool encode(recital_part *p, const pipeline *on, int skip, error *e)
{
    const clip_config *c = &on->model->clip;
    size_t length = (size_t)c->positions, one = length * (size_t)c->hidden;
    int count = chunk_count(p), all = p->texts * count;
    int32_t *ids = malloc((size_t)all * length * sizeof *ids);
    p->states = malloc((size_t)all * one * sizeof *p->states);
    bool ok = (ids && p->states) ||
              error_memory(e, "text embeddings", (size_t)all * one * sizeof *p->states);
    for (int k = 0; ok && k < p->texts; k++)
        memcpy(ids + (size_t)(k * count) * length, p->text[k].ids,
               (size_t)count * length * sizeof *ids);
    for (int at = 0; ok && at < all; at += TOGETHER) {
        int n = all - at < TOGETHER ? all - at : TOGETHER;
        ok = text_encode(on, ids + (size_t)at * length, n, skip, p->states + (size_t)at * one, e);
    }
    free(ids);
    return ok;
}

static bool is_weighted(const recital_part *p, int chunk)
{
    for (int k = 0; k < p->texts; k++) {
        const float *w = p->text[k].weight + (size_t)chunk * (size_t)p->text[k].length;
        for (int i = 0; i < p->text[k].length; i++)
            if (w[i] != 1) return true;
    }
    return false;
}

/* The n-th chunk of every text: their states times their weights, and then the mean of all that it
 * was before. */
static void weigh(recital_part *p, int chunk, int hidden)
{
    size_t length = (size_t)p->text[0].length, one = length * (size_t)hidden;
    double before = 0, after = 0;
    if (!is_weighted(p, chunk)) return;
    for (int k = 0; k < p->texts; k++) {
        float *x = p->states + (size_t)(k * chunk_count(p) + chunk) * one;
        const float *w = p->text[k].weight + (size_t)chunk * length;
        double was = 0, is = 0;
        for (size_t i = 0; i < one; i++) {
            was += x[i];
            x[i] *= w[i / (size_t)hidden];
            is += x[i];
        }
        before += p->times[k] * was;
        after += p->times[k] * is;
    }
    float ratio = (float)(before / after);
    for (int k = 0; k < p->texts; k++) {
        float *x = p->states + (size_t)(k * chunk_count(p) + chunk) * one;
        for (size_t i = 0; i < one; i++) x[i] *= ratio;
    }
}

bool recital_read(recital *r, const pipeline *on, int clip_skip, error *e)
{
    int hidden = on->model->clip.hidden;
    for (int i = first_part(r); i <= r->script->conditions; i++) {
        recital_part *p = &r->part[i];
        if (!encode(p, on, clip_skip, e)) return false;
        for (int c = 0; c < chunk_count(p); c++) weigh(p, c, hidden);
        size_t n = (size_t)(p->texts * chunk_count(p) * p->text[0].length) * (size_t)hidden;
        if (!pipeline_finite(p->states, n))
            return error_set(e, ERROR_NUMERIC,
                             "the %s's weights give NaN or infinity; choose some nearer to 1",
                             i ? "prompt" : "negative prompt");
    }
    return true;
}

/* ---- an evaluation ---- */

bool recital_turn(const recital *r, int evaluation, int *now)
{
    bool turned = false;
    for (int i = first_part(r); i <= r->script->conditions; i++) {
        int text = r->part[i].of[edits_at(&r->script->part[i].texts, evaluation)];
        turned = turned || now[i] != text;
        now[i] = text;
    }
    return turned;
}

/* A part's states, its last one repeated up to `tail` tokens, all of it up to N. */
static void write_part(const recital *r, const recital_part *p, int text, int tail, size_t hidden,
                       float *out)
{
    int own = chunk_count(p) * p->text[0].length;
    const float *states = p->states + (size_t)text * (size_t)own * hidden;
    for (int at = 0; at < r->tokens; at++) {
        int i = at % tail < own ? at % tail : own - 1;
        memcpy(out + (size_t)at * hidden, states + (size_t)i * hidden, hidden * sizeof *out);
    }
}

void recital_write(const recital *r, int hidden, const int *now, int pictures, float *out)
{
    size_t one = (size_t)r->tokens * (size_t)hidden, whole = one * (size_t)recital_samples(r);
    float *to = out;
    for (int i = first_part(r); i <= r->script->conditions; i++, to += one) {
        const recital_part *p = &r->part[i];
        write_part(r, p, now[i], i ? r->tail : chunk_count(p) * p->text[0].length, (size_t)hidden,
                   to);
    }
    for (int k = 1; k < pictures; k++) memcpy(out + (size_t)k * whole, out, whole * sizeof *out);
}
