/* SPDX-License-Identifier: Apache-2.0
 *
 * script: see script.h. */
#include "script.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "base/platform.h"
#include "prompt_words.h"
#include "model/characters.h"

static const char *const syntaxes[] = {"plain", "a1111"};

const char *prompt_syntax_name(prompt_syntax s)
{
    return (unsigned)s < sizeof syntaxes / sizeof *syntaxes ? syntaxes[s] : NULL;
}

bool prompt_syntax_parse(prompt_syntax *out, const char *name)
{
    for (unsigned i = 0; i < sizeof syntaxes / sizeof *syntaxes; i++)
        if (strcmp(name, syntaxes[i]) == 0) {
            *out = (prompt_syntax)i;
            return true;
        }
    return false;
}

/* ---- what is taken out ---- */

/* Comments and the lines' ends behind them become lines' ends, in place. whole: those alone that
 * have a line to themselves, and the end of the line before goes with them. */
static void strip(char *text, bool whole)
{
    char *to = text;
    const char *taken = text; /* up to here the text went with a comment */
    for (const char *p = text; *p;) {
        bool fresh = p == text || (p > taken && p[-1] == '\n');
        if (*p != '#' || (whole && !fresh)) {
            *to++ = *p++;
            continue;
        }
        if (whole && p > text) to--;
        p += strcspn(p, "\n");
        p += *p == '\n';
        taken = p;
        *to++ = '\n';
    }
    *to = '\0';
}

char *script_uncomment(const char *text)
{
    size_t n = strlen(text);
    char *out = malloc(n + 2);
    if (!out) return NULL;
    memcpy(out, text, n + 1);
    strip(out, true);
    strip(out, false);
    return out;
}

/* "<kind:name...>" at p, which is a <. */
static bool tag_at(const char *p, script_tag *out)
{
    const char *end = p + strlen(p), *q = p + 1;
    size_t length;
    while (q < end && character_is_word(character_at(q, end, &length))) q += length;
    if (q == p + 1 || *q != ':') return false;
    const char *name = q + 1, *close = strchr(name, '>');
    if (!close || close == name) return false;
    *out = (script_tag){.at = p,
                        .length = (size_t)(close + 1 - p),
                        .kind = p + 1,
                        .kind_length = (size_t)(q - p - 1),
                        .name = name,
                        .name_length = strcspn(name, ":>")};
    out->more = name + out->name_length + (name[out->name_length] == ':');
    out->more_length = (size_t)(close - out->more);
    return true;
}

script_tag script_next_tag(const char **at)
{
    script_tag found = {0};
    for (const char *p = *at; (p = strchr(p, '<')); p++) {
        if (!tag_at(p, &found)) continue;
        *at = p + found.length;
        return found;
    }
    *at += strlen(*at);
    return (script_tag){0};
}

bool script_tag_is_lora(const script_tag *t)
{
    return t->kind_length == 4 &&
           (strncmp(t->kind, "lora", 4) == 0 || strncmp(t->kind, "lyco", 4) == 0);
}

/* "0.8", or twice the same: AUTOMATIC1111's are of the text encoder and of the UNet. */
bool script_tag_weight(const script_tag *t, float *weight, error *e)
{
    const char *end = t->more + t->more_length, *p = t->more;
    double value = 1, other;
    bool ok = !t->more_length || number_parse(p, &p, &value);
    if (ok && *p == ':' && p < end) ok = number_parse(p + 1, &p, &other) && other == value;
    *weight = (float)value;
    return (ok && p == end && isfinite(*weight)) ||
           error_set(e, ERROR_USAGE,
                     "the prompt's %.*s: one number is taken as its weight, as in <lora:%.*s:0.8>",
                     (int)(t->length < 200 ? t->length : 200), t->at,
                     (int)(t->name_length < 100 ? t->name_length : 100), t->name);
}

static void take_tags_out(char *text)
{
    char *to = text;
    const char *from = text, *at = text;
    for (script_tag t; (t = script_next_tag(&at)).length; from = at) {
        memmove(to, from, (size_t)(t.at - from));
        to += t.at - from;
    }
    memmove(to, from, strlen(from) + 1);
}

/* ---- AND ---- */

static const char *digits(const char *p)
{
    while (*p >= '0' && *p <= '9') p++;
    return p;
}

/* Whether from p to end there is one number: 1, 1., .5, -1.5. */
static bool is_weight(const char *p, const char *end)
{
    if (*p == '+' || *p == '-') p++;
    const char *q = digits(p);
    size_t n = (size_t)(q - p);
    if (*q == '.') {
        const char *more = digits(q + 1);
        n += (size_t)(more - q - 1);
        q = more;
    }
    return n && q == end;
}

/* The text of a part up to `end`, cut before its weight; spaces at its end go too. */
static bool read_weight(char *text, float *weight, error *e)
{
    char *end = text + (prompt_trim_end(text, text + strlen(text)) - text);
    *end = '\0';
    *weight = 1;
    char *colon = strrchr(text, ':');
    const char *number = colon ? prompt_skip_spaces(colon + 1, end) : NULL;
    double value;
    if (!colon || !is_weight(number, end)) return true;
    if (!number_parse(number, NULL, &value) || !isfinite((float)value))
        return error_set(e, ERROR_USAGE, "the prompt's weight \"%.40s\" is too large", number);
    *weight = (float)value;
    text[prompt_trim_end(text, colon) - text] = '\0';
    return true;
}

static bool add_part(script *s, const char *text, size_t length, bool weighted, int evaluations,
                     int before, error *e)
{
    script_part *p = &s->part[s->conditions];
    char *own = strndup(text, length);
    p->weight = 1;
    bool ok = own || error_memory(e, "a prompt", length);
    ok = ok && (!weighted || read_weight(own, &p->weight, e)) &&
         edits_read(&p->texts, own, evaluations, before, e);
    free(own);
    return ok;
}

static bool add_prompt(script *s, const char *text, int evaluations, int before, error *e)
{
    const char *end = text + strlen(text), *from = text, *at = text;
    for (bool more = true; more;) {
        if (s->conditions == SCRIPT_PARTS)
            return error_set(e, ERROR_USAGE, "the prompt has more than %d parts joined by AND",
                             SCRIPT_PARTS);
        more = prompt_find_word(PROMPT_AND, text, end, &at);
        s->conditions++;
        if (!add_part(s, from, (size_t)((more ? at : end) - from), true, evaluations, before, e))
            return false;
        if (more) from = at += strlen(PROMPT_AND);
    }
    return true;
}

static bool is_short(const char *what, const char *text, error *e)
{
    return strlen(text) <= SCRIPT_BYTES ||
           error_set(e, ERROR_USAGE, "the %s has %zu bytes; at most %d are taken", what,
                     strlen(text), SCRIPT_BYTES);
}

bool script_open(script *s, const char *prompt, const char *negative, int evaluations, int before,
                 error *e)
{
    *s = (script){.part = calloc(SCRIPT_PARTS + 1, sizeof *s->part)};
    bool ok = is_short("prompt", prompt, e) && is_short("negative prompt", negative, e);
    char *yes = script_uncomment(prompt), *no = script_uncomment(negative);
    ok = ok && ((s->part && yes && no) || error_memory(e, "a prompt", strlen(prompt)));
    if (ok) take_tags_out(yes);
    ok = ok && add_part(s, no, strlen(no), false, evaluations, before, e) &&
         add_prompt(s, yes, evaluations, before, e);
    free(yes);
    free(no);
    if (!ok) script_close(s);
    return ok;
}

void script_close(script *s)
{
    for (int i = 0; s->part && i <= SCRIPT_PARTS; i++) edits_close(&s->part[i].texts);
    free(s->part);
    *s = (script){0};
}
