/* SPDX-License-Identifier: Apache-2.0
 *
 * added_tokens: see added_tokens.h. Which file counts is decided as transformers 5's
 * PreTrainedTokenizerBase._from_pretrained does it. */
#include "model/added_tokens.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/platform.h"
#include "file/json.h"
#include "model/characters.h"

enum { FILE_LIMIT = 64 << 20, MAX_ID = 1 << 24 };

/* ---- reading ---- */

typedef struct reader {
    added_tokens *out;
    arena *memory;
    size_t room;
    const char *folder;
    error *e;
} reader;

static bool no_memory(const reader *r) { return error_memory(r->e, "the tokenizer", 64); }

/* folder/name where there is such a file; *out NULL else. */
static bool read_file(const reader *r, json_t **out, const char *name)
{
    *out = NULL;
    char *path = path_join(r->folder, name);
    if (!path) return no_memory(r);
    bool there = path_is_file(path);
    if (there) *out = json_read(path, FILE_LIMIT, r->e);
    free(path);
    return !there || *out;
}

static bool has_flag(const json_t *from, const char *name, bool otherwise)
{
    const json_t *value = json_object_get(from, name);
    return json_is_boolean(value) ? json_is_true(value) : otherwise;
}

/* A token as a text, or as an object with its "content". */
static const char *content(const json_t *value)
{
    return json_string_value(json_is_object(value) ? json_object_get(value, "content") : value);
}

static added_token *find(const added_tokens *list, const char *text)
{
    for (size_t i = 0; i < list->count; i++)
        if (!strcmp(list->item[i].text, text)) return &list->item[i];
    return NULL;
}

/* Adds a token with the flags of `from` (an object; else all are off), or puts it in the place of
 * one with the same id, as in the dictionary by ids that transformers makes. */
static bool add(reader *r, const char *text, json_int_t id, const json_t *from, bool normalized)
{
    added_tokens *list = r->out;
    added_token *place = id < 0 && text ? find(list, text) : NULL;
    if (!text || !*text) return true;
    if (id >= MAX_ID || id < -1)
        return error_set(r->e, ERROR_FORMAT, "%s: the added token \"%.60s\" has no valid id",
                         r->folder, text);
    for (size_t i = 0; id >= 0 && i < list->count; i++)
        if (list->item[i].id == id) place = &list->item[i];
    if (!place && list->count == r->room) {
        size_t room = r->room ? 2 * r->room : 16;
        added_token *item = arena_alloc(r->memory, room * sizeof *item);
        if (!item) return no_memory(r);
        if (list->count) memcpy(item, list->item, list->count * sizeof *item);
        list->item = item;
        r->room = room;
    }
    if (!place) place = &list->item[list->count++];
    *place = (added_token){
        .text = arena_strdup(r->memory, text),
        .id = (int32_t)id,
        .left = has_flag(from, "lstrip", false),
        .right = has_flag(from, "rstrip", false),
        .whole_word = has_flag(from, "single_word", false),
        .normalized = has_flag(from, "normalized", normalized),
    };
    place->match = place->text;
    return place->text || no_memory(r);
}

/* {"49408": {"content": "<dog>", ...}} of tokenizer_config.json. */
static bool add_decoder(reader *r, json_t *decoder)
{
    const char *key;
    json_t *value;
    json_object_foreach(decoder, key, value)
    {
        char *end;
        long id = strtol(key, &end, 10);
        if (!add(r, content(value), *end || end == key ? MAX_ID : id, value,
                 !has_flag(value, "special", false)))
            return false;
    }
    return true;
}

static const char *const special_keys[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                           "pad_token", "cls_token", "mask_token"};
static const char *const extra_keys[] = {"additional_special_tokens", "extra_special_tokens"};
enum { SPECIALS = sizeof special_keys / sizeof *special_keys, PAD = 4 };

/* The token of a key: the map's, else the configuration's, else CLIPTokenizer's own. */
static const json_t *special(const json_t *config, const json_t *map, int i, const char **text)
{
    static const char *const own[SPECIALS] = {"<|startoftext|>", "<|endoftext|>", "<|endoftext|>",
                                              NULL, "<|endoftext|>"};
    const json_t *value = json_object_get(map, special_keys[i]);
    if (!value) value = json_object_get(config, special_keys[i]);
    *text = content(value);
    if (!*text) *text = own[i];
    return value;
}

static bool is_special(const json_t *config, const json_t *map, const char *token)
{
    const char *text;
    const json_t *value;
    size_t at;
    for (int i = 0; i < SPECIALS; i++) {
        special(config, map, i, &text);
        if (text && !strcmp(text, token)) return true;
    }
    for (int i = 0; i < 4; i++)
        json_array_foreach(json_object_get(i < 2 ? map : config, extra_keys[i % 2]), at,
                           value) if (content(value) && !strcmp(content(value), token)) return true;
    return false;
}

/* {"<dog>": 49408} of added_tokens.json. */
static bool add_encoder(reader *r, json_t *encoder, const json_t *config, const json_t *map)
{
    const char *key;
    json_t *value;
    json_object_foreach(encoder, key,
                        value) if (!add(r, key,
                                        json_is_integer(value) ? json_integer_value(value) : MAX_ID,
                                        NULL, !is_special(config, map, key))) return false;
    return true;
}

static bool add_fast(reader *r, const json_t *fast)
{
    const json_t *list = json_object_get(fast, "added_tokens"), *item;
    size_t i;
    json_array_foreach(list, i, item)
    {
        const json_t *id = json_object_get(item, "id");
        if (!add(r, content(item), json_is_integer(id) ? json_integer_value(id) : MAX_ID, item,
                 !has_flag(item, "special", false)))
            return false;
    }
    return true;
}

static int by_id(const void *a, const void *b)
{
    const added_token *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

/* Whether transformers would pass over this special token: the same is there before it. A text and
 * an object of one content are not the same to it, and the later one counts. */
static bool is_repeated(const json_t *config, const json_t *map, int i, const char *text,
                        bool object)
{
    const char *other;
    for (int k = 0; k < i; k++) {
        const json_t *from = special(config, map, k, &other);
        if (other && !strcmp(other, text) && json_is_object(from) == object) return true;
    }
    return false;
}

/* The named special tokens, and others that are listed, unless they are there. */
static bool add_specials(reader *r, const json_t *config, const json_t *map)
{
    const char *text;
    const json_t *value;
    size_t at, listed = r->out->count;
    for (int i = 0; i < SPECIALS; i++) {
        const json_t *from = special(config, map, i, &text);
        const added_token *known = text ? find(r->out, text) : NULL;
        if (!text || (known && (size_t)(known - r->out->item) < listed) ||
            is_repeated(config, map, i, text, json_is_object(from)))
            continue;
        if (!add(r, text, -1, from, false)) return false;
    }
    for (int i = 0; i < 4; i++)
        json_array_foreach(json_object_get(i < 2 ? map : config, extra_keys[i % 2]), at,
                           value) if (content(value) && !find(r->out, content(value)) &&
                                      !add(r, content(value), -1, value, false)) return false;
    special(config, map, PAD, &text);
    r->out->pad = arena_strdup(r->memory, text);
    return r->out->pad || no_memory(r);
}

bool added_tokens_read(added_tokens *out, arena *memory, const char *folder, const json_t *fast,
                       error *e)
{
    reader r = {.out = out, .memory = memory, .folder = folder, .e = e};
    json_t *config = NULL, *map = NULL, *encoder = NULL;
    *out = (added_tokens){0};
    bool ok = read_file(&r, &config, "tokenizer_config.json");
    json_t *decoder = json_object_get(config, "added_tokens_decoder");
    if (ok && decoder)
        ok = add_decoder(&r, decoder);
    else if (ok) /* what older files say, and tokenizer.json over them */
        ok = read_file(&r, &map, "special_tokens_map.json") &&
             read_file(&r, &encoder, "added_tokens.json") &&
             add_encoder(&r, encoder, config, map) && add_fast(&r, fast);
    if (ok && out->count) qsort(out->item, out->count, sizeof *out->item, by_id);
    ok = ok && add_specials(&r, config, map);
    json_decref(config);
    json_decref(map);
    json_decref(encoder);
    return ok;
}

/* ---- finding ---- */

/* A letter, mark, digit, connector or joiner: what \w is to tokenizers' expressions. */
static bool is_word(int32_t c)
{
    utf8proc_category_t kind = utf8proc_category(c);
    return (kind >= UTF8PROC_CATEGORY_LU && kind <= UTF8PROC_CATEGORY_NL) ||
           kind == UTF8PROC_CATEGORY_PC || c == 0x200c || c == 0x200d;
}

/* The code point that ends before text[at], and where it starts. */
static int32_t character_before(const char *text, size_t at, size_t *start)
{
    size_t length;
    *start = at - 1;
    while (*start && ((uint8_t)text[*start] & 0xc0) == 0x80) --*start;
    return character_at(text + *start, text + at, &length);
}

static bool touches_word(const char *text, size_t length, size_t from, size_t to)
{
    size_t n;
    return (from && is_word(character_before(text, from, &n))) ||
           (to < length && is_word(character_at(text + to, text + length, &n)));
}

static const added_token *longest_at(const added_tokens *list, bool normalized, const char *text,
                                     size_t length, size_t *size)
{
    const added_token *found = NULL;
    *size = 0;
    for (size_t i = 0; i < list->count; i++) {
        const added_token *t = &list->item[i];
        size_t n = strlen(t->match);
        if (t->normalized == normalized && n > *size && n <= length && !memcmp(t->match, text, n)) {
            found = t;
            *size = n;
        }
    }
    return found;
}

const added_token *added_tokens_next(const added_tokens *list, bool normalized, const char *text,
                                     size_t length, added_cursor *cursor, size_t *from, size_t *to)
{
    size_t size, n;
    for (; cursor->at < length; cursor->at++) {
        const added_token *t = longest_at(list, normalized, text + cursor->at, length - cursor->at,
                                          &size);
        if (!t) continue;
        *from = cursor->at;
        *to = cursor->at + size;
        if (t->whole_word && touches_word(text, length, *from, *to)) {
            cursor->at = *to - 1;
            continue;
        }
        cursor->at = *to;
        while (t->left && *from > cursor->taken &&
               character_is_white(character_before(text, *from, &n)))
            *from = n;
        while (t->right && *to < length &&
               character_is_white(character_at(text + *to, text + length, &n)))
            *to += n;
        cursor->taken = *to;
        return t;
    }
    return NULL;
}
