/* SPDX-License-Identifier: Apache-2.0
 *
 * snapshot: lk_snapshot, a run after some of its steps. */
#include "api/api.h"

#include <stdlib.h>
#include <string.h>

bool lk_snapshot_copy(lk_snapshot **out, const lk_snapshot *s, lk_error *caller)
{
    error e = {0};
    size_t bytes = s->count * sizeof *s->latent;
    *out = calloc(1, sizeof **out);
    if (*out) (*out)->latent = malloc(bytes);
    bool ok = (*out && (*out)->latent) || error_memory(&e, "a snapshot", bytes);
    if (ok) {
        lk_snapshot *c = *out;
        memcpy(c->latent, s->state.latent, bytes);
        c->random = *s->state.random;
        c->count = s->count;
        c->state = (generate_snapshot){s->state.step, c->latent, &c->random};
    } else {
        lk_snapshot_close(out);
    }
    return api_report(ok, &e, caller);
}

void lk_snapshot_close(lk_snapshot **s)
{
    if (!*s) return;
    free((*s)->latent);
    free(*s);
    *s = NULL;
}

int lk_snapshot_step(const lk_snapshot *s) { return s->state.step; }
