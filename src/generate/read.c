/* SPDX-License-Identifier: Apache-2.0
 *
 * read: a job's prompts through each model's text encoder. What a model has read stays until it reads
 * something else; models of one text encoder read once. */
#include <stdlib.h>
#include <string.h>

#include "generate/job.h"
#include "pipeline/fit.h"
#include "pipeline/text.h"

void text_forget(text_state *t)
{
    free(t->states);
    free(t->prompt);
    free(t->negative);
    *t = (text_state){0};
}

static bool is_text_of(const text_state *t, const job *j)
{
    return t->prompt && t->batch == j->batch && t->clip_skip == j->o->clip_skip &&
           strcmp(t->prompt, j->prompt) == 0 && strcmp(t->negative, j->negative) == 0;
}

static bool same_tokens(const model *a, const model *b, const char *text, int32_t *ids)
{
    int n = a->clip.positions;
    return tokenizer_encode_prompt(a->tokens, text, n, ids, NULL, NULL) &&
           tokenizer_encode_prompt(b->tokens, text, n, ids + n, NULL, NULL) &&
           memcmp(ids, ids + n, (size_t)n * sizeof *ids) == 0;
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
            same_tokens(m, its, j->prompt, ids) && same_tokens(m, its, j->negative, ids) &&
            text_encoders_equal(m, its))
            found = other;
    }
    free(ids);
    return found;
}

/* [unconditional, conditional]; diffusers applies clip_skip to the prompt alone. */
static bool encode(const generator *g, const job *j, float *states, size_t one, error *e)
{
    const model *m = g->on.model;
    int n = m->clip.positions, skip = j->o->clip_skip, pair = j->batch > 1;
    int32_t *ids = malloc((size_t)n * 2 * sizeof *ids);
    if (!ids) return error_memory(e, "a prompt's tokens", (size_t)n * 2 * sizeof *ids);
    bool ok = (!pair || tokenizer_encode_prompt(m->tokens, j->negative, n, ids, NULL, e)) &&
              tokenizer_encode_prompt(m->tokens, j->prompt, n, ids + pair * n, NULL, e);
    if (ok && pair && skip)
        ok = text_encode(&g->on, ids, 1, 0, states, e) &&
             text_encode(&g->on, ids + n, 1, skip, states + one, e);
    else if (ok)
        ok = text_encode(&g->on, ids, j->batch, skip, states, e);
    free(ids);
    return ok;
}

/* Makes g->text that of the job's prompts. */
static bool read_text(generator *g, const job *j, error *e)
{
    text_state *t = &g->text;
    const clip_config *c = &g->on.model->clip;
    size_t one = (size_t)c->positions * (size_t)c->hidden, bytes = one * (size_t)j->batch * sizeof(float);
    text_state made = {.clip_skip = j->o->clip_skip, .batch = j->batch};
    text_forget(t);
    made.states = malloc(bytes);
    made.prompt = strdup(j->prompt);
    made.negative = strdup(j->negative);
    bool ok = (made.states && made.prompt && made.negative) || error_memory(e, "text embeddings", bytes);
    const generator *same = ok ? same_reader(g, j) : NULL;
    if (same)
        memcpy(made.states, same->text.states, bytes);
    else
        ok = ok && encode(g, j, made.states, one, e);
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
        if (!is_text_of(&g->text, j))
            ok = read_text(g, j, e);
        else if (!denoiser_has_text(g->denoiser)) /* planned anew, for another size */
            ok = denoiser_read(g->denoiser, g->text.states, e);
    }
    return ok;
}
