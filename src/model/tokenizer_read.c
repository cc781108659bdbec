/* SPDX-License-Identifier: Apache-2.0
 *
 * tokenizer_read: a tokenizer's files become its tables: vocabularies, merges, added tokens. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/platform.h"
#include "file/fields.h"
#include "model/tokenizer_table.h"

enum { TOKENIZER_LIMIT = 64 << 20, CLIP_VOCAB = 49408 };

/* ---- signs of bytes ---- */

/* OpenAI's reversible map: printable Latin-1 bytes stand for themselves, the others for U+0100...
 */
static int sign_of_byte(int byte)
{
    if ((byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174) return byte;
    int before = 0; /* unprintable bytes below this one */
    for (int i = 0; i < byte; i++)
        before += !((i >= 33 && i <= 126) || (i >= 161 && i <= 172) || i >= 174);
    return 256 + before;
}

/* ---- files ---- */

/* merges.txt: "a b" a line; a first line that begins with #version is a comment. */
static bool parse_merges(tokenizer *t, const char *text, const char *where, error *e)
{
    size_t lines = 1;
    for (const char *p = text; *p; p++) lines += *p == '\n';
    if (!tokenizer_make_merges(t, lines, e)) return false;
    int32_t rank = 0;
    for (const char *line = text; *line;) {
        size_t length = strcspn(line, "\r\n");
        const char *space = memchr(line, ' ', length);
        bool comment = line == text && !strncmp(line, "#version", 8);
        if (length && !comment) {
            size_t a_length = space ? (size_t)(space - line) : length;
            if (!tokenizer_put_merge(t, line, a_length, line + a_length + 1,
                                     space ? length - a_length - 1 : 0, rank, where, e))
                return false;
            rank++;
        }
        line += length;
        line += strspn(line, "\r\n");
    }
    return true;
}

static bool open_vocab_and_merges(tokenizer *t, const char *vocab, const char *merges, error *e)
{
    fields f;
    if (!fields_open(&f, vocab, TOKENIZER_LIMIT, e)) return false;
    bool ok = tokenizer_put_vocab(t, f.root, vocab, e);
    fields_close(&f);
    char *text;
    if (!ok || !file_read(merges, TOKENIZER_LIMIT, &text, NULL, e)) return false;
    ok = parse_merges(t, text, merges, e);
    free(text);
    return ok;
}

/* CLIP's vocabulary follows from its merges: the bytes' signs, the same at the end of a word, what
 * each merge makes, the start and the end token. NULL with an error. */
static json_t *vocab_of_merges(const char *text, const char *where, error *e)
{
    json_t *vocab = json_object();
    char word[1024];
    int id = 0;
    bool ok = vocab;
    for (int end = 0; end < 2; end++)
        for (int pass = 0; pass < 2; pass++) /* those that stand for themselves come first */
            for (int byte = 0; ok && byte < 256; byte++) {
                int sign = sign_of_byte(byte);
                if ((sign < 256) != (pass == 0)) continue;
                word[utf8proc_encode_char(sign, (utf8proc_uint8_t *)word)] = 0;
                strcat(word, end ? WORD_END : "");
                ok = json_object_set_new(vocab, word, json_integer(id++)) == 0;
            }
    for (const char *line = text; ok && *line; line += strspn(line, "\r\n")) {
        int length = (int)strcspn(line, "\r\n"), space = (int)strcspn(line, " ");
        if (space < length && length < (int)sizeof word && strncmp(line, "#version", 8)) {
            snprintf(word, sizeof word, "%.*s%.*s", space, line, length - space - 1,
                     line + space + 1);
            ok = json_object_set_new(vocab, word, json_integer(id++)) == 0;
        }
        line += length;
    }
    ok = ok && json_object_set_new(vocab, START_TOKEN, json_integer(id)) == 0 &&
         json_object_set_new(vocab, END_TOKEN, json_integer(id + 1)) == 0;
    if (!ok)
        error_memory(e, where, sizeof *vocab);
    else if (json_object_size(vocab) == CLIP_VOCAB)
        return vocab;
    else
        error_set(e, ERROR_FORMAT,
                  "%s: holds %d merges; without a vocab.json beside them they must be "
                  "CLIP's %d",
                  where, id - 512, CLIP_VOCAB - 514);
    json_decref(vocab);
    return NULL;
}

static bool open_merges(tokenizer *t, const char *merges, error *e)
{
    char *text;
    if (!file_read(merges, TOKENIZER_LIMIT, &text, NULL, e)) return false;
    json_t *vocab = vocab_of_merges(text, merges, e);
    bool ok = vocab && tokenizer_put_vocab(t, vocab, merges, e) && parse_merges(t, text, merges, e);
    json_decref(vocab);
    free(text);
    return ok;
}

/* A merge in tokenizer.json: ["a","b"], or "a b" in older files. */
static bool add_json_merge(tokenizer *t, const json_t *item, int32_t rank, const char *where,
                           error *e)
{
    const char *a = json_string_value(json_is_array(item) ? json_array_get(item, 0) : item);
    const char *b = json_string_value(json_array_get(item, 1));
    size_t a_length = a ? strlen(a) : 0;
    if (a && !b && (b = strchr(a, ' '))) {
        a_length = (size_t)(b - a);
        b++;
    }
    return tokenizer_put_merge(t, a ? a : "", a_length, b ? b : "", b ? strlen(b) : 0, rank, where,
                               e);
}

static bool read_tokenizer_json(tokenizer *t, const json_t *root, const char *where, error *e)
{
    const json_t *model = json_object_get(root, "model"),
                 *merges = json_object_get(model, "merges");
    const char *type = json_string_value(json_object_get(model, "type"));
    const char *suffix = json_string_value(json_object_get(model, "end_of_word_suffix"));
    if ((type && strcmp(type, "BPE")) || !suffix || strcmp(suffix, WORD_END) ||
        !json_is_array(merges))
        return error_set(e, ERROR_MODEL,
                         "%s: is not CLIP's tokenizer (byte-pair encoding with "
                         "\"" WORD_END "\")",
                         where);
    if (!tokenizer_put_vocab(t, json_object_get(model, "vocab"), where, e) ||
        !tokenizer_make_merges(t, json_array_size(merges), e))
        return false;
    for (size_t i = 0; i < json_array_size(merges); i++)
        if (!add_json_merge(t, json_array_get(merges, i), (int32_t)i, where, e)) return false;
    return true;
}

/* Gives the added tokens their ids: the vocabulary's, else those that follow it, one by one, which
 * is what tokenizers gives them whatever a file says. A file that says otherwise is not believed.
 */
static bool place_added(tokenizer *t, const char *folder, error *e)
{
    int32_t next = (int32_t)t->token_count;
    for (size_t i = 0; i < t->added.count; i++) {
        added_token *a = &t->added.item[i];
        int32_t said = a->id, known = tokenizer_id(t, a->text, strlen(a->text));
        if (known < 0 && said < 0 && (!strcmp(a->text, START_TOKEN) || !strcmp(a->text, END_TOKEN)))
            return error_set(e, ERROR_FORMAT, "%s: the vocabulary lacks %s", folder, a->text);
        a->id = known >= 0 ? known : next++;
        if (said >= 0 && said != a->id)
            return error_set(e, ERROR_FORMAT,
                             "%s: the added token \"%.60s\" has id %d, where its row in "
                             "the text encoder should be %d%s; correct its id (added_tokens.json, "
                             "tokenizer_config.json, tokenizer.json)",
                             folder, a->text, (int)said, (int)a->id,
                             known >= 0 ? ", as in the vocabulary" : ", the next free one");
        if (!tokenizer_put(t, a->text, a->id, folder, e)) return false;
    }
    return true;
}

static bool finish_tables(tokenizer *t, const char *folder, error *e)
{
    t->start = tokenizer_id(t, START_TOKEN, strlen(START_TOKEN));
    t->end = tokenizer_id(t, END_TOKEN, strlen(END_TOKEN));
    if (t->start < 0 || t->end < 0) /* other words may be named as start and end */
        return error_set(e, ERROR_FORMAT, "%s: the vocabulary lacks %s", folder,
                         t->start < 0 ? START_TOKEN : END_TOKEN);
    int32_t pad = tokenizer_id(t, t->added.pad, strlen(t->added.pad));
    t->pad = pad >= 0 ? pad : t->end;
    for (int byte = 0; byte < 256; byte++) {
        char text[12];
        size_t n = (size_t)utf8proc_encode_char(sign_of_byte(byte), (utf8proc_uint8_t *)text);
        memcpy(text + n, WORD_END, sizeof WORD_END);
        int32_t inner = tokenizer_id(t, text, n),
                last = tokenizer_id(t, text, n + strlen(WORD_END));
        t->byte[0][byte] = inner < 0 ? t->end : inner; /* the unknown token is the end token */
        t->byte[1][byte] = last < 0 ? t->end : last;
    }
    return true;
}

/* tokenizer.json where there is one, else vocab.json and merges.txt, else CLIP's merges.txt alone.
 */
static bool open_files(tokenizer *t, const char *folder, const char *json, const char *vocab,
                       const char *merges, error *e)
{
    fields f = {0};
    bool fast = path_is_file(json), named = path_is_file(vocab);
    if (!fast && !path_is_file(merges))
        return error_set(e, ERROR_FILE,
                         "%s: no tokenizer there (tokenizer.json, or merges.txt and "
                         "vocab.json)",
                         folder);
    bool ok = (!fast || fields_open(&f, json, TOKENIZER_LIMIT, e)) &&
              added_tokens_read(&t->added, &t->memory, folder, f.root, e) &&
              (fast    ? read_tokenizer_json(t, f.root, json, e)
               : named ? open_vocab_and_merges(t, vocab, merges, e)
                       : open_merges(t, merges, e));
    fields_close(&f);
    return ok && place_added(t, folder, e) && finish_tables(t, folder, e) &&
           tokenizer_normalize_added(t, e);
}

bool tokenizer_open(tokenizer **out, const char *folder, error *e)
{
    *out = NULL;
    char *json = path_join(folder, "tokenizer.json"), *vocab = path_join(folder, "vocab.json");
    char *merges = path_join(folder, "merges.txt");
    tokenizer *t = calloc(1, sizeof *t);
    bool ok = json && vocab && merges && t ? open_files(t, folder, json, vocab, merges, e)
                                           : error_memory(e, "the tokenizer", sizeof *t);
    free(json);
    free(vocab);
    free(merges);
    if (ok)
        *out = t;
    else
        tokenizer_close(&t);
    return ok;
}
