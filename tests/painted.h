/* SPDX-License-Identifier: Apache-2.0
 *
 * painted: pictures of which a test knows how much of a subject is in them. */
#ifndef LIKENESS_TESTS_PAINTED_H
#define LIKENESS_TESTS_PAINTED_H

#include "support.h"

#include "base/platform.h"
#include "file/image.h"

/* A ground that changes with `ground`; where mark is not 0, a mark of that strength upon it. */
static inline void paint(const char *path, int ground, int mark)
{
    image m;
    error e = {0};
    assert_true(image_new(&m, 32, 32, &e));
    for (int y = 0; y < 32; y++)
        for (int x = 0; x < 32; x++)
            for (int c = 0; c < 3; c++) {
                int v = 60 + (ground * (17 + 12 * c)) % 120 + y * (ground % 3);
                int left = 4 * (1 + ground % 3), top = 4 * (1 + ground % 4);
                bool inside = x >= left && x < left + 16 && y >= top && y < top + 16;
                int own = (x - left) / 4 % 2 == (y - top) / 4 % 2 ? 255 * (c == 0) : 255 * (c == 2);
                if (inside) v += (own - v) * mark / 100;
                m.pixels[3 * (32 * y + x) + c] = (uint8_t)v;
            }
    assert_true(image_write(&m, path, NULL, 100, &e));
    image_free(&m);
}

/* The toy's latents, which are small beside the noise, are so no more: for a judge. */
static inline void scale_latents(const char *in)
{
    char *path = path_join(in, "vae/config.json"), *text = NULL;
    size_t size = 0;
    error e = {0};
    assert_true(path && file_read(path, 1 << 16, &text, &size, &e));
    char *at_scale = strstr(text, "\"scaling_factor\": 1.0");
    assert_non_null(at_scale);
    memcpy(at_scale + strlen("\"scaling_factor\": "), "30 ", 3);
    FILE *f = fopen(path, "w");
    assert_int_equal(fwrite(text, 1, size, f), size);
    fclose(f);
    free(text), free(path);
}

#endif
