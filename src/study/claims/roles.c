/* SPDX-License-Identifier: Apache-2.0
 *
 * roles: words of prompts. */
#include "roles.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { WORDS = 80 }; /* of a prompt: more than any model's text encoder reads */

typedef struct word {
    const char *text;
    int length;
} word;

typedef struct words {
    word item[WORDS];
    int count;
} words;

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '\'' || (unsigned char)c >= 128;
}

static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c; }

static bool same(const word *a, const word *b)
{
    if (a->length != b->length) return false;
    for (int i = 0; i < a->length; i++)
        if (lower(a->text[i]) != lower(b->text[i])) return false;
    return true;
}

static bool is_little(const word *w)
{
    static const char *const little[] = {"a",  "an",  "the",  "of",  "in",   "on", "at", "by",
                                         "to", "and", "with", "for", "from", "as", "is"};
    for (size_t i = 0; i < sizeof little / sizeof *little; i++) {
        word l = {little[i], (int)strlen(little[i])};
        if (same(w, &l)) return true;
    }
    return false;
}

static void split(words *out, const char *text)
{
    out->count = 0;
    while (*text && out->count < WORDS) {
        const char *end = text;
        while (is_letter(*end)) end++;
        if (end > text) out->item[out->count++] = (word){text, (int)(end - text)};
        text = *end && end == text ? end + 1 : end;
    }
}

static bool has(const words *list, const word *w)
{
    for (int i = 0; i < list->count; i++)
        if (same(&list->item[i], w)) return true;
    return false;
}

/* Whether every word of a, but the little ones, is in b. */
static bool within(const words *a, const words *b)
{
    for (int i = 0; i < a->count; i++)
        if (!is_little(&a->item[i]) && !has(b, &a->item[i])) return false;
    return true;
}

/* Words of the instance prompt from `at` on, in direction step, as long as they count and are the
 * class prompt's (or, with wanted false, are not). Returns the first place that is not. */
static int run(const words *instance, const words *of_class, int at, int step, bool wanted,
               words *out)
{
    for (; at >= 0 && at < instance->count; at += step) {
        const word *w = &instance->item[at];
        if (is_little(w) || has(of_class, w) != wanted) break;
        out->item[out->count++] = *w;
    }
    return at;
}

/* The class's noun: the last word of the class prompt, with the words before it as far as the
 * instance prompt has them together; and the subject's words, which stand before it, or else after.
 */
static void find_words(const words *instance, const words *of_class, words *subject, words *noun)
{
    int last = of_class->count - 1, at = -1;
    subject->count = noun->count = 0;
    for (; last >= 0 && at < 0; last--)
        for (int i = 0; i < instance->count && !is_little(&of_class->item[last]); i++)
            if (same(&instance->item[i], &of_class->item[last])) at = i;
    if (at >= 0) {
        int before = run(instance, of_class, at, -1, true, noun);
        run(instance, of_class, before, -1, false, subject);
    } else {
        for (last = of_class->count - 1; last >= 0 && is_little(&of_class->item[last]); last--)
            continue;
        if (last >= 0) noun->item[noun->count++] = of_class->item[last];
    }
    for (int i = instance->count - 1; i >= 0 && !subject->count; i--) { /* "a dog named sks" */
        const word *w = &instance->item[i];
        if (!is_little(w) && !has(of_class, w)) subject->item[subject->count++] = *w;
    }
}

static bool has_all(const words *list, const words *wanted)
{
    for (int i = 0; i < wanted->count; i++)
        if (!has(list, &wanted->item[i])) return false;
    return wanted->count > 0;
}

prompt_role prompt_role_of(const char *prompt, const char *instance_prompt,
                           const char *class_prompt)
{
    words p, instance, of_class, subject, noun;
    if (strcmp(prompt, instance_prompt) == 0) return ROLE_SUBJECT;
    if (!class_prompt) return ROLE_OTHER;
    split(&p, prompt);
    split(&instance, instance_prompt);
    split(&of_class, class_prompt);
    if (within(&of_class, &(words){.count = 0})) return ROLE_OTHER; /* it says nothing */
    find_words(&instance, &of_class, &subject, &noun);
    if (has_all(&p, &subject)) return ROLE_SUBJECT;
    if (!has_all(&p, &noun)) return ROLE_OTHER;
    return within(&p, &of_class) ? ROLE_CLASS : ROLE_SCENE;
}

char *prompt_without_subject(const char *prompt, const char *instance_prompt,
                             const char *class_prompt)
{
    words p, instance, of_class, subject = {.count = 0}, noun;
    char *out = malloc(strlen(prompt) + 1), *to = out;
    const char *from = prompt;
    if (!out) return NULL;
    if (class_prompt) {
        split(&instance, instance_prompt);
        split(&of_class, class_prompt);
        find_words(&instance, &of_class, &subject, &noun);
    }
    split(&p, prompt);
    for (int i = 0; subject.count && i < p.count; i++) {
        const word *w = &p.item[i];
        if (!has(&subject, w)) continue;
        memcpy(to, from, (size_t)(w->text - from));
        to += w->text - from;
        from = w->text + w->length;
        from += strspn(from, " "); /* one space of the two */
    }
    strcpy(to, from);
    return out;
}
