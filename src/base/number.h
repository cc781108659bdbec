/* SPDX-License-Identifier: Apache-2.0
 *
 * number: fractions as text and back, the same in every locale: a point, never a comma. The C
 * library's own (strtod, %f, %g) follow the host program's setlocale, so nothing else in src/ uses
 * them; tools/ci/check_layers.sh sees to it. What a function returns goes straight into a %s:
 *
 *     error_set(e, ERROR_USAGE, "eta is %s", number_exact_float(eta).text); */
#ifndef LIKENESS_BASE_NUMBER_H
#define LIKENESS_BASE_NUMBER_H

#include <stdbool.h>

typedef struct number_text {
    char text[40];
} number_text;

/* The fewest digits that read back as this very value: "0.3", "5e-06", "1000". */
number_text number_exact(double v);
number_text number_exact_float(float v); /* as this float: 0.3f is "0.3" */
/* At most so many digits (1 to 17), as %.*g: "0.333333", "1e+20". */
number_text number_rounded(double v, int digits);
/* So many decimals (0 to 17), as %.*f: "12.50"; from 1e15 on as number_rounded. */
number_text number_decimals(double v, int decimals);

/* A size for people: "812 bytes", "45.2 MiB", "3.41 GiB". */
number_text number_bytes(double bytes);

/* Reads what strtod reads in the C locale (spaces before it, "1e-6", "inf"); *end, which may be
 * NULL, is behind it. False, *end at text and *out untouched, where no number stands there. */
bool number_parse(const char *text, const char **end, double *out);
/* The double that a person wrote to get this float: 0.18215, not 0.18215000629425049. */
double number_as_written(float v);

#endif
