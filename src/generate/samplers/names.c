/* SPDX-License-Identifier: Apache-2.0
 *
 * names: what samplers and their options are called; see sampler.h. */
#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "row.h"
#include "sigma_text.h"

/* ---- names ---- */

static const char *const spacing_names[] = {"leading", "trailing", "linspace"};
static const char *const variance_names[] = {
    "fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log", "learned", "learned_range",
};

static int find_name(const char *const *names, int count, const char *text)
{
    for (int i = 0; i < count; i++)
        if (!strcmp(names[i], text)) return i;
    return -1;
}

int sampler_kind_count(void) { return sampler_table_count; }

bool sampler_kind_known(sampler_kind k) { return k >= 0 && k < sampler_table_count; }

static const sampler_row *row_of(sampler_kind k)
{
    assert(sampler_kind_known(k));
    return sampler_table[k];
}

/* A name without capitals, spaces, - and _, + as p: "DPM++ 2M" and "dpmpp_2m" are "dpmpp2m". */
typedef struct plain_name {
    char text[64];
} plain_name;

static plain_name plain(const char *name)
{
    plain_name out = {""};
    size_t n = 0;
    for (; *name && n + 1 < sizeof out.text; name++)
        if (!strchr(" _-", *name))
            out.text[n++] = (char)(*name == '+' ? 'p' : tolower((unsigned char)*name));
    if (*name) n = 0; /* longer than any */
    out.text[n] = '\0';
    return out;
}

static bool is_called(const sampler_row *row, const char *text)
{
    bool found = !strcmp(plain(row->name).text, text) || !strcmp(plain(row->label).text, text);
    for (const char *const *alias = row->aliases; !found && alias && *alias; alias++)
        found = !strcmp(plain(*alias).text, text);
    return found;
}

static bool find_row(sampler_kind *out, const char *text)
{
    for (sampler_kind k = 0; k < sampler_table_count; k++) {
        if (!is_called(sampler_table[k], text)) continue;
        *out = k;
        return true;
    }
    return false;
}

bool sampler_kind_parse(sampler_kind *out, const char *text)
{
    return find_row(out, plain(text).text);
}

bool sampler_choose(sampler_options *o, const char *text)
{
    plain_name name = plain(text);
    sampler_kind k;
    size_t length;
    if (find_row(&o->kind, name.text)) return true;
    const char *sigmas = sigmas_ending(name.text, &length);
    if (!sigmas) return false;
    name.text[length] = '\0';
    if (!find_row(&k, name.text) || !sampler_table[k]->has_sigmas) return false;
    o->kind = k;
    o->sigmas = sigmas;
    return true;
}

/* ---- the nearest ---- */

/* How many letters must be put in, left out or changed. */
static int apart(const char *a, const char *b)
{
    int n = (int)strlen(a), m = (int)strlen(b), row[2][sizeof(plain_name) + 1];
    for (int k = 0; k <= m; k++) row[0][k] = k;
    for (int i = 1; i <= n; i++) {
        int *now = row[i % 2], *last = row[(i + 1) % 2];
        now[0] = i;
        for (int k = 1; k <= m; k++) {
            int least = last[k - 1] + (a[i - 1] != b[k - 1]);
            if (last[k] + 1 < least) least = last[k] + 1;
            if (now[k - 1] + 1 < least) least = now[k - 1] + 1;
            now[k] = least;
        }
    }
    return row[n % 2][m];
}

const char *sampler_nearest(const char *text)
{
    plain_name wanted = plain(text);
    const char *nearest = NULL;
    int best = 1 + (int)strlen(wanted.text) / 2;
    for (int k = 0; k < sampler_table_count; k++) {
        const sampler_row *row = sampler_table[k];
        int far = apart(plain(row->name).text, wanted.text);
        for (const char *const *alias = row->aliases; alias && *alias; alias++) {
            int its = apart(plain(*alias).text, wanted.text);
            if (its < far) far = its;
        }
        if (far >= best) continue;
        best = far;
        nearest = row->name;
    }
    return nearest;
}

/* ---- what a row is ---- */

bool sampler_of_model(sampler_kind *out, const scheduler_config *c, error *e)
{
    const char *name = c->class_name, *algorithm = "";
    if (!strcmp(name, "DPMSolverMultistepScheduler")) {
        if (!strcmp(c->algorithm, "sde-dpmsolver++")) name = "dpmpp_2m_sde";
        if (strstr(c->algorithm, "dpmsolver") && !strstr(c->algorithm, "++"))
            algorithm = c->algorithm;
    }
    if (!*algorithm && sampler_kind_parse(out, name)) return true;
    return error_set(e, ERROR_USAGE,
                     "the model's scheduler is \"%s\"%s%s, which is none of the samplers here; "
                     "choose one with --sampler (likeness samplers lists them)",
                     c->class_name, *algorithm ? " with algorithm_type " : "", algorithm);
}

const char *sampler_kind_name(sampler_kind k) { return row_of(k)->name; }
const char *sampler_kind_label(sampler_kind k) { return row_of(k)->label; }
bool sampler_kind_has_eta(sampler_kind k) { return row_of(k)->has_eta; }
bool sampler_kind_draws(sampler_kind k, float eta)
{
    return row_of(k)->draws || (row_of(k)->has_eta && eta > 0);
}
bool sampler_kind_has_variance(sampler_kind k) { return row_of(k)->has_variance; }
bool sampler_kind_has_sigmas(sampler_kind k) { return row_of(k)->has_sigmas; }

int sampler_kind_evaluations(sampler_kind k)
{
    return row_of(k)->evaluations ? row_of(k)->evaluations : 1;
}

sampler_choices sampler_kind_choices(void)
{
    sampler_choices c = {""};
    size_t at = 0;
    for (int k = 0; k < sampler_table_count && at < sizeof c.text; k++) {
        const char *before = k == 0 ? "" : k + 1 < sampler_table_count ? ", " : " or ";
        at += (size_t)snprintf(c.text + at, sizeof c.text - at, "%s%s", before,
                               sampler_table[k]->name);
    }
    return c;
}

sampler_choices sampler_advice(const char *text)
{
    const char *nearest = sampler_nearest(text);
    sampler_choices all = sampler_kind_choices(), c = all;
    if (nearest) snprintf(c.text, sizeof c.text, "%s (or another: %.200s)", nearest, all.text);
    return c;
}

bool variance_parse(variance *out, const char *text)
{
    int found = find_name(variance_names, 6, text);
    if (found >= 0) *out = (variance)found;
    return found >= 0;
}

bool spacing_parse(spacing *out, const char *text)
{
    int found = find_name(spacing_names, 3, text);
    if (found >= 0) *out = (spacing)found;
    return found >= 0;
}

const char *variance_name(variance v) { return variance_names[v]; }
const char *spacing_name(spacing s) { return spacing_names[s]; }
