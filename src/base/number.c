/* SPDX-License-Identifier: Apache-2.0
 *
 * number: see number.h. The thread's locale is C's for the length of one call. */
#include "base/number.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/locale.h"

static number_text print(const char *format, int precision, double v)
{
    number_text n = {""};
    locale_change c = locale_enter();
    snprintf(n.text, sizeof n.text, format, precision, v);
    locale_leave(c);
    return n;
}

number_text number_rounded(double v, int digits)
{
    assert(digits >= 1 && digits <= 17);
    return print("%.*g", digits, v);
}

number_text number_decimals(double v, int decimals)
{
    assert(decimals >= 0 && decimals <= 17);
    if (!(fabs(v) < 1e15)) return number_rounded(v, 17);
    return print("%.*f", decimals, v);
}

/* %.*g turns to 1e+02 where digits are fewer than places before the point: whole numbers up to a
 * million are written out. */
static number_text readable(double v, int digits)
{
    int places = v != 0 && fabs(v) < 1e6 ? (int)floor(log10(fabs(v))) + 1 : 0;
    return number_rounded(v, places > digits ? places : digits);
}

number_text number_bytes(double bytes)
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    int unit = 0;
    for (; unit < 4 && bytes >= 1000; unit++) bytes /= 1024;
    number_text n = number_decimals(bytes, unit == 0 || bytes >= 100 ? 0
                                           : bytes >= 10             ? 1
                                                                     : 2),
                out;
    snprintf(out.text, sizeof out.text, "%.30s %s", n.text, units[unit]);
    return out;
}

static double parsed(const number_text *n)
{
    double v = NAN;
    number_parse(n->text, NULL, &v);
    return v;
}

number_text number_exact(double v)
{
    for (int digits = 1; digits < 17; digits++) {
        number_text n = readable(v, digits);
        if (parsed(&n) == v) return n;
    }
    return number_rounded(v, 17);
}

number_text number_exact_float(float v)
{
    for (int digits = 1; digits < 9; digits++) {
        number_text n = readable((double)v, digits);
        if ((float)parsed(&n) == v) return n;
    }
    return number_rounded((double)v, 9);
}

double number_as_written(float v)
{
    number_text n = number_exact_float(v);
    return parsed(&n);
}

bool number_parse(const char *text, const char **end, double *out)
{
    char *after = NULL;
    locale_change c = locale_enter();
    double v = strtod(text, &after);
    locale_leave(c);
    if (end) *end = after;
    if (after == text) return false;
    *out = v;
    return true;
}
