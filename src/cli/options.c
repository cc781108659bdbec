/* SPDX-License-Identifier: Apache-2.0
 *
 * options: flags of the command line, read by a table. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

bool text_list_add(text_list *list, const char *text)
{
    const char **item = realloc(list->item, (list->count + 1) * sizeof *item);
    if (!item) return false;
    list->item = item;
    item[list->count++] = text;
    return true;
}

/* Whether the first n characters of flag are a name of the option. */
static bool option_named(const option *o, const char *flag, size_t n)
{
    for (const char *name = o->names; *name;) {
        size_t length = strcspn(name, " "), i = 0;
        while (length == n && i < n &&
               (name[i] == '_' ? '-' : name[i]) == (flag[i] == '_' ? '-' : flag[i]))
            i++;
        if (length == n && i == n) return true;
        name += length + strspn(name + length, " ");
    }
    return false;
}

static const option *option_find(const option *list, const char *flag, size_t n)
{
    for (; list->names; list++)
        if (option_named(list, flag, n)) return list;
    return NULL;
}

/* ---- the nearest name ---- */

enum { LONGEST = 48 }; /* of names that are compared */

/* How many letters must be put in, left out, changed or swapped with their neighbour. */
static int distance(const char *a, int n, const char *b, int m)
{
    int row[3][LONGEST + 1];
    for (int k = 0; k <= m; k++) row[0][k] = k;
    for (int i = 1; i <= n; i++) {
        int *now = row[i % 3], *last = row[(i + 2) % 3], *before = row[(i + 1) % 3];
        now[0] = i;
        for (int k = 1; k <= m; k++) {
            int least = last[k - 1] + (a[i - 1] != b[k - 1]);
            if (last[k] + 1 < least) least = last[k] + 1;
            if (now[k - 1] + 1 < least) least = now[k - 1] + 1;
            bool swapped = i > 1 && k > 1 && a[i - 1] == b[k - 2] && a[i - 2] == b[k - 1];
            if (swapped && before[k - 2] + 1 < least) least = before[k - 2] + 1;
            now[k] = least;
        }
    }
    return row[n % 3][m];
}

static int plain_letters(char *out, const char *name, size_t n)
{
    int used = 0;
    while (n && *name == '-') name++, n--;
    for (size_t i = 0; i < n && used < LONGEST; i++) out[used++] = name[i] == '_' ? '-' : name[i];
    return used;
}

size_t name_nearest(const char *names, const char *word, size_t n, const char **nearest, int *best)
{
    char a[LONGEST], b[LONGEST];
    size_t found = 0;
    int letters = plain_letters(a, word, n);
    for (const char *name = names; *name;) {
        size_t length = strcspn(name, " ");
        int m = plain_letters(b, name, length), least = letters < m ? letters : m;
        int apart = distance(a, letters, b, m);
        bool begins = least >= 3 && memcmp(a, b, (size_t)least) == 0;
        bool near = m > 1 && letters > 1 && (apart <= 1 + letters / 4 || begins);
        if (near && apart < *best) {
            *best = apart;
            *nearest = name;
            found = length;
        }
        name += length + strspn(name + length, " ");
    }
    return found;
}

static int unknown_flag(const option *list, const char *flag, size_t n, const char *command)
{
    const char *nearest = NULL;
    size_t length = 0;
    int best = 2 * LONGEST;
    for (; list->names; list++) {
        size_t found = name_nearest(list->names, flag, n, &nearest, &best);
        if (found) length = found;
    }
    char name[LONGEST + 4];
    snprintf(name, sizeof name, "%.*s", (int)length, nearest ? nearest : "");
    for (char *c = name; *c; c++)
        if (*c == '_') *c = '-';
    return fail(STATUS_WRONG_USAGE, "unknown flag %.*s%s%s%s likeness %s --help", (int)n, flag,
                nearest ? "; did you mean " : "", name, nearest ? "? See:" : "; see:", command);
}

static int option_int(const option *o, const char *flag, const char *text)
{
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    bool fits = o->kind == OPTION_LONG || (v <= INT_MAX && v >= INT_MIN);
    if (end == text || *end || errno || !fits)
        return fail(STATUS_WRONG_USAGE, "%s wants a whole number, not \"%s\"", flag, text);
    if (o->kind == OPTION_LONG)
        *(int64_t *)o->value = v;
    else
        *(int *)o->value = (int)v;
    return STATUS_DONE;
}

static int option_float(const option *o, const char *flag, const char *text)
{
    char *end;
    double v = strtod(text, &end);
    float narrow = (float)v;
    if (end == text || *end || narrow != narrow || narrow - narrow != 0)
        return fail(STATUS_WRONG_USAGE, "%s wants a number, not \"%s\"", flag, text);
    if (o->kind == OPTION_DOUBLE)
        *(double *)o->value = v;
    else
        *(float *)o->value = strtof(text, NULL);
    return STATUS_DONE;
}

int option_set(const option *o, const char *flag, const char *text)
{
    switch (o->kind) {
    case OPTION_FLAG: *(bool *)o->value = true; return STATUS_DONE;
    case OPTION_TEXT: *(const char **)o->value = text; return STATUS_DONE;
    case OPTION_TEXTS:
        return text_list_add(o->value, text) ? STATUS_DONE
                                             : fail(STATUS_FAILED, "not enough memory");
    case OPTION_INT:
    case OPTION_LONG: return option_int(o, flag, text);
    case OPTION_FLOAT:
    case OPTION_DOUBLE: return option_float(o, flag, text);
    case OPTION_CALL:
    case OPTION_CALL_FLAG: {
        const option_call *call = o->value;
        return call->set(call->user, call->name, text ? text : "true");
    }
    }
    return STATUS_DONE;
}

/* One flag at argv[*i]; *i moves on where its value is the next word. */
static int option_read(const option *list, int argc, char **argv, int *i, const char *command)
{
    const char *word = argv[*i];
    bool is_long = word[1] == '-';
    const char *equals = is_long ? strchr(word, '=') : NULL;
    size_t n = equals ? (size_t)(equals - word) : is_long ? strlen(word) : 2;
    const option *o = option_find(list, word, n);
    if (!o) return unknown_flag(list, word, n, command);
    char flag[64];
    snprintf(flag, sizeof flag, "%.*s", (int)n, word);
    const char *text = equals ? equals + 1 : word[n] ? word + n : NULL;
    if (o->kind == OPTION_FLAG || o->kind == OPTION_CALL_FLAG) {
        if (text) return fail(STATUS_WRONG_USAGE, "%s takes no value", flag);
    } else if (!text) {
        if (*i + 1 >= argc) return fail(STATUS_WRONG_USAGE, "%s wants a value", flag);
        text = argv[++*i];
    }
    return option_set(o, flag, text);
}

int options_parse(const option *list, int argc, char **argv, const char *command, text_list *rest)
{
    bool flags = true;
    for (int i = 0; i < argc; i++) {
        int status = STATUS_DONE;
        if (flags && strcmp(argv[i], "--") == 0)
            flags = false;
        else if (flags && argv[i][0] == '-' && argv[i][1])
            status = option_read(list, argc, argv, &i, command);
        else if (!text_list_add(rest, argv[i]))
            status = fail(STATUS_FAILED, "not enough memory");
        if (status != STATUS_DONE) return status;
    }
    return STATUS_DONE;
}
