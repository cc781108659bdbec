/* SPDX-License-Identifier: Apache-2.0
 *
 * field: which pictures, and their rows. */
#include "field.h"

#include <stdlib.h>
#include <string.h>

#include "embed.h"
#include "study/claims/roles.h"
#include "statistics.h"

typedef struct fielding {
    study_measures *out;
    const measured *m;
    const measure_source *source;
    const char **prompt; /* distinct, in the order of the plan */
    int prompts;
    int *set;      /* [cells] */
    double *value; /* [pictures] */
    embeddings eye;
} fielding;

static int model_of(const measured_subject *j, int k) { return k < 0 ? j->base : j->model[k]; }

static void put(fielding *f, const char *measure, int subject, int which, const char *prompt,
                estimate x)
{
    if (x.n) f->out->field[f->out->fields++] = (field_row){measure, subject, which, prompt, x};
}

/* ---- pictures -------------------------------------------------------------------------------- */

static void list_prompts(fielding *f)
{
    for (int i = 0; i < f->m->cells; i++) {
        const char *prompt = f->m->picture[i].cell->prompt;
        bool known = false;
        for (int k = 0; k < f->prompts && !known; k++) known = strcmp(f->prompt[k], prompt) == 0;
        if (!known) f->prompt[f->prompts++] = prompt;
    }
}

/* Every picture that a row is made of. */
static void want(fielding *f, bool *wanted)
{
    for (int s = 0; s < f->m->subjects; s++) {
        const measured_subject *j = &f->m->subject[s];
        for (int i = 0; i < j->photos; i++) wanted[j->photo[i]] = true;
        for (int k = -1; k < j->models; k++)
            for (int p = 0; p < f->prompts; p++) {
                int n = measured_choose(f->m, j, f->prompt[p], model_of(j, k), f->set);
                for (int i = 0; i < n; i++) wanted[f->set[i]] = true;
            }
    }
}

/* The mean cosine of picture i with the subject's own, itself left out. */
static double with_photos(const fielding *f, const measured_subject *j, int i)
{
    double sum = 0;
    int n = 0;
    for (int k = 0; k < j->photos; k++) {
        if (j->photo[k] == i) continue;
        sum += embeddings_cosine(&f->eye, f->eye.of[i], f->eye.of[j->photo[k]]);
        n++;
    }
    return n ? sum / n : 0;
}

/* ---- rows ------------------------------------------------------------------------------------ */

static void put_likeness(fielding *f, const char *measure, int subject, int which,
                         const char *prompt)
{
    const measured_subject *j = &f->m->subject[subject];
    int n = measured_choose(f->m, j, prompt, which, f->set);
    for (int i = 0; i < n; i++) f->value[i] = with_photos(f, j, f->set[i]);
    put(f, measure, subject, which, prompt, estimate_of(f->value, n));
}

/* How alike the subject's own pictures are to each other. */
static void put_photos(fielding *f, const char *measure, int subject)
{
    const measured_subject *j = &f->m->subject[subject];
    for (int i = 0; i < j->photos; i++) f->value[i] = with_photos(f, j, j->photo[i]);
    put(f, measure, subject, -1, "", estimate_of_pairs(f->value, NULL, j->photos));
}

static bool put_text(fielding *f, int subject, const char *prompt, error *e)
{
    const measured_subject *j = &f->m->subject[subject];
    char *text = prompt_without_subject(prompt, j->instance_prompt, j->class_prompt);
    float *of_text = malloc((size_t)f->eye.width * sizeof *of_text);
    bool ok = (text && of_text) || error_memory(e, "a prompt's embedding", 4096);
    ok = ok && embeddings_of_text(&f->eye, text, of_text, e);
    for (int k = -1; ok && k < j->models; k++) {
        int n = measured_choose(f->m, j, prompt, model_of(j, k), f->set);
        for (int i = 0; i < n; i++)
            f->value[i] = embeddings_cosine(&f->eye, of_text, f->eye.of[f->set[i]]);
        put(f, "CLIP-T", subject, model_of(j, k), prompt, estimate_of(f->value, n));
    }
    free(text), free(of_text);
    return ok;
}

static void put_preserved(fielding *f, int subject, int which)
{
    const measured_subject *j = &f->m->subject[subject];
    int all = 0;
    for (int p = 0; p < f->prompts; p++) {
        if (prompt_role_of(f->prompt[p], j->instance_prompt, j->class_prompt) != ROLE_CLASS)
            continue;
        int n = measured_choose(f->m, j, f->prompt[p], which, f->set);
        for (int i = 0; i < n; i++) f->value[all++] = with_photos(f, j, f->set[i]);
    }
    put(f, "PRES", subject, which, "", estimate_of(f->value, all));
}

static void put_diversity(fielding *f, int subject, int which, const char *prompt)
{
    const measured_subject *j = &f->m->subject[subject];
    int n = measured_choose(f->m, j, prompt, which, f->set);
    if (prompt_role_of(prompt, j->instance_prompt, j->class_prompt) != ROLE_SUBJECT || n < 2)
        return;
    for (int i = 0; i < n; i++) {
        f->value[i] = 0;
        for (int k = 0; k < n; k++)
            if (k != i)
                f->value[i] += (1 - embeddings_cosine(&f->eye, f->eye.of[f->set[i]],
                                                      f->eye.of[f->set[k]])) /
                               (n - 1);
    }
    put(f, "DIV", subject, which, prompt, estimate_of_pairs(f->value, NULL, n));
}

/* What one network measures. */
static bool put_all(fielding *f, error *e)
{
    bool clip = lk_vision_kind_of(f->eye.network) == LK_VISION_CLIP, ok = true;
    const char *likeness = clip ? "CLIP-I" : "DINO";
    for (int s = 0; ok && s < f->m->subjects; s++) {
        const measured_subject *j = &f->m->subject[s];
        put_photos(f, likeness, s);
        for (int p = 0; p < f->prompts; p++)
            for (int k = -1; k < j->models; k++)
                put_likeness(f, likeness, s, model_of(j, k), f->prompt[p]);
        for (int p = 0; ok && clip && p < f->prompts; p++) ok = put_text(f, s, f->prompt[p], e);
        for (int k = -1; !clip && k < j->models; k++) put_preserved(f, s, model_of(j, k));
        for (int p = 0; !clip && p < f->prompts; p++)
            for (int k = -1; k < j->models; k++) put_diversity(f, s, model_of(j, k), f->prompt[p]);
    }
    return ok;
}

/* ---- networks -------------------------------------------------------------------------------- */

static bool check_kind(const lk_vision *network, const char *folder, bool clip, error *e)
{
    return (lk_vision_kind_of(network) == LK_VISION_CLIP) == clip ||
           error_set(e, ERROR_USAGE, "%s: is %s; give it with %s", folder,
                     clip ? "no CLIP" : "a CLIP", clip ? "--dino" : "--clip");
}

bool field_check(lk_session *session, const char *clip, const char *dino, error *e)
{
    const char *folder[2] = {clip, dino};
    bool ok = true;
    for (int i = 0; ok && i < 2; i++) {
        lk_vision *network = NULL;
        lk_error why = {0};
        if (!folder[i]) continue;
        ok = lk_vision_open(&network, session, folder[i], &why)
                 ? check_kind(network, folder[i], i == 0, e)
                 : engine_failed(&why, e);
        lk_vision_close(&network);
    }
    return ok;
}

static bool ask(fielding *f, const char *folder, bool clip, const bool *wanted, error *e)
{
    if (!folder) return true;
    if (!embeddings_open(&f->eye, folder, f->m, wanted, f->source, e)) return false;
    bool ok = check_kind(f->eye.network, folder, clip, e) && put_all(f, e);
    embeddings_close(&f->eye);
    return ok;
}

bool field_measure(study_measures *out, const measured *m, const measure_source *s, error *e)
{
    size_t cells = (size_t)m->cells + 1, rows = 1;
    fielding f = {.out = out, .m = m, .source = s};
    if (!s->clip && !s->dino) return true;
    bool *wanted = calloc((size_t)m->pictures + 1, sizeof *wanted);
    f.prompt = malloc(cells * sizeof *f.prompt);
    f.set = malloc(cells * sizeof *f.set);
    f.value = malloc(((size_t)m->pictures + 1) * sizeof *f.value);
    bool ok = (wanted && f.prompt && f.set && f.value) ||
              error_memory(e, "a study's measures", cells * 32);
    if (ok) {
        list_prompts(&f);
        want(&f, wanted);
        for (int j = 0; j < m->subjects;
             j++) /* at most four a prompt and model, PRES, and the photos' two */
            rows += (size_t)(m->subject[j].models + 1) * (4 * (size_t)f.prompts + 1) + 2;
        out->field = calloc(rows, sizeof *out->field);
        ok = out->field || error_memory(e, "a study's tables", rows * sizeof *out->field);
    }
    ok = ok && ask(&f, s->clip, true, wanted, e) && ask(&f, s->dino, false, wanted, e);
    free(wanted), free(f.prompt), free(f.set), free(f.value);
    return ok;
}
