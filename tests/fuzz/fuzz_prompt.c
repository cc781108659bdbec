/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as a prompt, and as a negative one, in AUTOMATIC1111's syntax: parted, edited, weighted
 * and cut into chunks of the pocket model's tokens. */
#include "fuzz.h"

#include <string.h>

#include "generate/prompts/chunks.h"
#include "generate/prompts/script.h"

enum { EVALUATIONS = 7, LENGTH = 9 };

static void cut(const tokenizer *t, const edits *l)
{
    for (int i = 0; i < l->count; i++) {
        error e = {0};
        chunks c;
        bool ok = chunks_make(&c, t, LENGTH, l->item[i].text, &e);
        fuzz_check(ok, &e);
        for (int k = 0; ok && k < c.count * LENGTH; k++)
            if (c.ids[k] < 0) abort();
        chunks_close(&c);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static tokenizer *pocket;
    error e = {0};
    script s;
    char *text = malloc(size + 1);
    if (!text || (!pocket && !tokenizer_open(&pocket, SOURCE_DIR "/models/pocket/tokenizer", &e)))
        abort();
    memcpy(text, data, size);
    text[size] = 0;
    bool ok = script_open(&s, text, text, EVALUATIONS, 0, &e);
    fuzz_check(ok, &e);
    for (int i = 0; ok && i <= s.conditions; i++) cut(pocket, &s.part[i].texts);
    script_close(&s);
    free(text);
    return 0;
}
