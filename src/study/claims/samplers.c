/* SPDX-License-Identifier: Apache-2.0
 *
 * samplers: what DDPM and DDIM do at few steps. */
#include <string.h>

#include "claims.h"

/* The first shown section in which one model makes a prompt's pictures with this sampler at two
 * numbers of steps, or where `other` too is among them; -1: none. */
static int section_of(const study_plan *p, lk_sampler kind, bool needs_other)
{
    for (int i = 0; i < p->sections; i++) {
        const study_section *s = &p->section[i];
        int steps = 0;
        bool varies = false, other = false;
        for (int k = 0; k < s->rows * s->columns && !s->hidden; k++) {
            const study_cell *c = &s->cell[k];
            if (cell_model(c) < 0) continue;
            if (c->sampler != kind) {
                other = true;
                continue;
            }
            varies |= steps && steps != c->steps;
            steps = c->steps;
        }
        if (needs_other ? other && steps : varies) return i;
    }
    return -1;
}

/* The row of a prompt with the fewest steps, or with the most of those below the reference. */
static const structure_row *row_of(const claims *c, lk_sampler kind, const char *prompt, bool most)
{
    const structure_row *found = NULL;
    for (int i = 0; i < c->m->structures; i++) {
        const structure_row *r = &c->m->structure[i];
        if (r->sampler != kind || r->steps >= r->most || strcmp(r->prompt, prompt) != 0) continue;
        if (!found || (most ? r->steps > found->steps : r->steps < found->steps)) found = r;
    }
    return found;
}

static const structure_row *fewest(const claims *c, lk_sampler kind, const char *prompt)
{
    return row_of(c, kind, prompt, false);
}

/* Whether row i is the first of its sampler and prompt. */
static bool is_first(const claims *c, int i)
{
    const structure_row *r = &c->m->structure[i];
    for (int k = 0; k < i; k++)
        if (c->m->structure[k].sampler == r->sampler &&
            !strcmp(c->m->structure[k].prompt, r->prompt))
            return false;
    return true;
}

/* "Under “a photo of a dog”, " where there are several prompts. */
static void put_prompt(claims *c, const char *prompt)
{
    if (!*prompt) return;
    fputs("Under ", c->out);
    put_quoted(c, prompt);
    fputs(": ", c->out);
}

static void said_detail(claims *c, const structure_row *r)
{
    claim_begin(c, section_of(c->plan, r->sampler, false), "");
    html_print(c->out, "%s is detailed at %d steps and blurred at %d.",
               lk_sampler_label(r->sampler), r->most, r->steps);
    claim_answer(c);
    put_prompt(c, r->prompt);
    html_print(c->out, "at %d steps %s&rsquo;s pictures have ", r->steps,
               lk_sampler_label(r->sampler));
    put_share(c, &r->detail);
    html_print(c->out, " of the fine detail that they have at %d. (Noise counts as detail.)",
               r->most);
    if (is_above(&r->detail, 100)) fputs(" That is more, not less.", c->out);
    if (has_interval(&r->detail) && !is_above(&r->detail, 100) && !is_below(&r->detail, 100))
        fputs(" No measurable difference.", c->out);
    claim_end(c, !has_interval(&r->detail)   ? VERDICT_NOT_MEASURABLE
                 : is_below(&r->detail, 100) ? VERDICT_SHOWN
                                             : VERDICT_NOT_SHOWN);
}

static void said_kept(claims *c, const structure_row *r)
{
    const structure_row *other = fewest(c, LK_DDPM, r->prompt);
    claim_begin(c, section_of(c->plan, LK_DDIM, false), "");
    html_print(c->out, "DDIM at %d steps keeps the structure of %d.", r->steps, r->most);
    claim_answer(c);
    put_prompt(c, r->prompt);
    fputs("it keeps ", c->out);
    put_share(c, &r->kept);
    html_print(
        c->out,
        " of the structure that its picture of %d steps from the same noise has (0 %%: no more "
        "than another seed&rsquo;s picture, 100 %%: the same picture).",
        r->most);
    if (other && other->steps == r->steps) {
        fputs(" DDPM keeps ", c->out);
        put_share(c, &other->kept);
        if (!has_interval(&r->kept) || !has_interval(&other->kept))
            fputs(".", c->out);
        else if (are_apart(&r->kept, &other->kept))
            html_print(c->out, ": %s keeps more.",
                       r->kept.mean > other->kept.mean ? "DDIM" : "DDPM");
        else
            fputs(": no measurable difference.", c->out);
    }
    claim_end(c, !has_interval(&r->kept)  ? VERDICT_NOT_MEASURABLE
                 : is_above(&r->kept, 50) ? VERDICT_SHOWN
                                          : VERDICT_NOT_SHOWN);
}

/* The crossing at the most steps of each prompt. */
static const crossing_row *most_crossing(const claims *c, int i)
{
    const crossing_row *r = &c->m->crossing[i];
    for (int k = 0; k < c->m->crossings; k++) {
        const crossing_row *other = &c->m->crossing[k];
        if (!strcmp(other->prompt, r->prompt) &&
            (other->steps > r->steps || (other->steps == r->steps && k < i)))
            return NULL;
    }
    return r;
}

/* Elsewhere: less like DDIM's picture than DDIM's own of the next fewer steps is, or, where that is
 * not there, no more like it than another seed's. */
static void said_elsewhere(claims *c, const crossing_row *r)
{
    const structure_row *own = row_of(c, LK_DDIM, r->prompt, true);
    bool has_own = own && own->most == r->steps && has_interval(&own->kept);
    bool shown = has_own ? is_below(&r->kept, own->kept.low) : !is_above(&r->kept, 0);
    claim_begin(c, section_of(c->plan, LK_DDPM, true), "");
    fputs("DDPM&rsquo;s noise leads elsewhere, even from equal noise.", c->out);
    claim_answer(c);
    put_prompt(c, r->prompt);
    html_print(c->out, "at %d steps DDPM&rsquo;s picture shares ", r->steps);
    put_share(c, &r->kept);
    fputs(" of the structure of DDIM&rsquo;s picture from the same noise", c->out);
    if (has_own) {
        html_print(c->out, "; DDIM&rsquo;s own at %d steps shares ", own->steps);
        put_share(c, &own->kept);
    }
    fputs(".", c->out);
    if (has_interval(&r->kept) && !is_above(&r->kept, 0))
        fputs(" It is not measurably nearer than another seed&rsquo;s.", c->out);
    claim_end(c, !has_interval(&r->kept) ? VERDICT_NOT_MEASURABLE
                 : shown                 ? VERDICT_SHOWN
                                         : VERDICT_NOT_SHOWN);
}

static void said_repeated(claims *c)
{
    int section = section_of(c->plan, LK_DDIM, false);
    claim_begin(c, section, "");
    fputs("DDIM is deterministic.", c->out);
    claim_answer(c);
    fputs(c->m->same_again
              ? "Its first picture of this study was made a second time: every pixel is the same."
              : "Its first picture of this study was made a second time: it came out otherwise.",
          c->out);
    claim_end(c, c->m->same_again ? VERDICT_SHOWN : VERDICT_NOT_SHOWN);
}

void claims_samplers(claims *c)
{
    const study_measures *m = c->m;
    for (int i = 0; i < m->structures; i++) {
        const structure_row *r = fewest(c, LK_DDPM, m->structure[i].prompt);
        if (m->structure[i].sampler == LK_DDPM && is_first(c, i) && r) said_detail(c, r);
    }
    for (int i = 0; i < m->crossings; i++) {
        const crossing_row *r = most_crossing(c, i);
        if (r) said_elsewhere(c, r);
    }
    for (int i = 0; i < m->structures; i++) {
        const structure_row *r = fewest(c, LK_DDIM, m->structure[i].prompt);
        if (m->structure[i].sampler == LK_DDIM && is_first(c, i) && r) said_kept(c, r);
    }
    if (m->repeated) said_repeated(c);
}
