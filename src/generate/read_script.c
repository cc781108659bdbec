/* SPDX-License-Identifier: Apache-2.0
 *
 * read_script: the prompts of a job in AUTOMATIC1111's syntax through each model's text encoder. A
 * model keeps what it has read until it reads something else; in the run the texts change where the
 * script says so. */
#include <stdlib.h>
#include <string.h>

#include "generate/job.h"
#include "generate/prompts/prompt.h"

void script_unturn(script_state *s)
{
    for (int i = 0; i <= SCRIPT_PARTS; i++) s->now[i] = -1;
}

void script_state_close(script_state *s)
{
    recital_close(&s->recital);
    script_close(&s->script);
    free(s->prompt);
    free(s->negative);
    *s = (script_state){0};
}

/* As AUTOMATIC1111 counts them: the last steps of some samplers have fewer, and a run that begins
 * with a picture counts those that it does not make, at its end. */
static int evaluations_of(const job *j)
{
    const generate_options *o = j->picture[0].o;
    return (o->last_steps ? o->last_steps : o->sampler.steps) *
           sampler_kind_evaluations(o->sampler.kind);
}

static int evaluations_before(const job *j)
{
    const generate_options *o = j->picture[0].o;
    return o->first_steps * sampler_kind_evaluations(o->sampler.kind);
}

static bool is_script_of(const script_state *s, const job *j)
{
    const job_image *p = &j->picture[0];
    return s->prompt && strcmp(s->prompt, p->prompt) == 0 &&
           strcmp(s->negative, p->negative) == 0 && s->clip_skip == p->o->clip_skip &&
           s->evaluations == evaluations_of(j) && s->before == evaluations_before(j) &&
           s->guided == (p->o->guidance > 1);
}

bool script_cut(generator *g, const job *j, error *e)
{
    script_state *s = &g->script;
    const job_image *p = &j->picture[0];
    if (is_script_of(s, j)) return true;
    script_state_close(s);
    script_unturn(s);
    s->evaluations = evaluations_of(j);
    s->before = evaluations_before(j);
    s->clip_skip = p->o->clip_skip;
    s->guided = p->o->guidance > 1;
    s->prompt = strdup(p->prompt);
    s->negative = strdup(p->negative);
    bool ok = (s->prompt && s->negative) || error_memory(e, "a prompt", strlen(p->prompt));
    ok = ok && script_open(&s->script, p->prompt, p->negative, s->evaluations, s->before, e);
    bool one = ok && s->script.conditions == 1 && s->script.part[1].weight == 1;
    ok = ok && recital_open(&s->recital, &s->script, g->on.model, s->guided || !one, e);
    if (!ok) script_state_close(s);
    return ok;
}

bool script_turn(generator *g, const job *j, const evaluation *at, error *e)
{
    script_state *s = &g->script;
    int each = sampler_kind_evaluations(j->picture[0].o->sampler.kind),
        hidden = g->on.model->clip.hidden;
    int part = at->part < each ? at->part : each - 1;
    bool turned = recital_turn(&s->recital, at->step * each + part, s->now);
    if (!turned && denoiser_has_text(g->denoiser)) return true;
    size_t n = (size_t)job_batch(j) * (size_t)s->recital.tokens * (size_t)hidden;
    float *states = malloc(n * sizeof *states);
    bool ok = states || error_memory(e, "text embeddings", n * sizeof *states);
    text_forget(&g->text);
    if (ok) recital_write(&s->recital, hidden, s->now, j->count, states);
    ok = ok && denoiser_read(g->denoiser, states, e);
    if (!ok) script_unturn(s);
    free(states);
    return ok;
}

bool script_read(generator *g, const job *j, error *e)
{
    script_state *s = &g->script;
    if (!s->read) s->read = recital_read(&s->recital, &g->on, j->picture[0].o->clip_skip, e);
    if (!s->read) {
        script_state_close(s);
        return false;
    }
    const generate_snapshot *from = j->picture[0].o->from;
    return script_turn(g, j, &(evaluation){.step = from ? from->step : 0}, e);
}

/* ---- what does nothing ---- */

static bool is_alias(const model *m, const script_tag *t)
{
    const char *p = m->lora_aliases;
    while (p && (p = strchr(p, '\n'))) {
        p++;
        if (strncmp(p, t->name, t->name_length) == 0 && p[t->name_length] == '\n') return true;
    }
    return false;
}

/* Whether the model was opened with a LoRA of this name: "name: hash, other: hash". */
static bool is_merged(const model *m, const script_tag *t)
{
    const char *p = m->lora_hashes;
    if (is_alias(m, t)) return true;
    while (p && (strncmp(p, t->name, t->name_length) != 0 || p[t->name_length] != ':')) {
        p = strstr(p, ", ");
        if (p) p += 2;
    }
    return p != NULL;
}

bool script_notes(char **notes, const model *m, const char *prompt, error *e)
{
    char *text = script_uncomment(prompt);
    const char *at = text;
    bool ok = text || error_memory(e, "a prompt", strlen(prompt));
    for (script_tag t; ok && (t = script_next_tag(&at)).length;)
        if (!script_tag_is_lora(&t) || !is_merged(m, &t))
            ok = prompt_note_tag(notes, t.at, t.length, e);
    free(text);
    return ok;
}
