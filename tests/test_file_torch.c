/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of PyTorch's files: both of torch.save's forms give what was saved, views too; what wants
 * to run is refused by its name; cut and damaged files are refused in one line. */
#include "file/pickle.h"
#include "file/torch.h"
#include "file/zip.h"
#include "support.h"

#include "base/half.h"

static char path[1024];

static int setup(void **state)
{
    (void)state;
    snprintf(path, sizeof path, "%s/x.pt", scratch_dir());
    return 0;
}

static const char *fixture(const char *name)
{
    static char full[64];
    snprintf(full, sizeof full, "torch/%s", name);
    return fixture_path(full);
}

static void open_fixture(safetensors *s, const char *name)
{
    error e = {0};
    if (!tensors_open(s, fixture(name), &e)) fail_msg("%s", e.text);
}

static void write_file(const void *data, size_t size)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

static void refused(const char *file, const char *part)
{
    error e = {0};
    safetensors s;
    if (tensors_open(&s, file, &e)) fail_msg("read, though: %s", part);
    assert_int_equal(e.code, ERROR_FORMAT);
    if (!strstr(e.text, part)) fail_msg("'%s' does not say '%s'", e.text, part);
    assert_null(strchr(e.text, '\n'));
    assert_null(s.map.data);
    assert_null(s.memory.first);
}

static void expect(const safetensors *s, const char *name, dtype type, const int64_t *dim, int rank,
                   const double *value)
{
    const safetensors_entry *t = safetensors_find(s, name);
    if (!t) fail_msg("%s is not there", name);
    assert_int_equal(t->type, type);
    assert_int_equal(t->rank, rank);
    size_t n = 1;
    for (int d = 0; d < rank; d++) {
        assert_int_equal(t->dim[d], dim[d]);
        n *= (size_t)dim[d];
    }
    assert_int_equal(t->bytes, n * dtype_size(type));
    for (size_t i = 0; i < n; i++) {
        const uint8_t *at = (const uint8_t *)t->data + i * dtype_size(type);
        float f = 0;
        int64_t whole;
        if (type == DTYPE_I64) {
            memcpy(&whole, at, 8);
            f = (float)whole;
        } else if (type == DTYPE_BOOL) {
            f = *at;
        } else {
            _Alignas(8) uint8_t one[8];
            memcpy(one, at, dtype_size(type));
            convert_to_float(&f, one, type, 1);
        }
        if ((double)f != value[i]) fail_msg("%s[%zu] is %g, not %g", name, i, (double)f, value[i]);
    }
}

#define DIM(...) (int64_t[]){__VA_ARGS__}, sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)

static void check_weights(const char *name)
{
    static const double quarters[] = {0, .25, .5, .75, 1, 1.25}, ones[] = {0, 1, 2, 3, 4, 5};
    double whole[24], last[24], turned[24], second[12];
    for (int i = 0; i < 24; i++) whole[i] = last[i] = i;
    for (int i = 0; i < 24; i++) turned[i] = i % 4 * 6 + i / 4;
    for (int i = 0; i < 12; i++) second[i] = 2 * i + 1;
    safetensors s;
    open_fixture(&s, name);
    assert_int_equal(s.count, 15);
    expect(&s, "a.half", DTYPE_F16, DIM(3, 2), quarters);
    expect(&s, "b.float", DTYPE_F32, DIM(2, 3), quarters);
    expect(&s, "c.bf16", DTYPE_BF16, DIM(6), quarters);
    expect(&s, "d.double", DTYPE_F64, DIM(6), quarters);
    expect(&s, "e.ids", DTYPE_I64, DIM(1, 6), ones);
    expect(&s, "f.mask", DTYPE_BOOL, DIM(6), (double[]){0, 0, 0, 1, 1, 1});
    expect(&s, "g.scalar", DTYPE_F32, NULL, 0, (double[]){1.5});
    expect(&s, "h.empty", DTYPE_F32, DIM(0, 4), NULL);
    expect(&s, "i.parameter", DTYPE_F32, DIM(6), ones);
    expect(&s, "j.whole", DTYPE_F32, DIM(24), whole);
    expect(&s, "k.part", DTYPE_F32, DIM(2, 3), whole + 4);
    expect(&s, "l.transposed", DTYPE_F32, DIM(6, 4), turned);
    expect(&s, "m.channels_last", DTYPE_F32, DIM(1, 2, 3, 4), last);
    expect(&s, "n.every_second", DTYPE_F32, DIM(12), second);
    expect(&s, "o.expanded", DTYPE_F32, DIM(3), (double[]){2, 2, 2});
    /* what lies in order is not copied */
    const uint8_t *data = safetensors_find(&s, "k.part")->data;
    assert_true(data > s.map.data && data < s.map.data + s.map.size);
    safetensors_close(&s);
}

static void test_forms(void **state)
{
    (void)state;
    check_weights("zip.pt");
    check_weights("old.pt");
}

/* Of a training's checkpoint the weights alone; numpy's numbers and classes that are only named do
 * not matter. */
static void test_lightning(void **state)
{
    (void)state;
    safetensors s;
    open_fixture(&s, "lightning.ckpt");
    assert_int_equal(s.count, 2);
    expect(&s, "x.weight", DTYPE_F32, DIM(2), (double[]){.5, .5});
    expect(&s, "x.step", DTYPE_I64, NULL, 0, (double[]){7});
    safetensors_close(&s);
}

static void test_names(void **state)
{
    (void)state;
    safetensors s;
    open_fixture(&s, "nested.pt");
    assert_int_equal(s.count, 3);
    expect(&s, "lists.0", DTYPE_F32, DIM(1), (double[]){0});
    expect(&s, "lists.1.deep", DTYPE_F32, DIM(2), (double[]){1, 1});
    expect(&s, "5", DTYPE_F32, DIM(3), (double[]){1, 1, 1});
    safetensors_close(&s);
    open_fixture(&s, "embedding.pt");
    assert_int_equal(s.count, 1);
    assert_string_equal(s.entry[0].name, "string_to_param.*");
    safetensors_close(&s);
}

static void test_refused(void **state)
{
    (void)state;
    refused(fixture("runs.pt"), "wants to run posix.system: not read");
    refused(fixture("runs_old.pt"), "wants to run posix.system: not read");
    refused(fixture("module.pt"), "wants to run torch.nn.modules.linear.Linear: not read");
    refused(fixture("complex.pt"), "torch.ComplexFloatStorage, which is not known");
    refused(fixture("nothing.pt"), "without tensors");
    write_file("PK\3\4 a zip archive", 18);
    refused(path, "without its directory");
}

/* ---- damage ---- */

static char *read_fixture(const char *name, size_t *size)
{
    error e = {0};
    char *data;
    if (!file_read(fixture(name), 1 << 20, &data, size, &e)) fail_msg("%s", e.text);
    return data;
}

static void test_cut(void **state)
{
    (void)state;
    static const char *const names[] = {"zip.pt", "old.pt"};
    for (int k = 0; k < 2; k++) {
        size_t size;
        char *data = read_fixture(names[k], &size);
        for (size_t n = k ? 1 : 0; n < size; n += 1 + n / 64) {
            error e = {0};
            safetensors s;
            write_file(data, n);
            if (tensors_open(&s, path, &e)) fail_msg("%s: read with %zu bytes", names[k], n);
            assert_int_equal(e.code, ERROR_FORMAT);
        }
        free(data);
    }
}

static char *find(char *data, size_t size, const char *text, size_t length)
{
    char *at = memmem(data, size, text, length);
    if (!at) fail_msg("the fixture is another");
    return at;
}

static void test_damaged(void **state)
{
    (void)state;
    size_t size;
    char *data = read_fixture("zip.pt", &size), *at = find(data, size, "X\7\0\0\0j.whole", 12);
    at[4] = 0x7f; /* a text longer than the file */
    write_file(data, size);
    refused(path, "ends too early");
    at[4] = 0;
    at[0] = 'i';
    write_file(data, size);
    refused(path, "the opcode 0x69: not read");
    at[0] = 'X';
    write_file(data, size);
    at = find(data, size, "PK\1\2", 4);
    at[10] = 8; /* packed */
    write_file(data, size);
    refused(path, "is packed");
    free(data);
}

/* Pickles by hand, as the older form's fourth: what a hostile file may try. */
static void write_old(const char *object, size_t length)
{
    static const char head[] = "\x80\2\x8a\nl\xfc\x9c\x46\xf9 j\xa8P\x19.\x80\2M\xe9\3.\x80\2}.";
    char all[8192];
    size_t n = sizeof head - 1;
    memcpy(all, head, n);
    memcpy(all + n, object, length);
    memcpy(all + n + length, "\x80\2].", 4);
    write_file(all, n + length + 4);
}

#define OLD(text) write_old(text, sizeof(text) - 1)
#define STORAGE "(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0000X\3\0\0\0cpuK\4tQ"

static void test_hostile(void **state)
{
    (void)state;
    OLD("\x80\2cos\nsystem\nX\2\0\0\0ls\x85R.");
    refused(path, "wants to run os.system: not read");
    OLD("\x80\4X\2\0\0\0osX\6\0\0\0system\x93)\x81.");
    refused(path, "wants to run os.system: not read");
    OLD("\x80\2cos\x1b\nsys\n)R.");
    refused(path, "wants to run os?.sys: not read");
    OLD("\x80\2R.");
    refused(path, "a value is missing");
    OLD("\x80\2t.");
    refused(path, "a mark is missing");
    OLD("\x80\2(K\1R.");
    refused(path, "a value is missing");
    OLD("\x80\2h\7.");
    refused(path, "its memo has nothing");
    OLD("\x80\2Nr\xff\xff\xff\xff.");
    refused(path, "no such place");
    OLD("\x80\2]q\0h\0a."); /* a list that is in itself */
    refused(path, "without tensors");
    OLD("\x80\2" STORAGE ".");
    refused(path, "the numbers of a tensor are not in it");
    OLD("\x80\2ctorch._utils\n_rebuild_tensor_v2\n(" STORAGE "K\0K\4\x85K\1tR.");
    refused(path, "no storage, shape and strides");
    OLD("\x80\2ctorch._utils\n_rebuild_tensor_v2\n(" STORAGE "K\0J\xff\xff\xff\xff\x85K\1\x85tR.");
    refused(path, "no storage, shape and strides");
    char deep[4096];
    memset(deep, '(', sizeof deep);
    write_old(deep, sizeof deep);
    refused(path, "ends too early");
}

/* A tensor past the end of its storage, and one that is larger than it. */
static void test_views(void **state)
{
    (void)state;
    static const struct {
        const char *what, *part;
        size_t length;
    } views[] = {
        {"K\1K\4\x85K\1\x85", "past the end", 8},
        {"K\0K\2K\3\x86K\3K\1\x86", "past the end", 12},
        {"K\0\x8a\7\xff\xff\xff\xff\xff\xff\x7f\x85K\0\x85", "larger than what they show", 15},
        {"K\0\x8a\7\xff\xff\xff\xff\xff\xff\x7f\x85\x8a\7\xff\xff\xff\xff\xff\xff\x7f\x85",
         "past the end", 22},
    };
    static const char name[] = "\x80\2ctorch._utils\n_rebuild_tensor_v2\n(" STORAGE;
    static const char head[] = "\x80\2\x8a\nl\xfc\x9c\x46\xf9 j\xa8P\x19.\x80\2M\xe9\3.\x80\2}.";
    static const char tail[] = "tR.\x80\2]X\1\0\0\0000a.\4\0\0\0\0\0\0\0";
    for (size_t i = 0; i < sizeof views / sizeof *views; i++) {
        char all[512] = "";
        size_t n = 0;
        const struct {
            const char *data;
            size_t size;
        } parts[] = {{head, sizeof head - 1},
                     {name, sizeof name - 1},
                     {views[i].what, views[i].length},
                     {tail, sizeof tail - 1},
                     {"0123456789abcdef", 16}};
        for (int k = 0; k < 5; k++) {
            memcpy(all + n, parts[k].data, parts[k].size);
            n += parts[k].size;
        }
        write_file(all, n);
        refused(path, views[i].part);
    }
}

/* A file that someone trained: a network of another kind, with an optimizer's and losses' state. */
static void test_real(void **state)
{
    (void)state;
    const char *file = shared_path("data/weights/yichizz_ddpm_mnist_starter.pth");
    if (!file) skip();
    error e = {0};
    safetensors s;
    if (!tensors_open(&s, file, &e)) fail_msg("%s", e.text);
    assert_int_equal(s.count, 29);
    const safetensors_entry *t = safetensors_find(&s, "beta_t");
    assert_non_null(t);
    assert_int_equal(t->dim[0], 1001);
    safetensors_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_lightning),
        cmocka_unit_test(test_names),
        cmocka_unit_test_setup(test_refused, setup),
        cmocka_unit_test_setup(test_cut, setup),
        cmocka_unit_test_setup(test_damaged, setup),
        cmocka_unit_test_setup(test_hostile, setup),
        cmocka_unit_test_setup(test_views, setup),
        cmocka_unit_test(test_real),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
