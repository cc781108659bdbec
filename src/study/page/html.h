/* SPDX-License-Identifier: Apache-2.0
 *
 * html: text of a page, escaped by default, and numbers with the digits that they deserve. */
#ifndef LIKENESS_STUDY_HTML_H
#define LIKENESS_STUDY_HTML_H

#include <stdbool.h>
#include <stdio.h>

/* printf of the conversions %s %d %lld %llu %f %g (with a precision) and %%. What a %s
 * brings is escaped for text and attributes; the format itself is markup and goes out as it is. */
void html_print(FILE *out, const char *format, ...) __attribute__((format(printf, 2, 3)));
void html_text(FILE *out, const char *text);

/* A field of a CSV file (RFC 4180): quoted where it must be. */
void csv_text(FILE *out, const char *text);

/* A number in UTF-8, its minus a real one. */
typedef struct number {
    char text[128];
} number;
number number_plain(double v); /* three digits: "0.0312", "45.1", "1,230" */
number number_fixed(double v, int decimals);
/* "87 % (71 to 103)": a mean, its unit (" %"; "": none) and its interval, with the digits that half
 * the interval's width deserves: two where it begins with 1 or 2, else one, and at least whole
 * numbers. Where there is no interval (NaN) the mean alone. sign: a plus before what is above 0. */
number number_interval(double mean, double low, double high, const char *unit, bool sign);
number number_count(long long n); /* "9,497,092" */

#endif
