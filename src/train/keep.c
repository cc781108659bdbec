/* SPDX-License-Identifier: Apache-2.0
 *
 * keep: what a run writes while it goes, on a disk that may be full for a while. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/folder.h"
#include "base/number.h"
#include "base/platform.h"
#include "model/save.h"
#include "train/run.h"

static const double least_wait = 1;   /* seconds before a checkpoint is tried again, or */
static const double wait_factor = 10; /* so many times the seconds that the failure took */
static const double result_patience = 600, result_every = 2; /* seconds */

/* ---- checkpoints ---- */

/* Whether `bytes` fit and `kept` are left over, this run's oldest checkpoints going first. */
static bool make_room(run *r, double bytes, double kept, bool *fits, error *e)
{
    const char *folder = r->owner.output_dir;
    for (;;) {
        int64_t dropped;
        double space = (double)folder_space(folder);
        *fits = space >= bytes + kept;
        if (*fits) return true;
        if (!checkpoint_drop_oldest(&r->owner, &r->trainer, &dropped, e)) return false;
        if (!dropped) return true;
        run_say(r, "warning: %s/checkpoint-%lld was removed to make room: the disk had %s left",
                folder, (long long)dropped, number_bytes(space).text);
    }
}

static void put_off(run *r, double took, const char *why)
{
    double wait = wait_factor * took;
    if (!r->due)
        run_say(r,
                "warning: the checkpoint of step %lld could not be written, training goes on: %s",
                (long long)r->trainer.done, why);
    r->due = true;
    r->try_at = clock_seconds() + (wait > least_wait ? wait : least_wait);
}

bool keep_checkpoint(run *r, bool keep_room, error *e)
{
    error why = {0};
    bool fits;
    double began = clock_seconds(), bytes = checkpoint_bytes(&r->trainer);
    double kept = keep_room ? forecast_result(&r->trainer) : 0;
    if (!make_room(r, bytes, kept, &fits, e)) return false;
    if (!fits) {
        snprintf(why.text, sizeof why.text,
                 "it takes %s, %s are kept back for the trained model, and the disk "
                 "has %s left",
                 number_bytes(bytes).text, number_bytes(kept).text,
                 number_bytes((double)folder_space(r->owner.output_dir)).text);
        put_off(r, 0, why.text);
        return true;
    }
    run_goes_on(r, TRAIN_SAVING, 0, 1, NULL); /* told; who wants to stop is asked again after it */
    if (!checkpoint_save(&r->owner, &r->trainer, &why)) {
        if (why.code != ERROR_FILE) return error_set(e, why.code, "%s", why.text);
        put_off(r, clock_seconds() - began, why.text);
        return true;
    }
    if (r->due) run_say(r, "checkpoint-%lld was written", (long long)r->trainer.done);
    r->due = false;
    r->saved = r->trainer.done;
    forecast_checkpoint(&r->forecast, clock_seconds() - began);
    return true;
}

bool keep_waiting(run *r, error *e)
{
    return !r->due || clock_seconds() < r->try_at || keep_checkpoint(r, true, e);
}

/* ---- the record ---- */

bool keep_line(run *r, error *e)
{
    const train_settings *s = &r->trainer.settings;
    error why = {0};
    bool prior = s->with_prior_preservation || s->prior_from_base;
    if (!record_add(r->record, &r->report, prior, r->seconds, e)) return false;
    bool written = record_write(r->record, &why);
    if (!written && !r->record_fails)
        run_say(r, "warning: %s; its lines are kept until it can be, training goes on", why.text);
    if (written && r->record_fails)
        run_say(r, "%s/train.jsonl is written again", r->owner.output_dir);
    r->record_fails = !written;
    return true;
}

/* ---- validation ---- */

static bool validation_image(run *r, const model *tuned, int k, const char *folder, error *e)
{
    const train_settings *s = &r->trainer.settings;
    image picture = {0};
    char *text = NULL;
    double began = clock_seconds();
    char *path = string_format("%s/step-%06lld-%d.png", folder, (long long)r->trainer.done, k);
    image_order order = {tuned, s->validation_prompt, s->seed + (uint64_t)k, run_image_step, r};
    bool ok = (path || error_memory(e, folder, strlen(folder))) &&
              run_goes_on(r, TRAIN_VALIDATION, k, s->num_validation_images, e) &&
              r->maker->make(r->maker->user, &order, &picture, &text, e) &&
              image_write(&picture, path, text, 100, e);
    if (ok) forecast_image(&r->forecast, clock_seconds() - began);
    image_free(&picture);
    free(text);
    free(path);
    return ok;
}

bool keep_validation(run *r, error *e)
{
    const train_settings *s = &r->trainer.settings;
    error why = {0};
    char *folder = path_join(s->output_dir, "validation");
    if (!folder) return error_memory(e, s->output_dir, strlen(s->output_dir));
    model tuned;
    bool opened = path_make_dir(folder, &why) && trainer_model_open(&tuned, &r->trainer, &why),
         ok = opened;
    for (int k = 0; ok && k < s->num_validation_images; k++)
        ok = validation_image(r, &tuned, k, folder, &why);
    if (opened) trainer_model_close(&tuned, &r->trainer);
    if (ok)
        run_say(r, "step %lld: %d picture%s in %s", (long long)r->trainer.done,
                s->num_validation_images, s->num_validation_images == 1 ? "" : "s", folder);
    else if (why.code == ERROR_FILE)
        run_say(r, "warning: step %lld has no validation pictures, training goes on: %s",
                (long long)r->trainer.done, why.text);
    free(folder);
    return ok || why.code == ERROR_FILE || error_set(e, why.code, "%s", why.text);
}

/* ---- the result ---- */

/* Written beside and moved into place, the index last: what lay there before is whole until then.
 */
static bool save_model(run *r, error *e)
{
    trainer *t = &r->trainer;
    char *beside = checkpoint_partial(r->owner.output_dir, "model");
    bool ok = (beside || error_memory(e, "a folder's name", 64)) && folder_remove(beside, e) &&
              parameters_show(&t->parameters, e) &&
              model_save(t->model, beside, &t->parameters.unet.set,
                         t->settings.train_text_encoder ? &t->parameters.clip.set : NULL, e) &&
              folder_install(beside, r->owner.output_dir, "model_index.json", e);
    parameters_hide(&t->parameters);
    if (!ok && beside) folder_remove(beside, NULL);
    free(beside);
    return ok;
}

static bool save_lora_as(const trainer *t, const char *name, lora_spelling spelling, error *e)
{
    char *path = path_join(t->settings.output_dir, name);
    bool ok = path ? lora_write(path, spelling, &t->parameters.unet.set, &t->parameters.clip.set,
                                &t->settings, NULL, e)
                   : error_memory(e, "a LoRA's name", 64);
    free(path);
    return ok;
}

static bool save_lora(run *r, error *e)
{
    trainer *t = &r->trainer;
    bool ok = parameters_show(&t->parameters, e) &&
              (!t->settings.output_kohya_format ||
               save_lora_as(t, LORA_KOHYA_FILE, LORA_KOHYA, e)) &&
              save_lora_as(t, LORA_FILE, LORA_DIFFUSERS, e);
    parameters_hide(&t->parameters);
    return ok;
}

static bool save_inversion(run *r, error *e)
{
    trainer *t = &r->trainer;
    char *path = path_join(t->settings.output_dir, INVERSION_FILE);
    bool ok = (path || error_memory(e, "a file's name", 64)) &&
              parameters_show(&t->parameters, e) &&
              inversion_write(path, &t->parameters.clip.set, &t->settings, NULL, e);
    parameters_hide(&t->parameters);
    free(path);
    return ok;
}

static bool save_result(run *r, error *e)
{
    const train_settings *s = &r->trainer.settings;
    if (s->textual_inversion) return save_inversion(r, e);
    return s->lora_rank ? save_lora(r, e) : save_model(r, e);
}

/* Sleeps a little at a time; false: it is to stop. */
static bool wait_for_room(run *r, error *e)
{
    for (double end = clock_seconds() + result_every; clock_seconds() < end;) {
        if (!run_goes_on(r, TRAIN_SAVING, 0, 1, e)) return false;
        nanosleep(&(struct timespec){0, 100 * 1000 * 1000}, NULL);
    }
    return true;
}

bool keep_result(run *r, error *e)
{
    const char *folder = r->owner.output_dir;
    double began = clock_seconds(), bytes = forecast_result(&r->trainer);
    if (!trainer_finite(&r->trainer, e)) return false;
    run_goes_on(r, TRAIN_SAVING, 0, 1, NULL); /* told; a run that is done is saved in any case */
    for (bool said = false;; said = true) {
        bool fits;
        error why = {0};
        if (!make_room(r, bytes, 0, &fits, e)) return false;
        if (save_result(r, &why)) break;
        if (fits || why.code != ERROR_FILE || clock_seconds() - began > result_patience)
            return error_set(e, why.code, "%s", why.text);
        if (!said)
            run_say(r,
                    "warning: the trained model cannot be written, waiting for room on the disk "
                    "(%s): %s",
                    number_bytes(bytes).text, why.text);
        if (!wait_for_room(r, e)) return false;
    }
    r->output.saved_steps = r->trainer.done;
    run_goes_on(r, TRAIN_SAVING, 1, 1, NULL);
    if (r->trainer.settings.textual_inversion)
        run_say(r, "%s/%s: the trained word %s", folder, INVERSION_FILE,
                r->trainer.settings.placeholder_token);
    else if (r->trainer.settings.lora_rank)
        run_say(r, "%s/%s: the trained LoRA", folder, LORA_FILE);
    else
        run_say(r, "%s: the trained model", folder);
    error why = {0};
    if (!output_enter(&r->output, &r->trainer, &r->owner, &why))
        run_say(r, "warning: %s", why.text);
    return true;
}
