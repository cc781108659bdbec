/* SPDX-License-Identifier: Apache-2.0
 *
 * plan: reading sweeps, and names for files; see plan.h. */
#include "generate/plan.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "base/platform.h"
#include "generate/samplers/sigma_text.h"
#include "model/characters.h"

enum { SHOWN = 60 }; /* of a word in a message */

/* ---- sweeps: what can be swept ---- */

typedef enum sweep_key {
    KEY_SAMPLER,
    KEY_SIGMAS,
    KEY_STEPS,
    KEY_GUIDANCE,
    KEY_RESCALE,
    KEY_ETA,
    KEY_VARIANCE,
    KEY_SPACING,
    KEY_CLIP_SKIP,
    KEY_WIDTH,
    KEY_HEIGHT,
    KEY_STRENGTH,
    KEY_COUNT,
} sweep_key;

static const struct {
    const char *name;
    sweep_key key;
} key_names[] = {
    {"sampler", KEY_SAMPLER},
    {"sigmas", KEY_SIGMAS},
    {"schedule_type", KEY_SIGMAS},
    {"steps", KEY_STEPS},
    {"guidance", KEY_GUIDANCE},
    {"guidance_scale", KEY_GUIDANCE},
    {"cfg_scale", KEY_GUIDANCE},
    {"guidance_rescale", KEY_RESCALE},
    {"eta", KEY_ETA},
    {"variance", KEY_VARIANCE},
    {"spacing", KEY_SPACING},
    {"clip_skip", KEY_CLIP_SKIP},
    {"width", KEY_WIDTH},
    {"height", KEY_HEIGHT},
    {"strength", KEY_STRENGTH},
    {"denoising_strength", KEY_STRENGTH},
};

static bool find_key(sweep_key *out, const char *name)
{
    for (size_t i = 0; i < sizeof key_names / sizeof *key_names; i++) {
        const char *a = key_names[i].name, *b = name;
        while (*a && (*a == *b || (*a == '_' && *b == '-'))) a++, b++;
        if (*a || *b) continue;
        *out = key_names[i].key;
        return true;
    }
    return false;
}

static bool read_int(int *out, const char *text, int low)
{
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno || end == text || *end || value < low || value > 1000000) return false;
    *out = (int)value;
    return true;
}

static bool read_double(double *out, const char *text, double high)
{
    const char *end;
    double value;
    if (!number_parse(text, &end, &value) || *end || !(value >= 0 && value <= high)) return false;
    *out = value;
    return true;
}

static bool read_float(float *out, const char *text, double high)
{
    double value;
    if (!read_double(&value, text, high)) return false;
    *out = (float)value;
    return true;
}

/* Puts a value into the options; otherwise says what the key takes. samplers: room for their list.
 */
static const char *apply(generate_options *o, sweep_key key, const char *value,
                         sampler_choices *samplers)
{
    static const char *const size = "a whole number of pixels";
    static const char *const share = "a number from 0 to 1";
    sampler_options *s = &o->sampler;
    switch (key) {
    case KEY_SAMPLER:
        if (sampler_choose(s, value)) return NULL;
        *samplers = sampler_advice(value);
        return samplers->text;
    case KEY_SIGMAS:
        s->sigmas = sigmas_name(value);
        return s->sigmas ? NULL : "model, karras, exponential, beta or trailing";
    case KEY_STEPS: return read_int(&s->steps, value, 1) ? NULL : "a whole number from 1 on";
    case KEY_GUIDANCE: return read_float(&o->guidance, value, 1e6) ? NULL : "a number from 0 on";
    case KEY_RESCALE: return read_float(&o->guidance_rescale, value, 1) ? NULL : share;
    case KEY_ETA: return read_float(&s->eta, value, 1) ? NULL : share;
    case KEY_WIDTH: return read_int(&o->width, value, 1) ? NULL : size;
    case KEY_HEIGHT: return read_int(&o->height, value, 1) ? NULL : size;
    case KEY_STRENGTH: return read_double(&o->strength, value, 1) ? NULL : share;
    case KEY_CLIP_SKIP:
        return read_int(&o->clip_skip, value, 0) ? NULL : "a whole number from 0 on";
    case KEY_VARIANCE:
        s->has_variance = variance_parse(&s->variance, value);
        return s->has_variance ? NULL
                               : "fixed_small, fixed_small_log, fixed_large, fixed_large_log, "
                                 "learned or learned_range";
    default:
        s->has_spacing = spacing_parse(&s->spacing, value);
        return s->has_spacing ? NULL : "leading, trailing or linspace";
    }
}

/* What a key's value is called, in names of files (words joined by -) and for people. alone: no
 * other key tells of the sampler's sigmas. */
static void describe(char *name, char *label, size_t size, sweep_key key, bool alone,
                     const generate_options *o)
{
    const sampler_options *s = &o->sampler;
    const char *sigmas = alone && s->sigmas ? sigmas_name(s->sigmas) : NULL;
    switch (key) {
    case KEY_SAMPLER:
        snprintf(name, size, "%s%s%s", sampler_kind_name(s->kind), sigmas ? "_" : "",
                 sigmas ? sigmas : "");
        snprintf(label, size, "%s%s%s", sampler_kind_label(s->kind), sigmas ? " " : "",
                 sigmas ? sigmas_label(sigmas) : "");
        break;
    case KEY_SIGMAS:
        snprintf(name, size, "%s", s->sigmas);
        snprintf(label, size, "%s", sigmas_label(s->sigmas));
        break;
    case KEY_STEPS:
        snprintf(name, size, "%d", s->steps);
        snprintf(label, size, "%d step%s", s->steps, s->steps == 1 ? "" : "s");
        break;
    case KEY_GUIDANCE:
        snprintf(label, size, "guidance %s", number_exact_float(o->guidance).text);
        break;
    case KEY_RESCALE:
        snprintf(label, size, "guidance rescale %s", number_exact_float(o->guidance_rescale).text);
        break;
    case KEY_ETA: snprintf(label, size, "eta %s", number_exact_float(s->eta).text); break;
    case KEY_VARIANCE: snprintf(label, size, "%s", variance_name(s->variance)); break;
    case KEY_SPACING: snprintf(label, size, "%s", spacing_name(s->spacing)); break;
    case KEY_CLIP_SKIP: snprintf(label, size, "clip skip %d", o->clip_skip); break;
    case KEY_STRENGTH: snprintf(label, size, "strength %s", number_exact(o->strength).text); break;
    case KEY_WIDTH: snprintf(label, size, "width %d", o->width); break;
    default: snprintf(label, size, "height %d", o->height); break;
    }
    if (key == KEY_SAMPLER || key == KEY_SIGMAS || key == KEY_STEPS) return;
    snprintf(name, size, "%s", label);
    for (char *p = name; *p; p++)
        if (*p == ' ' || *p == '_') *p = '-';
}

/* ---- sweeps: reading ---- */

/* One key and its values: count texts that follow each other, each with its NUL. */
typedef struct axis {
    sweep_key key;
    const char *values;
    size_t count;
} axis;

static bool unknown_key(error *e, const char *name)
{
    return error_set(
        e, ERROR_USAGE,
        "sweep: there is no setting \"%.*s\"; there are sampler, sigmas, steps, "
        "guidance, guidance_rescale, eta, variance, spacing, clip_skip, width, height, "
        "strength",
        SHOWN, name);
}

static bool is_space(char c) { return c && strchr(" \t\r\n", c); }

/* The text without the spaces around it, those behind it overwritten. */
static char *trimmed(char *text)
{
    while (is_space(*text)) text++;
    for (size_t n = strlen(text); n && is_space(text[n - 1]); n--) text[n - 1] = '\0';
    return text;
}

/* Cuts off what begins with the first word, past one of them, that has a '='; that word or NULL. A
 * value may hold spaces. */
static char *cut_axis(char *text)
{
    for (char *p = text; *p; p++) {
        if (!is_space(p[0]) || is_space(p[1])) continue;
        size_t n = strcspn(p + 1, " \t\r\n");
        if (!memchr(p + 1, '=', n)) continue;
        *p = '\0';
        return p + 1;
    }
    return NULL;
}

/* "key=a,b,c", of which every value is tried; the values are put together, each with its NUL. */
static bool read_axis(axis *out, char *word, error *e)
{
    char *equals = strchr(word, '=');
    generate_options trial = {0};
    sampler_choices samplers;
    if (!equals)
        return error_set(e, ERROR_USAGE,
                         "sweep: \"%.*s\" should be a setting and its values, such as "
                         "steps=200,50",
                         SHOWN, word);
    *equals = '\0';
    if (!find_key(&out->key, word)) return unknown_key(e, word);
    out->values = equals + 1;
    out->count = 0;
    char *put = equals + 1;
    for (char *value = equals + 1, *comma; value; value = comma ? comma + 1 : NULL) {
        comma = strchr(value, ',');
        if (comma) *comma = '\0';
        value = trimmed(value);
        const char *wanted = apply(&trial, out->key, value, &samplers);
        if (wanted)
            return error_set(e, ERROR_USAGE, "sweep: %s cannot be \"%.*s\"; give %s", word, SHOWN,
                             value, wanted);
        size_t n = strlen(value) + 1;
        memmove(put, value, n);
        put += n;
        out->count++;
    }
    return true;
}

/* Splits text (changing it) into its axes. */
static bool read_axes(axis axes[KEY_COUNT], size_t *count, size_t *rows, char *text,
                      const generate_options *base, error *e)
{
    *count = 0;
    *rows = 1;
    for (char *word = trimmed(text), *rest; word && *word; word = rest) {
        axis next;
        rest = cut_axis(word);
        if (!read_axis(&next, word, e)) return false;
        if (next.key == KEY_STRENGTH && !base->init)
            return error_set(e, ERROR_USAGE,
                             "sweep: %s is of a picture that is changed; give that picture with "
                             "--init-image",
                             word);
        for (size_t i = 0; i < *count; i++)
            if (axes[i].key == next.key)
                return error_set(e, ERROR_USAGE,
                                 "sweep: \"%s\" is given twice; put its values into "
                                 "one list",
                                 word);
        if (*rows > PLAN_MAX_ROWS / next.count)
            return error_set(e, ERROR_USAGE, "sweep: more than %d combinations", PLAN_MAX_ROWS);
        *rows *= next.count;
        axes[(*count)++] = next;
    }
    if (!*count)
        return error_set(e, ERROR_USAGE,
                         "sweep: nothing is given; write it as "
                         "\"sampler=ddpm,ddim steps=200,50\"");
    return true;
}

static const char *axis_value(const axis *a, size_t index)
{
    const char *value = a->values;
    while (index--) value += strlen(value) + 1;
    return value;
}

/* Row number `index` of `rows`: the first axis turns slowest. */
static bool fill_row(sweep_row *row, const axis *axes, size_t count, size_t rows, size_t index,
                     const generate_options *base, error *e)
{
    enum { PART = 64, WHOLE = KEY_COUNT * PART };
    char name[WHOLE] = "", label[WHOLE] = "", name_part[PART], label_part[PART];
    sampler_choices samplers;
    bool alone = true;
    row->options = *base;
    for (size_t i = 0; i < count; i++) {
        rows /= axes[i].count;
        const char *wrong = apply(&row->options, axes[i].key,
                                  axis_value(&axes[i], index / rows % axes[i].count), &samplers);
        assert(!wrong);
        (void)wrong;
        alone = alone && axes[i].key != KEY_SIGMAS;
    }
    for (size_t i = 0; i < count; i++) { /* when all are in: the order of keys must not matter */
        describe(name_part, label_part, PART, axes[i].key, alone, &row->options);
        size_t n = strlen(name), l = strlen(label);
        snprintf(name + n, WHOLE - n, "%s%s", i ? "-" : "", name_part);
        snprintf(label + l, WHOLE - l, "%s%s", i ? ", " : "", label_part);
    }
    row->name = strdup(name);
    row->label = strdup(label);
    return (row->name && row->label) || error_memory(e, "a sweep", WHOLE);
}

bool sweep_parse(sweep *out, const char *text, const generate_options *base, error *e)
{
    axis axes[KEY_COUNT];
    size_t count = 0, rows = 0;
    *out = (sweep){0};
    char *copy = strdup(text);
    bool ok = copy ? read_axes(axes, &count, &rows, copy, base, e)
                   : error_memory(e, "a sweep", strlen(text));
    if (ok) {
        out->row = calloc(rows, sizeof *out->row);
        ok = out->row || error_memory(e, "a sweep", rows * sizeof *out->row);
        out->count = ok ? rows : 0;
    }
    for (size_t i = 0; ok && i < rows; i++)
        ok = fill_row(&out->row[i], axes, count, rows, i, base, e);
    if (!ok) sweep_close(out);
    free(copy);
    return ok;
}

void sweep_close(sweep *s)
{
    for (size_t i = 0; i < s->count; i++) {
        free(s->row[i].name);
        free(s->row[i].label);
    }
    free(s->row);
    *s = (sweep){0};
}

/* ---- names of files ---- */

/* Cut at `limit` bytes, but no mark from its letter. */
static void cut_slug(char *out, size_t used, size_t limit)
{
    size_t end = used, length;
    const char *whole = out + used;
    for (const char *p = out; p < whole; p += length) {
        bool mark = character_is_mark(character_at(p, whole, &length));
        if (!mark && (size_t)(p - out) <= limit) end = (size_t)(p - out);
    }
    if (used <= limit) end = used;
    while (end && out[end - 1] == '-') end--;
    out[end] = '\0';
}

char *slug_make(const char *text, size_t limit)
{
    char *composed = characters_compose(text);
    size_t room = composed ? strlen(composed) : 0, used = 0, length;
    /* some letters are longer in lower case */
    char *out = composed ? malloc(3 * room + sizeof "picture") : NULL;
    for (const char *p = composed, *end = p + room; out && p < end; p += length) {
        int32_t c = character_lower(character_at(p, end, &length));
        bool letter = character_is_word(c) && c != '_', after = used && out[used - 1] != '-';
        if (letter || (after && character_is_mark(c)))
            used += character_put(out + used, c);
        else if (after && !character_is_unseen(c))
            out[used++] = '-';
    }
    free(composed);
    if (!out) return NULL;
    cut_slug(out, used, limit);
    if (!*out) strcpy(out, "picture");
    return out;
}
