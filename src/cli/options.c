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

static int option_set(const option *o, const char *flag, const char *text)
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
    if (!o)
        return fail(STATUS_WRONG_USAGE, "unknown flag %.*s; see: likeness %s --help", (int)n, word,
                    command);
    char flag[64];
    snprintf(flag, sizeof flag, "%.*s", (int)n, word);
    const char *text = equals ? equals + 1 : word[n] ? word + n : NULL;
    if (o->kind == OPTION_FLAG) {
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
