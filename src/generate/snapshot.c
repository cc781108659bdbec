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
    copy *c = malloc(sizeof *c + s->numbers * sizeof *c->latent + s->sampler_size);
    if (!c) return NULL;
    void *state = c->latent + s->numbers;
    memcpy(c->latent, s->latent, s->numbers * sizeof *c->latent);
    if (s->sampler_size) memcpy(state, s->sampler, s->sampler_size);
    c->random = *s->random;
    c->s = *s;
    c->s.latent = c->latent;
    c->s.random = &c->random;
    c->s.sampler = state;
    return &c->s;
}
