/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as a tokenizer.json, then a prompt with it; and any bytes as a prompt of the pocket
 * model. */
#include "fuzz.h"

#include <fcntl.h>
#include <string.h>

#include "model/tokenizer.h"

static void encode(const tokenizer *t, const char *text)
{
    error e = {0};
    int32_t ids[16];
    char *cut = NULL;
    bool ok = tokenizer_encode(t, text, 16, ids, &cut, &e);
    fuzz_check(ok, &e);
    for (int i = 0; ok && i < 16; i++)
        if (ids[i] < 0) abort();
    free(cut);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static tokenizer *pocket;
    static char folder[] = "/tmp/likeness-fuzz-XXXXXX", path[64];
    error e = {0};
    tokenizer *t;
    char *text = malloc(size + 1);
    if (!pocket) {
        if (!mkdtemp(folder) || !tokenizer_open(&pocket, SOURCE_DIR "/models/pocket/tokenizer", &e))
            abort();
        snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    }
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    if (!text || fd < 0) abort();
    memcpy(text, data, size);
    text[size] = 0;
    fuzz_write(fd, data, size);
    close(fd);
    bool ok = tokenizer_open(&t, folder, &e);
    fuzz_check(ok, &e);
    if (ok) {
        encode(t, "a photo of sks dog, it's 2");
        tokenizer_close(&t);
    }
    encode(pocket, text);
    free(text);
    unlink(path);
    return 0;
}
