/* SPDX-License-Identifier: Apache-2.0
 *
 * prompt: see prompt.h. */
#include "prompt.h"

#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "base/platform.h"
#include "model/characters.h"

enum { SIGNS_SHOWN = 3, SHOWN = 40 }; /* SHOWN: bytes of a word in a message */

/* A part of the prompt that AUTOMATIC1111 would take for a command; length 0: none. */
typedef struct sign {
    const char *at;
    size_t length;
} sign;

/* "<lora:name:0.8>" at p, and its kin. */
static size_t network_at(const char *p)
{
    static const char *const kinds[] = {"<lora:", "<lyco:", "<hypernet:"};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        size_t n = strlen(kinds[i]);
        const char *end = strncmp(p, kinds[i], n) == 0 ? strpbrk(p + n, "<>\n") : NULL;
        if (end && *end == '>') return (size_t)(end + 1 - p);
    }
    return 0;
}

/* Whether text up to end ends in ":NUMBER", spaces allowed. */
static bool ends_in_number(const char *text, const char *end)
{
    const char *colon = memrchr(text, ':', (size_t)(end - text)), *stop;
    double value;
    if (!colon || !number_parse(colon + 1, &stop, &value)) return false;
    while (stop < end && *stop == ' ') stop++;
    return stop == end;
}

/* "(a word:1.3)", "[a:b:0.5]" or "[a|b]" at p, whatever it holds; "\(" is a sign of the text. */
static size_t bracket_at(const char *text, const char *p)
{
    int depth = 0;
    char open = *p, close = open == '(' ? ')' : ']';
    if (p > text && p[-1] == '\\') return 0;
    for (const char *q = p; *q; q++) {
        if (q > p && q[-1] == '\\') continue;
        if (*q == open) depth++;
        if (*q != close || --depth > 0) continue;
        bool turns = open == '[' && memchr(p, '|', (size_t)(q - p));
        return turns || ends_in_number(p + 1, q) ? (size_t)(q + 1 - p) : 0;
    }
    return 0;
}

static bool stands_alone(const char *text, const char *p, size_t n)
{
    size_t length;
    const char *end = p + n + strlen(p + n);
    bool before = p == text || strchr(" ,\n\t", p[-1]);
    return before && (p + n == end || !character_is_word(character_at(p + n, end, &length)));
}

static size_t word_at(const char *text, const char *p)
{
    static const char *const words[] = {"BREAK", "AND"};
    for (int i = 0; i < 2; i++) {
        size_t n = strlen(words[i]);
        if (strncmp(p, words[i], n) == 0 && stands_alone(text, p, n)) return n;
    }
    return 0;
}

/* The first sign at or after *at, which moves behind it. */
static sign next_sign(const char *text, const char **at)
{
    for (const char *p = *at; *p; p++) {
        size_t n = *p == '<'                ? network_at(p)
                   : *p == '(' || *p == '[' ? bracket_at(text, p)
                   : *p == 'B' || *p == 'A' ? word_at(text, p)
                                            : 0;
        if (!n) continue;
        *at = p + n;
        return (sign){p, n};
    }
    return (sign){NULL, 0};
}

/* At most SHOWN bytes of a text, whole characters. */
static int shown(const char *text, size_t length)
{
    size_t n = length < SHOWN ? length : SHOWN;
    while (n && n < length && ((unsigned char)text[n] & 0xC0) == 0x80) n--;
    return (int)n;
}

bool prompt_note_line(char **notes, char *line, error *e)
{
    char *both = line ? string_format("%s%s\n", *notes ? *notes : "", line) : NULL;
    free(line);
    if (!both) return error_memory(e, "a warning", 256);
    free(*notes);
    *notes = both;
    return true;
}

static bool note_signs(char **notes, const char *what, const char *text, error *e)
{
    char list[SIGNS_SHOWN * (SHOWN + 16)] = "";
    const char *at = text;
    int count = 0;
    for (sign s; (s = next_sign(text, &at)).length; count++) {
        size_t used = strlen(list);
        int n = shown(s.at, s.length);
        if (count < SIGNS_SHOWN)
            snprintf(list + used, sizeof list - used, "%s%.*s%s", count ? ", " : "", n, s.at,
                     (size_t)n < s.length ? "..." : "");
    }
    if (!count) return true;
    return prompt_note_line(
        notes,
        string_format("the %s is read literally: %s%s are words like others here, not "
                      "commands (--prompt-syntax a1111 reads them as such)",
                      what, list, count > SIGNS_SHOWN ? ", ..." : ""),
        e);
}

bool prompt_note_tag(char **notes, const char *tag, size_t length, error *e)
{
    int n = shown(tag, length);
    return prompt_note_line(notes,
                            string_format("%.*s%s is left out: the model was not opened with it", n,
                                          tag, (size_t)n < length ? "..." : ""),
                            e);
}

static size_t count_words(const char *text)
{
    const char *end = text + strlen(text);
    size_t words = 0, length;
    bool inside = false;
    for (const char *p = text; p < end; p += length) {
        bool space = character_is_space(character_at(p, end, &length));
        words += !space && !inside;
        inside = !space;
    }
    return words;
}

/* The text from its n-th word on. */
static const char *nth_word(const char *text, size_t n)
{
    const char *end = text + strlen(text), *p = text;
    size_t length;
    for (bool inside = false; p < end; p += length) {
        bool space = character_is_space(character_at(p, end, &length));
        if (!space && !inside && n-- == 0) break;
        inside = !space;
    }
    return p;
}

static size_t count_characters(const char *text, size_t bytes)
{
    size_t n = 0, length;
    for (const char *p = text; p < text + bytes; p += length, n++)
        character_at(p, text + bytes, &length);
    return n;
}

/* cut: the text's end as the tokenizer has it: composed, in lower case. Names the word as it was
 * written, and the place in it where that is not its beginning (a sentence may have no spaces). */
static bool note_cut(char **notes, const model *m, const char *what, const char *text,
                     const char *cut, error *e)
{
    static const char spaces[] = " \t\n\r";
    size_t all = count_words(text), rest = count_words(cut);
    const char *word = all >= rest ? nth_word(text, all - rest) : cut;
    size_t length = strcspn(word, spaces), left = strcspn(cut, spaces);
    bool within = count_characters(word, length) > count_characters(cut, left);
    int n = shown(word, length), k = shown(cut, left);
    char inside[SHOWN + 32] = "";
    if (within)
        snprintf(inside, sizeof inside, "from \"%.*s%s\" on, within ", k, cut,
                 (size_t)k < left ? "..." : "");
    return prompt_note_line(
        notes,
        string_format("the %s is too long for the model, which reads %d tokens: it is cut "
                      "%s\"%.*s%s\"%s",
                      what, m->clip.positions - 2, within ? inside : "from ", n, word,
                      (size_t)n < length ? "..." : "", within ? "" : " on"),
        e);
}

bool prompt_notes(char **notes, const model *m, const char *what, const char *text, error *e)
{
    int32_t *ids = malloc((size_t)m->clip.positions * sizeof *ids);
    char *cut = NULL;
    bool ok = ids || error_memory(e, "a prompt's tokens", (size_t)m->clip.positions * sizeof *ids);
    ok = ok && tokenizer_encode_prompt(m->tokens, text, m->clip.positions, ids, &cut, e) &&
         note_signs(notes, what, text, e) && (!cut || note_cut(notes, m, what, text, cut, e));
    free(cut);
    free(ids);
    return ok;
}
