/* SPDX-License-Identifier: Apache-2.0
 *
 * page: the study as one page: the subject, all answers in short, then each section's answers above
 * the pictures and charts that they rest on, how the models were trained, how to make it again. */
#include "page.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "base/platform.h"
#include "command.h"
#include "html.h"
#include "parts.h"

void *page_alloc(page *p, size_t size)
{
    void *block = arena_alloc(&p->memory, size ? size : 1);
    if (!block) p->no_memory = true;
    return block;
}

/* ---- answers -------------------------------------------------------------------------------- */

static const char *verdict_word(verdict v)
{
    return v == VERDICT_SHOWN       ? "shown"
           : v == VERDICT_NOT_SHOWN ? "not shown"
                                    : "not measurable here";
}

static const char *verdict_class(verdict v)
{
    return v == VERDICT_SHOWN ? "yes" : v == VERDICT_NOT_SHOWN ? "no" : "unknown";
}

static int count_answers(const page *p, int section)
{
    int n = 0;
    for (int i = 0; i < p->said.count; i++) n += p->said.list[i].section == section;
    return n;
}

/* The statements of a section, with their numbers; those that stand under the same words together.
 */
static void write_answers(page *p, int section)
{
    const char *group = NULL;
    if (!count_answers(p, section)) return;
    fputs("<div class=\"said\">\n", p->out);
    for (int i = 0; i < p->said.count; i++) {
        const statement *s = &p->said.list[i];
        if (s->section != section) continue;
        if (!group || strcmp(s->group, group) != 0) {
            if (group) fputs("</ul>\n", p->out);
            if (*s->group) fprintf(p->out, "<h3>%s</h3>\n", s->group);
            fputs("<ul class=\"answers\">\n", p->out);
        }
        group = s->group;
        fprintf(p->out, "<li class=\"%s\"><b>%s</b> <span class=\"verdict\">%s</span> %s</li>\n",
                verdict_class(s->verdict), s->claim, verdict_word(s->verdict), s->answer);
    }
    fputs("</ul></div>\n", p->out);
}

static void write_short_answers(page *p, int section, const char *id, const char *title)
{
    if (!count_answers(p, section)) return;
    html_print(p->out, "<div><h3><a href=\"#%s\">%s</a></h3>\n<ul class=\"answers\">\n", id, title);
    for (int i = 0; i < p->said.count; i++) {
        const statement *s = &p->said.list[i];
        if (s->section != section) continue;
        fprintf(p->out, "<li class=\"%s\">%s <span class=\"verdict\">%s</span></li>\n",
                verdict_class(s->verdict), s->claim, verdict_word(s->verdict));
    }
    fputs("</ul></div>\n", p->out);
}

static void write_summary(page *p)
{
    const study_plan *plan = p->s->plan;
    if (!p->said.count) return;
    fputs("<section id=\"answers\" aria-labelledby=\"answers-h\">\n<h2 id=\"answers-h\">Answers in "
          "short</h2>\n"
          "<p class=\"note\">Each stands below with its number, above the pictures that it rests "
          "on. In brackets there: "
          "the interval at 95&nbsp;% (Student&rsquo;s t over pairs of equal seed). <em>Shown</em>: "
          "the whole interval "
          "is on the claim&rsquo;s side. <em>Not shown</em>: it is not, which is no proof of the "
          "contrary. Likeness "
          "to a subject is a share of the way from its class (0&nbsp;%) to its own pictures "
          "(100&nbsp;%; more where a picture is nearer to them than they are to each other).</p>\n"
          "<div class=\"short\">\n",
          p->out);
    for (int i = 0; i < plan->sections; i++) {
        char *id = arena_format(&p->memory, "part-%s", plan->section[i].id);
        if (id)
            write_short_answers(p, i, id, plan->section[i].title);
        else
            p->no_memory = true;
    }
    write_short_answers(p, -1, "measures", "Without pictures on this page");
    fputs("</div>\n</section>\n", p->out);
}

/* ---- sections ------------------------------------------------------------------------------- */

static void write_section(page *p, int index, int first)
{
    const study_section *s = &p->s->plan->section[index];
    html_print(
        p->out,
        "<section id=\"part-%s\" aria-labelledby=\"part-%s-h\">\n<h2 id=\"part-%s-h\">%s</h2>\n",
        s->id, s->id, s->id, s->title);
    if (*s->about) html_print(p->out, "<p class=\"about\">%s</p>\n", s->about);
    write_answers(p, index);
    page_grid(p, s, first);
    page_commands(p, s);
    figures_section(p, index);
    fputs("</section>\n", p->out);
}

/* ---- how it was measured -------------------------------------------------------------------- */

static void write_scale(page *p, int subject)
{
    const subject_row *s = &p->s->measures->subject[subject];
    html_print(
        p->out, "<tr><th scope=\"row\">%s</th><td>%d: %s</td><td>%d: %s</td><td>%s</td></tr>\n",
        s->instance_prompt, s->photos,
        number_interval(s->raw_subject.mean, s->raw_subject.low, s->raw_subject.high, "", false)
            .text,
        s->class_images,
        number_interval(s->raw_class.mean, s->raw_class.low, s->raw_class.high, "", false).text,
        s->tells_apart ? "yes" : "no, so there are no shares");
}

static void write_scales(page *p)
{
    const study_measures *m = p->s->measures;
    if (!m->subjects) return;
    fputs(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"The scale of likeness\">"
        "<table class=\"numbers\"><caption>The scale of likeness, in the judge&rsquo;s own unit; "
        "each picture "
        "scored with itself left out</caption><thead><tr><th scope=\"col\">subject</th><th "
        "scope=\"col\">its own "
        "pictures (100&nbsp;%)</th><th scope=\"col\">pictures of the class (0&nbsp;%)</th>"
        "<th scope=\"col\">told apart</th></tr></thead><tbody>\n",
        p->out);
    for (int i = 0; i < m->subjects; i++) write_scale(p, i);
    fputs("</tbody></table></div>\n", p->out);
}

/* By networks that the user brought. */
static void write_field(page *p)
{
    const study_measures *m = p->s->measures;
    if (!m->fields) return;
    fputs("<details><summary>CLIP and DINO</summary><div class=\"scroll\" tabindex=\"0\" "
          "role=\"region\" "
          "aria-label=\"CLIP and DINO\"><table class=\"numbers\"><thead><tr><th "
          "scope=\"col\">measure</th>"
          "<th scope=\"col\">model</th><th scope=\"col\">prompt</th><th scope=\"col\">mean and "
          "interval</th></tr>"
          "</thead><tbody>\n",
          p->out);
    for (int i = 0; i < m->fields; i++) {
        const field_row *r = &m->field[i];
        html_print(p->out, "<tr><th scope=\"row\">%s</th><td>%s</td><td>%s</td><td>%s</td></tr>\n",
                   r->measure, r->model < 0 ? "its own pictures" : p->s->plan->model[r->model].name,
                   *r->prompt ? r->prompt : "all",
                   number_interval(r->value.mean, r->value.low, r->value.high, "", false).text);
    }
    fputs("</tbody></table></div></details>\n", p->out);
}

static bool any_measured(const page_source *s)
{
    const study_measures *m = s->measures;
    return m->likenesses || m->changes || m->structures || m->deeps || m->diversities || m->fields;
}

static void write_measures(page *p)
{
    if (!any_measured(p->s)) return;
    fputs("<section id=\"measures\" aria-labelledby=\"measures-h\">\n<h2 id=\"measures-h\">How it "
          "is measured</h2>\n"
          "<p class=\"about\">One judge, the same for the pictures of all models: the base model, "
          "which "
          "has never seen the subject. By its features it finds, place by place, what the "
          "subject&rsquo;s own "
          "pictures have in common and those of the class have not. Pictures are "
          "compared in pairs of equal seed: same noise, same settings. Pictures that differ by "
          "100&nbsp;% differ as "
          "much as those of two seeds do; structure is the correlation of pixels, 0&nbsp;% that of "
          "another "
          "seed&rsquo;s picture, 100&nbsp;% the same picture.</p>\n",
          p->out);
    write_scales(p);
    write_answers(p, -1);
    write_field(p);
    fputs("<p class=\"note\">All numbers: <a href=\"measures.json\">measures.json</a>, picture by "
          "picture: "
          "<a href=\"cells.csv\">cells.csv</a>.</p>\n</section>\n",
          p->out);
}

/* ---- the run -------------------------------------------------------------------------------- */

static int count_missing(const page_source *s)
{
    int missing = 0, width, height;
    for (int i = 0; i < s->plan->sections; i++)
        for (int k = 0; k < section_cells(&s->plan->section[i]); k++)
            missing += !page_image_size(s, &s->plan->section[i].cell[k], &width, &height);
    return missing;
}

static void write_run(page *p)
{
    const page_source *s = p->s;
    const study_plan *plan = s->plan;
    int cells = 0, trained = 0, hidden = 0;
    for (int i = 0; i < plan->sections; i++) {
        cells += section_cells(&plan->section[i]);
        if (plan->section[i].hidden) hidden += section_cells(&plan->section[i]);
    }
    for (int i = 0; i < plan->models; i++) trained += is_trained(&plan->model[i]);
    html_print(p->out, "<p>%d model%s, %d of them trained here; %s picture%s", plan->models,
               plan->models == 1 ? "" : "s", trained, number_count(cells).text,
               cells == 1 ? "" : "s");
    if (hidden)
        html_print(p->out, ", %s of them measured and not shown", number_count(hidden).text);
    fputs(".", p->out);
    if (s->steps)
        html_print(
            p->out,
            " Each picture made alone, that is %s steps; first steps that several have in common "
            "were computed once, which saved %s of them (%.0f&nbsp;%%).",
            number_count(s->steps).text, number_count(s->steps_shared).text,
            100.0 * (double)s->steps_shared / (double)s->steps);
    fputs("</p>\n", p->out);
}

static void write_model_table(page *p)
{
    const study_plan *plan = p->s->plan;
    fputs(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Models\"><table "
        "class=\"settings\">"
        "<caption>Models</caption><thead><tr><th scope=\"col\">name</th><th scope=\"col\">from</th>"
        "<th scope=\"col\">SHA-256</th></tr></thead><tbody>\n",
        p->out);
    for (int i = 0; i < plan->models; i++) {
        const study_model *m = &plan->model[i];
        html_print(p->out, "<tr><th scope=\"row\">%s</th><td>", m->name);
        if (is_trained(m))
            html_print(p->out, "%s, %lld steps of DreamBooth%s%s", plan->model[m->base].name,
                       (long long)m->train.max_train_steps, m->train.lora_rank ? ", a LoRA" : "",
                       m->train.with_prior_preservation ? " with prior preservation" : "");
        else
            html_text(p->out, m->path);
        for (int k = 0; k < m->loras; k++)
            html_print(p->out, " + %s*%s", number_exact_float(m->lora[k].weight).text,
                       m->lora[k].path);
        if (m->taesd) html_print(p->out, ", decoded by %s", m->taesd);
        html_print(p->out, "</td><td><code>%.16s</code></td></tr>\n", p->s->model_hash[i]);
    }
    fputs("</tbody></table></div>\n", p->out);
}

static void write_reproduce(page *p)
{
    char *again = command_of_study(p->s->precision, p->s->clip, p->s->dino);
    fputs("<section id=\"reproduce\" aria-labelledby=\"reproduce-h\">\n<h2 id=\"reproduce-h\">Make "
          "it again</h2>\n"
          "<p>Each picture shows its settings and its command when it is pointed at or focused; "
          "each grid lists its "
          "commands below it. Run them in the folder of this page, where <code>models/</code> "
          "holds the trained "
          "models; one click on a command selects all of it. The pictures carry their settings, "
          "too: <code>likeness "
          "inspect FILE.png</code>. The whole study again, by the plan that lies in the folder, "
          "where what is there "
          "already is kept:</p>\n",
          p->out);
    if (again)
        html_print(p->out, "<pre><code>%s</code></pre>\n", again);
    else
        p->no_memory = true;
    free(again);
    write_run(p);
    write_model_table(p);
    fputs("</section>\n", p->out);
}

/* ---- the page ------------------------------------------------------------------------------- */

static void write_nav(page *p)
{
    const study_plan *plan = p->s->plan;
    fputs("<nav aria-label=\"Parts of the page\"><ol>\n", p->out);
    if (p->said.count) fputs("<li><a href=\"#answers\">Answers</a></li>\n", p->out);
    for (int i = 0; i < plan->sections; i++)
        if (!plan->section[i].hidden)
            html_print(p->out, "<li><a href=\"#part-%s\">%s</a></li>\n", plan->section[i].id,
                       plan->section[i].title);
    if (any_measured(p->s))
        fputs("<li><a href=\"#measures\">How it is measured</a></li>\n", p->out);
    if (page_any_trained(plan)) fputs("<li><a href=\"#training\">Training</a></li>\n", p->out);
    fputs("<li><a href=\"#reproduce\">Make it again</a></li>\n</ol></nav>\n", p->out);
}

static void write_head(page *p)
{
    const study_plan *plan = p->s->plan;
    int missing = count_missing(p->s);
    html_print(p->out,
               "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
               "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
               "<meta name=\"color-scheme\" content=\"light dark\">\n"
               "<meta name=\"generator\" content=\"likeness %s\">\n<title>%s</title>\n<style>\n",
               p->s->version, plan->title);
    fputs(page_style, p->out);
    page_grid_style(p);
    html_print(
        p->out,
        "</style>\n</head>\n<body>\n<a class=\"skip\" href=\"#main\">Skip to the answers</a>\n"
        "<header>\n<h1>%s</h1>\n",
        plan->title);
    if (*plan->about) html_print(p->out, "<p class=\"lead\">%s</p>\n", plan->about);
    if (missing)
        html_print(
            p->out,
            "<p><strong>%d of the pictures could not be made</strong>: their places say why.</p>\n",
            missing);
    page_subjects(p);
    fputs("</header>\n", p->out);
    write_nav(p);
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
    if (s->peak_mb > 0)
        html_print(p->out, "<p>Memory at its highest: %s MB.</p>\n",
                   number_count(llround(s->peak_mb)).text);
    fputs("</footer>\n<script>", p->out);
    fputs(page_script, p->out);
    fputs("</script>\n</body>\n</html>\n", p->out);
}

static void write_page(page *p)
{
    const study_plan *plan = p->s->plan;
    if (!statements_make(&p->said, &p->memory, plan, p->s->measures)) p->no_memory = true;
    write_head(p);
    fputs("<main id=\"main\">\n", p->out);
    write_summary(p);
    for (int i = 0, first = 0; i < plan->sections; i++) {
        if (!plan->section[i].hidden) write_section(p, i, first);
        first += section_cells(&plan->section[i]);
    }
    write_measures(p);
    page_training(p);
    write_reproduce(p);
    fputs("</main>\n", p->out);
    write_footer(p);
}

/* ---- files ---------------------------------------------------------------------------------- */

/* Writes folder/name, whole or not at all, from what `fill` prints. */
static bool write_file(const page_source *s, const char *name, void (*fill)(page *p), error *e)
{
    page p = {.s = s};
    char *text = NULL, *path = path_join(s->folder, name);
    size_t size = 0;
    p.out = path ? open_memstream(&text, &size) : NULL;
    bool ok = p.out != NULL;
    if (ok) {
        fill(&p);
        ok = !ferror(p.out) && !p.no_memory;
        if (fclose(p.out) != 0) ok = false;
    }
    if (!ok) error_memory(e, name, size);
    ok = ok && file_write(path, text, size, e);
    arena_free(&p.memory);
    free(text);
    free(path);
    return ok;
}

bool page_write(const page_source *s, error *e)
{
    return write_file(s, "report.html", write_page, e);
}

/* "base=HASH tuned=HASH": of every model that has a part in the picture. */
static void csv_models(page *p, const study_cell *c)
{
    const study_plan *plan = p->s->plan;
    for (int i = 0, first = 1; i < plan->models; i++)
        if (cell_uses(c, i)) {
            fprintf(p->out, "%s%s=%s", first ? "" : " ", plan->model_name[i], p->s->model_hash[i]);
            first = 0;
        }
}

static void csv_settings(page *p, const study_cell *c)
{
    FILE *out = p->out;
    fprintf(out, ",%llu,%s,%d,%s,%d,%s,%s,", (unsigned long long)c->seed,
            lk_sampler_name(c->sampler), c->steps, number_exact_float(c->guidance).text,
            c->deep_cache ? c->deep_cache : 1, lk_prompt_syntax_name(c->prompt_syntax),
            lk_rng_name(c->rng));
    if (c->init) csv_text(out, c->init->path);
    fprintf(out, ",%s,", c->init ? number_exact(c->strength).text : "");
    if (c->mask) csv_text(out, c->mask->path);
    fprintf(out, ",%s,%s,", c->hires > 0 ? number_exact(c->hires).text : "",
            c->tile ? "true" : "false");
}

static void csv_cell(page *p, const study_section *s, const study_cell *c, int at, int index)
{
    FILE *out = p->out;
    const study_measures *m = p->s->measures;
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
    csv_settings(p, c);
    csv_text(out, c->schedule);
    fputc(',', out);
    csv_models(p, c);
    if (page_image_size(p->s, c, &width, &height))
        fprintf(out, ",cells/%s.png", c->name);
    else
        fputc(',', out);
    for (int i = 0; i < m->subjects; i++) {
        double v = index < m->cells ? m->cell_share[(size_t)index * (size_t)m->subjects + (size_t)i]
                                    : NAN;
        fputc(',', out);
        if (isfinite(v)) fputs(number_rounded(v, 4).text, out);
    }
    fputs("\r\n", out);
}

static void write_csv(page *p)
{
    const study_plan *plan = p->s->plan;
    fputs("section,row,column,prompt,negative,seed,sampler,steps,guidance,deep_cache,prompt_syntax,"
          "rng,init_image,strength,mask,hires,tile,schedule,models,file",
          p->out);
    for (int i = 0; i < p->s->measures->subjects; i++)
        fprintf(p->out, ",share_of_subject_%d", i + 1);
    fputs("\r\n", p->out);
    for (int i = 0, index = 0; i < plan->sections; i++)
        for (int k = 0; k < section_cells(&plan->section[i]); k++, index++)
            csv_cell(p, &plan->section[i], &plan->section[i].cell[k], k, index);
}

bool page_write_cells(const page_source *s, error *e)
{
    return write_file(s, "cells.csv", write_csv, e);
}
