/* SPDX-License-Identifier: Apache-2.0
 *
 * snapshot: lk_snapshot, a run after some of its steps. */
#include "api/api.h"

#include <stdlib.h>

bool lk_snapshot_copy(lk_snapshot **out, const lk_snapshot *s, lk_error *caller)
{
    error e = {0};
    *out = (lk_snapshot *)generate_snapshot_copy(&s->state); /* its first and only member */
    return api_report(*out || error_memory(&e, "a snapshot", s->state.numbers * sizeof(float)), &e,
                      caller);
}

void lk_snapshot_close(lk_snapshot **s)
{
    if (!s) return;
    free(*s);
    *s = NULL;
}

int lk_snapshot_step(const lk_snapshot *s) { return s->state.step; }
