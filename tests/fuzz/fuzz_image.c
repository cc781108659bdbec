/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as a picture (every format, EXIF and settings text included), read and made small. */
#include "fuzz.h"

#include "file/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    error e = {0};
    image m = {0}, small = {0};
    char *text = NULL;
    fuzz_file f = fuzz_open(data, size);
    bool ok = image_read(&m, &text, f.path, &e);
    fuzz_check(ok, &e);
    if (!ok && m.pixels) abort();
    if (ok && !image_resize(&small, &m, 3, 2, RESIZE_BILINEAR, &e)) fuzz_check(false, &e);
    image_free(&small);
    image_free(&m);
    free(text);
    fuzz_close(&f);
    return 0;
}
