/* SPDX-License-Identifier: Apache-2.0
 *
 * measure_json: measures.json, the tables of measure.h under their names: models by name, numbers
 * with nine digits, null where there is none. */
#include "measure.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>

#include "base/number.h"
#include "base/platform.h"
#include "file/json.h"

static json_t *number(double v)
{
    if (!isfinite(v)) return json_null();
    number_parse(number_rounded(v, 9).text, NULL, &v);
    return json_real(v);
}

static json_t *of(estimate x)
{
    return json_pack("{s:o, s:o, s:o, s:i}", "mean", number(x.n ? x.mean : NAN), "low",
                     number(x.low), "high", number(x.high), "n", x.n);
}

/* ---- one row each ---------------------------------------------------------------------------- */

typedef struct source {
    const study_measures *m;
    const study_plan *p;
} source;

static const char *name_of(const source *s, int which) { return s->p->model[which].name; }

static json_t *names_of(const source *s, const int *which, int n)
{
    json_t *list = json_array();
    for (int i = 0; list && i < n; i++)
        json_array_append_new(list, json_string(name_of(s, which[i])));
    return list;
}

static json_t *subject_json(const source *s, int i)
{
    const subject_row *r = &s->m->subject[i];
    return json_pack("{s:s, s:o, s:s, s:s?, s:i, s:i, s:o, s:o, s:o, s:o, s:b}", "base",
                     name_of(s, r->base), "models", names_of(s, r->model, r->models),
                     "instance_prompt", r->instance_prompt, "class_prompt", r->class_prompt,
                     "photos", r->photos, "class_pictures", r->class_images, "raw_subject",
                     of(r->raw_subject), "raw_class", of(r->raw_class), "subject", of(r->subject),
                     "of_class", of(r->of_class), "tells_apart", r->tells_apart);
}

static json_t *likeness_json(const source *s, int i)
{
    const likeness_row *r = &s->m->likeness[i];
    return json_pack("{s:i, s:s, s:s, s:o}", "subject", r->subject, "model", name_of(s, r->model),
                     "prompt", r->prompt, "share", of(r->share));
}

static json_t *change_json(const source *s, int i)
{
    const change_row *r = &s->m->change[i];
    return json_pack("{s:i, s:s, s:s, s:o, s:o, s:o}", "subject", r->subject, "model",
                     name_of(s, r->model), "prompt", r->prompt, "share", of(r->share), "pixels",
                     of(r->pixels), "drift", of(r->drift));
}

static json_t *contrast_json(const source *s, int i)
{
    const contrast_row *r = &s->m->contrast[i];
    return json_pack("{s:i, s:s, s:s, s:s, s:o, s:o}", "subject", r->subject, "model",
                     name_of(s, r->model), "other", name_of(s, r->other), "prompt", r->prompt,
                     "share", of(r->share), "drift", of(r->drift));
}

static json_t *wording_json(const source *s, int i)
{
    const wording_row *r = &s->m->wording[i];
    return json_pack("{s:i, s:s, s:s, s:o, s:o}", "subject", r->subject, "model",
                     name_of(s, r->model), "prompt", r->prompt, "share", of(r->share), "distance",
                     of(r->distance));
}

static json_t *switch_json(const source *s, int i)
{
    const switch_row *r = &s->m->switches[i];
    return json_pack("{s:i, s:s, s:s, s:s, s:i, s:i, s:o, s:o, s:o}", "subject", r->subject,
                     "first", name_of(s, r->first), "second", name_of(s, r->second), "prompt",
                     r->prompt, "at", r->at, "steps", r->steps, "share", of(r->share), "lost",
                     of(r->lost), "kept", of(r->kept));
}

static json_t *structure_json(const source *s, int i)
{
    const structure_row *r = &s->m->structure[i];
    return json_pack("{s:s, s:s, s:i, s:i, s:o, s:o, s:o, s:o}", "sampler",
                     lk_sampler_name(r->sampler), "prompt", r->prompt, "steps", r->steps, "most",
                     r->most, "correlation", of(r->correlation), "zero", of(r->zero), "kept",
                     of(r->kept), "detail", of(r->detail));
}

static json_t *crossing_json(const source *s, int i)
{
    const crossing_row *r = &s->m->crossing[i];
    return json_pack("{s:s, s:i, s:o}", "prompt", r->prompt, "steps", r->steps, "kept",
                     of(r->kept));
}

static json_t *deep_json(const source *s, int i)
{
    const deep_row *r = &s->m->deep[i];
    json_t *row = json_pack("{s:s, s:s, s:i, s:o, s:o, s:o, s:o, s:o}", "model",
                            name_of(s, r->model), "prompt", r->prompt, "deep_cache", r->deep_cache,
                            "whole", of(r->whole), "reused", of(r->reused), "share", of(r->share),
                            "pixels", of(r->pixels), "drift", of(r->drift));
    if (row && r->subject >= 0) json_object_set_new(row, "subject", json_integer(r->subject));
    return row;
}

static json_t *diversity_json(const source *s, int i)
{
    const diversity_row *r = &s->m->diversity[i];
    return json_pack("{s:s, s:s, s:o, s:o}", "model", name_of(s, r->model), "prompt", r->prompt,
                     "pixels", of(r->pixels), "of_base", of(r->of_base));
}

static json_t *field_json(const source *s, int i)
{
    const field_row *r = &s->m->field[i];
    return json_pack("{s:s, s:i, s:s?, s:s, s:o}", "measure", r->measure, "subject", r->subject,
                     "model", r->model < 0 ? NULL : name_of(s, r->model), "prompt", r->prompt,
                     "value", of(r->value));
}

/* ---- the file -------------------------------------------------------------------------------- */

static bool put_rows(json_t *j, const char *name, int count, const source *s,
                     json_t *(*row)(const source *, int))
{
    json_t *list = json_array();
    for (int i = 0; list && i < count; i++)
        if (json_array_append_new(list, row(s, i))) {
            json_decref(list);
            return false;
        }
    return list && !json_object_set_new(j, name, list);
}

bool study_measures_write(const study_measures *m, const study_plan *p, const char *folder,
                          error *e)
{
    source s = {m, p};
    json_t *j = json_object();
    bool ok = (j && put_rows(j, "subjects", m->subjects, &s, subject_json) &&
               put_rows(j, "likeness", m->likenesses, &s, likeness_json) &&
               put_rows(j, "change", m->changes, &s, change_json) &&
               put_rows(j, "contrast", m->contrasts, &s, contrast_json) &&
               put_rows(j, "wording", m->wordings, &s, wording_json) &&
               put_rows(j, "switches", m->switch_count, &s, switch_json) &&
               put_rows(j, "structure", m->structures, &s, structure_json) &&
               put_rows(j, "crossing", m->crossings, &s, crossing_json) &&
               put_rows(j, "deep_cache", m->deeps, &s, deep_json) &&
               put_rows(j, "diversity", m->diversities, &s, diversity_json) &&
               put_rows(j, "field", m->fields, &s, field_json) &&
               (!m->repeated ||
                !json_object_set_new(j, "ddim_again_is_the_same", json_boolean(m->same_again)))) ||
              error_memory(e, "measures.json", 4096);
    char *path = path_join(folder, "measures.json");
    ok = ok && (path ? json_write(j, path, e) : error_memory(e, "measures.json", 64));
    free(path);
    json_decref(j);
    return ok;
}
