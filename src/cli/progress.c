/* SPDX-License-Identifier: Apache-2.0
 *
 * progress: the line on stderr that says how far the work is, and Ctrl-C. */
#include <limits.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>

#include "cli/cli.h"

enum {
    PLAIN_EVERY = 30, /* seconds between plain lines */
    BAR = 16,         /* cells of the bar */
};

/* A signal handler can reach nothing but a global. */
static volatile sig_atomic_t interrupted, on_terminal;

/* The first is answered at once, in the bar's place; it is obeyed where the work next asks. */
static void interrupt_note(int signal)
{
    static const char text[] = "\r\033[Kstopping after this step\r";
    (void)signal;
    if (!interrupted && on_terminal && write(STDERR_FILENO, text, sizeof text - 1) < 0)
        on_terminal = 0;
    interrupted = 1;
}

/* A signal that whoever started us ignores (nohup, a script's "&") stays ignored. */
static void watch_signal(int signal)
{
    struct sigaction now, action = {.sa_handler = interrupt_note, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    if (sigaction(signal, NULL, &now) == 0 && now.sa_handler != SIG_IGN)
        sigaction(signal, &action, NULL);
}

void interrupt_watch(void)
{
    on_terminal = isatty(STDERR_FILENO);
    watch_signal(SIGINT);
    watch_signal(SIGTERM);
    watch_signal(SIGHUP);
}

bool interrupt_seen(void) { return interrupted; }

/* ---- the line ------------------------------------------------------------------------------ */

/* What a line says, from left to right: a bar is drawn behind `what`. */
typedef struct pieces {
    const char *what;
    double share;
    char count[48];  /* "12/50" */
    char detail[48]; /* "3.1 steps/s", left out where there is no room */
    char left[32];   /* "2:05 left" */
} pieces;

static int terminal_columns(void)
{
    struct winsize size;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 ? 80 : size.ws_col;
}

/* The columns that the character at text takes, and its length in bytes; -1: it cannot be shown. */
static int character_columns(const char *text, size_t *length)
{
    mbstate_t state = {0};
    wchar_t c;
    size_t n = mbrtowc(&c, text, MB_CUR_MAX, &state);
    bool known = n != (size_t)-1 && n != (size_t)-2 && n;
    *length = known ? n : 1;
    return known ? wcwidth(c) : -1;
}

/* Copies as much of text as fits into so many columns, with "..." at its end where it was cut; the
 * columns that are taken. What cannot be shown is a space. */
static int fit(char *out, size_t size, const char *text, int columns)
{
    const char dots[] = "...";
    const int room = (int)sizeof dots - 1;
    size_t used = 0, length, end = 0;
    int wide = 0, wide_at_end = 0;
    const char *p = text;
    for (; *p && used + MB_LEN_MAX + sizeof dots < size; p += length) {
        int n = character_columns(p, &length), taken = n < 0 ? 1 : n;
        if (wide + taken > columns) break;
        if (n < 0)
            out[used++] = ' ';
        else
            for (size_t i = 0; i < length; i++) out[used++] = p[i];
        wide += taken;
        if (wide + room <= columns) {
            end = used;
            wide_at_end = wide;
        }
    }
    out[used] = '\0';
    if (!*p) return wide;
    snprintf(out + end, size - end, "%.*s", columns < room ? columns : room, dots);
    return wide_at_end + (columns < room ? columns : room);
}

/* " [=====>    ]", or nothing where there are no cells. */
static void draw_bar(char *out, size_t size, double share, int cells)
{
    char cell[BAR + 1];
    int filled = share >= 1 ? cells : share > 0 ? (int)(share * cells) : 0;
    for (int i = 0; i < cells; i++) cell[i] = i < filled ? '=' : i == filled ? '>' : ' ';
    cell[cells] = '\0';
    if (cells)
        snprintf(out, size, " [%s]", cell);
    else
        *out = '\0';
}

/* Everything but `what`: with less and less of it, by `narrow`. */
static void draw_rest(char *out, size_t size, const pieces *p, int narrow)
{
    static const int cells[] = {BAR, BAR, BAR / 2, 0};
    char bar[BAR + 8];
    draw_bar(bar, sizeof bar, p->share, cells[narrow]);
    const char *detail = narrow == 0 ? p->detail : "";
    snprintf(out, size, "%s %s%s%s%s%s", bar, p->count, *detail ? ", " : "", detail,
             *p->left ? ", " : "", p->left);
}

/* On one line that a ^C cannot break: the cursor goes back to its beginning. */
static void draw(progress_line *line, const pieces *p)
{
    enum { WHAT = 12, ROOM = 2048 }; /* columns that `what` should have */
    char what[ROOM], rest[256];
    int columns = terminal_columns() - 1, room = 0, wanted = fit(what, sizeof what, p->what, WHAT);
    for (int narrow = 0; narrow < 4; narrow++) {
        draw_rest(rest, sizeof rest, p, narrow);
        room = columns - (int)strlen(rest);
        if (room >= wanted) break;
    }
    if (room < 0) rest[columns > 0 ? columns : 0] = '\0';
    fit(what, sizeof what, p->what, room > 0 ? room : 0);
    fprintf(stderr, "\r%s%s\033[K\r", what, rest);
    fflush(stderr);
    line->shown = true;
}

/* "2:05", "1:02:05" or "8 s". */
static void duration(char out[24], double seconds)
{
    long s = (long)(seconds + 0.5);
    if (s < 60)
        snprintf(out, 24, "%ld s", s);
    else if (s < 3600)
        snprintf(out, 24, "%ld:%02ld", s / 60, s % 60);
    else
        snprintf(out, 24, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
}

static void time_left(char out[32], double seconds)
{
    char text[24];
    duration(text, seconds);
    snprintf(out, 32, "%s left", text);
}

void progress_start(progress_line *line)
{
    line->terminal = isatty(STDERR_FILENO);
    line->told = 0;
    /* Only how many columns a letter takes is asked of the C library; texts are UTF-8 whatever the
     * user's locale is. */
    if (line->terminal) setlocale(LC_CTYPE, "C.UTF-8");
}

void progress_clear(progress_line *line)
{
    if (!line->shown) return;
    fputs("\r\033[K", stderr);
    fflush(stderr);
    line->shown = false;
}

static double now_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* ---- pictures ------------------------------------------------------------------------------ */

/* "3.1 steps/s" or "4.2 s/step". */
static void speed_text(char *out, size_t size, const lk_progress *p)
{
    double each = p->step ? p->seconds / p->step : 0;
    out[0] = '\0';
    if (each > 0 && each < 1)
        snprintf(out, size, "%.1f steps/s", 1 / each);
    else if (each > 0)
        snprintf(out, size, "%.1f s/step", each);
}

static double seconds_left(const lk_progress *p)
{
    return p->step ? p->seconds / p->step * (p->steps - p->step) : 0;
}

static void show_image(progress_line *line, const lk_progress *p, const char *current)
{
    char what[512] = "";
    if (p->pictures > 1) snprintf(what, sizeof what, "%d/%d ", p->picture + 1, p->pictures);
    size_t n = strlen(what);
    snprintf(what + n, sizeof what - n, "%s", current);
    pieces all = {.what = what, .share = p->steps ? (double)p->step / p->steps : 0};
    snprintf(all.count, sizeof all.count, "%d/%d", p->step, p->steps);
    speed_text(all.detail, sizeof all.detail, p);
    double left = seconds_left(p);
    if (left > 0) time_left(all.left, left);
    draw(line, &all);
}

static void tell_image(progress_line *line, const lk_progress *p, const char *current, int steps)
{
    char speed[48], left[32];
    if (line->picture != p->picture + 1) {
        line->picture = p->picture + 1;
        fprintf(stderr, "picture %d of %d: %s, %d step%s\n", line->picture, p->pictures, current,
                steps, steps == 1 ? "" : "s");
    } else if (p->step && p->seconds - line->told >= PLAIN_EVERY) {
        line->told = p->seconds;
        speed_text(speed, sizeof speed, p);
        time_left(left, seconds_left(p));
        fprintf(stderr, "step %d of %d, %s, %s\n", p->step, p->steps, speed, left);
    }
}

void progress_show(progress_line *line, const lk_progress *p, const char *current, int steps)
{
    if (line->terminal)
        show_image(line, p, current);
    else
        tell_image(line, p, current, steps);
}

/* ---- training ------------------------------------------------------------------------------ */

/* Each phase's name for the bar, and for plain lines. */
static const char *const phase_name[][2] = {
    [LK_TRAIN_PHOTOS] = {"reading pictures", "reading picture"},
    [LK_TRAIN_CLASS_PICTURES] = {"class pictures", "class picture"},
    [LK_TRAIN_LATENTS] = {"encoding pictures", "encoding picture"},
    [LK_TRAIN_STEPS] = {"training", "step"},
    [LK_TRAIN_VALIDATION] = {"validation", "validation picture"},
    [LK_TRAIN_SAVING] = {"saving", "saving"},
};

/* Seldom, but in every phase: none of them is silent for many minutes. */
static void tell_train(progress_line *line, const lk_train_progress *p, const pieces *all)
{
    double now = now_seconds();
    bool end = p->phase == LK_TRAIN_STEPS && p->done && p->done == p->total;
    if (line->told == 0) line->told = now;
    if (p->phase == LK_TRAIN_SAVING || (now - line->told < PLAIN_EVERY && !end)) return;
    line->told = now;
    long long number = p->done + (p->phase == LK_TRAIN_STEPS ? 0 : 1);
    fprintf(stderr, "%s %lld of %lld", phase_name[p->phase][1], number, (long long)p->total);
    if (p->steps) fprintf(stderr, ", step %d of %d", p->step, p->steps);
    fprintf(stderr, "%s%s%s%s\n", *all->detail ? ", " : "", all->detail, *all->left ? ", " : "",
            all->left);
}

void progress_train(progress_line *line, const lk_train_progress *p)
{
    double done = (double)p->done + (p->steps ? (double)p->step / p->steps : 0);
    bool updated = p->phase == LK_TRAIN_STEPS && p->done > 0;
    pieces all = {.what = phase_name[p->phase][0], .share = p->total ? done / (double)p->total : 0};
    snprintf(all.count, sizeof all.count, "%lld/%lld", (long long)p->done, (long long)p->total);
    if (updated && p->skipped)
        snprintf(all.detail, sizeof all.detail, "step skipped");
    else if (updated)
        snprintf(all.detail, sizeof all.detail, "loss %.4f", (double)p->loss);
    if (p->left > 0 || updated) time_left(all.left, p->left);
    if (line->terminal)
        draw(line, &all);
    else
        tell_train(line, p, &all);
}

/* ---- a study ------------------------------------------------------------------------------- */

void progress_study(progress_line *line, const lk_study_progress *p)
{
    double share = p->total > 0 ? p->done / p->total : 0;
    pieces all = {.what = *p->what ? p->what : "study", .share = share};
    snprintf(all.count, sizeof all.count, "%.0f%%", 100 * (share > 1 ? 1 : share));
    if (p->left > 0) time_left(all.left, p->left);
    if (line->terminal) {
        draw(line, &all);
        return;
    }
    if (share < line->told) return;
    line->told = share + 0.05;
    fprintf(stderr, "study %s: %s%s%s\n", all.count, p->what, *all.left ? ", " : "", all.left);
}
