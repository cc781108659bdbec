/* SPDX-License-Identifier: Apache-2.0
 *
 * options: see options.h. */
#include "base/options.h"

#include <string.h>

enum { SIZE_MOST = 1 << 16 }; /* of options; a larger one is no size */

bool options_take(void *own, size_t size, const void *given, const char *name, const char *version,
                  error *e)
{
    size_t its;
    if (!given) return true;
    memcpy(&its, given, sizeof its);
    if (its < sizeof its || its > SIZE_MOST)
        return error_set(e, ERROR_USAGE,
                         "%s: its size is %zu; fill it with its defaults function first", name,
                         its);
    for (size_t i = size; i < its; i++)
        if (((const char *)given)[i])
            return error_set(e, ERROR_USAGE,
                             "%s: has a field set that likeness %s does not know; use a later "
                             "one",
                             name, version);
    memcpy(own, given, its < size ? its : size);
    memcpy(own, &size, sizeof size);
    return true;
}

void options_give(void *out, size_t out_size, const void *own, size_t size)
{
    if (out_size < sizeof out_size) return;
    memset(out, 0, out_size);
    memcpy(out, own, out_size < size ? out_size : size);
    memcpy(out, &out_size, sizeof out_size);
}
