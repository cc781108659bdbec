/* SPDX-License-Identifier: Apache-2.0
 *
 * advice: see advice.h. */
#include "train/advice.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "base/platform.h"

typedef struct teller {
    void (*tell)(void *user, const char *line);
    void *user;
} teller;

/* Tells a line that was malloc'ed, and frees it. */
static bool tell_line(const teller *to, char *line, error *e)
{
    if (!line) return error_memory(e, "a warning", 256);
    for (char *c = line; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f) *c = '?';
    to->tell(to->user, line);
    free(line);
    return true;
}

/* ---- prompts ---- */

static bool tell_cut(const teller *to, const char *flag, const char *cut, int positions, error *e)
{
    return !cut ||
           tell_line(to,
                     string_format("%s is longer than the %d tokens that the model reads: \"%s\" "
                                   "is not seen by it",
                                   flag, positions - 2, cut),
                     e);
}

static bool tell_prompts(const teller *to, const trainer *t, error *e)
{
    const model *m = t->model;
    int positions = m->clip.positions;
    prompt_text validation = {.ids = malloc((size_t)positions * sizeof *validation.ids)};
    bool ok = validation.ids ||
              error_memory(e, "a prompt", (size_t)positions * sizeof *validation.ids);
    if (ok && t->settings.validation_prompt)
        ok = tokenizer_encode(m->tokens, t->settings.validation_prompt, positions, validation.ids,
                              &validation.cut, e);
    ok = ok && tell_cut(to, "--instance_prompt", t->instance_text.cut, positions, e) &&
         tell_cut(to, "--class_prompt", t->class_text.cut, positions, e) &&
         tell_cut(to, "--validation_prompt", validation.cut, positions, e);
    prompt_text_close(&validation);
    return ok;
}

/* ---- numbers ---- */

static bool tell_warmup(const teller *to, const trainer *t, error *e)
{
    const train_settings *s = &t->settings;
    if (!train_setting_determines(s, "lr_warmup_steps") || s->lr_warmup_steps < t->total)
        return true;
    double most = rate_multiplier(s->lr_scheduler, t->total - 1, s->lr_warmup_steps, t->total,
                                  s->lr_num_cycles, s->lr_power, t->rate);
    return tell_line(
        to,
        string_format("--lr_warmup_steps %lld is as long as the run of %lld steps or longer: "
                      "the learning rate only climbs, to %s in place of %s",
                      (long long)s->lr_warmup_steps, (long long)t->total,
                      number_rounded(most * t->rate, 3).text, number_exact(t->rate).text),
        e);
}

/* What is usual for models of Stable Diffusion's size, and for small ones such as the pocket model.
 */
static const struct usual {
    bool is_lora;
    double parameters; /* of the UNet, from here on */
    double way;        /* a shorter one, steps times rate, changes next to nothing */
    const char *text;
} usual[] = {
    {true, 0, 1e-2, "500 to 1000 steps at 1e-4 to 5e-4"},
    {false, 1e8, 2e-4, "400 to 800 steps at 5e-6 to 2e-6"},
    {false, 0, 3e-3, "300 steps at 1e-4 to 1.5e-4"},
};

static bool tell_length(const teller *to, const trainer *t, error *e)
{
    const weight_set *set = &t->model->unet_weights;
    double size = 0;
    for (size_t i = 0; i < set->count; i++) size += (double)weight_elements(&set->item[i]);
    const struct usual *u = usual;
    if (t->settings.textual_inversion) return true; /* its rows are next to nothing themselves */
    while (u->is_lora != (t->settings.lora_rank > 0) || size < u->parameters) u++;
    if ((double)t->total * t->rate >= u->way) return true;
    return tell_line(
        to,
        string_format("%lld step%s at a learning rate of %s will change next to nothing; usual "
                      "for a model of this size are about %s (--max_train_steps, "
                      "--learning_rate)",
                      (long long)t->total, t->total == 1 ? "" : "s", number_exact(t->rate).text,
                      u->text),
        e);
}

bool advice_give(const trainer *t, void (*tell)(void *user, const char *line), void *user, error *e)
{
    teller to = {tell, user};
    return tell_prompts(&to, t, e) && tell_warmup(&to, t, e) && tell_length(&to, t, e);
}
