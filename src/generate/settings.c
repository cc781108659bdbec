/* SPDX-License-Identifier: Apache-2.0
 *
 * settings: writing and reading AUTOMATIC1111's text of settings; see settings.h. Its reader is a
 * regular expression over the last line; next_pair below finds the same pairs in one pass. */
#include "generate/settings.h"

#include <assert.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/characters.h"

enum { PAIRS_OF_A_SETTINGS_LINE = 3 };

static const char negative_mark[] = "Negative prompt:";

/* A part of a text that is not the caller's to change. */
typedef struct piece {
    const char *at;
    size_t length;
} piece;

/* ---- pieces ---- */

static bool is_key(int32_t c) { return c == ' ' || c == '-' || c == '/' || character_is_word(c); }

/* Without the spaces at both ends. */
static piece strip(const char *text, const char *end)
{
    const char *last = text; /* after the last that is no space */
    size_t length;
    while (text < end && character_is_space(character_at(text, end, &length))) text += length;
    for (const char *p = text; p < end; p += length)
        if (!character_is_space(character_at(p, end, &length))) last = p + length;
    return (piece){text, last > text ? (size_t)(last - text) : 0};
}

/* ---- what settings hold ---- */

static bool no_memory(error *e, size_t bytes)
{
    return error_memory(e, "a picture's settings", bytes);
}

void settings_close(settings *s)
{
    arena_free(&s->memory);
    *s = (settings){0};
}

static const char *keep(settings *s, piece text)
{
    char *out = arena_alloc(&s->memory, text.length + 1);
    if (out) memcpy(out, text.at, text.length);
    return out;
}

bool settings_prompt(settings *s, const char *prompt, const char *negative, error *e)
{
    if (!prompt) prompt = "";
    if (!negative) negative = "";
    s->prompt = arena_strdup(&s->memory, prompt);
    s->negative = arena_strdup(&s->memory, negative);
    return (s->prompt && s->negative) || no_memory(e, strlen(prompt) + strlen(negative));
}

/* Puts a value (in s's memory) under a key (copied), in the place of an earlier one. */
static bool put(settings *s, piece key, const char *value, error *e)
{
    if (!value) return no_memory(e, 1);
    for (size_t i = 0; i < s->count; i++)
        if (strlen(s->list[i].key) == key.length && !memcmp(s->list[i].key, key.at, key.length)) {
            s->list[i].value = value;
            return true;
        }
    if (s->count == s->room) {
        size_t room = s->room ? 2 * s->room : 16;
        setting *list = arena_alloc(&s->memory, room * sizeof *list);
        if (!list) return no_memory(e, room * sizeof *list);
        if (s->count) memcpy(list, s->list, s->count * sizeof *list);
        s->list = list;
        s->room = room;
    }
    const char *copy = keep(s, key);
    if (!copy) return no_memory(e, key.length);
    s->list[s->count++] = (setting){copy, value};
    return true;
}

bool settings_set(settings *s, error *e, const char *key, const char *format, ...)
{
    va_list args, again;
    assert(strlen(key) >= 2);
    va_start(args, format);
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    char *value = length < 0 ? NULL : arena_alloc(&s->memory, (size_t)length + 1);
    if (value) vsnprintf(value, (size_t)length + 1, format, again);
    va_end(again);
    va_end(args);
    return put(s, (piece){key, strlen(key)}, value, e);
}

const char *settings_get(const settings *s, const char *key)
{
    for (size_t i = 0; i < s->count; i++)
        if (!strcmp(s->list[i].key, key)) return s->list[i].value;
    return NULL;
}

/* ---- writing ---- */

/* A text that grows; once memory is out, data is NULL and stays so. */
typedef struct builder {
    char *data;
    size_t used, room;
} builder;

static void add_bytes(builder *b, const char *bytes, size_t n)
{
    if (b->data && b->used + n + 1 > b->room) {
        size_t room = 2 * (b->used + n + 1);
        char *data = realloc(b->data, room);
        if (!data) free(b->data);
        b->data = data;
        b->room = room;
    }
    if (!b->data) return;
    memcpy(b->data + b->used, bytes, n);
    b->used += n;
    b->data[b->used] = '\0';
}

static void add(builder *b, const char *text) { add_bytes(b, text, strlen(text)); }

/* A1111 quotes values with a comma, colon or newline. Its reader takes more than it writes: quotes
 * inside, spaces at the ends and nothing at all come back only when they are quoted too. */
static bool needs_quotes(const char *value)
{
    size_t length = strlen(value);
    return !length || strpbrk(value, ",:\n\"") || strip(value, value + length).length != length;
}

/* Python's json.dumps(value, ensure_ascii=False). */
static void add_json(builder *b, const char *value)
{
    add(b, "\"");
    for (const char *p = value; *p; p++) {
        static const char signs[] = "\"\\\n\r\t\f\b", letters[] = "\"\\nrtfb";
        const char *found = strchr(signs, *p);
        char escape[8];
        if (found)
            snprintf(escape, sizeof escape, "\\%c", letters[found - signs]);
        else
            snprintf(escape, sizeof escape, (unsigned char)*p < 0x20 ? "\\u%04x" : "%c",
                     (unsigned char)*p);
        add(b, escape);
    }
    add(b, "\"");
}

static void add_pair(builder *b, const char *key, const char *value)
{
    add(b, key);
    add(b, ": ");
    if (needs_quotes(value))
        add_json(b, value);
    else
        add(b, value);
}

bool settings_add(char **out, const char *text, const char *key, const char *value, error *e)
{
    builder b = {.data = malloc(256), .room = 256};
    if (b.data) *b.data = '\0';
    add(&b, text);
    add(&b, ", ");
    add_pair(&b, key, value);
    *out = b.data;
    return b.data || no_memory(e, b.room);
}

/* Whether one of a prompt's lines would be read as the beginning of the negative prompt. */
static bool has_mark(const char *prompt)
{
    const char *end = prompt + strlen(prompt), *stop;
    for (const char *at = prompt; at < end; at = stop + 1) {
        stop = memchr(at, '\n', (size_t)(end - at));
        if (!stop) stop = end;
        piece line = strip(at, stop);
        if (line.length >= strlen(negative_mark) &&
            !memcmp(line.at, negative_mark, strlen(negative_mark)))
            return true;
    }
    return false;
}

bool settings_write(char **out, const settings *s, error *e)
{
    builder b = {.data = malloc(256), .room = 256};
    const char *prompt = s->prompt ? s->prompt : "", *negative = s->negative ? s->negative : "";
    if (b.data) *b.data = '\0';
    add(&b, prompt);
    if (s->negative && *s->negative) {
        add(&b, "\nNegative prompt: ");
        add(&b, s->negative);
    }
    add(&b, "\n");
    for (size_t i = 0; i < s->count; i++) {
        if (i) add(&b, ", ");
        add_pair(&b, s->list[i].key, s->list[i].value);
    }
    if (s->count && (has_mark(prompt) || has_mark(negative))) { /* these keys are read last */
        add(&b, ", ");
        add_pair(&b, "Prompt", prompt);
        add(&b, ", ");
        add_pair(&b, "Negative prompt", negative);
    }
    *out = b.data;
    if (!b.data) return no_memory(e, b.room);
    piece whole = strip(b.data, b.data + b.used);
    memmove(b.data, whole.at, whole.length);
    b.data[whole.length] = '\0';
    return true;
}

/* ---- reading ---- */

/* A value in quotes that is followed by a comma or the end: "(?:\\.|[^\\"])+" */
static bool quoted_value(const char *text, const char *end, piece *value)
{
    const char *p = text + 1;
    while (p < end && *p != '"') p += *p == '\\' ? 2 : 1;
    if (p >= end || p == text + 1 || (p + 1 < end && p[1] != ',')) return false;
    *value = (piece){text, (size_t)(p + 1 - text)};
    return true;
}

/* The next pair of \s*(\w[\w \-/]+):\s*(quoted|[^,]*)(?:,|$) at or after *at, which moves on. A key
 * is what stands before a colon, from the first \w of its run on. */
static bool next_pair(const char **at, const char *end, piece *key, piece *value)
{
    const char *p = *at;
    size_t length;
    for (;;) {
        const char *first = NULL;
        size_t letters = 0; /* from first on */
        for (int32_t c; p < end && is_key(c = character_at(p, end, &length)); p += length) {
            if (!first && character_is_word(c)) first = p;
            letters += first != NULL;
        }
        if (p >= end) return false;
        if (*p == ':' && letters >= 2) {
            *key = (piece){first, (size_t)(p - first)};
            break;
        }
        character_at(p, end, &length);
        p += length;
    }
    p++;
    while (p < end && character_is_space(character_at(p, end, &length))) p += length;
    if (p >= end || *p != '"' || !quoted_value(p, end, value)) {
        const char *comma = p < end ? memchr(p, ',', (size_t)(end - p)) : NULL;
        *value = (piece){p, (size_t)((comma ? comma : end) - p)};
    }
    p = value->at + value->length;
    *at = p < end ? p + 1 : end;
    return true;
}

static int hex_digits(const char *text, const char *end)
{
    int value = 0;
    if (end - text < 4) return -1;
    for (int i = 0; i < 4; i++) {
        char c = text[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0) return -1;
        value = 16 * value + digit;
    }
    return value;
}

/* The character of \uXXXX (and of the second half that may follow); *p stands behind the u. What
 * C's strings or UTF-8 cannot hold (U+0000, half a pair) is U+FFFD. */
static bool json_code_point(const char **p, const char *end, int32_t *out)
{
    int high = hex_digits(*p, end);
    if (high < 0) return false;
    *p += 4;
    *out = high;
    if (high >= 0xD800 && high < 0xDC00 && end - *p >= 6 && (*p)[0] == '\\' && (*p)[1] == 'u') {
        int low = hex_digits(*p + 2, end);
        if (low >= 0xDC00 && low < 0xE000) {
            *out = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
            *p += 6;
        }
    }
    if (!*out || (*out >= 0xD800 && *out < 0xE000)) *out = 0xFFFD;
    return true;
}

/* Python's json.loads of a string in its quotes into out, as long as the text; false if none. */
static bool json_string(char *out, piece text)
{
    const char *p = text.at + 1, *end = text.at + text.length - 1;
    while (p < end) {
        static const char letters[] = "\"\\/bfnrt", signs[] = "\"\\/\b\f\n\r\t";
        if ((unsigned char)*p < 0x20 || *p == '"') return false;
        if (*p != '\\') {
            *out++ = *p++;
            continue;
        }
        if (++p == end) return false;
        const char *found = strchr(letters, *p);
        int32_t c;
        if (*p++ == 'u') {
            if (!json_code_point(&p, end, &c)) return false;
            out += character_put(out, c);
        } else if (found) {
            *out++ = signs[found - letters];
        } else {
            return false;
        }
    }
    *out = '\0';
    return true;
}

/* The value a pair stands for: its JSON string, or as it is. NULL: out of memory. */
static const char *unquote(settings *s, piece value)
{
    if (value.length >= 2 && value.at[0] == '"' && value.at[value.length - 1] == '"') {
        char *out = arena_alloc(&s->memory, value.length + 1);
        if (!out || json_string(out, value)) return out;
    }
    return keep(s, value);
}

/* The length in bytes of the decimal digits (of any script) at text. */
static size_t digits(const char *text, const char *end)
{
    size_t total = 0, length;
    while (character_is_digit(character_at(text + total, end, &length))) total += length;
    return total;
}

/* ^(\d+)x(\d+)$ */
static bool is_size(const char *value, piece *width, piece *height)
{
    const char *end = value + strlen(value);
    *width = (piece){value, digits(value, end)};
    const char *x = value + width->length;
    if (!width->length || *x != 'x') return false;
    *height = (piece){x + 1, digits(x + 1, end)};
    const char *rest = x + 1 + height->length;
    return height->length && (rest == end || !strcmp(rest, "\n")); /* Python's $ */
}

static bool put_size(settings *s, piece key, const char *which, piece side, error *e)
{
    char *name = arena_format(&s->memory, "%.*s%s", (int)key.length, key.at, which);
    if (!name) return no_memory(e, key.length + 3);
    return put(s, (piece){name, strlen(name)}, keep(s, side), e);
}

static bool is_text(piece p, const char *text)
{
    return p.length == strlen(text) && !memcmp(p.at, text, p.length);
}

static bool read_pairs(settings *s, piece line, error *e)
{
    const char *at = line.at, *end = line.at + line.length;
    for (piece key, value, width, height; next_pair(&at, end, &key, &value);) {
        if (!value.length) continue; /* A1111 cannot read "Key: ," and goes on */
        const char *text = unquote(s, value);
        if (!text) return no_memory(e, value.length);
        bool ok = true;
        if (is_size(text, &width, &height))
            ok = put_size(s, key, "-1", width, e) && put_size(s, key, "-2", height, e);
        else if (is_text(key, "Prompt"))
            s->prompt = text;
        else if (is_text(key, "Negative prompt"))
            s->negative = text;
        else
            ok = put(s, key, text, e);
        if (!ok) return false;
    }
    return true;
}

/* The lines before the settings: the prompt's, then, from the mark on, the negative prompt's. */
static bool read_prompts(settings *s, piece text, error *e)
{
    const char *at = text.at, *end = text.at + text.length;
    char *out[2] = {arena_alloc(&s->memory, text.length + 1),
                    arena_alloc(&s->memory, text.length + 1)};
    size_t used[2] = {0, 0}, mark = strlen(negative_mark);
    int which = 0;
    if (!out[0] || !out[1]) return no_memory(e, text.length);
    s->prompt = out[0];
    s->negative = out[1];
    while (at <= end && text.length) {
        const char *newline = at < end ? memchr(at, '\n', (size_t)(end - at)) : NULL;
        const char *stop = newline ? newline : end;
        piece line = strip(at, stop);
        if (line.length >= mark && !memcmp(line.at, negative_mark, mark)) {
            which = 1;
            line = strip(line.at + mark, line.at + line.length);
        }
        if (used[which]) out[which][used[which]++] = '\n';
        memcpy(out[which] + used[which], line.at, line.length);
        used[which] += line.length;
        at = stop + 1;
    }
    return true;
}

bool settings_parse(settings *out, const char *text, error *e)
{
    *out = (settings){0};
    piece whole = strip(text, text + strlen(text)), key, value;
    const char *newline = memrchr(whole.at, '\n', whole.length);
    const char *line = newline ? newline + 1 : whole.at, *end = whole.at + whole.length;
    int pairs = 0;
    for (const char *at = line;
         pairs < PAIRS_OF_A_SETTINGS_LINE && next_pair(&at, end, &key, &value);)
        pairs++;
    piece last = {line, (size_t)(end - line)},
          before = {whole.at, newline ? (size_t)(newline - whole.at) : 0};
    if (pairs < PAIRS_OF_A_SETTINGS_LINE) {
        before = whole;
        last.length = 0;
    }
    if (read_prompts(out, before, e) && read_pairs(out, last, e)) return true;
    settings_close(out);
    return false;
}
