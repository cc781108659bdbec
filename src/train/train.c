/* SPDX-License-Identifier: Apache-2.0
 *
 * train: the flow of a run. */
#include "train/train.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/folder.h"
#include "base/number.h"
#include "base/platform.h"
#include "model/hash.h"
#include "model/save.h"
#include "train/checkpoint.h"
#include "train/record.h"

typedef struct run {
    trainer trainer;
    const picture_maker *maker;
    const train_events *events;
    checkpoint_owner owner;
    record *record;
    int lock;
    int64_t saved;       /* the update of the last checkpoint; 0: none */
    double began;
    int64_t began_at;    /* the updates that were done when this process began */
} run;

__attribute__((format(printf, 2, 3)))
static void say(const train_events *events, const char *format, ...)
{
    char line[2048];
    va_list args;
    if (!events->say) return;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    events->say(events->user, line);
}

/* ---- class pictures ------------------------------------------------------------------------- */

static bool class_progress(void *user, int done, int total)
{
    const train_events *events = user;
    train_progress p = {.done = done, .total = total, .class_pictures = true};
    return events->progress && events->progress(events->user, &p);
}

static bool make_class_pictures(const train_settings *s, const model *m, const picture_maker *maker,
                                const train_events *events, error *e)
{
    char hash[65], *warning = NULL;
    int made = 0;
    if (!s->with_prior_preservation || s->prior_from_base) return true;
    model_hash(m, hash);
    class_request r = {.folder = s->class_data_dir,
                       .prompt = s->class_prompt,
                       .wanted = s->num_class_images,
                       .seed = s->seed,
                       .model_hash = hash,
                       .progress = class_progress,
                       .user = (void *)(uintptr_t)events};
    bool ok = class_pictures_make(&r, m, maker, &made, &warning, e);
    if (made) say(events, "%s: %d class pictures made", s->class_data_dir, made);
    if (warning) say(events, "warning: %s", warning);
    free(warning);
    return ok;
}

/* ---- before the first step ------------------------------------------------------------------- */

static void say_skipped(const train_events *events, const photo_set *set)
{
    if (set->skipped) say(events, "warning: %s", set->skipped);
    for (size_t i = 0; i < set->count; i++)
        if (set->item[i].picture.frames > 1)
            say(events, "warning: %s: holds %d pictures, of which the first is taken", set->item[i].path,
                set->item[i].picture.frames);
}

/* What the run will take, and whether the disk has room for its result. */
static bool forecast(const run *r, error *e)
{
    const trainer *t = &r->trainer;
    train_needs n = trainer_needs(t);
    double total = n.weights + n.gradients_and_activations + n.encoder;
    double result = (double)t->parameters.unet.weights_size +
                    (double)t->parameters.clip.weights_size;
    double space = (double)folder_space(t->settings.output_dir);
    say(r->events, "%lld steps on %zu pictures%s; memory about %s (weights and optimizer %s, "
        "gradients and activations %s); latents %s", (long long)t->total, t->instances.count,
        t->classes.count ? " and as many class pictures" : "", number_bytes(total).text,
        number_bytes(n.weights).text, number_bytes(n.gradients_and_activations + n.encoder).text,
        latents_cached(t->latents) ? "computed once" : "computed each step");
    return result <= space ||
           error_set(e, ERROR_FILE, "%s: the trained model takes %s and the disk has %s left; "
                     "free some space or choose another --output_dir", t->settings.output_dir,
                     number_bytes(result).text, number_bytes(space).text);
}

static bool resume(run *r, error *e)
{
    trainer *t = &r->trainer;
    const char *from = t->settings.resume_from_checkpoint;
    char *path = NULL;
    if (!from) return true;
    if (!checkpoint_load(&r->owner, t, from, &path, e)) return false;
    r->saved = t->done;
    bool more = t->done < t->total ||
                error_set(e, ERROR_USAGE, "%s has %lld updates already and --max_train_steps is %lld; "
                          "ask for more", path, (long long)t->done, (long long)t->total);
    if (more) say(r->events, "going on from %s", path);
    free(path);
    return more;
}

static bool prepare(run *r, const train_settings *s, device *d, const model *m, error *e)
{
    if (!path_make_dir(s->output_dir, e) || !folder_lock(&r->lock, s->output_dir, e) ||
        !checkpoint_sweep(s->output_dir, e) ||
        !make_class_pictures(s, m, r->maker, r->events, e) ||
        !trainer_open(&r->trainer, d, m, s, e))
        return false;
    say_skipped(r->events, &r->trainer.instances);
    say_skipped(r->events, &r->trainer.classes);
    checkpoint_owner_of(&r->owner, &r->trainer);
    return resume(r, e) && forecast(r, e) &&
           record_open(&r->record, s->output_dir, r->trainer.done, e) &&
           record_settings(&r->trainer, r->owner.model_hash, e);
}

/* ---- the steps ------------------------------------------------------------------------------- */

/* A checkpoint that cannot be written does not end the run: the disk may have room again. */
static bool save_checkpoint(run *r, error *e)
{
    error why = {0};
    if (checkpoint_save(&r->owner, &r->trainer, &why)) {
        r->saved = r->trainer.done;
        return true;
    }
    if (why.code != ERROR_FILE) return error_set(e, why.code, "%s", why.text);
    say(r->events, "warning: the checkpoint of step %lld could not be written, training goes on: %s",
        (long long)r->trainer.done, why.text);
    return true;
}

static bool validation_picture(run *r, const model *tuned, int k, const char *folder, error *e)
{
    const train_settings *s = &r->trainer.settings;
    image picture = {0};
    char *text = NULL;
    char *path = string_format("%s/step-%06lld-%d.png", folder, (long long)r->trainer.done, k);
    bool ok = path || error_memory(e, folder, strlen(folder));
    ok = ok && r->maker->make(r->maker->user, tuned, s->validation_prompt, s->seed + (uint64_t)k,
                              &picture, &text, e) &&
         image_write(&picture, path, text, 100, e);
    image_free(&picture);
    free(text);
    free(path);
    return ok;
}

static bool validate(run *r, error *e)
{
    const train_settings *s = &r->trainer.settings;
    model tuned = trainer_model(&r->trainer);
    char *folder = path_join(s->output_dir, "validation");
    bool ok = folder ? path_make_dir(folder, e)
                     : error_memory(e, s->output_dir, strlen(s->output_dir));
    for (int k = 0; ok && k < s->num_validation_images; k++)
        ok = validation_picture(r, &tuned, k, folder, e);
    if (ok) say(r->events, "step %lld: %d pictures in %s", (long long)r->trainer.done,
                s->num_validation_images, folder);
    free(folder);
    return ok;
}

static bool stopped(run *r, const train_report *report, double seconds, error *e)
{
    const trainer *t = &r->trainer;
    const train_events *events = r->events;
    int64_t here = t->done - r->began_at;
    double each = here ? (clock_seconds() - r->began) / (double)here : 0;
    train_progress p = {.done = t->done,
                        .total = t->total,
                        .report = *report,
                        .seconds = seconds,
                        .left = each * (double)(t->total - t->done)};
    if (!events->progress || !events->progress(events->user, &p)) return false;
    if (t->done > r->saved && !save_checkpoint(r, e)) return true;
    error_set(e, ERROR_CANCELLED, "stopped after %lld of %lld steps%s", (long long)t->done,
              (long long)t->total,
              r->saved ? "; go on with --resume_from_checkpoint latest" : "");
    return true;
}

/* Batches until an update; the report's losses are the means over them. */
static bool update(run *r, train_report *report, error *e)
{
    double loss = 0, instance = 0, prior = 0, network = 0;
    int batches = 0;
    do {
        if (!trainer_batch(&r->trainer, report, e)) return false;
        loss += (double)report->loss;
        instance += (double)report->instance_loss;
        prior += (double)report->prior_loss;
        network += report->network_seconds;
        batches++;
    } while (!report->updated);
    report->loss = (float)(loss / batches);
    report->instance_loss = (float)(instance / batches);
    report->prior_loss = (float)(prior / batches);
    report->network_seconds = network;
    return true;
}

/* After NaN: the last good state is kept, where it is not kept already. */
static void keep_good(run *r)
{
    error ignored = {0};
    if (r->trainer.done > r->saved && trainer_finite(&r->trainer, &ignored) &&
        save_checkpoint(r, &ignored) && r->saved == r->trainer.done)
        say(r->events, "the weights of step %lld are in checkpoint-%lld", (long long)r->saved,
            (long long)r->saved);
}

static bool steps(run *r, error *e)
{
    trainer *t = &r->trainer;
    const train_settings *s = &t->settings;
    train_report report = {0};
    r->began = clock_seconds();
    r->began_at = t->done;
    if (stopped(r, &report, 0, e)) return false;
    while (t->done < t->total) {
        double began = clock_seconds();
        if (!update(r, &report, e)) {
            if (e->code == ERROR_NUMERIC) keep_good(r);
            return false;
        }
        double seconds = clock_seconds() - began;
        bool prior = s->with_prior_preservation || s->prior_from_base;
        if (!record_add(r->record, &report, prior, seconds, e)) return false;
        if (t->done == r->began_at + 1)
            say(r->events, "a step takes %s s (network %s, optimizer %s): about %s s in all",
                number_decimals(seconds, 2).text, number_decimals(report.network_seconds, 2).text,
                number_decimals(report.optimizer_seconds, 2).text,
                number_decimals(seconds * (double)(t->total - r->began_at), 0).text);
        if (t->done % s->checkpointing_steps == 0 && !save_checkpoint(r, e)) return false;
        if (s->validation_prompt && t->done % s->validation_steps == 0 && !validate(r, e))
            return false;
        if (stopped(r, &report, seconds, e)) return false;
    }
    return true;
}

static bool save_result(run *r, error *e)
{
    const trainer *t = &r->trainer;
    const char *folder = t->settings.output_dir;
    if (!trainer_finite(t, e)) return false;
    if (!model_save(t->model, folder, &t->parameters.unet.set,
                    t->settings.train_text_encoder ? &t->parameters.clip.set : NULL, e))
        return false;
    say(r->events, "%s: the trained model", folder);
    return true;
}

bool train_run(device *d, const model *m, const train_settings *settings, const picture_maker *maker,
               const train_events *events, error *e)
{
    run r = {.maker = maker, .events = events, .lock = -1};
    train_settings s = *settings;
    if (s.prior_from_base) s.with_prior_preservation = true;
    bool ok = train_settings_check(&s, e) && prepare(&r, &s, d, m, e) && steps(&r, e) &&
              save_result(&r, e);
    record_close(&r.record);
    trainer_close(&r.trainer);
    folder_unlock(&r.lock);
    return ok;
}
