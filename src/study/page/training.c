/* SPDX-License-Identifier: Apache-2.0
 *
 * training: how the trained models were trained: settings side by side, and their losses. */
#include "html.h"
#include "parts.h"

/* One setting of a training, as a cell of the table. */
typedef void (*setting_writer)(FILE *out, const study_plan *plan, const study_model *m);

static void write_base(FILE *out, const study_plan *plan, const study_model *m)
{
    html_text(out, plan->model[m->base].name);
}
static void write_instance(FILE *out, const study_plan *plan, const study_model *m)
{
    (void)plan;
    html_text(out, m->train.instance_prompt ? m->train.instance_prompt : "");
}
static void write_class(FILE *out, const study_plan *plan, const study_model *m)
{
    (void)plan;
    html_text(out, m->train.class_prompt ? m->train.class_prompt : "\xe2\x80\x93");
}
static void write_prior(FILE *out, const study_plan *plan, const study_model *m)
{
    const lk_train_options *t = &m->train;
    if (!t->with_prior_preservation)
        fputs("no", out);
    else if (t->prior_from_base)
        html_print(out, "weight %g, from the base\xe2\x80\x99s prediction", t->prior_loss_weight);
    else
        html_print(out, "weight %g, %d class pictures by %s (%d steps, guidance %g)",
                   t->prior_loss_weight, t->num_class_images, plan->model[m->base].name,
                   t->class_steps, (double)t->class_guidance);
}
static void write_steps(FILE *out, const study_plan *plan, const study_model *m)
{
    (void)plan;
    if (m->train.max_train_steps)
        html_print(out, "%lld", (long long)m->train.max_train_steps);
    else
        html_print(out, "%d epochs", m->train.num_train_epochs);
}
static void write_batch(FILE *out, const study_plan *plan, const study_model *m)
{
    (void)plan;
    html_print(out, "%d", m->train.train_batch_size);
    if (m->train.gradient_accumulation_steps > 1)
        html_print(out, ", %d accumulated", m->train.gradient_accumulation_steps);
}
static void write_rate(FILE *out, const study_plan *plan, const study_model *m)
{
    (void)plan;
    html_print(out, "%g, %s", lk_train_learning_rate(&m->train),
               lk_rate_schedule_name(m->train.lr_scheduler));
    if (m->train.lr_scheduler != LK_RATE_CONSTANT)
        html_print(out, ", %lld steps of warm-up", (long long)m->train.lr_warmup_steps);
}
static void write_optimizer(FILE *out, const study_plan *plan, const study_model *m)
{
    static const char *const names[] = {"AdamW", "AdamW, 8-bit moments", "AdamW in float16"};
    const lk_train_options *t = &m->train;
    (void)plan;
    html_print(out, "%s, \xce\xb2 %g and %g, \xce\xb5 %g, weight decay %g", names[t->optimizer],
               t->adam_beta1, t->adam_beta2, t->adam_epsilon, t->adam_weight_decay);
}
static void write_clip(FILE *out, const study_plan *plan, const study_model *m)
{
    (void)plan;
    html_print(out, "%g", m->train.max_grad_norm);
}
static void write_parts(FILE *out, const study_plan *plan, const study_model *m)
{
    (void)plan;
    if (m->train.lora_rank)
        html_print(out, "LoRA of rank %d (alpha %g) beside the attentions of the ",
                   m->train.lora_rank,
                   m->train.lora_alpha > 0 ? m->train.lora_alpha : m->train.lora_rank);
    fputs(m->train.train_text_encoder ? "UNet and text encoder" : "UNet", out);
}
static void write_extras(FILE *out, const study_plan *plan, const study_model *m)
{
    const lk_train_options *t = &m->train;
    (void)plan;
    if (!(t->snr_gamma > 0) && !t->offset_noise) fputs("\xe2\x80\x93", out);
    if (t->snr_gamma > 0) html_print(out, "min-SNR %g", t->snr_gamma);
    if (t->offset_noise)
        html_print(out, "%soffset noise %g", t->snr_gamma > 0 ? ", " : "", t->offset_noise_factor);
}
static void write_seed(FILE *out, const study_plan *plan, const study_model *m)
{
    (void)plan;
    html_print(out, "%llu", (unsigned long long)m->train.seed);
}

static void write_training_table(page *p)
{
    static const struct {
        const char *name;
        setting_writer writes;
    } row[] = {
        {"trained from", write_base},
        {"instance prompt", write_instance},
        {"class prompt", write_class},
        {"prior preservation", write_prior},
        {"steps", write_steps},
        {"pictures a step", write_batch},
        {"learning rate", write_rate},
        {"optimizer", write_optimizer},
        {"gradient clipped at", write_clip},
        {"parts trained", write_parts},
        {"loss", write_extras},
        {"seed", write_seed},
    };
    const study_plan *plan = p->s->plan;
    fputs("<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Settings of the "
          "trainings\">"
          "<table class=\"settings\"><caption>Settings of the "
          "trainings</caption><thead><tr><td></td>",
          p->out);
    for (int i = 0; i < plan->models; i++)
        if (is_trained(&plan->model[i]))
            html_print(p->out, "<th scope=\"col\">%s</th>", plan->model[i].name);
    fputs("</tr></thead><tbody>\n", p->out);
    for (size_t k = 0; k < sizeof row / sizeof row[0]; k++) {
        html_print(p->out, "<tr><th scope=\"row\">%s</th>", row[k].name);
        for (int i = 0; i < plan->models; i++) {
            if (!is_trained(&plan->model[i])) continue;
            fputs("<td>", p->out);
            row[k].writes(p->out, plan, &plan->model[i]);
            fputs("</td>", p->out);
        }
        fputs("</tr>\n", p->out);
    }
    fputs("</tbody></table></div>\n", p->out);
}

bool page_any_trained(const study_plan *plan)
{
    for (int i = 0; i < plan->models; i++)
        if (is_trained(&plan->model[i])) return true;
    return false;
}

void page_training(page *p)
{
    const study_plan *plan = p->s->plan;
    bool text = false;
    if (!page_any_trained(plan)) return;
    for (int i = 0; i < plan->models; i++)
        text |= is_trained(&plan->model[i]) && plan->model[i].train.train_text_encoder;
    fputs("<section id=\"training\" aria-labelledby=\"training-h\">\n<h2 "
          "id=\"training-h\">Training</h2>\n",
          p->out);
    if (text)
        fputs("<p class=\"about\">The text encoder was trained too, so a switch of models switches "
              "the reading of the prompt "
              "with it.</p>\n",
              p->out);
    write_training_table(p);
    fputs("<div class=\"charts\">\n", p->out);
    figures_losses(p);
    fputs("</div>\n</section>\n", p->out);
}
