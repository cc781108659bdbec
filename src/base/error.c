/* SPDX-License-Identifier: Apache-2.0
 *
 * error: filling and prefixing the one message a failure carries upwards. */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

bool error_set(error *e, error_code code, const char *format, ...)
{
    if (!e || e->code != ERROR_NONE) return false;
    e->code = code;
    va_list args;
    va_start(args, format);
    vsnprintf(e->text, sizeof e->text, format, args);
    va_end(args);
    return false;
}

bool error_memory(error *e, const char *what, unsigned long long bytes)
{
    return error_set(e, ERROR_MEMORY, "not enough memory for %s (%llu bytes)", what, bytes);
}

const char *error_reason(int code)
{
    const char *text = strerrordesc_np(code);
    return text ? text : "unknown error";
}

bool error_prefix(error *e, const char *prefix)
{
    if (!e || e->code == ERROR_NONE) return false;
    char old[sizeof e->text];
    memcpy(old, e->text, sizeof old);
    size_t n = (size_t)snprintf(e->text, sizeof e->text, "%.1000s: ", prefix);
    size_t length = strlen(old), room = sizeof e->text - 1 - n;
    if (length > room) length = room;
    memcpy(e->text + n, old, length);
    e->text[n + length] = '\0';
    return false;
}

bool error_suffix(error *e, const char *suffix)
{
    if (!e || e->code == ERROR_NONE) return false;
    size_t n = strlen(e->text);
    snprintf(e->text + n, sizeof e->text - n, "%s", suffix);
    return false;
}
