/* SPDX-License-Identifier: Apache-2.0
 *
 * read: a job's prompts through each model's text encoder. What a model has read stays until it
 * reads something else; models of one text encoder read once. */
#include <stdlib.h>
#include <string.h>

#include "generate/job.h"
#include "pipeline/fit.h"
#include "pipeline/text.h"

void text_forget(text_state *t)
{
    for (int k = 0; t->text && k < t->batch; k++) free(t->text[k]);
    free(t->text);
    free(t->states);
    *t = (text_state){0};
}

static bool is_text_of(const text_state *t, const job *j)
{
    bool negative;
    if (!t->text || t->batch != job_batch(j) || t->clip_skip != j->picture[0].o->clip_skip)
        return false;
    for (int k = 0; k < t->batch; k++)
        if (strcmp(t->text[k], job_text(j, k, &negative)) != 0) return false;
    return true;
}

static bool same_tokens(const model *a, const model *b, const char *text, int32_t *ids)
{
    int n = a->clip.positions;
    return tokenizer_encode_prompt(a->tokens, text, n, ids, NULL, NULL) &&
           tokenizer_encode_prompt(b->tokens, text, n, ids + n, NULL, NULL) &&
           memcmp(ids, ids + n, (size_t)n * sizeof *ids) == 0;
}

static bool all_same_tokens(const model *a, const model *b, const job *j, int32_t *ids)
{
    bool same = true, negative;
    for (int k = 0; same && k < job_batch(j); k++)
        same = same_tokens(a, b, job_text(j, k, &negative), ids);
    return same;
}

/* Another model of the job that has read the same texts with equal weights; NULL: none has. */
static const generator *same_reader(const generator *g, const job *j)
{
    const model *m = g->on.model;
    const generator *found = NULL;
    int32_t *ids = malloc(2 * (size_t)m->clip.positions * sizeof *ids);
    for (int k = 0; ids && !found && k < j->model_count; k++) {
        const generator *other = j->models[k];
        const model *its = other->on.model;
        if (other != g && is_text_of(&other->text, j) && m->clip.positions == its->clip.positions &&
            all_same_tokens(m, its, j, ids) && text_encoders_equal(m, its))
            found = other;
    }
    free(ids);
    return found;
}

/* The texts of a job without repetition. */
typedef struct distinct {
    int count;
    int *of;       /* [batch] which of them each sample has */
    int *sample;   /* [count] a sample that has it */
    int32_t *ids;  /* [count,N] */
    float *states; /* [count,N,hidden] */
} distinct;

static void distinct_close(distinct *d)
{
    free(d->of);
    free(d->sample);
    free(d->ids);
    free(d->states);
}

static bool distinct_open(distinct *d, const job *j, const clip_config *c, error *e)
{
    size_t batch = (size_t)job_batch(j), n = (size_t)c->positions;
    bool a, b;
    *d = (distinct){.of = malloc(batch * sizeof *d->of),
                    .sample = malloc(batch * sizeof *d->sample)};
    for (int k = 0; d->of && d->sample && k < (int)batch; k++) {
        int i = 0;
        while (i < d->count &&
               (strcmp(job_text(j, d->sample[i], &a), job_text(j, k, &b)) != 0 || a != b))
            i++;
        d->of[k] = i;
        if (i == d->count) d->sample[d->count++] = k;
    }
    d->ids = malloc((size_t)d->count * n * sizeof *d->ids);
    d->states = malloc((size_t)d->count * n * (size_t)c->hidden * sizeof *d->states);
    return (d->of && d->sample && d->ids && d->states) ||
           error_memory(e, "prompts' tokens", batch * n);
}

/* diffusers applies clip_skip to the prompt alone, so that the texts are read in two halves. */
static bool encode(const generator *g, const job *j, distinct *d, size_t one, error *e)
{
    const model *m = g->on.model;
    int n = m->clip.positions, skip = j->picture[0].o->clip_skip;
    bool negative;
    for (int i = 0; i < d->count; i++)
        if (!tokenizer_encode_prompt(m->tokens, job_text(j, d->sample[i], &negative), n,
                                     d->ids + i * n, NULL, e))
            return false;
    if (!skip) return text_encode(&g->on, d->ids, d->count, 0, d->states, e);
    for (int i = 0; i < d->count; i++) {
        job_text(j, d->sample[i], &negative);
        if (!text_encode(&g->on, d->ids + i * n, 1, negative ? 0 : skip,
                         d->states + (size_t)i * one, e))
            return false;
    }
    return true;
}

static bool encode_all(const generator *g, const job *j, float *states, size_t one, error *e)
{
    distinct d;
    bool ok = distinct_open(&d, j, &g->on.model->clip, e) && encode(g, j, &d, one, e);
    for (int k = 0; ok && k < job_batch(j); k++)
        memcpy(states + (size_t)k * one, d.states + (size_t)d.of[k] * one, one * sizeof *states);
    distinct_close(&d);
    return ok;
}

static bool name_texts(text_state *t, const job *j, error *e)
{
    bool negative;
    t->text = calloc((size_t)t->batch, sizeof *t->text);
    for (int k = 0; t->text && k < t->batch; k++) {
        t->text[k] = strdup(job_text(j, k, &negative));
        if (!t->text[k]) return error_memory(e, "a prompt", strlen(job_text(j, k, &negative)));
    }
    return t->text || error_memory(e, "prompts", (size_t)t->batch * sizeof *t->text);
}

/* Makes g->text that of the job's prompts. */
static bool read_text(generator *g, const job *j, error *e)
{
    text_state *t = &g->text;
    const clip_config *c = &g->on.model->clip;
    size_t one = (size_t)c->positions * (size_t)c->hidden,
           bytes = one * (size_t)job_batch(j) * sizeof(float);
    text_state made = {.clip_skip = j->picture[0].o->clip_skip, .batch = job_batch(j)};
    text_forget(t);
    script_unturn(&g->script);
    made.states = malloc(bytes);
    bool ok = (made.states || error_memory(e, "text embeddings", bytes)) && name_texts(&made, j, e);
    const generator *same = ok ? same_reader(g, j) : NULL;
    if (same)
        memcpy(made.states, same->text.states, bytes);
    else
        ok = ok && encode_all(g, j, made.states, one, e);
    ok = ok && denoiser_read(g->denoiser, made.states, e);
    if (ok)
        *t = made;
    else
        text_forget(&made);
    return ok;
}

bool read_texts(const job *j, error *e)
{
    bool ok = true;
    for (int k = 0; ok && k < j->model_count; k++) {
        generator *g = j->models[k];
        if (!job_asks(j, k) || !fit_conditional(g->on.model)) continue;
        if (j->scripted)
            ok = script_read(g, j, e);
        else if (!is_text_of(&g->text, j))
            ok = read_text(g, j, e);
        else if (!denoiser_has_text(g->denoiser)) /* planned anew, for another size */
            ok = denoiser_read(g->denoiser, g->text.states, e);
    }
    return ok;
}
