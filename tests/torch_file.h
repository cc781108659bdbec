/* SPDX-License-Identifier: Apache-2.0
 *
 * torch_file: a safetensors file again as PyTorch wrote it before version 1.6 (tests/fixtures/torch
 * has files of PyTorch's own, of both forms). */
#ifndef LIKENESS_TESTS_TORCH_FILE_H
#define LIKENESS_TESTS_TORCH_FILE_H

#include "file/torch.h"
#include "support.h"

static inline void torch_put_number(FILE *f, int opcode, uint64_t value, int bytes)
{
    if (opcode) fputc(opcode, f);
    for (int i = 0; i < bytes; i++) fputc((int)(value >> 8 * i & 0xff), f);
}

static inline void torch_put_text(FILE *f, const char *text)
{
    torch_put_number(f, 'X', strlen(text), 4);
    fputs(text, f);
}

static inline void torch_put_bytes(FILE *f, const void *data, size_t size)
{
    assert_int_equal(fwrite(data, 1, size, f), size);
}

/* (1, 2, 3), or the strides of numbers in that shape, in order */
static inline void torch_put_shape(FILE *f, const safetensors_entry *t, bool strides)
{
    fputc('(', f);
    for (int d = 0; d < t->rank; d++) {
        int64_t value = strides ? 1 : t->dim[d];
        for (int k = d + 1; strides && k < t->rank; k++) value *= t->dim[k];
        torch_put_number(f, 'J', (uint64_t)value, 4);
    }
    fputc('t', f);
}

static inline void torch_put_tensor(FILE *f, const safetensors_entry *t, const char *key)
{
    const char *type = t->type == DTYPE_F32    ? "FloatStorage"
                       : t->type == DTYPE_F16  ? "HalfStorage"
                       : t->type == DTYPE_BF16 ? "BFloat16Storage"
                       : t->type == DTYPE_F64  ? "DoubleStorage"
                                               : "LongStorage";
    torch_put_text(f, t->name);
    fputs("ctorch._utils\n_rebuild_tensor_v2\n((", f);
    torch_put_text(f, "storage");
    fprintf(f, "ctorch\n%s\n", type);
    torch_put_text(f, key);
    torch_put_text(f, "cpu");
    torch_put_number(f, 'J', t->bytes / dtype_size(t->type), 4);
    fputs("NtQK", f);
    fputc(0, f);
    torch_put_shape(f, t, false);
    torch_put_shape(f, t, true);
    fputs("\x89"
          "ccollections\nOrderedDict\n)RtR",
          f);
}

static inline void torch_rewrite(const char *from, const char *to)
{
    static const char head[] = "\x80\2\x8a\nl\xfc\x9c\x46\xf9 j\xa8P\x19.\x80\2M\xe9\3.\x80\2}.";
    error e = {0};
    safetensors s;
    if (!safetensors_open(&s, from, &e)) fail_msg("%s", e.text);
    FILE *f = fopen(to, "wb");
    assert_non_null(f);
    torch_put_bytes(f, head, sizeof head - 1);
    fputs("\x80\2}(", f);
    char key[24];
    for (size_t i = 0; i < s.count; i++) {
        snprintf(key, sizeof key, "%zu", i);
        torch_put_tensor(f, &s.entry[i], key);
    }
    fputs("u.\x80\2](", f);
    for (size_t i = 0; i < s.count; i++) {
        snprintf(key, sizeof key, "%zu", i);
        torch_put_text(f, key);
    }
    fputs("e.", f);
    for (size_t i = 0; i < s.count; i++) {
        torch_put_number(f, 0, s.entry[i].bytes / dtype_size(s.entry[i].type), 8);
        torch_put_bytes(f, s.entry[i].data, (size_t)s.entry[i].bytes);
    }
    assert_int_equal(fclose(f), 0);
    safetensors_close(&s);
}

#endif
