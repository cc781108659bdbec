/* SPDX-License-Identifier: Apache-2.0
 *
 * text: tokenizes and encodes one prompt. */
#include "train/text.h"

#include <stdlib.h>

#include "pipeline/text.h"

bool prompt_text_open(prompt_text *out, device *d, const model *m, const char *prompt, error *e)
{
    size_t positions = (size_t)m->clip.positions, numbers = positions * (size_t)m->clip.hidden;
    *out = (prompt_text){.ids = malloc(positions * sizeof *out->ids),
                         .embedding = malloc(numbers * sizeof *out->embedding)};
    bool ok = (out->ids && out->embedding) ||
              error_memory(e, "a prompt's embedding", numbers * sizeof *out->embedding);
    ok = ok && tokenizer_encode(m->tokens, prompt, m->clip.positions, out->ids, &out->cut, e) &&
         text_encode(&(pipeline){d, m}, out->ids, 1, 0, out->embedding, e);
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
