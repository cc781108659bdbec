/* SPDX-License-Identifier: Apache-2.0
 *
 * describe: see describe.h. */
#include "train/describe.h"

#include <stdlib.h>
#include <string.h>

#include "base/platform.h"

static json_t *text(const char *s) { return s ? json_string(s) : json_null(); }

static const char *optimizer_name(train_optimizer o)
{
    static const char *const names[] = {"AdamW", "AdamW8bit", "AdamW in float16"};
    return names[o];
}

json_t *describe_settings(const train_settings *s)
{
    json_t *j = json_object();
    json_object_set_new(j, "instance_data_dir", text(s->instance_data_dir));
    json_object_set_new(j, "instance_prompt", text(s->instance_prompt));
    json_object_set_new(j, "class_data_dir", text(s->class_data_dir));
    json_object_set_new(j, "class_prompt", text(s->class_prompt));
    json_object_set_new(j, "output_dir", text(s->output_dir));
    json_object_set_new(j, "resolution", json_integer(s->resolution));
    json_object_set_new(j, "center_crop", json_boolean(s->center_crop));
    json_object_set_new(j, "train_batch_size", json_integer(s->train_batch_size));
    json_object_set_new(j, "gradient_accumulation_steps",
                        json_integer(s->gradient_accumulation_steps));
    json_object_set_new(j, "max_train_steps", json_integer(s->max_train_steps));
    json_object_set_new(j, "num_train_epochs", json_integer(s->num_train_epochs));
    json_object_set_new(j, "learning_rate", json_real(s->learning_rate));
    json_object_set_new(j, "scale_lr", json_boolean(s->scale_lr));
    json_object_set_new(j, "lr_scheduler", text(rate_schedule_name(s->lr_scheduler)));
    json_object_set_new(j, "lr_warmup_steps", json_integer(s->lr_warmup_steps));
    json_object_set_new(j, "lr_num_cycles", json_integer(s->lr_num_cycles));
    json_object_set_new(j, "lr_power", json_real(s->lr_power));
    json_object_set_new(j, "optimizer", text(optimizer_name(s->optimizer)));
    json_object_set_new(j, "adam_beta1", json_real(s->adam_beta1));
    json_object_set_new(j, "adam_beta2", json_real(s->adam_beta2));
    json_object_set_new(j, "adam_weight_decay", json_real(s->adam_weight_decay));
    json_object_set_new(j, "adam_epsilon", json_real(s->adam_epsilon));
    json_object_set_new(j, "max_grad_norm", json_real(s->max_grad_norm));
    json_object_set_new(j, "seed", json_integer((json_int_t)s->seed));
    json_object_set_new(j, "train_text_encoder", json_boolean(s->train_text_encoder));
    json_object_set_new(j, "gradient_checkpointing", json_boolean(s->gradient_checkpointing));
    json_object_set_new(j, "snr_gamma", json_real(s->snr_gamma));
    json_object_set_new(j, "offset_noise", json_boolean(s->offset_noise));
    json_object_set_new(j, "with_prior_preservation", json_boolean(s->with_prior_preservation));
    json_object_set_new(j, "prior_loss_weight", json_real(s->prior_loss_weight));
    json_object_set_new(j, "num_class_images", json_integer(s->num_class_images));
    json_object_set_new(j, "prior_from_base", json_boolean(s->prior_from_base));
    json_object_set_new(j, "cache_latents", json_boolean(s->cache_latents));
    json_object_set_new(j, "checkpointing_steps", json_integer(s->checkpointing_steps));
    json_object_set_new(j, "checkpoints_total_limit", json_integer(s->checkpoints_total_limit));
    json_object_set_new(j, "resume_from_checkpoint", text(s->resume_from_checkpoint));
    json_object_set_new(j, "validation_prompt", text(s->validation_prompt));
    json_object_set_new(j, "num_validation_images", json_integer(s->num_validation_images));
    json_object_set_new(j, "validation_steps", json_integer(s->validation_steps));
    return j;
}

static json_t *hashes(const photo_set *set)
{
    json_t *j = json_object();
    for (size_t i = 0; i < set->count; i++) {
        const char *slash = strrchr(set->item[i].path, '/');
        json_object_set_new(j, slash ? slash + 1 : set->item[i].path,
                            json_string(set->item[i].sha256));
    }
    return j;
}

json_t *describe_pictures(const trainer *t)
{
    json_t *j = json_object();
    json_object_set_new(j, "instance", hashes(&t->instances));
    if (t->classes.count) json_object_set_new(j, "class", hashes(&t->classes));
    return j;
}

bool describe_write(const json_t *j, const char *folder, const char *name, error *e)
{
    char *path = path_join(folder, name);
    char *text_of = json_dumps(j, JSON_INDENT(2) | JSON_REAL_PRECISION(17));
    file_writer *w = NULL;
    bool ok = (path && text_of) || error_memory(e, name, 4096);
    ok = ok && file_writer_open(&w, path, e) && file_writer_put(w, text_of, strlen(text_of), e) &&
         file_writer_put(w, "\n", 1, e);
    if (ok)
        ok = file_writer_commit(&w, e);
    else
        file_writer_abandon(&w);
    free(path);
    free(text_of);
    return ok;
}
