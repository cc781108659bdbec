/* SPDX-License-Identifier: Apache-2.0
 *
 * grid: the pictures of a section as a table, each with its settings and its command, which
 * show when it is pointed at or focused. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/platform.h"
#include "command.h"
#include "html.h"
#include "parts.h"

bool page_image_size(const page_source *s, const study_cell *c, int *width, int *height)
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

/* ---- one picture ---------------------------------------------------------------------------- */

/* A picture in words. */
static void write_alt(FILE *out, const study_cell *c)
{
    if (*c->prompt) html_print(out, "\xe2\x80\x9c%s\xe2\x80\x9d, ", c->prompt);
    html_print(out, "%s, seed %llu, %s, %d steps", c->schedule, (unsigned long long)c->seed,
               lk_sampler_label(c->sampler), c->steps);
    if (c->prompt_syntax)
        html_print(out, ", prompts as %s", lk_prompt_syntax_name(c->prompt_syntax));
    if (c->rng) html_print(out, ", noise of %s", lk_rng_name(c->rng));
    if (c->init) html_print(out, ", from a picture at strength %g", c->strength);
    if (c->hires > 0) html_print(out, ", then %g times as large", c->hires);
    if (c->tile) fputs(", in tiles", out);
    if (c->control) fputs(", with control", out);
    if (c->deep_cache) html_print(out, ", deep cache %d", c->deep_cache);
}

static void write_settings(FILE *out, const study_cell *c)
{
    html_print(out, "<dt>model</dt><dd>%s</dd><dt>sampler</dt><dd>%s, %d steps", c->schedule,
               lk_sampler_label(c->sampler), c->steps);
    if (c->eta > 0) html_print(out, ", eta %g", (double)c->eta);
    if (c->variance) html_print(out, ", variance %s", lk_variance_name(c->variance));
    if (c->sigmas) {
        const char *label = lk_sigmas_label(c->sigmas);
        html_print(out, ", sigmas %s", label ? label : c->sigmas);
    }
    if (c->spacing) html_print(out, ", spacing %s", lk_spacing_name(c->spacing));
    html_print(out, "</dd><dt>seed</dt><dd>%llu</dd><dt>guidance</dt><dd>%g",
               (unsigned long long)c->seed, (double)c->guidance);
    if (c->guidance_rescale != 0) html_print(out, ", rescale %g", (double)c->guidance_rescale);
    fputs("</dd>", out);
    if (*c->prompt) html_print(out, "<dt>prompt</dt><dd>%s</dd>", c->prompt);
    if (*c->negative) html_print(out, "<dt>negative</dt><dd>%s</dd>", c->negative);
    if (c->clip_skip) html_print(out, "<dt>clip skip</dt><dd>%d</dd>", c->clip_skip);
    if (c->prompt_syntax)
        html_print(out, "<dt>prompts as</dt><dd>%s</dd>", lk_prompt_syntax_name(c->prompt_syntax));
    if (c->rng) html_print(out, "<dt>noise of</dt><dd>%s</dd>", lk_rng_name(c->rng));
    if (c->init)
        html_print(out, "<dt>begins with</dt><dd>%s</dd><dt>strength</dt><dd>%g: %d steps</dd>",
                   c->init->path, c->strength, cell_steps(c));
    if (c->mask) html_print(out, "<dt>mask</dt><dd>%s</dd>", c->mask->path);
    if (c->hires > 0)
        html_print(out, "<dt>hires</dt><dd>%g, %d steps, strength %g, %s</dd>", c->hires,
                   cell_second_steps(c), c->hires_strength,
                   c->hires_upscaler ? c->hires_upscaler : "latent");
    for (int i = 0; c->control && i < c->control->count; i++)
        html_print(out, "<dt>control</dt><dd>%s of %s at %g</dd>", c->control->item[i].net->path,
                   c->control->item[i].picture->path, (double)c->control->item[i].scale);
    if (c->tile) fputs("<dt>autoencoder</dt><dd>in tiles</dd>", out);
    if (c->deep_cache) html_print(out, "<dt>deep cache</dt><dd>%d</dd>", c->deep_cache);
}

/* Its share of every subject, where it was measured; index: of the cell in the study. */
static void write_shares(FILE *out, const page_source *s, int index)
{
    const study_measures *m = s->measures;
    for (int i = 0; i < m->subjects && index < m->cells; i++) {
        double v = m->cell_share[(size_t)index * (size_t)m->subjects + (size_t)i];
        if (isfinite(v))
            html_print(out, "<dt>subject</dt><dd>%s&nbsp;%% of the way to <q>%s</q></dd>",
                       number_fixed(v, 0).text, m->subject[i].instance_prompt);
    }
}

static void write_command(page *p, const study_cell *c)
{
    char *text = command_of_cell(p->s->plan, c, p->s->precision);
    if (text)
        html_print(p->out, "<pre><code>%s</code></pre>", text);
    else
        p->no_memory = true;
    free(text);
}

static void write_image(page *p, const study_cell *c, const char *id, int width, int height)
{
    html_print(p->out,
               "<a href=\"cells/%s.png\" aria-describedby=\"%s\"><img src=\"cells/%s.png\" "
               "loading=\"lazy\" width=\"%d\" height=\"%d\" alt=\"",
               c->name, id, c->name, width, height);
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
static void write_cell(page *p, const study_cell *c, int index)
{
    char id[32];
    int width, height;
    snprintf(id, sizeof id, "settings-%d", index);
    fputs("<td><div class=\"cell\">", p->out);
    if (page_image_size(p->s, c, &width, &height))
        write_image(p, c, id, width, height);
    else
        write_missing(p, c);
    html_print(p->out, "<div class=\"tip\"><dl id=\"%s\">", id);
    write_settings(p->out, c);
    write_shares(p->out, p->s, index);
    fputs("</dl>", p->out);
    write_command(p, c);
    fputs("</div></div></td>\n", p->out);
}

/* ---- labels --------------------------------------------------------------------------------- */

/* Labels of one axis: its parts, or where an axis has none (levels 0), its whole labels as one
 * part. */
typedef struct labels {
    const char **part;
    int levels, count;
} labels;

static labels column_labels(const study_section *s)
{
    return s->column_levels ? (labels){s->column_part, s->column_levels, s->columns}
                            : (labels){s->column_label, 1, s->columns};
}

static labels row_labels(const study_section *s)
{
    return s->row_levels ? (labels){s->row_part, s->row_levels, s->rows}
                         : (labels){s->row_label, 1, s->rows};
}

static const char *part_of(const labels *l, int level, int i)
{
    return l->part[level * l->count + i];
}

static bool same_group(const labels *l, int level, int a, int b)
{
    for (int d = 0; d <= level; d++)
        if (strcmp(part_of(l, d, a), part_of(l, d, b)) != 0) return false;
    return true;
}

/* How many entries from i on share its part, and all parts outside it; 0: i is not the first of
 * them. */
static int span_of(const labels *l, int level, int i)
{
    int n = 1;
    if (level == l->levels - 1) return 1;
    if (i > 0 && same_group(l, level, i - 1, i)) return 0;
    while (i + n < l->count && same_group(l, level, i, i + n)) n++;
    return n;
}

static void write_column_heads(page *p, const study_section *s)
{
    labels columns = column_labels(s), rows = row_labels(s);
    for (int level = 0; level < columns.levels; level++) {
        bool inner = level == columns.levels - 1;
        fputs("<tr>", p->out);
        if (!level)
            html_print(p->out, "<td colspan=\"%d\" rowspan=\"%d\"></td>", rows.levels,
                       columns.levels);
        for (int k = 0; k < s->columns; k++) {
            int n = span_of(&columns, level, k);
            if (!n) continue;
            html_print(p->out,
                       inner ? "<th scope=\"col\">"
                             : "<th scope=\"colgroup\" class=\"outer\" colspan=\"%d\">",
                       n);
            html_print(p->out, "%s</th>", part_of(&columns, level, k));
        }
        fputs("</tr>\n", p->out);
    }
}

static void write_row_heads(page *p, const labels *rows, int row)
{
    for (int level = 0; level < rows->levels; level++) {
        int n = span_of(rows, level, row);
        if (!n) continue;
        if (level == rows->levels - 1)
            fputs("<th scope=\"row\">", p->out);
        else
            html_print(p->out, "<th scope=\"rowgroup\" class=\"outer\" rowspan=\"%d\">", n);
        html_print(p->out, "%s</th>\n", part_of(rows, level, row));
    }
}

/* ---- a grid --------------------------------------------------------------------------------- */

/* A picture's least width in rem, and the page's edges and a label's width: as page_style has them.
 */
#define LEAST_WIDTH 5.4
#define EDGES 8.0
#define LABEL_WIDTH 8.5

static double least_page(const study_section *s)
{
    return EDGES + LABEL_WIDTH * row_labels(s).levels + LEAST_WIDTH * s->columns;
}

/* A grid that does not fit says so: from which width of the page on, depends on its columns. */
void page_grid_style(page *p)
{
    for (int i = 0; i < p->s->plan->sections; i++) {
        const study_section *s = &p->s->plan->section[i];
        if (!s->hidden)
            html_print(p->out,
                       "@media screen and (max-width:%.1frem){#part-%s .hint{display:block}}\n",
                       s->columns <= 3 ? 20 : least_page(s), s->id);
    }
}

/* Where the first pictures of two outer groups stand apart. */
static void write_columns(page *p, const study_section *s)
{
    labels columns = column_labels(s);
    html_print(p->out, "<colgroup><col class=\"head\" span=\"%d\"></colgroup>",
               row_labels(s).levels);
    for (int k = 0; k < s->columns; k++) {
        int n = columns.levels > 1 ? span_of(&columns, 0, k) : k ? 0 : s->columns;
        if (n) html_print(p->out, "<colgroup span=\"%d\"></colgroup>", n);
    }
}

void page_grid(page *p, const study_section *s, int first)
{
    labels rows = row_labels(s);
    html_print(p->out,
               "<p class=\"hint\">More pictures stand to the right: the grid scrolls sideways. "
               "&rarr;</p>\n"
               "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Pictures: %s\">\n"
               "<table class=\"grid%s\" style=\"--n:%d;--h:%d\">",
               s->title, s->columns > 3 ? " wide" : "", s->columns, rows.levels);
    write_columns(p, s);
    fputs("<thead>", p->out);
    write_column_heads(p, s);
    fputs("</thead><tbody>\n", p->out);
    for (int i = 0; i < s->rows; i++) {
        fputs("<tr>", p->out);
        write_row_heads(p, &rows, i);
        for (int k = 0; k < s->columns; k++)
            write_cell(p, &s->cell[i * s->columns + k], first + i * s->columns + k);
        fputs("</tr>\n", p->out);
    }
    fputs("</tbody></table></div>\n", p->out);
}

void page_commands(page *p, const study_section *s)
{
    html_print(
        p->out,
        "<details><summary>Commands that make these pictures<span class=\"hidden\">: %s</span>"
        "</summary><ul class=\"commands\">\n",
        s->title);
    for (int i = 0; i < section_cells(s); i++) {
        html_print(p->out, "<li>%s, %s", s->row_label[i / s->columns],
                   s->column_label[i % s->columns]);
        write_command(p, &s->cell[i]);
        fputs("</li>\n", p->out);
    }
    fputs("</ul></details>\n", p->out);
}
