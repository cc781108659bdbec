/* SPDX-License-Identifier: Apache-2.0
 *
 * deep: what a deep cache costs, as charts: a line for each prompt, by how many evaluations
 * share deep features. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "chart.h"
#include "parts.h"

static int by_x(const void *a, const void *b)
{
    double x = ((const chart_point *)a)->x, y = ((const chart_point *)b)->x;
    return (x > y) - (x < y);
}

/* One prompt's line, the whole network's point first. */
static int line(page *p, int model, int subject, const char *prompt, bool share, chart_point *out)
{
    const study_measures *m = p->s->measures;
    int n = 0;
    for (int i = 0; i < m->deeps; i++) {
        const deep_row *r = &m->deep[i];
        const estimate *e = share ? &r->reused : &r->drift;
        if (r->model != model || r->subject != subject || strcmp(r->prompt, prompt) != 0 || !e->n)
            continue;
        if (!n && share)
            out[n++] = (chart_point){1, r->whole.mean, r->whole.low, r->whole.high};
        else if (!n)
            out[n++] = (chart_point){1, 0, NAN, NAN};
        out[n++] = (chart_point){r->deep_cache, e->mean, e->low, e->high};
    }
    qsort(out, (size_t)n, sizeof *out, by_x);
    return n;
}

static void deep_chart(page *p, int model, int subject, bool share)
{
    const study_measures *m = p->s->measures;
    const char *name = p->s->plan->model[model].name;
    chart_series *series = page_alloc(p, ((size_t)m->deeps + 1) * sizeof *series);
    int count = 0;
    for (int i = 0; i < m->deeps && !p->no_memory; i++) {
        const char *prompt = m->deep[i].prompt;
        bool seen = false;
        if (m->deep[i].model != model || m->deep[i].subject != subject) continue;
        for (int k = 0; k < count; k++) seen |= strcmp(series[k].name, prompt) == 0;
        chart_point *point = seen ? NULL : page_alloc(p, ((size_t)m->deeps + 1) * sizeof *point);
        int n = point ? line(p, model, subject, prompt, share, point) : 0;
        if (n)
            series[count] = (chart_series){
                .name = prompt, .point = point, .count = n, .style = count};
        count += n > 0;
    }
    const char *id = arena_format(&p->memory, "chart-deep-%s-%d-%d", share ? "share" : "drift",
                                  model, subject + 1);
    const char *title = share
                            ? arena_format(&p->memory,
                                           "%s: how much of the subject is left by a deep cache",
                                           name)
                            : arena_format(&p->memory,
                                           "%s: how far a deep cache leads from the whole network",
                                           name);
    if (!id || !title) p->no_memory = true;
    if (p->no_memory || !count) return;
    for (int k = 0; k < count; k++)
        if (!*series[k].name) series[k].name = "(empty prompt)";
    chart c = {
        .id = id,
        .title = title,
        .about = share ? "On the way from the class (0 %) to the subject (100 %), by the length of "
                         "the cache; 1 is the whole network in every evaluation."
                       : "From equal noise, in % of what two seeds differ under the same prompt: 0 "
                         "is the same picture, 100 another one.",
        .x_name = "deep cache",
        .y_name = "%",
        .from_zero = true,
        .series = series,
        .count = count};
    chart_write(p->out, &c);
}

void figures_deep(page *p, int section)
{
    const study_measures *m = p->s->measures;
    for (int model = 0; model < p->s->plan->models; model++) {
        if (deep_section(p->s->plan, model) != section) continue;
        for (int subject = -1, drawn = 0; subject < m->subjects; subject++) {
            bool any = false;
            for (int i = 0; i < m->deeps && !any; i++)
                any = m->deep[i].model == model && m->deep[i].subject == subject;
            if (any && !drawn++) deep_chart(p, model, subject, false);
            if (any && subject >= 0) deep_chart(p, model, subject, true);
        }
    }
}
