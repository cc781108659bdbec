/* SPDX-License-Identifier: Apache-2.0
 *
 * context: lk_context, the processor a caller works with, and how a failure gets to the caller. */
#include "api/api.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/platform.h"

_Static_assert((int)LK_CANCELLED == (int)ERROR_CANCELLED, "codes of errors are the same");

bool api_report(bool ok, const error *e, lk_error *out)
{
    if (ok || !out || out->code != LK_OK) return ok;
    out->code = (lk_code)e->code;
    snprintf(out->text, sizeof out->text, "%s", e->text);
    return ok;
}

const char *lk_version(void) { return LIKENESS_VERSION; }

void lk_free(void *memory) { free(memory); }

void lk_context_defaults(lk_context_options *o) { *o = (lk_context_options){0, LK_F32}; }

bool lk_context_open(lk_context **out, const lk_context_options *o, lk_error *caller)
{
    error e = {0};
    lk_context_options defaults;
    lk_context_defaults(&defaults);
    if (!o) o = &defaults;
    *out = NULL;
    lk_context *c = calloc(1, sizeof *c);
    bool ok = c || error_memory(&e, "a context", sizeof *c);
    ok = ok && (o->threads >= 0 || error_set(&e, ERROR_USAGE, "%d threads: not a number of threads",
                                             o->threads));
    int threads = o->threads, cores = cpu_count();
    ok = ok && device_open_cpu(&c->device, threads < cores ? threads : cores,
                               o->precision == LK_BF16 ? DTYPE_BF16 : DTYPE_F32, &e);
    if (ok)
        *out = c;
    else
        free(c);
    return api_report(ok, &e, caller);
}

void lk_context_close(lk_context **c)
{
    if (!*c) return;
    device_close(&(*c)->device);
    free(*c);
    *c = NULL;
}

const char *lk_context_device(const lk_context *c) { return c->device->name; }
int lk_context_threads(const lk_context *c) { return c->device->threads; }
