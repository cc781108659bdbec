/* SPDX-License-Identifier: Apache-2.0
 *
 * chart: draws lines (a number across, values up) and rows of dots (a row for each category, values
 * across). Sizes are those of a phone's page, so that letters stay legible there. */
#include "chart.h"

#include <math.h>
#include <string.h>

#include "html.h"

enum {
    WIDTH = 420,
    LEFT = 50,
    RIGHT = 408, /* of the plot */
    LINES_TOP = 26,
    LINES_BOTTOM = 216,
    LINES_HEIGHT = 256,
    ROWS_TOP = 8,
    ROWS_LEFT = 8,
    LABEL_HEIGHT = 18,
    DOT_HEIGHT = 13,
    ROW_GAP = 8,
    TABLE_ROWS = 26, /* longer tables are thinned */
};

/* ---- axes ---------------------------------------------------------------------------------- */

typedef struct axis {
    double low, high;
    double step; /* of its ticks; 0: at the values of the series (log) */
    int decimals;
    bool log;
    double from, to; /* where low and high are drawn */
} axis;

static double axis_at(const axis *a, double v)
{
    double t = a->log ? log(v / a->low) / log(a->high / a->low) : (v - a->low) / (a->high - a->low);
    return a->from + t * (a->to - a->from);
}

static void widen(axis *a, double v)
{
    if (!isfinite(v)) return;
    if (v < a->low) a->low = v;
    if (v > a->high) a->high = v;
}

/* Ticks at 1, 2 or 5 times a power of ten; with `round` the axis begins and ends at one. */
static void axis_ticks(axis *a, int about, bool round)
{
    if (!(a->low <= a->high)) a->low = 0, a->high = 1;
    if (a->low == a->high) {
        double room = a->low != 0 ? fabs(a->low) / 2 : 1;
        a->low -= room;
        a->high += room;
    }
    double rough = (a->high - a->low) / about;
    double power = pow(10, floor(log10(rough)));
    double lead = rough / power;
    a->step = power * (lead < 1.5 ? 1 : lead < 3.5 ? 2 : lead < 7.5 ? 5 : 10);
    if (round) {
        a->low = floor(a->low / a->step + 1e-9) * a->step;
        a->high = ceil(a->high / a->step - 1e-9) * a->step;
    }
    int d = -(int)floor(log10(a->step) + 1e-9);
    a->decimals = d < 0 ? 0 : d;
}

/* The axis shows every mean. An interval that is far wider than all means are apart would leave
 * them no room: of it the axis shows half of that width more, and the bar goes on beyond the edge.
 */
static axis value_axis(const chart *c, double from, double to)
{
    axis a = {INFINITY, -INFINITY, 0, 0, false, from, to};
    for (int i = 0; i < c->count; i++)
        for (int k = 0; k < c->series[i].count; k++) widen(&a, c->series[i].point[k].y);
    for (int i = 0; i < c->levels; i++) widen(&a, c->level[i].mean);
    if (c->from_zero) widen(&a, 0);
    double reach = a.high > a.low ? (a.high - a.low) / 2 : INFINITY;
    double low = a.low - reach, high = a.high + reach;
    for (int i = 0; i < c->count; i++)
        for (int k = 0; k < c->series[i].count; k++) {
            const chart_point *p = &c->series[i].point[k];
            widen(&a, p->low < low ? low : p->low);
            widen(&a, p->high > high ? high : p->high);
        }
    for (int i = 0; i < c->levels; i++) {
        widen(&a, c->level[i].low < low ? low : c->level[i].low);
        widen(&a, c->level[i].high > high ? high : c->level[i].high);
    }
    axis_ticks(&a, c->category ? 4 : 5, true);
    return a;
}

/* Where a value stands on its axis, or the end of it. */
static double axis_within(const axis *a, double v)
{
    return axis_at(a, v < a->low ? a->low : v > a->high ? a->high : v);
}

static axis number_axis(const chart *c)
{
    axis a = {INFINITY, -INFINITY, 0, 0, false, LEFT, RIGHT};
    for (int i = 0; i < c->count; i++)
        for (int k = 0; k < c->series[i].count; k++) widen(&a, c->series[i].point[k].x);
    bool can_log = a.low > 0 && a.high > a.low;
    axis_ticks(&a, 6, false);
    if (c->log_x && can_log) {
        a.log = true;
        a.step = 0;
        a.decimals = 0;
    }
    return a;
}

static void write_tick(FILE *out, double x, double y, const char *anchor, double v, int decimals)
{
    html_print(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>", x, y, anchor,
               number_fixed(v, decimals).text);
}

/* ---- series -------------------------------------------------------------------------------- */

/* Six shapes about (x, y). */
static void write_marker(FILE *out, int style, double x, double y)
{
    static const char *const shape[CHART_STYLES] = {
        "m-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
        "m-3.6 -3.6h7.2v7.2h-7.2z",
        "m0 -4.6l4.6 8h-9.2z",
        "m0 -5l5 5l-5 5l-5 -5z",
        "m-4.6 -3.4h9.2l-4.6 8z",
        "m-5 -1.6h3.4v-3.4h3.2v3.4h3.4v3.2h-3.4v3.4h-3.2v-3.4h-3.4z",
    };
    html_print(out, "<path class=\"dot\" d=\"M%.1f %.1f%s\"/>", x, y, shape[style]);
}

/* One end of a bar, square to it. */
static void write_cap(FILE *out, double x, double y, bool across)
{
    if (across)
        html_print(out, "M%.1f %.1fv6", x, y - 3);
    else
        html_print(out, "M%.1f %.1fh6", x - 3, y);
}

/* across: values go across, and `at` is the height; else the other way round. An end that is beyond
 * the axis is left open. */
static void write_error_bar(FILE *out, const axis *v, const chart_point *p, double at, bool across)
{
    double a = axis_within(v, p->low), b = axis_within(v, p->high);
    if (!(p->low < p->high)) return;
    if (across)
        html_print(out, "<path class=\"bar\" d=\"M%.1f %.1fH%.1f", a, at, b);
    else
        html_print(out, "<path class=\"bar\" d=\"M%.1f %.1fV%.1f", at, a, b);
    if (p->low >= v->low) write_cap(out, across ? a : at, across ? at : a, across);
    if (p->high <= v->high) write_cap(out, across ? b : at, across ? at : b, across);
    fputs("\"/>", out);
}

static void write_line(FILE *out, const chart_series *s, const axis *x, const axis *y)
{
    bool open = false;
    fputs("<path class=\"line\" d=\"", out);
    for (int k = 0; k < s->count; k++) {
        const chart_point *p = &s->point[k];
        if (isfinite(p->y))
            html_print(out, "%s%.1f %.1f", open ? "L" : "M", axis_at(x, p->x), axis_at(y, p->y));
        open = isfinite(p->y);
    }
    fputs("\"/>", out);
}

static void write_series(FILE *out, const chart_series *s, const axis *x, const axis *y)
{
    int style = s->style % CHART_STYLES;
    html_print(out, "<g class=\"s%d%s\">", style, s->faint ? " faint" : "");
    write_line(out, s, x, y);
    for (int k = 0; k < s->count && !s->faint && !s->bare; k++) {
        const chart_point *p = &s->point[k];
        if (!isfinite(p->y)) continue;
        double px = axis_at(x, p->x);
        write_error_bar(out, y, p, px, false);
        write_marker(out, style, px, axis_at(y, p->y));
    }
    fputs("</g>\n", out);
}

/* ---- the two kinds ------------------------------------------------------------------------- */

static void write_svg_start(FILE *out, const chart *c, int height)
{
    html_print(out,
               "<svg viewBox=\"0 0 %d %d\" role=\"img\" "
               "xmlns=\"http://www.w3.org/2000/svg\">\n<title>%s</title>"
               "<desc>%s The numbers are in the table below.</desc>\n",
               WIDTH, height, c->title, c->about);
}

static void write_line_axes(FILE *out, const chart *c, const axis *x, const axis *y)
{
    fputs("<g class=\"axis\">", out);
    for (int i = 0; i <= (int)lround((y->high - y->low) / y->step); i++) {
        double v = y->low + i * y->step, at = axis_at(y, v);
        html_print(out, "<path class=\"%s\" d=\"M%d %.1fH%d\"/>",
                   fabs(v) < y->step / 1e3 ? "zero" : "rule", LEFT, at, RIGHT);
        write_tick(out, LEFT - 6, at + 4, "end", v, y->decimals);
    }
    if (x->log) { /* at the values there are */
        for (int k = 0; k < c->series[0].count; k++) {
            double v = c->series[0].point[k].x;
            write_tick(out, axis_at(x, v), LINES_BOTTOM + 16, "middle", v, v == floor(v) ? 0 : 2);
        }
    } else {
        for (int i = (int)ceil(x->low / x->step - 1e-9); i * x->step <= x->high * (1 + 1e-9); i++)
            write_tick(out, axis_at(x, i * x->step), LINES_BOTTOM + 16, "middle", i * x->step,
                       x->decimals);
    }
    html_print(
        out,
        "<text class=\"name\" x=\"0\" y=\"12\">%s</text><text class=\"name\" x=\"%d\" y=\"%d\" "
        "text-anchor=\"end\">%s</text></g>\n",
        c->y_name, RIGHT, LINES_BOTTOM + 34, c->x_name);
}

static void write_level(FILE *out, int index, double x, double y, double width, double height,
                        bool across)
{
    html_print(
        out, "<g class=\"level l%d\"><rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>",
        index, x, y, width, height);
    if (across)
        html_print(out, "<path d=\"M%.1f %.1fh%.1f\"/></g>\n", x, y + height / 2, width);
    else
        html_print(out, "<path d=\"M%.1f %.1fv%.1f\"/></g>\n", x + width / 2, y, height);
}

static void write_lines(FILE *out, const chart *c)
{
    axis y = value_axis(c, LINES_BOTTOM, LINES_TOP), x = number_axis(c);
    write_svg_start(out, c, LINES_HEIGHT);
    for (int i = 0; i < c->levels; i++) {
        const chart_level *l = &c->level[i];
        bool has = l->low < l->high;
        double top = axis_within(&y, has ? l->high : l->mean),
               bottom = axis_within(&y, has ? l->low : l->mean);
        write_level(out, i % 2, LEFT, top, RIGHT - LEFT, bottom - top, true);
    }
    write_line_axes(out, c, &x, &y);
    for (int i = 0; i < c->count; i++)
        if (c->series[i].faint) write_series(out, &c->series[i], &x, &y);
    for (int i = 0; i < c->count; i++)
        if (!c->series[i].faint) write_series(out, &c->series[i], &x, &y);
    fputs("</svg>\n", out);
}

/* At most so many characters of a label, not cut within one. */
static void write_label(FILE *out, int y, const char *text)
{
    enum { MOST = 62 };
    size_t end = 0;
    int letters = 0;
    for (; text[end] && letters <= MOST; end++)
        if (((unsigned char)text[end + 1] & 0xC0) != 0x80) letters++;
    if (letters <= MOST) {
        html_print(out, "<text class=\"label\" x=\"%d\" y=\"%d\">%s</text>", ROWS_LEFT, y, text);
        return;
    }
    char cut[4 * MOST + 8];
    while (end > sizeof cut - 8) end--;
    while (end > 0 && ((unsigned char)text[end] & 0xC0) == 0x80) end--;
    memcpy(cut, text, end);
    strcpy(cut + end, "\xe2\x80\xa6");
    html_print(out, "<text class=\"label\" x=\"%d\" y=\"%d\">%s</text>", ROWS_LEFT, y, cut);
}

static void write_row_dots(FILE *out, const chart *c, int category, int top, const axis *v)
{
    for (int i = 0; i < c->count; i++) {
        const chart_series *s = &c->series[i];
        double y = top + LABEL_HEIGHT + (i + 0.5) * DOT_HEIGHT;
        for (int k = 0; k < s->count; k++) {
            const chart_point *p = &s->point[k];
            if ((int)p->x != category || !isfinite(p->y)) continue;
            html_print(out, "<g class=\"s%d\">", s->style % CHART_STYLES);
            write_error_bar(out, v, p, y, true);
            write_marker(out, s->style % CHART_STYLES, axis_at(v, p->y), y);
            fputs("</g>", out);
        }
    }
    fputc('\n', out);
}

static void write_rows(FILE *out, const chart *c)
{
    int row = LABEL_HEIGHT + DOT_HEIGHT * c->count + ROW_GAP,
        bottom = ROWS_TOP + row * c->categories;
    axis v = value_axis(c, ROWS_LEFT + 14, RIGHT - 6);
    write_svg_start(out, c, bottom + 40);
    for (int i = 0; i < c->levels; i++) {
        const chart_level *l = &c->level[i];
        bool has = l->low < l->high;
        double low = axis_within(&v, has ? l->low : l->mean),
               high = axis_within(&v, has ? l->high : l->mean);
        write_level(out, i % 2, low, ROWS_TOP, high - low, bottom - ROWS_TOP, false);
    }
    fputs("<g class=\"axis\">", out);
    for (int i = 0; i <= (int)lround((v.high - v.low) / v.step); i++) {
        double value = v.low + i * v.step, at = axis_at(&v, value);
        bool zero = fabs(value) < v.step / 1e3;
        for (int k = 0; k < c->categories; k++)
            html_print(out, "<path class=\"%s\" d=\"M%.1f %dV%d\"/>", zero ? "zero" : "rule", at,
                       ROWS_TOP + row * k + LABEL_HEIGHT, ROWS_TOP + row * (k + 1) - ROW_GAP);
        write_tick(out, at, bottom + 12, "middle", value, v.decimals);
    }
    html_print(out, "<text class=\"name\" x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text></g>\n",
               RIGHT, bottom + 32, c->y_name);
    for (int k = 0; k < c->categories; k++) {
        int top = ROWS_TOP + row * k;
        write_label(out, top + 13, c->category[k]);
        write_row_dots(out, c, k, top, &v);
    }
    fputs("</svg>\n", out);
}

/* ---- key and table ------------------------------------------------------------------------- */

static bool goes_beyond(const chart *c)
{
    axis a = value_axis(c, 0, 1);
    for (int i = 0; i < c->count; i++)
        for (int k = 0; k < c->series[i].count; k++)
            if (c->series[i].point[k].low < a.low || c->series[i].point[k].high > a.high)
                return true;
    return false;
}

static void write_key(FILE *out, const chart *c)
{
    fputs("<ul class=\"key\">\n", out);
    for (int i = 0; i < c->count; i++) {
        const chart_series *s = &c->series[i];
        int style = s->style % CHART_STYLES;
        if (s->faint) continue;
        html_print(out, "<li><svg viewBox=\"0 0 28 12\" aria-hidden=\"true\"><g class=\"s%d\">",
                   style);
        if (!c->category) fputs("<path class=\"line\" d=\"M0 6H28\"/>", out);
        if (!s->bare) write_marker(out, style, 14, 6);
        html_print(out, "</g></svg>%s</li>\n", s->name);
    }
    for (int i = 0; i < c->levels; i++) {
        const chart_level *l = &c->level[i];
        number n = number_interval(l->mean, l->low, l->high, "", false);
        html_print(
            out,
            "<li><svg viewBox=\"0 0 28 12\" aria-hidden=\"true\"><g class=\"level l%d\">"
            "<rect x=\"0\" y=\"1\" width=\"28\" height=\"10\"/><path d=\"M0 6h28\"/></g></svg>"
            "%s: %s</li>\n",
            i % 2, l->name, n.text);
    }
    if (goes_beyond(c)) fputs("<li>Bars without an end go on beyond the edge.</li>\n", out);
    fputs("</ul>\n", out);
}

static const chart_point *point_at(const chart_series *s, double x)
{
    for (int k = 0; k < s->count; k++)
        if (s->point[k].x == x) return &s->point[k];
    return NULL;
}

static void write_table_row(FILE *out, const chart *c, double x)
{
    if (c->category)
        html_print(out, "<tr><th scope=\"row\">%s</th>", c->category[(int)x]);
    else
        html_print(out, "<tr><th scope=\"row\">%g</th>", x);
    for (int i = 0; i < c->count; i++) {
        if (c->series[i].faint) continue;
        const chart_point *p = point_at(&c->series[i], x);
        if (p && isfinite(p->y))
            html_print(out, "<td>%s</td>", number_interval(p->y, p->low, p->high, "", false).text);
        else
            fputs("<td>\xe2\x80\x93</td>", out);
    }
    fputs("</tr>\n", out);
}

/* The next x after `last` that any series has. */
static double next_x(const chart *c, double last)
{
    double next = INFINITY;
    for (int i = 0; i < c->count; i++)
        for (int k = 0; k < c->series[i].count && !c->series[i].faint; k++) {
            double x = c->series[i].point[k].x;
            if (x > last && x < next) next = x;
        }
    return next;
}

static void write_table(FILE *out, const chart *c)
{
    html_print(out,
               "<details><summary>Numbers<span class=\"hidden\"> of %s</span></summary>\n"
               "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Numbers of %s\">"
               "<table class=\"numbers\"><thead><tr><th scope=\"col\">%s</th>",
               c->title, c->title, c->category ? "prompt" : c->x_name);
    for (int i = 0; i < c->count; i++)
        if (!c->series[i].faint) html_print(out, "<th scope=\"col\">%s</th>", c->series[i].name);
    fputs("</tr></thead><tbody>\n", out);
    int rows = 0, row = 0;
    for (double x = next_x(c, -INFINITY); isfinite(x); x = next_x(c, x)) rows++;
    int every = c->category ? 1 : (rows + TABLE_ROWS - 1) / TABLE_ROWS;
    for (double x = next_x(c, -INFINITY); isfinite(x); x = next_x(c, x), row++)
        if (row % every == 0 || row == rows - 1) write_table_row(out, c, x);
    fputs("</tbody></table></div></details>\n", out);
}

void chart_write(FILE *out, const chart *c)
{
    html_print(
        out, "<figure class=\"chart\" id=\"%s\">\n<figcaption><h3>%s</h3><p>%s</p></figcaption>\n",
        c->id, c->title, c->about);
    write_key(out, c);
    if (c->category)
        write_rows(out, c);
    else
        write_lines(out, c);
    write_table(out, c);
    fputs("</figure>\n", out);
}
