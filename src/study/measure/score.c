/* SPDX-License-Identifier: Apache-2.0
 *
 * score: places that are found in every photo of the subject and in no picture of its class are the
 * subject's own marks; they decide. A place of a changing background is not found in the other
 * photos, and one of any dog is found in the class. */
#include "score.h"

#include <math.h>
#include <stdlib.h>

/* docs/MEASURES.md has what else was tried. A cosine counts exponentially, so that what is only a
 * little like a mark does not add up to one. */
static const double softness = 0.2, least_spread = 0.02;

static double strength(float cosine) { return exp(((double)cosine - 1) / softness); }

bool scale_open(subject_scale *s, error *e)
{
    size_t n = (size_t)s->photos * (size_t)s->places;
    s->sum = calloc(n + 1, sizeof *s->sum);
    s->squares = calloc(n + 1, sizeof *s->squares);
    if (!s->sum || !s->squares) {
        scale_close(s);
        return error_memory(e, "the measure of likeness", n * sizeof *s->sum);
    }
    for (int c = 0; c < s->classes; c++)
        for (size_t i = 0; i < n; i++) {
            double v = strength(s->of_class[c][i]);
            s->sum[i] += v;
            s->squares[i] += v * v;
        }
    return true;
}

void scale_close(subject_scale *s)
{
    free(s->sum), free(s->squares);
    s->sum = s->squares = NULL;
}

double scale_score(const subject_scale *s, const float *match)
{
    int out_photo = -1, classes = s->classes;
    bool in_class = false;
    double found = 0, all = 0;
    for (int k = 0; k < s->photos; k++)
        if (s->own[k] == match) out_photo = k;
    for (int c = 0; c < s->classes; c++)
        if (s->of_class[c] == match) in_class = true;
    if (in_class) classes--;
    int others = s->photos - 1 - (out_photo >= 0); /* in which a photo's places are looked for */
    if (others < 1 || classes < 2) return NAN;
    for (int k = 0; k < s->photos; k++) {
        if (k == out_photo) continue;
        for (int p = 0; p < s->places; p++) {
            size_t at = (size_t)k * (size_t)s->places + (size_t)p;
            double here = strength(match[at]), own = 0;
            for (int o = 0; o < s->photos; o++)
                if (o != k && o != out_photo) own += strength(s->own[o][at]) / others;
            double sum = s->sum[at] - (in_class ? here : 0),
                   squares = s->squares[at] - (in_class ? here * here : 0);
            double mean = sum / classes, left = squares / classes - mean * mean;
            double spread = sqrt(left > 0 ? left : 0) + least_spread * mean;
            if (own <= mean) continue;
            double weight = (own - mean) / spread, share = (here - mean) / (own - mean);
            weight *= weight * weight;
            found += weight * (share < 1 ? share : 1);
            all += weight;
        }
    }
    return all > 0 ? found / all : NAN;
}
