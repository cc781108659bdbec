/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of the grid: where pictures stand, that labels are drawn beside and above them, sizes. */
#include "support.h"

#include "generate/grid.h"

/* A picture of the colour (red, 0, 255), which no grey letter has. */
static image solid(int width, int height, uint8_t red)
{
    image m;
    assert_true(image_new(&m, width, height, NULL));
    for (size_t i = 0; i < (size_t)width * (size_t)height; i++) {
        m.pixels[3 * i] = red;
        m.pixels[3 * i + 1] = 0;
    }
    return m;
}

static const uint8_t *pixel(const image *m, int x, int y)
{
    return m->pixels + 3 * ((size_t)y * (size_t)m->width + (size_t)x);
}

static bool is_white(const image *m, int x, int y)
{
    const uint8_t *p = pixel(m, x, y);
    return p[0] == 255 && p[1] == 255 && p[2] == 255;
}

typedef struct box {
    int left, top, right, bottom;
} box; /* right and bottom are outside */

/* The box round all pixels of solid's colour, checked to be full of it. */
static box find_box(const image *m, uint8_t red)
{
    box b = {m->width, m->height, 0, 0};
    long count = 0;
    for (int y = 0; y < m->height; y++)
        for (int x = 0; x < m->width; x++) {
            if (pixel(m, x, y)[0] != red || pixel(m, x, y)[1] != 0) continue;
            count++;
            if (x < b.left) b.left = x;
            if (y < b.top) b.top = y;
            if (x >= b.right) b.right = x + 1;
            if (y >= b.bottom) b.bottom = y + 1;
        }
    assert_int_equal(count, (long)(b.right - b.left) * (b.bottom - b.top));
    return b;
}

/* Pixels of a part of the grid that are not white. */
static int ink(const image *m, int left, int top, int right, int bottom)
{
    int count = 0;
    for (int y = top; y < bottom; y++)
        for (int x = left; x < right; x++) count += !is_white(m, x, y);
    return count;
}

enum { SIDE = 40, WIDE = 60 };

static void test_layout(void **state)
{
    (void)state;
    image a = solid(WIDE, SIDE, 201), b = solid(WIDE, SIDE, 203), c = solid(20, 10, 205), grid;
    const image *cell[4] = {&a, &b, NULL, &c};
    assert_true(grid_make(&grid, cell, 2, 2, NULL, NULL, NULL));
    box first = find_box(&grid, 201), second = find_box(&grid, 203), small = find_box(&grid, 205);
    assert_int_equal(first.right - first.left, WIDE);
    assert_int_equal(first.bottom - first.top, SIDE);
    assert_int_equal(second.top, first.top);
    int gap = second.left - first.right;
    assert_true(gap >= 4 && gap <= 16);
    /* equal margins all round; the small one in the middle of its place */
    assert_int_equal(first.left, first.top);
    assert_int_equal(grid.width - second.right, first.left);
    assert_int_equal(grid.height, 2 * first.top + 2 * SIDE + gap);
    assert_int_equal(small.left, second.left + (WIDE - 20) / 2);
    assert_int_equal(small.top, first.bottom + gap + (SIDE - 10) / 2);
    assert_int_equal(ink(&grid, 0, 0, grid.width, grid.height), 2 * WIDE * SIDE + 20 * 10);
    image_free(&a);
    image_free(&b);
    image_free(&c);
    image_free(&grid);
}

static void test_labels(void **state)
{
    (void)state;
    image white, grid, bare;
    assert_true(image_new(&white, 128, 128, NULL));
    const image *cell[4] = {&white, &white, &white, &white};
    const char *const row[2] = {"a photo of a dog that is running on the beach", NULL};
    const char *const column[2] = {"seed 42", "seed 43"};
    assert_true(grid_make(&bare, cell, 2, 2, NULL, NULL, NULL));
    assert_true(grid_make(&grid, cell, 2, 2, row, column, NULL));
    int left = grid.width - bare.width, top = grid.height - bare.height; /* room for labels */
    assert_true(left > 60 && left < 250 && top > 10 && top < 60);
    int margin = (bare.width - 2 * 128) / 2, cells_left = left + margin - 2,
        cells_top = top + margin - 4;
    assert_true(ink(&grid, 0, cells_top, cells_left, cells_top + 128) > 200);
    /* no second label */
    assert_int_equal(ink(&grid, 0, cells_top + 134, cells_left, grid.height), 0);
    assert_true(ink(&grid, cells_left, 0, cells_left + 128, cells_top + 4) > 50);
    assert_true(ink(&grid, cells_left + 132, 0, grid.width, cells_top + 4) > 50);
    assert_int_equal(ink(&grid, cells_left, cells_top + 4, grid.width, grid.height), 0);
    image_free(&white);
    image_free(&grid);
    image_free(&bare);
}

/* A label higher than its picture widens, then makes its row higher; nothing is cut. */
static void test_long_label(void **state)
{
    (void)state;
    char text[6 * 300 + 1] = "";
    for (int i = 0; i < 300; i++) strcat(text, "words ");
    image a = solid(WIDE, SIDE, 201), b = solid(WIDE, SIDE, 203), grid;
    const image *cell[2] = {&a, &b};
    const char *const row[2] = {text, "short"};
    assert_true(grid_make(&grid, cell, 2, 1, row, NULL, NULL));
    box first = find_box(&grid, 201), second = find_box(&grid, 203);
    assert_true(second.top - first.bottom > 300);
    assert_int_equal(first.left, second.left);
    assert_int_equal(ink(&grid, 0, 0, grid.width, 10), 0);
    image_free(&a);
    image_free(&b);
    image_free(&grid);
}

static void test_too_large(void **state)
{
    (void)state;
    enum { ROWS = 30000 };
    image a = solid(WIDE, SIDE, 0), grid;
    const image **cell = calloc(ROWS, sizeof *cell);
    error e = {0};
    assert_non_null(cell);
    cell[0] = &a;
    assert_false(grid_make(&grid, cell, ROWS, 1, NULL, NULL, &e));
    assert_null(grid.pixels);
    assert_int_equal(e.code, ERROR_USAGE);
    assert_non_null(strstr(e.text, "put fewer pictures on it"));
    free(cell);
    image_free(&a);
}

static void test_memory(void **state)
{
    (void)state;
    if (!allocation_can_fail()) skip();
    image a = solid(WIDE, SIDE, 201);
    const image *cell[2] = {&a, NULL};
    const char *const row[2] = {"one and two and three", "two"}, *const column[1] = {"seed 42"};
    bool struck = true;
    for (long n = 0; struck; n++) {
        error e = {0};
        image grid;
        allocation_fail_at(n);
        bool ok = grid_make(&grid, cell, 2, 1, row, column, &e);
        struck = allocation_fail_end();
        if (ok) /* FreeType may do without a cache */
            image_free(&grid);
        else
            assert_true(struck && e.code != ERROR_NONE && !grid.pixels);
    }
    image_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layout),     cmocka_unit_test(test_labels),
        cmocka_unit_test(test_long_label), cmocka_unit_test(test_too_large),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
