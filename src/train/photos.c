/* SPDX-License-Identifier: Apache-2.0
 *
 * photos: reading a folder of pictures, and cropping them; see photos.h. */
#include "train/photos.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/folder.h"
#include "base/platform.h"
#include "base/sha256.h"
#include "pipeline/encode.h"

enum {
    NAMES_SHOWN = 5,           /* of skipped files in a message */
    LARGEST_RESIZED = 1 << 28, /* pixels */
};

/* All that lies in the folder, sorted by bytes. *found is false where there is no such folder. */
static bool names_read(folder_names *out, const char *folder, bool *found, error *e)
{
    struct stat info;
    *out = (folder_names){0};
    *found = stat(folder, &info) == 0 ? S_ISDIR(info.st_mode) : errno != ENOENT && errno != ENOTDIR;
    return !*found || folder_list(out, folder, e);
}

/* ---- which of them are pictures ---- */

/* Endings that promise a picture; what cannot be read behind one is an error. */
static bool named_as_image(const char *name)
{
    static const char *const endings[] = {".png", ".jpg",  ".jpeg", ".webp", ".gif", ".bmp",
                                          ".tif", ".tiff", ".heic", ".heif", ".avif"};
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && i < sizeof endings / sizeof *endings; i++)
        if (!strcasecmp(dot, endings[i])) return true;
    return false;
}

/* A dot before the name, a folder, a pipe, a link to nothing. */
static bool no_file(const char *name, const char *path)
{
    struct stat info;
    if (name[0] == '.') return true;
    if (stat(path, &info) != 0) return !named_as_image(name);
    return !S_ISREG(info.st_mode);
}

/* The hash of its bytes, and whether they begin as a picture does. */
static bool look_at_bytes(char hex[65], bool *known, const char *path, error *e)
{
    mapped_file file;
    if (!file_map(&file, path, e)) return false;
    sha256_of(hex, file.data, file.size);
    *known = image_known(file.data, file.size);
    file_unmap(&file);
    return true;
}

/* torchvision's Resize(resolution) of a PIL picture: the shorter side becomes the resolution. */
static bool resize_shorter(image *m, int resolution, const char *path, error *e)
{
    bool upright = m->width <= m->height;
    int shorter = upright ? m->width : m->height, longer = upright ? m->height : m->width;
    /* Python's int(resolution * longer / shorter) */
    int64_t to = (int64_t)((double)((int64_t)resolution * longer) / shorter);
    if (to > LARGEST_RESIZED / resolution)
        return error_set(e, ERROR_FORMAT,
                         "%s: a picture of %d x %d is too long and narrow to train at %d; crop it "
                         "nearer to a square",
                         path, m->width, m->height, resolution);
    int width = upright ? resolution : (int)to, height = upright ? (int)to : resolution;
    if (width == m->width && height == m->height) return true;
    image out;
    if (!image_resize(&out, m, width, height, RESIZE_BILINEAR, e)) return false;
    out.frames = m->frames;
    image_free(m);
    *m = out;
    return true;
}

/* textual_inversion.py's: the middle, or all of it, to a square. */
static bool resize_square(image *m, int resolution, bool center, error *e)
{
    image part = {0}, out;
    int side = m->width < m->height ? m->width : m->height, top = (m->height - side) / 2,
        left = (m->width - side) / 2;
    if (center) {
        /* Python's [(h - side) // 2 : (h + side) // 2], which is the side */
        if (!image_new(&part, side, side, e)) return false;
        for (int y = 0; y < side; y++)
            memcpy(part.pixels + 3 * (size_t)side * (size_t)y,
                   m->pixels + 3 * ((size_t)m->width * (size_t)(top + y) + (size_t)left),
                   3 * (size_t)side);
    }
    bool ok = image_resize(&out, center ? &part : m, resolution, resolution, RESIZE_BICUBIC, e);
    image_free(&part);
    if (!ok) return false;
    out.frames = m->frames;
    image_free(m);
    *m = out;
    return true;
}

static bool resize_to(const photo_set *s, image *m, const char *path, error *e)
{
    return s->shape == PHOTO_SHORTER
               ? resize_shorter(m, s->resolution, path, e)
               : resize_square(m, s->resolution, s->shape == PHOTO_CENTER_SQUARE, e);
}

/* *is_image is false where the file is to be skipped; on failure p holds nothing. */
static bool photo_read(const photo_set *set, photo *p, bool *is_image, const char *name,
                       const char *path, error *e)
{
    bool known;
    *p = (photo){0};
    *is_image = false;
    if (!look_at_bytes(p->sha256, &known, path, e)) return false;
    if (!known && !named_as_image(name)) return true;
    *is_image = true;
    if (!image_read(&p->picture, NULL, path, e)) return false;
    if (resize_to(set, &p->picture, path, e)) {
        p->path = strdup(path);
        if (p->path) return true;
        error_memory(e, path, strlen(path) + 1);
    }
    image_free(&p->picture);
    return false;
}

/* ---- what is told of the others ---- */

typedef struct skipping {
    char *list;
    size_t count;
} skipping;

/* "a.txt, b.json"; a name's control characters are shown as '?' so that the line stays one. */
static bool skip_add(skipping *s, const char *name)
{
    if (s->count++ >= NAMES_SHOWN) return true;
    char *list = string_format("%s%s%s", s->list ? s->list : "", s->list ? ", " : "", name);
    free(s->list);
    s->list = list;
    for (char *c = list; c && *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f) *c = '?';
    return list;
}

/* The whole line, malloc'ed; NULL when memory is out. */
static char *skip_line(const skipping *s, const char *folder)
{
    if (s->count <= NAMES_SHOWN)
        return string_format("%s: skipped what is no picture: %s", folder, s->list);
    return string_format("%s: skipped what is no picture: %s and %zu more", folder, s->list,
                         s->count - NAMES_SHOWN);
}

/* ---- the set ---- */

static bool nothing_there(error *e, const char *folder, const char *what, const char *skipped,
                          bool found)
{
    const char *advice = strcmp(what, "instance") == 0
                             ? "put 3 to 10 pictures of your subject there"
                             : "put pictures of other subjects of its kind there";
    if (!found)
        return error_set(e, ERROR_FILE, "%s: there is no such folder; check --%s_data_dir", folder,
                         what);
    if (skipped)
        return error_set(e, ERROR_FILE, "%s; nothing is left: %s (--%s_data_dir)", skipped, advice,
                         what);
    return error_set(e, ERROR_FILE, "%s: the folder is empty; %s (--%s_data_dir)", folder, advice,
                     what);
}

/* Adds the picture, if it is one. */
static bool read_one(photo_set *out, skipping *skipped, const char *folder, const char *name,
                     error *e)
{
    bool ok, is_image = false;
    char *path = path_join(folder, name);
    if (!path) return error_memory(e, folder, strlen(folder) + strlen(name) + 2);
    if (no_file(name, path))
        ok = true;
    else
        ok = photo_read(out, &out->item[out->count], &is_image, name, path, e);
    free(path);
    if (!ok) return false;
    if (is_image)
        out->count++;
    else if (strcmp(name, "manifest.json") != 0 && !skip_add(skipped, name))
        return error_memory(e, folder, strlen(name) + 1);
    return true;
}

static bool read_all(photo_set *out, const folder_names *n, const char *folder, size_t limit,
                     skipping *skipped, const train_watch *watch, error *e)
{
    size_t most = limit && limit < n->count ? limit : n->count;
    if (most) out->item = calloc(most, sizeof *out->item);
    if (most && !out->item) return error_memory(e, folder, most * sizeof *out->item);
    for (size_t i = 0; i < n->count && out->count < most; i++)
        if (!train_goes_on(watch, TRAIN_PHOTOS, (int64_t)i, (int64_t)n->count, e) ||
            !read_one(out, skipped, folder, n->name[i], e))
            return false;
    if (!skipped->count) return true;
    out->skipped = skip_line(skipped, folder);
    return out->skipped || error_memory(e, folder, 1);
}

bool photo_set_open(photo_set *out, const char *folder, int resolution, size_t limit,
                    const char *what, error *e)
{
    return photo_set_open_watched(out, folder, resolution, limit, what, NULL, e);
}

/* Into a set that says its resolution and shape. */
static bool open_folder(photo_set *out, const char *folder, size_t limit, const char *what,
                        const train_watch *watch, error *e)
{
    assert(out->resolution >= 1);
    folder_names n;
    bool found;
    if (!names_read(&n, folder, &found, e)) return false;
    skipping skipped = {0};
    bool ok = read_all(out, &n, folder, limit, &skipped, watch, e);
    if (ok && !out->count) ok = nothing_there(e, folder, what, out->skipped, found);
    free(skipped.list);
    folder_list_free(&n);
    if (!ok) photo_set_close(out);
    return ok;
}

bool photo_set_open_watched(photo_set *out, const char *folder, int resolution, size_t limit,
                            const char *what, const train_watch *watch, error *e)
{
    *out = (photo_set){.resolution = resolution};
    return open_folder(out, folder, limit, what, watch, e);
}

void photo_hash(const image *m, char hex[65])
{
    char size[32];
    sha256 hash;
    int n = snprintf(size, sizeof size, "%dx%d\n", m->width, m->height);
    sha256_start(&hash);
    sha256_add(&hash, size, (size_t)n);
    sha256_add(&hash, m->pixels, 3 * (size_t)m->width * (size_t)m->height);
    sha256_end(&hash, hex);
}

static bool photo_copy(const photo_set *set, photo *p, const image *m, size_t number, error *e)
{
    *p = (photo){.path = string_format("picture-%zu", number)};
    if (!p->path) return error_memory(e, "a picture's name", 32);
    photo_hash(m, p->sha256);
    if (!image_new(&p->picture, m->width, m->height, e)) return false;
    memcpy(p->picture.pixels, m->pixels, 3 * (size_t)m->width * (size_t)m->height);
    return resize_to(set, &p->picture, p->path, e);
}

static bool copy_all(photo_set *out, const image *const *pictures, size_t count, error *e)
{
    out->item = calloc(count + 1, sizeof *out->item);
    bool ok = out->item || error_memory(e, "pictures", count * sizeof *out->item);
    for (size_t i = 0; ok && i < count; i++) {
        out->count = i + 1;
        ok = photo_copy(out, &out->item[i], pictures[i], i + 1, e);
    }
    if (!ok) photo_set_close(out);
    return ok;
}

bool photo_set_copy(photo_set *out, const image *const *pictures, size_t count, int resolution,
                    error *e)
{
    *out = (photo_set){.resolution = resolution};
    return copy_all(out, pictures, count, e);
}

static bool mirror(photo *to, const photo *from, error *e)
{
    const image *m = &from->picture;
    *to = (photo){.path = strdup(from->path)};
    memcpy(to->sha256, from->sha256, sizeof to->sha256);
    if (!to->path) return error_memory(e, "a picture's name", strlen(from->path));
    if (!image_new(&to->picture, m->width, m->height, e)) return false;
    for (int y = 0; y < m->height; y++)
        for (int x = 0; x < m->width; x++) {
            size_t row = (size_t)y * (size_t)m->width;
            memcpy(to->picture.pixels + 3 * (row + (size_t)x),
                   m->pixels + 3 * (row + (size_t)(m->width - 1 - x)), 3);
        }
    return true;
}

static bool mirror_all(photo_set *s, error *e)
{
    size_t n = s->count;
    photo *item = realloc(s->item, 2 * n * sizeof *item);
    if (!item) return error_memory(e, "mirrored pictures", 2 * n * sizeof *item);
    s->item = item;
    for (; s->mirrored < n; s->mirrored++) {
        s->count++;
        if (!mirror(&item[n + s->mirrored], &item[s->mirrored], e)) return false;
    }
    return true;
}

bool photo_set_open_square(photo_set *out, const char *folder, const image *const *pictures,
                           size_t count, int resolution, bool center_crop, const train_watch *watch,
                           error *e)
{
    *out = (photo_set){.resolution = resolution,
                       .shape = center_crop ? PHOTO_CENTER_SQUARE : PHOTO_SQUARE};
    if (!(count ? copy_all(out, pictures, count, e)
                : open_folder(out, folder, 0, "instance", watch, e)))
        return false;
    if (mirror_all(out, e)) return true;
    photo_set_close(out);
    return false;
}

void photo_set_close(photo_set *s)
{
    for (size_t i = 0; i < s->count; i++) {
        free(s->item[i].path);
        image_free(&s->item[i].picture);
    }
    free(s->item);
    free(s->skipped);
    *s = (photo_set){0};
}

void photo_files_free(photo_files *f)
{
    for (size_t i = 0; i < f->count; i++) free(f->item[i].name);
    free(f->item);
    *f = (photo_files){0};
}

/* Adds the file, if it is a picture by its content or its ending. */
static bool file_add(photo_files *out, const char *folder, const char *name, error *e)
{
    photo_file *f = &out->item[out->count];
    char *path = path_join(folder, name);
    if (!path) return error_memory(e, folder, strlen(folder) + strlen(name) + 2);
    bool known = false, ok = no_file(name, path) || look_at_bytes(f->sha256, &known, path, e);
    bool is_image = ok && !no_file(name, path) && (known || named_as_image(name));
    free(path);
    if (!is_image) return ok;
    f->name = strdup(name);
    if (f->name) out->count++;
    return f->name || error_memory(e, folder, strlen(name) + 1);
}

bool photo_files_list(photo_files *out, const char *folder, size_t limit, error *e)
{
    folder_names n;
    bool found;
    *out = (photo_files){0};
    if (!names_read(&n, folder, &found, e)) return false;
    size_t most = limit && limit < n.count ? limit : n.count;
    if (most) out->item = calloc(most, sizeof *out->item);
    bool ok = !most || out->item || error_memory(e, folder, most * sizeof *out->item);
    for (size_t i = 0; ok && i < n.count && out->count < most; i++)
        ok = file_add(out, folder, n.name[i], e);
    folder_list_free(&n);
    if (!ok) photo_files_free(out);
    return ok;
}

/* ---- crops ---- */

bool photo_set_fixed(const photo_set *s, bool center_crop)
{
    for (size_t i = 0; i < s->count && !center_crop; i++)
        if (s->item[i].picture.width != s->item[i].picture.height) return false;
    return true;
}

/* Python's round(spare / 2). */
static int half_to_even(int spare)
{
    int down = spare / 2;
    return down + (spare % 2 && down % 2);
}

crop photo_center(const photo *p, int resolution)
{
    return (crop){.top = half_to_even(p->picture.height - resolution),
                  .left = half_to_even(p->picture.width - resolution)};
}

void photo_pixels(const photo *p, crop c, int resolution, float *out)
{
    encode_pixels(&p->picture, c.top, c.left, resolution, resolution, out);
}
