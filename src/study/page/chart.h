/* SPDX-License-Identifier: Apache-2.0
 *
 * chart: one chart of a page: a figure with its title, its key, the picture as inline SVG, and its
 * numbers as a table. Series differ by colour, by marker and by dashes. */
#ifndef LIKENESS_STUDY_CHART_H
#define LIKENESS_STUDY_CHART_H

#include <stdbool.h>
#include <stdio.h>

enum { CHART_STYLES = 6 };

typedef struct chart_point {
    double x, y;      /* a chart of categories: x is the category's index */
    double low, high; /* its interval; NaN: none */
} chart_point;

typedef struct chart_series {
    const char *name;
    const chart_point *point;
    int count;
    int style;  /* 0..: taken modulo CHART_STYLES */
    bool faint; /* in the background: no markers, not in the key, not in the table */
    bool bare;  /* no markers */
} chart_series;

/* A value to compare with: a line across the chart, and the band of its interval about it. */
typedef struct chart_level {
    const char *name;
    double mean, low, high;
} chart_level;

typedef struct chart {
    const char *id; /* unique on the page: a-z, 0-9 and - */
    const char *title;
    const char *about; /* what it shows, in a sentence or two; read out, shown below the title */
    const char *x_name, *y_name;
    const char *const *category; /* NULL: x is a number. Else each has a row, values go across */
    int categories;
    bool log_x;
    bool from_zero; /* the axis of values begins at 0 */
    const chart_series *series;
    int count;
    const chart_level *level;
    int levels;
} chart;

void chart_write(FILE *out, const chart *c);

#endif
