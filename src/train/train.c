/* SPDX-License-Identifier: Apache-2.0
 *
 * train: the flow of a run. */
#include "train/train.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/folder.h"
#include "base/number.h"
#include "base/platform.h"
#include "pipeline/fit.h"
#include "train/advice.h"
#include "train/identity.h"
#include "train/run.h"

enum { TOLD_AFTER = 10 }; /* updates, when the forecast is told */

/* ---- what is told ---------------------------------------------------------------------------- */

void run_say(const run *r, const char *format, ...)
{
    char line[2048];
    va_list args;
    if (!r->events->say) return;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    r->events->say(r->events->user, line);
}

static void say_warning(void *user, const char *line) { run_say(user, "warning: %s", line); }

/* Seconds to the end. Before the first update that is guessed from how long class pictures take. */
static double left_of(const run *r, int step, int steps)
{
    if (r->phase != TRAIN_CLASS_PICTURES) return forecast_left(&r->forecast, &r->trainer);
    double pictures = (double)(r->total - r->done) - (steps ? (double)step / steps : 0);
    return pictures * r->evaluation * steps + forecast_guess(&r->trainer, r->evaluation);
}

static bool tell(run *r, int step, int steps)
{
    train_progress p = {.phase = r->phase,
                        .done = r->done,
                        .total = r->total,
                        .step = step,
                        .steps = steps,
                        .report = r->report,
                        .seconds = r->seconds,
                        .left = left_of(r, step, steps)};
    return r->events->progress && r->events->progress(r->events->user, &p);
}

static bool on_watch(void *user, train_phase phase, int64_t done, int64_t total)
{
    run *r = user;
    r->phase = phase;
    r->done = done;
    r->total = total;
    return tell(r, 0, 0);
}

bool run_goes_on(run *r, train_phase phase, int64_t done, int64_t total, error *e)
{
    return train_goes_on(&r->watch, phase, done, total, e);
}

bool run_image_step(void *user, int step, int steps)
{
    run *r = user;
    double now = clock_seconds();
    if (step > 0)
        r->evaluation = r->evaluation > 0 ? 0.8 * r->evaluation + 0.2 * (now - r->step_at)
                                          : now - r->step_at;
    r->step_at = now;
    return tell(r, step, steps);
}

/* ---- before anything is written ---------------------------------------------------------------
 */

/* Where the run goes on from, and its seed where none is given: that of the run it goes on with, or
 * that lies in the output folder. */
static bool choose_beginning(run *r, train_settings *s, error *e)
{
    const char *from = s->resume_from_checkpoint;
    if (from && !checkpoint_find(&r->from, s->output_dir, from, e)) return false;
    if (from && !r->from)
        run_say(r, "%s: there is no checkpoint yet, training starts anew", s->output_dir);
    if (s->has_seed) return true;
    json_t *j = r->from ? checkpoint_read(r->from, NULL) : NULL;
    s->has_seed = identity_seed(j, &s->seed) || output_seed(s->output_dir, &s->seed);
    json_decref(j);
    if (!s->has_seed) s->seed = (uint64_t)time(NULL);
    s->has_seed = true;
    return true;
}

/* What is gone on from: whether it is this run's, and not at its end already. */
static bool check_beginning(run *r, error *e)
{
    const trainer *t = &r->trainer;
    if (!r->from) return true;
    json_t *j = checkpoint_read(r->from, e);
    int64_t done = json_integer_value(json_object_get(j, "step"));
    bool ok = j && identity_same(j, t, r->owner.model_hash, true, r->from, e);
    ok = ok && (done <= t->total ||
                error_set(e, ERROR_USAGE,
                          "%s has %lld updates already and --max_train_steps is %lld; ask "
                          "for more",
                          r->from, (long long)done, (long long)t->total));
    char *warning = ok ? identity_warning(j, t, r->from) : NULL;
    if (warning) run_say(r, "warning: %s", warning);
    free(warning);
    json_decref(j);
    return ok;
}

static class_request class_request_of(run *r)
{
    const train_settings *s = &r->trainer.settings;
    return (class_request){.folder = s->class_data_dir,
                           .prompt = s->class_prompt,
                           .wanted = s->num_class_images,
                           .seed = s->seed,
                           .model_hash = r->owner.model_hash,
                           .watch = &r->watch,
                           .step = run_image_step,
                           .user = r};
}

static bool has_class_images(const run *r)
{
    return train_setting_determines(&r->trainer.settings, "num_class_images");
}

/* Looks at the class pictures that are there, and whether there is room for the others. */
static bool look_at_classes(run *r, int *missing, error *e)
{
    const trainer *t = &r->trainer;
    *missing = 0;
    if (!has_class_images(r)) return true;
    class_request request = class_request_of(r);
    if (!class_images_check(&request, missing, e)) return false;
    double side = t->model->unet.sample_size * fit_factor(t->model);
    double need = *missing * side * side * 3, space = (double)folder_space(request.folder);
    return need <= space ||
           error_set(e, ERROR_FILE,
                     "--class_data_dir %s: %d class pictures take up to %s and the disk has %s "
                     "left; free some space or choose another folder",
                     request.folder, *missing, number_bytes(need).text, number_bytes(space).text);
}

static bool look(run *r, const train_settings *s, device *d, const model *m, int *missing, error *e)
{
    if (!trainer_open(&r->trainer, d, m, s, &r->watch, e)) return false;
    checkpoint_owner_of(&r->owner, &r->trainer);
    return output_look(&r->output, &r->trainer, &r->owner, r->from != NULL, e) &&
           check_beginning(r, e) && look_at_classes(r, missing, e);
}

/* ---- before the first step ------------------------------------------------------------------- */

static bool take_folders(run *r, int missing, error *e)
{
    const char *classes = r->trainer.settings.class_data_dir;
    if (!output_take(&r->output, &r->trainer, e) || (missing && !folder_can_write(classes, e)))
        return false;
    if (missing) folder_sweep(classes);
    return output_enter(&r->output, &r->trainer, &r->owner, e);
}

static void say_photos(const run *r, const photo_set *set)
{
    if (set->skipped) run_say(r, "warning: %s", set->skipped);
    for (size_t i = 0; i < set->count; i++)
        if (set->item[i].picture.frames > 1)
            run_say(r, "warning: %s: holds %d pictures, of which the first is taken",
                    set->item[i].path, set->item[i].picture.frames);
}

static bool say_beginning(run *r, error *e)
{
    const trainer *t = &r->trainer;
    say_photos(r, &t->instances);
    if (r->output.was_here && !r->from && checkpoint_any(r->owner.output_dir))
        run_say(r,
                "%s: this run has checkpoints there; it starts anew (--resume_from_checkpoint "
                "latest goes "
                "on from the last)",
                r->owner.output_dir);
    return advice_give(t, say_warning, r, e);
}

static bool make_class_images(run *r, error *e)
{
    char *warning = NULL;
    int made = 0;
    if (!has_class_images(r)) return true;
    class_request request = class_request_of(r);
    bool ok = class_images_make(&request, r->trainer.model, r->maker, &made, &warning, e);
    if (made) run_say(r, "%s: %d class picture%s made", request.folder, made, made == 1 ? "" : "s");
    if (warning) run_say(r, "warning: %s", warning);
    free(warning);
    return ok;
}

static bool resume(run *r, error *e)
{
    if (!r->from) return true;
    if (!checkpoint_load(&r->owner, &r->trainer, r->from, e)) return false;
    r->saved = r->trainer.done;
    run_say(r, "going on from %s", r->from);
    return true;
}

/* What the run will take. */
static void say_needs(run *r)
{
    const trainer *t = &r->trainer;
    train_needs n = trainer_needs(t);
    double space = (double)folder_space(r->owner.output_dir), kept = forecast_result(t);
    size_t pictures = t->instances.count - t->instances.mirrored;
    run_say(r,
            "%lld step%s on %zu picture%s%s; %smemory about %s (weights and optimizer %s, "
            "gradients and activations %s); latents %s",
            (long long)t->total, t->total == 1 ? "" : "s", pictures, pictures == 1 ? "" : "s",
            t->classes.count ? " and as many class pictures" : "",
            t->device->apart ? "the device's " : "", number_bytes(n.total).text,
            number_bytes(n.weights).text,
            number_bytes(n.gradients_and_activations + n.encoder).text,
            latents_cached(t->latents) ? "computed once" : "computed each step");
    if (space < kept + checkpoint_bytes(t))
        run_say(r,
                "warning: %s: the disk has %s left; beside the trained model (%s) there is no room "
                "for a "
                "checkpoint (%s)",
                r->owner.output_dir, number_bytes(space).text, number_bytes(kept).text,
                number_bytes(checkpoint_bytes(t)).text);
}

static bool prepare(run *r, const train_settings *s, device *d, const model *m, error *e)
{
    int missing;
    if (!look(r, s, d, m, &missing, e) || !take_folders(r, missing, e) || !say_beginning(r, e) ||
        !make_class_images(r, e) || !trainer_start(&r->trainer, e))
        return false;
    say_photos(r, &r->trainer.classes);
    if (!resume(r, e)) return false;
    say_needs(r);
    return record_open(&r->record, r->owner.output_dir, r->trainer.done, e) &&
           output_enter(&r->output, &r->trainer, &r->owner, e);
}

/* ---- the steps ------------------------------------------------------------------------------- */

/* Batches until an update; the report's losses are the means over them. */
static bool update(run *r, error *e)
{
    const trainer *t = &r->trainer;
    train_report report;
    double loss = 0, instance = 0, prior = 0, network = 0, began = clock_seconds();
    int batches = 0;
    do {
        if (batches && !run_goes_on(r, TRAIN_STEPS, t->done, t->total, e)) return false;
        if (!trainer_batch(&r->trainer, &report, e)) return false;
        loss += (double)report.loss;
        instance += (double)report.instance_loss;
        prior += (double)report.prior_loss;
        network += report.network_seconds;
        batches++;
    } while (!report.updated);
    report.loss = (float)(loss / batches);
    report.instance_loss = (float)(instance / batches);
    report.prior_loss = (float)(prior / batches);
    report.network_seconds = network;
    r->report = report;
    r->seconds = clock_seconds() - began;
    if (report.skipped)
        run_say(r,
                "step %lld: gradients are beyond half precision at a loss scale of %s: skipped, "
                "the scale is %s from here on",
                (long long)t->done, number_exact_float(report.loss_scale).text,
                number_exact_float(t->scaler.scale).text);
    forecast_update(&r->forecast, &report, r->seconds);
    return true;
}

/* After some updates, when the first slow ones are past. */
static void say_forecast(const run *r)
{
    const trainer *t = &r->trainer;
    int64_t here = t->done - r->began_at, planned = t->total - r->began_at;
    if (here != (planned < TOLD_AFTER ? planned : TOLD_AFTER)) return;
    double passed = clock_seconds() - r->began;
    run_say(r, "a step takes %s s (network %s, optimizer %s): about %s s in all, %s of them passed",
            number_decimals(forecast_step(&r->forecast), 2).text,
            number_decimals(r->report.network_seconds, 2).text,
            number_decimals(r->report.optimizer_seconds, 2).text,
            number_decimals(passed + forecast_left(&r->forecast, t), 0).text,
            number_decimals(passed, 0).text);
}

static bool one_step(run *r, error *e)
{
    const trainer *t = &r->trainer;
    const train_settings *s = &t->settings;
    if (!update(r, e) || !keep_line(r, e)) return false;
    say_forecast(r);
    bool now = t->done % s->checkpointing_steps == 0;
    if (now ? !keep_checkpoint(r, true, e) : !keep_waiting(r, e)) return false;
    if (s->validation_prompt && t->done % s->validation_steps == 0 && !keep_validation(r, e))
        return false;
    return run_goes_on(r, TRAIN_STEPS, t->done, t->total, e);
}

/* A run that goes on from where validation was broken off makes its pictures first. */
static bool catch_up(run *r, error *e)
{
    const trainer *t = &r->trainer;
    const train_settings *s = &t->settings;
    if (!s->validation_prompt || !t->done || t->done % s->validation_steps != 0) return true;
    char *last = string_format("%s/validation/step-%06lld-%d.png", s->output_dir,
                               (long long)t->done, s->num_validation_images - 1);
    if (!last) return error_memory(e, "a picture's name", 64);
    bool there = path_is_file(last);
    free(last);
    return there || keep_validation(r, e);
}

static bool steps(run *r, error *e)
{
    const trainer *t = &r->trainer;
    r->began_at = t->done;
    if (!run_goes_on(r, TRAIN_STEPS, t->done, t->total, e) || !catch_up(r, e)) return false;
    while (t->done < t->total)
        if (!one_step(r, e)) return false;
    return true;
}

/* ---- how it ends ----------------------------------------------------------------------------- */

/* The way on from what lies on the disk. */
static void stop(run *r, error *e)
{
    const trainer *t = &r->trainer;
    const char *folder = r->owner.output_dir;
    error why = {0};
    if (!trainer_rewind(&r->trainer, &why)) {
        error_set(e, why.code, "%s", why.text);
        return;
    }
    if (t->done > r->saved) {
        run_say(r, "stopping: saving checkpoint-%lld", (long long)t->done);
        if (!keep_checkpoint(r, false, &why)) {
            error_set(e, why.code, "%s", why.text);
            return;
        }
    }
    const char *way = checkpoint_any(folder) ? "latest" : r->from;
    error_set(e, ERROR_CANCELLED, "stopped after %lld of %lld steps%s%s%s%s", (long long)t->done,
              (long long)t->total, t->done > r->saved ? ", which could not be saved" : "",
              way ? "; the same command goes on with --resume_from_checkpoint " : "",
              way ? way : "", way && t->done > r->saved ? " (from an earlier step)" : "");
}

/* After NaN: the last good state is kept, where it is not kept already. */
static void keep_good(run *r)
{
    error ignored = {0};
    if (trainer_rewind(&r->trainer, &ignored) && r->trainer.done > r->saved &&
        trainer_finite(&r->trainer, &ignored) && keep_checkpoint(r, false, &ignored) &&
        r->saved == r->trainer.done)
        run_say(r, "the weights of step %lld are in checkpoint-%lld", (long long)r->saved,
                (long long)r->saved);
}

static bool work(run *r, error *e)
{
    error why = {0};
    if (steps(r, &why) && keep_result(r, &why)) return true;
    if (why.code == ERROR_CANCELLED)
        stop(r, e);
    else if (why.code == ERROR_NUMERIC)
        keep_good(r);
    return error_set(e, why.code, "%s", why.text);
}

bool train_run(device *d, const model *m, const train_settings *settings, const image_maker *maker,
               const train_events *events, error *e)
{
    run r = {.maker = maker,
             .events = events,
             .watch = {on_watch, &r},
             .output = {.lock = -1},
             .began = clock_seconds()};
    train_settings s = *settings;
    bool ok = train_settings_check(&s, e);
    train_settings_resolve(&s);
    ok = ok && choose_beginning(&r, &s, e) && prepare(&r, &s, d, m, e) && work(&r, e);
    record_close(&r.record);
    trainer_close(&r.trainer);
    output_release(&r.output);
    free(r.from);
    return ok;
}
