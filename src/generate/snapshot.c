/* SPDX-License-Identifier: Apache-2.0
 *
 * snapshot: copies of a run's state (generate.h). */
#include <stdlib.h>
#include <string.h>

#include "generate/generate.h"

/* The snapshot, then its parts, the strictest alignment first. */
typedef struct copy {
    generate_snapshot s;
    rng random;
    float latent[];
} copy;

generate_snapshot *generate_snapshot_copy(const generate_snapshot *s)
{
    copy *c = malloc(sizeof *c + s->numbers * sizeof *c->latent + s->deep_size + s->sampler_size);
    if (!c) return NULL;
    char *deep = (char *)(c->latent + s->numbers), *state = deep + s->deep_size;
    memcpy(c->latent, s->latent, s->numbers * sizeof *c->latent);
    if (s->sampler_size) memcpy(state, s->sampler, s->sampler_size);
    if (s->deep_size) memcpy(deep, s->deep, s->deep_size);
    c->random = *s->random;
    c->s = *s;
    c->s.latent = c->latent;
    c->s.random = &c->random;
    c->s.sampler = state;
    c->s.deep = deep;
    return &c->s;
}
