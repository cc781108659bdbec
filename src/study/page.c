/* SPDX-License-Identifier: Apache-2.0
 *
 * page: the study as one page, and its cells as a table for other programs. */
#include "study/page.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "base/platform.h"
#include "study/command.h"
#include "study/html.h"
#include "study/page_parts.h"

/* ---- cells --------------------------------------------------------------------------------- */

static int cell_total(const study_section *s) { return s->rows * s->columns; }

/* Width and height of folder/cells/<name>.png, from its header; false where there is no such picture. */
static bool picture_size(const page_source *s, const study_cell *c, int *width, int *height)
{
    uint8_t head[24];
    char *path = string_format("%s/cells/%s.png", s->folder, c->name);
    size_t n;
    bool ok = path && file_begin(path, head, sizeof head, &n, NULL) && n == sizeof head &&
              !memcmp(head + 1, "PNG", 3);
    free(path);
    *width = ok ? head[18] << 8 | head[19] : 0;
    *height = ok ? head[22] << 8 | head[23] : 0;
    return *width > 0 && *height > 0;
}

static const char *sampler_label(sampler_kind k) { return k == SAMPLER_DDPM ? "DDPM" : "DDIM"; }

/* A picture in words. */
static void write_alt(FILE *out, const study_cell *c)
{
    if (*c->prompt) html_print(out, "\xe2\x80\x9c%s\xe2\x80\x9d, ", c->prompt);
    html_print(out, "%s, seed %llu, %s, %d steps", c->schedule, (unsigned long long)c->seed,
               sampler_label(c->sampler.kind), c->sampler.steps);
}

static void write_settings(FILE *out, const study_cell *c)
{
    html_print(out, "<dt>model</dt><dd>%s</dd><dt>sampler</dt><dd>%s, %d steps", c->schedule,
               sampler_label(c->sampler.kind), c->sampler.steps);
    if (c->sampler.eta > 0) html_print(out, ", eta %g", (double)c->sampler.eta);
    if (c->sampler.has_variance) html_print(out, ", variance %s", variance_name(c->sampler.variance));
    if (c->sampler.has_spacing) html_print(out, ", spacing %s", spacing_name(c->sampler.spacing));
    html_print(out, "</dd><dt>seed</dt><dd>%llu</dd><dt>guidance</dt><dd>%g", (unsigned long long)c->seed,
               (double)c->guidance);
    if (c->guidance_rescale != 0) html_print(out, ", rescale %g", (double)c->guidance_rescale);
    fputs("</dd>", out);
    if (*c->prompt) html_print(out, "<dt>prompt</dt><dd>%s</dd>", c->prompt);
    if (*c->negative) html_print(out, "<dt>negative</dt><dd>%s</dd>", c->negative);
    if (c->clip_skip) html_print(out, "<dt>clip skip</dt><dd>%d</dd>", c->clip_skip);
}

/* Likeness to the subject of every trained model, where it was measured; index: of the cell in the study. */
static void write_cell_likeness(FILE *out, const page_source *s, int index)
{
    for (int i = 0; i < s->plan->models && index < s->measures->cells; i++) {
        double v = s->measures->cell_likeness[(size_t)index * (size_t)s->plan->models + (size_t)i];
        if (isfinite(v))
            html_print(out, "<dt>likeness</dt><dd>%s, by %s</dd>", number_plain(v).text, s->plan->model[i].name);
    }
}

/* ---- commands ------------------------------------------------------------------------------ */

static void write_command(page *p, const study_cell *c)
{
    char *text = command_of_cell(p->s->plan, c, p->s->precision);
    if (text)
        html_print(p->out, "<pre><code>%s</code></pre>", text);
    else
        p->no_memory = true;
    free(text);
}

/* ---- grids --------------------------------------------------------------------------------- */

/* CSS pixels that the longer side of a thumbnail may have: the more columns, the smaller. */
static int thumbnail_side(const study_section *s) { return s->columns <= 5 ? 160 : s->columns <= 8 ? 128 : s->columns <= 9 ? 96 : 80; }

static void write_picture(page *p, const study_section *s, const study_cell *c, const char *id)
{
    int width, height, side = thumbnail_side(s);
    picture_size(p->s, c, &width, &height);
    int longer = width > height ? width : height;
    if (longer > side) {
        width = (width * side + longer / 2) / longer;
        height = (height * side + longer / 2) / longer;
    }
    html_print(p->out, "<a href=\"cells/%s.png\" aria-describedby=\"%s\"><img src=\"cells/%s.png\" loading=\"lazy\" "
               "width=\"%d\" height=\"%d\" alt=\"", c->name, id, c->name, width < 1 ? 1 : width,
               height < 1 ? 1 : height);
    write_alt(p->out, c);
    fputs("\"></a>", p->out);
}

static void write_missing(page *p, const study_cell *c)
{
    fputs("<span class=\"missing\" tabindex=\"0\"><span class=\"hidden\">", p->out);
    write_alt(p->out, c);
    html_print(p->out, ": </span>Not made%s%s</span>", c->why ? ": " : "", c->why ? c->why : "");
}

/* index: of the cell in the study. */
static void write_cell(page *p, const study_section *s, const study_cell *c, int index)
{
    char id[32];
    int width, height;
    snprintf(id, sizeof id, "settings-%d", index);
    fputs("<td><div class=\"cell\">", p->out);
    if (picture_size(p->s, c, &width, &height))
        write_picture(p, s, c, id);
    else
        write_missing(p, c);
    html_print(p->out, "<div class=\"tip\"><dl id=\"%s\">", id);
    write_settings(p->out, c);
    write_cell_likeness(p->out, p->s, index);
    fputs("</dl>", p->out);
    write_command(p, c);
    fputs("</div></div></td>\n", p->out);
}

static void write_grid(page *p, const study_section *s, int first)
{
    html_print(p->out, "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Pictures: %s\">\n"
               "<table class=\"grid\"><thead><tr><td></td>", s->title);
    for (int k = 0; k < s->columns; k++) html_print(p->out, "<th scope=\"col\">%s</th>", s->column_label[k]);
    fputs("</tr></thead><tbody>\n", p->out);
    for (int i = 0; i < s->rows; i++) {
        html_print(p->out, "<tr><th scope=\"row\">%s</th>\n", s->row_label[i]);
        for (int k = 0; k < s->columns; k++)
            write_cell(p, s, &s->cell[i * s->columns + k], first + i * s->columns + k);
        fputs("</tr>\n", p->out);
    }
    fputs("</tbody></table></div>\n", p->out);
}

static void write_commands(page *p, const study_section *s)
{
    html_print(p->out, "<details><summary>Commands that make these pictures<span class=\"hidden\">: %s</span></summary>"
               "<ul class=\"commands\">\n", s->title);
    for (int i = 0; i < cell_total(s); i++) {
        html_print(p->out, "<li>%s, %s", s->row_label[i / s->columns], s->column_label[i % s->columns]);
        write_command(p, &s->cell[i]);
        fputs("</li>\n", p->out);
    }
    fputs("</ul></details>\n", p->out);
}

static void write_section(page *p, const study_section *s, int first)
{
    html_print(p->out, "<section id=\"part-%s\" aria-labelledby=\"part-%s-h\">\n<h2 id=\"part-%s-h\">%s</h2>\n",
               s->id, s->id, s->id, s->title);
    if (*s->about) html_print(p->out, "<p class=\"about\">%s</p>\n", s->about);
    write_grid(p, s, first);
    write_commands(p, s);
    fputs("</section>\n", p->out);
}

/* ---- summary ------------------------------------------------------------------------------- */

static int count_missing(const page_source *s)
{
    int missing = 0, width, height;
    for (int i = 0; i < s->plan->sections; i++)
        for (int k = 0; k < cell_total(&s->plan->section[i]); k++)
            missing += !picture_size(s, &s->plan->section[i].cell[k], &width, &height);
    return missing;
}

static void write_run(page *p)
{
    const page_source *s = p->s;
    const study_plan *plan = s->plan;
    int cells = 0, trained = 0, missing = count_missing(s);
    for (int i = 0; i < plan->sections; i++) cells += cell_total(&plan->section[i]);
    for (int i = 0; i < plan->models; i++) trained += is_trained(&plan->model[i]);
    html_print(p->out, "<p>%d model%s, %d of them trained here; %s picture%s in %d part%s.", plan->models,
               plan->models == 1 ? "" : "s", trained, number_count(cells).text, cells == 1 ? "" : "s",
               plan->sections, plan->sections == 1 ? "" : "s");
    if (s->steps)
        html_print(p->out, " Each picture made alone, that is %s steps; first steps that several have in common were computed "
                   "once, which saved %s of them (%.0f %%).", number_count(s->steps).text,
                   number_count(s->steps_shared).text, 100.0 * (double)s->steps_shared / (double)s->steps);
    if (missing) html_print(p->out, " <strong>%d could not be made</strong>: their places say why.", missing);
    fputs("</p>\n", p->out);
}

static void write_model_table(page *p)
{
    const study_plan *plan = p->s->plan;
    fputs("<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Models\"><table class=\"settings\">"
          "<caption>Models</caption><thead><tr><th scope=\"col\">name</th><th scope=\"col\">from</th>"
          "<th scope=\"col\">SHA-256</th></tr></thead><tbody>\n", p->out);
    for (int i = 0; i < plan->models; i++) {
        const study_model *m = &plan->model[i];
        html_print(p->out, "<tr><th scope=\"row\">%s</th><td>", m->name);
        if (is_trained(m))
            html_print(p->out, "%s, %lld updates of DreamBooth%s", plan->model[m->base].name,
                       (long long)m->train.max_train_steps,
                       m->train.with_prior_preservation ? " with prior preservation" : "");
        else
            html_text(p->out, m->path);
        html_print(p->out, "</td><td><code>%.16s</code></td></tr>\n", p->s->model_hash[i]);
    }
    fputs("</tbody></table></div>\n", p->out);
}

static void write_summary(page *p)
{
    fputs("<section id=\"summary\" aria-labelledby=\"summary-h\">\n<h2 id=\"summary-h\">Summary</h2>\n", p->out);
    write_run(p);
    if (findings_any(p->s)) {
        fputs("<h3>Findings</h3>\n<ul class=\"findings\">\n", p->out);
        findings_write(p);
        fputs("</ul>\n<p class=\"note\">\xc2\xb1 is one standard error. A difference is named only where it exceeds two of them; with a "
              "few seeds even that is a hint, not a proof.</p>\n", p->out);
    }
    write_model_table(p);
    fputs("</section>\n", p->out);
}

/* ---- measures and training ----------------------------------------------------------------- */

static void write_measures(page *p)
{
    if (!figures_any(p->s)) return;
    html_print(p->out, "<section id=\"measures\" aria-labelledby=\"measures-h\">\n<h2 id=\"measures-h\">Measures</h2>\n"
               "<p class=\"about\">Likeness is how much better a trained model, given the subject\xe2\x80\x99s prompt, explains a picture "
               "than its base does, given the class prompt: the difference of their denoising errors over %d timesteps with %d draw%s of "
               "noise, the same for every picture. It is high for the subject\xe2\x80\x99s own pictures, and about zero or below for the class. "
               "Error bars are one standard error.</p>\n<div class=\"charts\">\n", p->s->plan->measure_timesteps,
               p->s->plan->measure_noises, p->s->plan->measure_noises == 1 ? "" : "s");
    figures_measures(p);
    fputs("</div>\n<p class=\"note\">All of it: <a href=\"measures.json\">measures.json</a>, "
          "<a href=\"cells.csv\">cells.csv</a>.</p>\n</section>\n", p->out);
}

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
    const train_settings *t = &m->train;
    if (!t->with_prior_preservation)
        fputs("no", out);
    else if (t->prior_from_base)
        html_print(out, "weight %g, from the base\xe2\x80\x99s prediction", t->prior_loss_weight);
    else
        html_print(out, "weight %g, %d class pictures by %s (%d steps, guidance %g)", t->prior_loss_weight,
                   t->num_class_images, plan->model[m->base].name, m->class_steps, (double)m->class_guidance);
}
static void write_updates(FILE *out, const study_plan *plan, const study_model *m)
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
    html_print(out, "%g, %s", m->train.learning_rate, rate_schedule_name(m->train.lr_scheduler));
    if (m->train.lr_scheduler != RATE_CONSTANT)
        html_print(out, ", %lld updates of warm-up", (long long)m->train.lr_warmup_steps);
}
static void write_optimizer(FILE *out, const study_plan *plan, const study_model *m)
{
    static const char *const names[] = {"AdamW", "AdamW, 8-bit moments", "AdamW in float16"};
    const train_settings *t = &m->train;
    (void)plan;
    html_print(out, "%s, \xce\xb2 %g and %g, \xce\xb5 %g, weight decay %g", names[t->optimizer], t->adam_beta1,
               t->adam_beta2, t->adam_epsilon, t->adam_weight_decay);
}
static void write_clip(FILE *out, const study_plan *plan, const study_model *m)
{
    (void)plan;
    html_print(out, "%g", m->train.max_grad_norm);
}
static void write_parts(FILE *out, const study_plan *plan, const study_model *m)
{
    (void)plan;
    fputs(m->train.train_text_encoder ? "UNet and text encoder" : "UNet", out);
}
static void write_extras(FILE *out, const study_plan *plan, const study_model *m)
{
    const train_settings *t = &m->train;
    (void)plan;
    if (!(t->snr_gamma > 0) && !t->offset_noise) fputs("\xe2\x80\x93", out);
    if (t->snr_gamma > 0) html_print(out, "min-SNR %g", t->snr_gamma);
    if (t->offset_noise) html_print(out, "%soffset noise %g", t->snr_gamma > 0 ? ", " : "", t->offset_noise_factor);
}
static void write_seed(FILE *out, const study_plan *plan, const study_model *m)
{
    (void)plan;
    if (m->train.has_seed)
        html_print(out, "%llu", (unsigned long long)m->train.seed);
    else
        fputs("from the clock", out);
}

static void write_training_table(page *p)
{
    static const struct { const char *name; setting_writer writes; } row[] = {
        {"taught from", write_base}, {"instance prompt", write_instance}, {"class prompt", write_class},
        {"prior preservation", write_prior}, {"updates", write_updates}, {"pictures an update", write_batch},
        {"learning rate", write_rate}, {"optimizer", write_optimizer}, {"gradient clipped at", write_clip},
        {"trained", write_parts}, {"loss", write_extras}, {"seed", write_seed},
    };
    const study_plan *plan = p->s->plan;
    fputs("<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Settings of the trainings\">"
          "<table class=\"settings\"><caption>Settings of the trainings</caption><thead><tr><td></td>", p->out);
    for (int i = 0; i < plan->models; i++)
        if (is_trained(&plan->model[i])) html_print(p->out, "<th scope=\"col\">%s</th>", plan->model[i].name);
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

static bool any_trained(const study_plan *plan)
{
    for (int i = 0; i < plan->models; i++)
        if (is_trained(&plan->model[i])) return true;
    return false;
}

static void write_training(page *p)
{
    const study_plan *plan = p->s->plan;
    bool text = false;
    if (!any_trained(plan)) return;
    for (int i = 0; i < plan->models; i++)
        text |= is_trained(&plan->model[i]) && plan->model[i].train.train_text_encoder;
    fputs("<section id=\"training\" aria-labelledby=\"training-h\">\n<h2 id=\"training-h\">Training</h2>\n", p->out);
    if (text)
        fputs("<p class=\"about\">The text encoder was trained too, so a switch of models switches the reading of the prompt "
              "with it.</p>\n", p->out);
    write_training_table(p);
    fputs("<div class=\"charts\">\n", p->out);
    figures_losses(p);
    fputs("</div>\n</section>\n", p->out);
}

static void write_reproduce(page *p)
{
    char *again = command_of_study(p->s->precision);
    fputs("<section id=\"reproduce\" aria-labelledby=\"reproduce-h\">\n<h2 id=\"reproduce-h\">Make it again</h2>\n"
          "<p>Each picture shows its settings and its command when it is pointed at or focused; each part lists its commands "
          "below its grid. Run them in the folder of this page, where <code>models/</code> holds the trained models; one "
          "click on a command selects all of it. The pictures carry their settings, too: <code>likeness inspect "
          "FILE.png</code>. The whole study again, by the plan that lies in the folder: what is there already is kept, and "
          "what is missing or was changed in the plan is made:</p>\n", p->out);
    if (again)
        html_print(p->out, "<pre><code>%s</code></pre>\n</section>\n", again);
    else
        p->no_memory = true;
    free(again);
}

/* ---- the page ------------------------------------------------------------------------------ */

static void write_head(page *p)
{
    const study_plan *plan = p->s->plan;
    html_print(p->out, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
               "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n"
               "<meta name=\"generator\" content=\"likeness %s\">\n<title>%s</title>\n<style>\n", p->s->version,
               plan->title);
    fputs(page_style, p->out);
    html_print(p->out, "</style>\n</head>\n<body>\n<a class=\"skip\" href=\"#main\">Skip to the findings</a>\n"
               "<header>\n<h1>%s</h1>\n", plan->title);
    if (*plan->about) html_print(p->out, "<p class=\"lead\">%s</p>\n", plan->about);
    fputs("</header>\n<nav aria-label=\"Parts of the page\"><ol>\n<li><a href=\"#summary\">Summary</a></li>\n", p->out);
    for (int i = 0; i < plan->sections; i++)
        html_print(p->out, "<li><a href=\"#part-%s\">%s</a></li>\n", plan->section[i].id, plan->section[i].title);
    if (figures_any(p->s)) fputs("<li><a href=\"#measures\">Measures</a></li>\n", p->out);
    if (any_trained(plan)) fputs("<li><a href=\"#training\">Training</a></li>\n", p->out);
    fputs("<li><a href=\"#reproduce\">Make it again</a></li>\n</ol></nav>\n", p->out);
}

/* "2 min 31 s" */
static void write_time(FILE *out, double seconds)
{
    long long s = llround(seconds);
    if (s >= 3600)
        html_print(out, "%lld h %lld min", s / 3600, s % 3600 / 60);
    else if (s >= 60)
        html_print(out, "%lld min %lld s", s / 60, s % 60);
    else if (s >= 10)
        html_print(out, "%lld s", s);
    else
        html_print(out, "%.1f s", seconds);
}

static void write_footer(page *p)
{
    const page_source *s = p->s;
    html_print(p->out, "<footer>\n<p>likeness %s, %s.</p>\n", s->version, s->device);
    if (s->seconds > 0) {
        fputs("<p>Time: ", p->out);
        write_time(p->out, s->seconds);
        for (int i = 0; s->training_seconds && i < s->plan->models; i++) {
            if (!(s->training_seconds[i] > 0)) continue;
            html_print(p->out, ", of it training %s ", s->plan->model[i].name);
            write_time(p->out, s->training_seconds[i]);
        }
        fputs(".</p>\n", p->out);
    }
    if (s->peak_mb > 0) html_print(p->out, "<p>Memory at its highest: %s MB.</p>\n", number_count(llround(s->peak_mb)).text);
    fputs("</footer>\n<script>", p->out);
    fputs(page_script, p->out);
    fputs("</script>\n</body>\n</html>\n", p->out);
}

static void write_page(page *p)
{
    const study_plan *plan = p->s->plan;
    write_head(p);
    fputs("<main id=\"main\">\n", p->out);
    write_summary(p);
    for (int i = 0, first = 0; i < plan->sections; i++) {
        write_section(p, &plan->section[i], first);
        first += cell_total(&plan->section[i]);
    }
    write_measures(p);
    write_training(p);
    write_reproduce(p);
    fputs("</main>\n", p->out);
    write_footer(p);
}

/* ---- files --------------------------------------------------------------------------------- */

/* Writes folder/name, whole or not at all, from what `fill` prints. */
static bool write_file(const page_source *s, const char *name, void (*fill)(page *p), error *e)
{
    page p = {.s = s};
    char *text = NULL, *path = path_join(s->folder, name);
    size_t size = 0;
    file_writer *w = NULL;
    p.out = path ? open_memstream(&text, &size) : NULL;
    bool ok = p.out != NULL;
    if (ok) {
        fill(&p);
        ok = !ferror(p.out) && !p.no_memory;
        if (fclose(p.out) != 0) ok = false;
    }
    if (!ok) error_memory(e, name, size);
    ok = ok && file_writer_open(&w, path, e) && file_writer_put(w, text, size, e);
    if (ok)
        ok = file_writer_commit(&w, e);
    else
        file_writer_abandon(&w);
    arena_free(&p.memory);
    free(text);
    free(path);
    return ok;
}

bool page_write(const page_source *s, error *e) { return write_file(s, "report.html", write_page, e); }

static void csv_cell(page *p, const study_section *s, const study_cell *c, int at, int index)
{
    FILE *out = p->out;
    int width, height;
    csv_text(out, s->id);
    fputc(',', out);
    csv_text(out, s->row_label[at / s->columns]);
    fputc(',', out);
    csv_text(out, s->column_label[at % s->columns]);
    fputc(',', out);
    csv_text(out, c->prompt);
    fputc(',', out);
    csv_text(out, c->negative);
    fprintf(out, ",%llu,%s,%d,%s,", (unsigned long long)c->seed, sampler_kind_name(c->sampler.kind),
            c->sampler.steps, number_exact_float(c->guidance).text);
    csv_text(out, c->schedule);
    if (picture_size(p->s, c, &width, &height))
        fprintf(out, ",cells/%s.png", c->name);
    else
        fputc(',', out);
    int models = p->s->plan->models;
    for (int i = 0; i < models; i++) {
        if (!is_trained(&p->s->plan->model[i])) continue;
        double v = index < p->s->measures->cells
                       ? p->s->measures->cell_likeness[(size_t)index * (size_t)models + (size_t)i] : NAN;
        fputc(',', out);
        if (isfinite(v)) fputs(number_rounded(v, 9).text, out);
    }
    fputs("\r\n", out);
}

static void write_csv(page *p)
{
    const study_plan *plan = p->s->plan;
    fputs("section,row,column,prompt,negative,seed,sampler,steps,guidance,schedule,file", p->out);
    for (int i = 0; i < plan->models; i++) {
        if (!is_trained(&plan->model[i])) continue;
        fputs(",likeness_", p->out);
        csv_text(p->out, plan->model[i].name);
    }
    fputs("\r\n", p->out);
    for (int i = 0, index = 0; i < plan->sections; i++)
        for (int k = 0; k < cell_total(&plan->section[i]); k++, index++)
            csv_cell(p, &plan->section[i], &plan->section[i].cell[k], k, index);
}

bool page_write_cells(const page_source *s, error *e) { return write_file(s, "cells.csv", write_csv, e); }
