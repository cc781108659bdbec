/* SPDX-License-Identifier: Apache-2.0
 *
 * vit_pixels: a picture as an image tower wants it, and positions for another number of patches. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/platform.h"
#include "file/fields.h"
#include "model/vit.h"

enum { PROCESSOR_LIMIT = 1 << 20, MAX_SIDE = 4096 };

/* ---- preprocessor_config.json ---------------------------------------------------------------- */

/* CLIPImageProcessor, ViTImageProcessor, and what facebook/dinov2-* come with. */
static vit_processor usual(vit_kind kind)
{
    if (kind == VIT_CLIP)
        return (vit_processor){224,
                               0,
                               0,
                               RESIZE_BICUBIC,
                               224,
                               {0.48145466f, 0.4578275f, 0.40821073f},
                               {0.26862954f, 0.26130258f, 0.27577711f}};
    vit_processor p = {
        0, 224, 224, RESIZE_BILINEAR, 0, {0.485f, 0.456f, 0.406f}, {0.229f, 0.224f, 0.225f}};
    if (kind == VIT_DINOV2)
        p.shortest = 256, p.width = p.height = 0, p.filter = RESIZE_BICUBIC, p.crop = 224;
    return p;
}

/* A number, or an object with one of the keys. 0 where it is absent. */
static int read_side(fields *f, const char *name, const char *key)
{
    json_t *value = field(f, name), *whole = f->root;
    if (!value) return 0;
    if (!json_is_object(value)) return field_int(f, name, 0, 1, MAX_SIDE);
    f->root = value;
    int side = field_int(f, key, 0, 1, MAX_SIDE);
    f->root = whole;
    return side;
}

static void read_three(fields *f, const char *name, float out[3])
{
    json_t *list = field(f, name);
    if (!list || !f->ok) return;
    for (size_t i = 0; i < 3; i++) {
        json_t *one = json_array_get(list, i);
        if (!json_is_number(one) || json_array_size(list) != 3) {
            f->ok = error_set(f->e, ERROR_FORMAT, "%s: \"%s\" should be a list of three numbers",
                              f->where, name);
            return;
        }
        out[i] = (float)json_number_value(one);
    }
}

static void read_resize(fields *f, vit_processor *p, vit_kind kind)
{
    static const int filters[] = {-1, RESIZE_LANCZOS, RESIZE_BILINEAR,
                                  RESIZE_BICUBIC}; /* Pillow's numbers */
    if (!field_bool(f, "do_resize", true)) {
        p->shortest = p->width = p->height = 0;
        return;
    }
    int shortest = read_side(f, "size", "shortest_edge"), width = read_side(f, "size", "width");
    int height = read_side(f, "size", "height");
    if (json_is_object(field(f, "size")) && shortest)
        p->shortest = shortest, p->width = p->height = 0;
    else if (width && height && (json_is_object(field(f, "size")) || kind != VIT_CLIP))
        p->shortest = 0, p->width = width, p->height = height;
    else if (shortest) /* one number is CLIP's shorter side and the ViTs' square */
        p->shortest = shortest, p->width = p->height = 0;
    int resample = field_int(f, "resample", p->filter == RESIZE_BICUBIC ? 3 : 2, 0, 5);
    if (f->ok && (resample < 1 || resample > 3))
        f->ok = error_set(f->e, ERROR_MODEL,
                          "%s: \"resample\" is %d, which is not supported (only 1, 2 "
                          "and 3 are: Lanczos, bilinear and bicubic)",
                          f->where, resample);
    if (f->ok) p->filter = (resize_filter)filters[resample];
}

static void read_processor(fields *f, vit_processor *p, vit_kind kind)
{
    read_resize(f, p, kind);
    if (!field_bool(f, "do_center_crop", p->crop != 0))
        p->crop = 0;
    else if (field(f, "crop_size"))
        p->crop = read_side(f, "crop_size", "height");
    read_three(f, "image_mean", p->mean);
    read_three(f, "image_std", p->std);
    field_only(f, "do_normalize", "true");
    field_only(f, "do_rescale", "true");
    for (int i = 0; f->ok && i < 3; i++)
        if (!(p->std[i] > 0))
            f->ok = error_set(f->e, ERROR_FORMAT, "%s: \"image_std\" should be above 0", f->where);
    if (f->ok && !vit_processor_size(p))
        f->ok = error_set(f->e, ERROR_MODEL,
                          "%s: does not bring pictures to a square of one size; only "
                          "such processors are supported",
                          f->where);
}

bool vit_processor_read(vit_processor *p, vit_kind kind, const char *folder, error *e)
{
    static const char *const names[] = {"preprocessor_config.json", "processor_config.json"};
    *p = usual(kind);
    for (int i = 0; i < 2; i++) {
        fields f;
        char *path = path_join(folder, names[i]);
        if (!path) return error_memory(e, folder, strlen(folder));
        bool there = path_is_file(path), ok = !there || fields_open(&f, path, PROCESSOR_LIMIT, e);
        if (there && ok) {
            json_t *whole = f.root, *inner = field(&f, "image_processor"); /* transformers 5 */
            if (json_is_object(inner)) f.root = inner;
            read_processor(&f, p, kind);
            f.root = whole;
            ok = f.ok;
            fields_close(&f);
        }
        free(path);
        if (there || !ok) return ok;
    }
    return true;
}

int vit_processor_size(const vit_processor *p)
{
    if (p->crop) return p->crop;
    return p->width == p->height ? p->width : 0;
}

/* ---- pictures -------------------------------------------------------------------------------- */

/* The size a picture is brought to before it is cropped. */
static void resized(const vit_processor *p, const image *m, int *width, int *height)
{
    *width = p->width ? p->width : m->width;
    *height = p->height ? p->height : m->height;
    if (!p->shortest) return;
    int64_t shorter = m->width < m->height ? m->width : m->height;
    *width = (int)((int64_t)p->shortest * m->width / shorter);
    *height = (int)((int64_t)p->shortest * m->height / shorter);
}

bool vit_pixels(const vit_processor *p, const image *picture, float *pixels, error *e)
{
    int width, height, size = vit_processor_size(p);
    image m = {0};
    resized(p, picture, &width, &height);
    if (!image_resize(&m, picture, width, height, p->filter, e)) return false;
    /* what a crop lacks is black, as transformers pads it */
    int top = (height - size) / 2, left = (width - size) / 2;
    if (height < size) top = -((size - height + 1) / 2);
    if (width < size) left = -((size - width + 1) / 2);
    for (int y = 0; y < size; y++)
        for (int x = 0; x < size; x++) {
            bool inside = y + top >= 0 && y + top < height && x + left >= 0 && x + left < width;
            const uint8_t *from = inside ? m.pixels + 3 * ((size_t)(y + top) * (size_t)width +
                                                           (size_t)(x + left))
                                         : NULL;
            float *to = pixels + 3 * ((size_t)y * (size_t)size + (size_t)x);
            for (int c = 0; c < 3; c++)
                to[c] = ((from ? (float)from[c] * (1 / 255.0f) : 0) - p->mean[c]) / p->std[c];
        }
    image_free(&m);
    return true;
}

/* ---- positions ------------------------------------------------------------------------------- */

/* Four places of a row of n, and their shares, for place i of m. */
static void cubic(int i, int n, int m, int place[4], double share[4])
{
    const double a = -0.75;
    double x = (i + 0.5) * n / m - 0.5, whole = floor(x), t = x - whole;
    for (int k = 0; k < 4; k++) {
        double d = fabs(t - (k - 1));
        int at = (int)whole + k - 1;
        place[k] = at < 0 ? 0 : at >= n ? n - 1 : at;
        share[k] = d < 1 ? ((a + 2) * d - (a + 3)) * d * d + 1 : (((d - 5) * d + 8) * d - 4) * a;
    }
}

void vit_interpolate(const float *from, int n, float *to, int m, int channels)
{
    for (int y = 0; y < m; y++)
        for (int x = 0; x < m; x++) {
            int row[4], column[4];
            double down[4], across[4];
            cubic(y, n, m, row, down);
            cubic(x, n, m, column, across);
            for (int c = 0; c < channels; c++) {
                double sum = 0;
                for (int j = 0; j < 4; j++)
                    for (int k = 0; k < 4; k++)
                        sum += down[j] * across[k] *
                               (double)from[((size_t)row[j] * (size_t)n + (size_t)column[k]) *
                                                (size_t)channels +
                                            (size_t)c];
                to[((size_t)y * (size_t)m + (size_t)x) * (size_t)channels + (size_t)c] = (float)sum;
            }
        }
}
