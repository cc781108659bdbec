/* SPDX-License-Identifier: Apache-2.0
 *
 * html: text of a page, escaped by default, and numbers with the digits that they deserve. */
#include "html.h"

#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"

/* At most `most` bytes of a text. Control characters have no place in HTML, not even escaped: they
 * become U+FFFD. */
static void print_text(FILE *out, const char *text, size_t most)
{
    for (; most-- && *text; text++) {
        unsigned char c = (unsigned char)*text;
        switch (c) {
        case '&': fputs("&amp;", out); break;
        case '<': fputs("&lt;", out); break;
        case '>': fputs("&gt;", out); break;
        case '"': fputs("&quot;", out); break;
        case '\'': fputs("&#39;", out); break;
        default:
            if ((c < 32 && c != '\n' && c != '\t') || c == 127)
                fputs("\xef\xbf\xbd", out);
            else
                fputc(c, out);
        }
    }
}

void html_text(FILE *out, const char *text) { print_text(out, text, SIZE_MAX); }

/* %f, %g, %.3f, %.9g: in no locale is it a comma. */
static void print_number(FILE *out, const char *format, double v)
{
    bool exact = format[1] == '.';
    int precision = exact ? (int)strtol(format + 2, NULL, 10) : 6;
    bool fixed = format[strlen(format) - 1] == 'f';
    assert(exact || !format[2]);
    fputs(fixed ? number_decimals(v, precision).text : number_rounded(v, precision).text, out);
}

/* One conversion, %...X, of which the specification is cut out as a format of its own. */
static const char *print_one(FILE *out, const char *at, va_list *list)
{
    char one[32];
    size_t n = 1 + strspn(at + 1, "-+ #0123456789.");
    size_t longs = strspn(at + n, "l");
    n += longs;
    assert(n + 2 < sizeof one);
    memcpy(one, at, n + 1);
    one[n + 1] = 0;
    switch (at[n]) {
    case '%': fputc('%', out); break;
    case 's': {
        const char *dot = strchr(one, '.');
        print_text(out, va_arg(*list, const char *), dot ? strtoul(dot + 1, NULL, 10) : SIZE_MAX);
        break;
    }
    case 'd':
        if (longs)
            fprintf(out, one, va_arg(*list, long long));
        else
            fprintf(out, one, va_arg(*list, int));
        break;
    case 'u': fprintf(out, one, va_arg(*list, unsigned long long)); break;
    case 'f':
    case 'g': print_number(out, one, va_arg(*list, double)); break;
    default: assert(!"html_print knows no such conversion");
    }
    return at + n + 1;
}

void html_print(FILE *out, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    for (const char *at = format; *at;) {
        size_t plain = strcspn(at, "%");
        fwrite(at, 1, plain, out);
        at += plain;
        if (*at) at = print_one(out, at, &list);
    }
    va_end(list);
}

void csv_text(FILE *out, const char *text)
{
    if (!text[strcspn(text, ",\"\r\n")]) {
        fputs(text, out);
        return;
    }
    fputc('"', out);
    for (; *text; text++) {
        if (*text == '"') fputc('"', out);
        fputc(*text, out);
    }
    fputc('"', out);
}

/* ---- numbers ------------------------------------------------------------------------------- */

number number_fixed(double v, int decimals)
{
    number n;
    if (!isfinite(v)) {
        snprintf(n.text, sizeof n.text, "not a number");
        return n;
    }
    number_text digits = number_decimals(fabs(v), decimals);
    bool zero = strspn(digits.text, "0.") == strlen(digits.text);
    snprintf(n.text, sizeof n.text, "%s%s", v < 0 && !zero ? "\xe2\x88\x92" : "", digits.text);
    return n;
}

/* Decimals that show so many digits of v. */
static int decimals_for(double v, int digits)
{
    if (v == 0 || !isfinite(v)) return digits - 1;
    int d = digits - 1 - (int)floor(log10(fabs(v)));
    return d < 0 ? 0 : d > 9 ? 9 : d;
}

number number_plain(double v)
{
    return v == 0 ? number_fixed(0, 0) : number_fixed(v, decimals_for(v, 3));
}

/* Narrower than this part of what it is about, an interval is rounding alone: there is none. */
#define ROUNDING 1e-9

number number_interval(double mean, double low, double high, const char *unit, bool sign)
{
    double half = (high - low) / 2;
    bool has = isfinite(half) && half > ROUNDING * fabs(mean);
    double lead = has ? half / pow(10, floor(log10(half))) : 0;
    int d = has ? decimals_for(half, lead < 2.95 ? 2 : 1) : 0;
    number m = has || *unit ? number_fixed(mean, d) : number_plain(mean), n;
    const char *plus = sign && mean > 0 && m.text[strspn(m.text, "0.")] ? "+" : "";
    if (has)
        snprintf(n.text, sizeof n.text, "%s%.28s%.20s (%.24s to %.24s)", plus, m.text, unit,
                 number_fixed(low, d).text, number_fixed(high, d).text);
    else
        snprintf(n.text, sizeof n.text, "%s%.28s%.20s", plus, m.text, unit);
    return n;
}

number number_count(long long v)
{
    number n;
    char digits[32];
    snprintf(digits, sizeof digits, "%lld", v);
    size_t length = strlen(digits), k = 0;
    for (size_t i = 0; i < length; i++) {
        if (i && (length - i) % 3 == 0 && digits[i - 1] != '-') n.text[k++] = ',';
        n.text[k++] = digits[i];
    }
    n.text[k] = 0;
    return n;
}
