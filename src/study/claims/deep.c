/* SPDX-License-Identifier: Apache-2.0
 *
 * deep: what a deep cache costs: how far pictures are from those of the whole network, and
 * whether a trained model still draws its subject. */
#include <string.h>

#include "claims.h"
#include "roles.h"

int deep_section(const study_plan *p, int model)
{
    for (int i = 0; i < p->sections; i++) {
        const study_section *s = &p->section[i];
        for (int k = 0; k < s->rows * s->columns && !s->hidden; k++)
            if (s->cell[k].deep_cache && cell_model(&s->cell[k]) == model) return i;
    }
    return -1;
}

/* Whether a row is one of a model at a deep cache: of the first of its subjects. */
static bool is_of(const claims *c, const deep_row *r, int model, int every)
{
    int subject = r->subject;
    for (int i = 0; i < c->m->deeps; i++)
        if (c->m->deep[i].model == model) {
            subject = c->m->deep[i].subject;
            break;
        }
    return r->model == model && r->deep_cache == every && r->subject == subject;
}

static int count_rows(const claims *c, int model, int every)
{
    int n = 0;
    for (int i = 0; i < c->m->deeps; i++) n += is_of(c, &c->m->deep[i], model, every);
    return n;
}

/* "12 % (10 to 14) under “a” and ...": distances, or changes of shares. */
static void put_rows(claims *c, int model, int every, bool shares)
{
    int n = count_rows(c, model, every), k = 0;
    for (int i = 0; i < c->m->deeps; i++) {
        const deep_row *r = &c->m->deep[i];
        if (!is_of(c, r, model, every)) continue;
        fputs(list_comma(k++, n), c->out);
        if (shares)
            put_points(c, &r->share);
        else
            put_share(c, &r->drift);
        fputs(" under ", c->out);
        put_quoted(c, r->prompt);
    }
}

static void said_near(claims *c, int model, int every, const char *group)
{
    int n = 0, below = 0, unknown = 0, subject = -1;
    for (int i = 0; i < c->m->deeps; i++) {
        const deep_row *r = &c->m->deep[i];
        if (!is_of(c, r, model, every)) continue;
        n++;
        below += is_below(&r->drift, 50);
        unknown += !has_interval(&r->drift);
        subject = r->subject;
    }
    if (!n) return;
    claim_begin(c, deep_section(c->plan, model), group);
    html_print(c->out,
               "At deep cache %d <i>%s</i>&rsquo;s pictures are nearly those of the whole network.",
               every, claim_name(c, model));
    claim_answer(c);
    html_print(c->out, "Reusing deep features in %d of %d evaluations, they differ by ", every - 1,
               every);
    put_rows(c, model, every, false);
    fputs(" (100 %: as much as two seeds differ; nearly: less than half).", c->out);
    if (subject >= 0 && c->m->subject[subject].tells_apart) {
        fputs(" Likeness to the subject changes by ", c->out);
        put_rows(c, model, every, true);
        fputc('.', c->out);
    }
    claim_end(c, unknown == n ? VERDICT_NOT_MEASURABLE
                 : below == n ? VERDICT_SHOWN
                              : VERDICT_NOT_SHOWN);
}

static void said_subject(claims *c, const deep_row *r, const char *group)
{
    const subject_row *s = &c->m->subject[r->subject];
    bool measured = s->tells_apart && has_interval(&r->reused);
    claim_begin(c, deep_section(c->plan, r->model), group);
    html_print(c->out, "At deep cache %d <i>%s</i> still draws the subject under ", r->deep_cache,
               claim_name(c, r->model));
    put_quoted(c, r->prompt);
    fputc('.', c->out);
    claim_answer(c);
    if (s->tells_apart) {
        fputs("Its pictures are ", c->out);
        put_share(c, &r->reused);
        fputs(" of the way from the class to the subject, those of the whole network ", c->out);
        put_share(c, &r->whole);
        fputs("; from equal noise that is a change of ", c->out);
        put_points(c, &r->share);
        fputs(estimate_differs(&r->share, 0) || !has_interval(&r->share)
                  ? "."
                  : ": no measurable difference.",
              c->out);
        fputs(" (Still: more than half.)", c->out);
    } else {
        fputs("The measure does not tell the subject from its class here.", c->out);
    }
    claim_end(c, !measured                                 ? VERDICT_NOT_MEASURABLE
                 : is_above(&r->reused, r->whole.mean / 2) ? VERDICT_SHOWN
                                                           : VERDICT_NOT_SHOWN);
}

static void said_cache(claims *c, int every)
{
    const char *group = arena_format(c->memory, "Deep cache %d", every);
    if (!group) c->no_memory = true;
    if (!group) return;
    for (int model = 0; model < c->plan->models; model++) {
        said_near(c, model, every, group);
        for (int i = 0; i < c->m->deeps; i++) {
            const deep_row *r = &c->m->deep[i];
            if (r->model != model || r->deep_cache != every || r->subject < 0) continue;
            const subject_row *s = &c->m->subject[r->subject];
            if (model != s->base &&
                prompt_role_of(r->prompt, s->instance_prompt, s->class_prompt) == ROLE_SUBJECT)
                said_subject(c, r, group);
        }
    }
}

void claims_deep(claims *c)
{
    int before = 0;
    for (;;) { /* by rising number */
        int next = 0;
        for (int i = 0; i < c->m->deeps; i++) {
            int every = c->m->deep[i].deep_cache;
            if (every > before && (!next || every < next)) next = every;
        }
        if (!next) return;
        said_cache(c, next);
        before = next;
    }
}
