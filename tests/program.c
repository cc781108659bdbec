/* SPDX-License-Identifier: Apache-2.0
 *
 * program: see program.h. */
#include "program.h"

#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/platform.h"
#include "file/image.h"
#include "support.h"

char folder[256];
struct outcome last;

/* ---- running ------------------------------------------------------------------------------- */

const char *in_folder(const char *name)
{
    static char path[8][600];
    static int turn;
    turn = (turn + 1) % 8;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

void slurp(const char *path, char *text)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    text[fread(text, 1, MAX_TEXT - 1, f)] = '\0';
    fclose(f);
}

bool exists(const char *name) { return access(in_folder(name), F_OK) == 0; }

/* Starts a program in the folder, its output in files out and err. */
pid_t start(const char *const *args, rlim_t file_limit)
{
    pid_t child = fork();
    if (child == 0) {
        if (file_limit) {
            struct rlimit limit = {file_limit, file_limit};
            signal(SIGXFSZ, SIG_IGN);
            setrlimit(RLIMIT_FSIZE, &limit);
        }
        if (chdir(folder) != 0 || !freopen("out", "wb", stdout) || !freopen("err", "wb", stderr))
            _exit(99);
        execv(args[0], (char *const *)args);
        _exit(98);
    }
    assert_true(child > 0);
    return child;
}

void finish(pid_t child)
{
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    last.status = WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
    slurp(in_folder("out"), last.out);
    slurp(in_folder("err"), last.err);
}

/* ---- a terminal ---- */

typedef struct screen {
    char text[MAX_TEXT]; /* lines that are done */
    size_t used;
    char cell[256][5]; /* of the line in hand; "" behind a wide letter */
    int columns, at, end;
} screen;

static void end_line(screen *s)
{
    for (int i = 0; i < s->end; i++)
        s->used += (size_t)snprintf(s->text + s->used, sizeof s->text - s->used, "%s", s->cell[i]);
    s->used += (size_t)snprintf(s->text + s->used, sizeof s->text - s->used, "\n");
    s->at = s->end = 0;
}

static void put_letter(screen *s, const char *bytes, int length)
{
    int wide = length > 1 ? 2 : 1;
    if (s->at + wide > s->columns) end_line(s);
    snprintf(s->cell[s->at], 5, "%.*s", length, bytes);
    if (wide == 2) s->cell[s->at + 1][0] = '\0';
    s->at += wide;
    if (s->at > s->end) s->end = s->at;
}

/* What the program writes: letters, CR, LF, and ESC [ K. */
static size_t put_bytes(screen *s, const char *bytes, size_t n)
{
    size_t done = 0;
    while (done < n) {
        unsigned char c = (unsigned char)bytes[done];
        size_t length = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
        if (c == 27) length = 3;
        if (done + length > n) break;
        if (c == '\r')
            s->at = 0;
        else if (c == '\n')
            end_line(s);
        else if (c == 27 && !memcmp(bytes + done, "\033[K", 3))
            s->end = s->at;
        else
            put_letter(s, bytes + done, (int)length);
        done += length;
    }
    return done;
}

static bool holds(const screen *s, const char *words)
{
    char line[256 * 5] = "";
    for (int i = 0; i < s->end; i++) strcat(line, s->cell[i]);
    return strstr(line, words) != NULL;
}

void run_on_terminal(const char *const *args, int columns, const char *at)
{
    screen s = {.columns = columns};
    struct winsize size = {.ws_row = 24, .ws_col = (unsigned short)columns};
    int terminal, status;
    char bytes[4096];
    size_t have = 0;
    pid_t child = forkpty(&terminal, NULL, NULL, &size);
    assert_true(child >= 0);
    if (child == 0) {
        if (chdir(folder) != 0) _exit(99);
        execv(args[0], (char *const *)args);
        _exit(98);
    }
    for (ssize_t n; (n = read(terminal, bytes + have, sizeof bytes - have)) > 0;) {
        size_t done = put_bytes(&s, bytes, have + (size_t)n);
        have += (size_t)n - done;
        memmove(bytes, bytes + done, have);
        if (!at || !holds(&s, at)) continue;
        assert_int_equal(write(terminal, "\x03", 1), 1);
        at = NULL;
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    close(terminal);
    if (s.end) end_line(&s);
    last.status = WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
    snprintf(last.out, sizeof last.out, "%s", s.text);
}

/* likeness with these words; NULL ends them. Returns the exit status. */
int likeness(const char *first, ...)
{
    const char *args[MAX_ARGS] = {PROGRAM, first};
    va_list list;
    va_start(list, first);
    for (int n = 2; args[n - 1]; n++) {
        assert_true(n < MAX_ARGS);
        args[n] = va_arg(list, const char *);
    }
    va_end(list);
    finish(start(args, 0));
    return last.status;
}

/* The last run failed with this status and one line on stderr that holds `words`. */
void failed(int status, const char *words)
{
    const char *line = last.err;
    if (last.status != status || !strstr(last.err, words))
        fail_msg("wanted status %d and \"%s\", got %d and: %s", status, words, last.status,
                 last.err);
    assert_int_equal(strncmp(line, "likeness: ", 10), 0);
    if (strchr(line, '\n') != line + strlen(line) - 1) fail_msg("not one line: %s", line);
    assert_string_equal(last.out, "");
    assert_false(exists("x.png"));
}

void says(const char *text, const char *words)
{
    if (!strstr(text, words)) fail_msg("\"%s\" is not in: %s", words, text);
}

void drop(const char *name) { unlink(in_folder(name)); }

void write_file(const char *path, const void *data, size_t size)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    fclose(f);
}

void done(void)
{
    if (last.status != 0) fail_msg("status %d: %s", last.status, last.err);
}

bool same_pixels(const char *a, const char *b)
{
    image x, y;
    error e = {0};
    assert_true(image_read(&x, NULL, in_folder(a), &e));
    assert_true(image_read(&y, NULL, in_folder(b), &e));
    bool same = x.width == y.width && x.height == y.height &&
                memcmp(x.pixels, y.pixels, (size_t)x.width * (size_t)x.height * 3) == 0;
    image_free(&x);
    image_free(&y);
    return same;
}

bool same_file(const char *a, const char *b)
{
    mapped_file x, y;
    error e = {0};
    if (!file_map(&x, in_folder(a), &e) || !file_map(&y, in_folder(b), &e)) fail_msg("%s", e.text);
    bool same = x.size == y.size && memcmp(x.data, y.data, x.size) == 0;
    file_unmap(&x);
    file_unmap(&y);
    return same;
}

void same_in(const char *a, const char *b, const char *name)
{
    char x[300], y[300];
    snprintf(x, sizeof x, "%s/%s", a, name);
    snprintf(y, sizeof y, "%s/%s", b, name);
    if (!same_file(x, y)) fail_msg("%s and %s differ", x, y);
}
