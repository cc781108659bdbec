/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as the EXIF of a picture; a text that is found is written as EXIF and found again. */
#include "fuzz.h"

#include <string.h>

#include "file/formats.h"

/* What is read must lie inside the bytes: they are in memory of their own, to the byte. */
static picture read_alone(const uint8_t *data, size_t size)
{
    picture p = {.orientation = 1};
    uint8_t *alone = malloc(size);
    if (size && !alone) abort();
    if (size) memcpy(alone, data, size);
    exif_read(&p, alone, size);
    free(alone);
    if (p.orientation < 1 || p.orientation > 8) abort();
    return p;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    picture p = read_alone(data, size);
    if (p.text && p.text[0]) {
        size_t made_size = 0;
        uint8_t *made = exif_make(p.text, &made_size);
        if (!made) abort();
        picture again = read_alone(made, made_size);
        if (!again.text || !again.text[0]) abort();
        free(again.text);
        free(made);
    }
    free(p.text);
    return 0;
}
