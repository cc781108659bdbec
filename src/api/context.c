/* SPDX-License-Identifier: Apache-2.0
 *
 * context: lk_context, the device a caller works with; how failures and progress get to the caller,
 * and his options to us. */
#include "api/api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/platform.h"

_Static_assert((int)LK_DEVICE == (int)ERROR_DEVICE, "codes of errors are the same");

bool api_report(bool ok, const error *e, lk_error *out)
{
    if (ok || !out || out->code != LK_OK) return ok;
    out->code = (lk_code)e->code;
    snprintf(out->text, sizeof out->text, "%s", e->text);
    return ok;
}

const char *lk_version(void) { return LIKENESS_VERSION; }

void lk_free(void *memory) { free(memory); }

/* ---- structs that begin with their size ---- */

bool api_options(void *own, size_t size, const void *given, const char *name, error *e)
{
    return options_take(own, size, given, name, LIKENESS_VERSION, e);
}

/* ---- progress ---- */

bool api_watch_tell(api_watch *w, int step, int steps)
{
    if (step == 0) w->start = clock_seconds();
    lk_progress p = {sizeof p, w->picture, w->pictures, step, steps, clock_seconds() - w->start};
    bool stop = w->progress && w->progress(w->user, &p) != 0;
    return stop || (w->session && session_stopped(w->session));
}

static bool on_work(void *user, int64_t done, int64_t total)
{
    return api_watch_tell(user, (int)done, (int)total);
}

void api_watch_start(api_watch *w, lk_progress_callback *progress, void *user, lk_session *session)
{
    *w = (api_watch){
        .progress = progress, .user = user, .session = session, .start = clock_seconds()};
    w->work = (work_watch){on_work, w};
}

/* ---- precision ---- */

static const dtype precisions[] = {
    [LK_F32] = DTYPE_F32, [LK_BF16] = DTYPE_BF16, [LK_F16] = DTYPE_F16};

static bool is_precision(lk_precision p) { return (int)p >= LK_F32 && (int)p <= LK_F16; }

static lk_precision precision_of(dtype t)
{
    return t == DTYPE_F16 ? LK_F16 : t == DTYPE_BF16 ? LK_BF16 : LK_F32;
}

bool lk_precision_parse(lk_precision *out, const char *name)
{
    dtype found;
    if (!precision_parse(&found, name)) return false;
    *out = precision_of(found);
    return true;
}

const char *lk_precision_name(lk_precision p)
{
    return is_precision(p) ? precision_name(precisions[p]) : NULL;
}

const char *lk_mixed_precision_name(lk_precision p)
{
    return is_precision(p) ? precision_mixed_name(precisions[p]) : NULL;
}

/* ---- context ---- */

static const lk_context_options context_defaults = {.size = sizeof(lk_context_options)};

void lk_context_defaults_sized(lk_context_options *o, size_t size)
{
    options_give(o, size, &context_defaults, sizeof context_defaults);
}

static bool context_open(lk_context *c, const lk_context_options *o, error *e)
{
    int threads = o->threads, cores = cpu_count();
    if (threads < 0)
        return error_set(e, ERROR_USAGE, "%d threads: not a number of threads", threads);
    if (!is_precision(o->precision))
        return error_set(e, ERROR_USAGE, "precision %d: there are LK_F32, LK_BF16 and LK_F16",
                         (int)o->precision);
    c->log = o->log;
    c->user = o->user;
    device_options chosen = {.threads = threads < cores ? threads : cores,
                             .precision = precisions[o->precision],
                             .passed_over = &c->passed_over};
    return device_open(&c->device, o->device ? o->device : "auto", &chosen, e);
}

bool lk_context_open(lk_context **out, const lk_context_options *given, lk_error *caller)
{
    error e = {0};
    lk_context_options o = context_defaults;
    *out = NULL;
    lk_context *c = calloc(1, sizeof *c);
    bool ok = (c || error_memory(&e, "a context", sizeof *c)) &&
              api_options(&o, sizeof o, given, "lk_context_options", &e) && context_open(c, &o, &e);
    if (ok) {
        pthread_mutex_init(&c->lock, NULL);
        *out = c;
    } else {
        free(c);
    }
    return api_report(ok, &e, caller);
}

void lk_context_close(lk_context **c)
{
    if (!c || !*c) return;
    device_close(&(*c)->device);
    pthread_mutex_destroy(&(*c)->lock);
    free(*c);
    *c = NULL;
}

const char *lk_context_device(const lk_context *c) { return c->device->name; }
const char *lk_context_device_note(const lk_context *c) { return c->passed_over.text; }
int lk_context_threads(const lk_context *c) { return c->device->threads; }
lk_precision lk_context_precision(const lk_context *c)
{
    return precision_of(c->device->weight_type);
}

/* ---- devices ---- */

bool lk_device_at_sized(int i, lk_device *out, size_t size, lk_error *caller)
{
    error e = {0};
    device_card card;
    const device_kind *kind;
    for (int k = 0, left = i; i >= 0 && e.code == ERROR_NONE && (kind = device_kind_at(k)); k++)
        for (int n = 0; kind->card && kind->card(n, &card, &e); n++) {
            if (left-- > 0) continue;
            lk_device d = {
                .memory = card.memory, .left = card.left, .bf16 = card.bf16, .f16 = card.f16};
            memcpy(d.name, card.name, sizeof d.name);
            memcpy(d.text, card.text, sizeof d.text);
            options_give(out, size, &d, sizeof d);
            return true;
        }
    return api_report(false, &e, caller);
}
