/* SPDX-License-Identifier: Apache-2.0
 *
 * judge: see judge.h. */
#include "judge.h"

#include <math.h>
#include <string.h>

/* docs/MEASURES.md has the candidates: those that the engine takes by itself came first. */
lk_features_options judge_options(int noises)
{
    lk_features_options o;
    lk_features_defaults(&o);
    o.draws = noises;
    return o;
}

/* What the engine says of "the picture: ..." is told of its name. */
static bool failed(const lk_error *why, const char *where, error *e)
{
    static const char nameless[] = "the picture: ";
    size_t n = strlen(nameless);
    if (strncmp(why->text, nameless, n) != 0) return engine_failed(why, e);
    return error_set(e, (error_code)why->code, "%s: %s%s", where, why->text + n,
                     why->code == LK_FORMAT ? "; remove it, and run the study again" : "");
}

static void to_unit(view *v)
{
    size_t size = (size_t)v->size;
    for (int p = 0; p < v->places; p++) {
        float *at = v->value + (size_t)p * size;
        double squares = 0;
        for (size_t c = 0; c < size; c++) squares += (double)at[c] * (double)at[c];
        for (size_t c = 0; c < size; c++)
            at[c] = (float)((double)at[c] / (squares > 0 ? sqrt(squares) : 1));
    }
}

bool judge_look(lk_features *eye, const lk_image *picture, const char *where, view *out, error *e)
{
    lk_error why = {0};
    int shape[3];
    *out = (view){0};
    if (!lk_features_look(&out->value, shape, eye, picture, &why)) return failed(&why, where, e);
    out->places = shape[0] * shape[1];
    out->size = shape[2];
    to_unit(out);
    return true;
}

void view_close(view *v)
{
    lk_free(v->value);
    *v = (view){0};
}

void view_match(const view *of, const view *x, float *cosine)
{
    size_t size = (size_t)of->size;
    for (int p = 0; p < of->places; p++) {
        const float *a = of->value + (size_t)p * size;
        double most = -1;
        for (int q = 0; q < x->places; q++) {
            const float *b = x->value + (size_t)q * size;
            double sum = 0;
            for (size_t c = 0; c < size; c++) sum += (double)a[c] * (double)b[c];
            if (sum > most) most = sum;
        }
        cosine[p] = (float)most;
    }
}
