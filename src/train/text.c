/* SPDX-License-Identifier: Apache-2.0
 *
 * text: tokenizes and encodes one prompt. */
#include "train/text.h"

#include <stdlib.h>

static bool encode(prompt_text *t, device *d, const model *m, graph *g, error *e)
{
    tensor *in = graph_input(g, "tokens", DTYPE_I32, 2, (int64_t[]){1, m->clip.positions});
    tensor *state = cast(g, clip_build(g, &m->clip, in, 0), DTYPE_F32);
    graph_output(g, state);
    if (!graph_plan(g, d, e) || !graph_bind(g, &m->clip_weights, e) || !graph_allocate(g, e))
        return false;
    graph_write(g, in, t->ids);
    if (!graph_run_checked(g, e)) return false;
    graph_read(g, state, t->embedding);
    return true;
}

bool prompt_text_open(prompt_text *out, device *d, const model *m, const char *prompt, error *e)
{
    size_t positions = (size_t)m->clip.positions, numbers = positions * (size_t)m->clip.hidden;
    graph *g = NULL;
    *out = (prompt_text){.ids = malloc(positions * sizeof *out->ids),
                         .embedding = malloc(numbers * sizeof *out->embedding)};
    bool ok = (out->ids && out->embedding) ||
              error_memory(e, "a prompt's embedding", numbers * sizeof *out->embedding);
    ok = ok && tokenizer_encode(m->tokens, prompt, m->clip.positions, out->ids, &out->cut, e) &&
         graph_open(&g, d->compute, e) && encode(out, d, m, g, e);
    graph_close(&g);
    if (!ok) prompt_text_close(out);
    return ok;
}

void prompt_text_close(prompt_text *t)
{
    free(t->ids);
    free(t->embedding);
    free(t->cut);
    *t = (prompt_text){0};
}
