/* SPDX-License-Identifier: Apache-2.0
 *
 * progress: the line on stderr that says how far the work is, and Ctrl-C. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli/cli.h"

enum {
    PLAIN_EVERY = 30, /* seconds between plain lines */
    BAR = 16,         /* cells of the bar */
};

/* A signal handler can reach nothing but a global. */
static volatile sig_atomic_t interrupted;

static void interrupt_note(int signal)
{
    (void)signal;
    interrupted = 1;
}

void interrupt_watch(void)
{
    struct sigaction action = {.sa_handler = interrupt_note,
                               .sa_flags = (int)SA_RESETHAND | SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

bool interrupt_seen(void) { return interrupted; }

static int terminal_columns(void)
{
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col < 20) return 80;
    return size.ws_col;
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

/* "3.1 steps/s" or "4.2 s/step" and the time left. */
static void rate(char *out, size_t size, const lk_progress *p)
{
    char left[24];
    double each = p->step ? p->seconds / p->step : 0;
    out[0] = '\0';
    if (each <= 0) return;
    duration(left, each * (p->steps - p->step));
    if (each < 1)
        snprintf(out, size, "%.1f steps/s, %s left", 1 / each, left);
    else
        snprintf(out, size, "%.1f s/step, %s left", each, left);
}

/* At most n bytes of text, never half a UTF-8 character. */
static int text_cut(const char *text, int n)
{
    int length = (int)strlen(text);
    if (length <= n) return length;
    while (n > 0 && ((unsigned char)text[n] & 0xC0) == 0x80) n--;
    return n < 0 ? 0 : n;
}

static void bar(progress_line *line, const lk_progress *p)
{
    char speed[64], count[64], steps[64], cells[BAR + 1];
    int filled = p->steps ? p->step * BAR / p->steps : 0;
    for (int i = 0; i < BAR; i++) cells[i] = i < filled ? '=' : i == filled ? '>' : ' ';
    cells[BAR] = '\0';
    rate(speed, sizeof speed, p);
    snprintf(count, sizeof count, "%d/%d ", p->picture, p->pictures);
    snprintf(steps, sizeof steps, " [%s] %*d/%d ", cells, p->steps < 100 ? 2 : 4, p->step, p->steps);
    int room = terminal_columns() - 1 - (int)(strlen(count) + strlen(steps) + strlen(speed));
    int n = text_cut(line->what, room > 0 ? room : 0);
    fprintf(stderr, "\r%s%.*s%s%s\033[K", count, n, line->what, steps, speed);
    fflush(stderr);
    line->shown = true;
}

static void plain(progress_line *line, const lk_progress *p)
{
    char speed[64];
    if (p->step == 0) {
        line->told = 0;
        fprintf(stderr, "picture %d of %d: %s, %d step%s\n", p->picture, p->pictures, line->what,
                p->steps, p->steps == 1 ? "" : "s");
    } else if (p->seconds - line->told >= PLAIN_EVERY && p->step < p->steps) {
        line->told = p->seconds;
        rate(speed, sizeof speed, p);
        fprintf(stderr, "step %d of %d, %s\n", p->step, p->steps, speed);
    }
}

void progress_start(progress_line *line, const char *what)
{
    *line = (progress_line){.what = what, .terminal = isatty(STDERR_FILENO)};
}

void progress_show(progress_line *line, const lk_progress *p)
{
    if (line->terminal)
        bar(line, p);
    else
        plain(line, p);
}

void progress_clear(progress_line *line)
{
    if (!line->shown) return;
    fputs("\r\033[K", stderr);
    fflush(stderr);
    line->shown = false;
}

/* "loss 0.1234, " where an update was made. */
static void loss_text(char *out, size_t size, const lk_train_progress *p)
{
    out[0] = '\0';
    if (!p->class_pictures && p->done) snprintf(out, size, "loss %.4f, ", (double)p->loss);
}

void progress_train(progress_line *line, const lk_train_progress *p)
{
    char left[24], loss[32], cells[BAR + 1];
    const char *what = p->class_pictures ? "class pictures" : "training";
    int filled = p->total ? (int)(p->done * BAR / p->total) : 0;
    duration(left, p->left);
    loss_text(loss, sizeof loss, p);
    if (line->terminal) {
        for (int i = 0; i < BAR; i++) cells[i] = i < filled ? '=' : i == filled ? '>' : ' ';
        cells[BAR] = '\0';
        fprintf(stderr, "\r%s [%s] %lld/%lld %s%s%s\033[K", what, cells, (long long)p->done,
                (long long)p->total, loss, p->left > 0 ? left : "", p->left > 0 ? " left" : "");
        fflush(stderr);
        line->shown = true;
        return;
    }
    line->told += p->seconds;
    if (p->class_pictures || (line->told < PLAIN_EVERY && p->done < p->total) || !p->done) return;
    line->told = 0;
    fprintf(stderr, "step %lld of %lld, %s%s left\n", (long long)p->done, (long long)p->total, loss,
            left);
}

void progress_study(progress_line *line, const lk_study_progress *p)
{
    char left[24] = "", cells[BAR + 1];
    double share = p->total > 0 ? p->done / p->total : 0;
    int filled = share > 1 ? BAR : (int)(share * BAR);
    if (p->left > 0) duration(left, p->left);
    if (line->terminal) {
        for (int i = 0; i < BAR; i++) cells[i] = i < filled ? '=' : i == filled ? '>' : ' ';
        cells[BAR] = '\0';
        fprintf(stderr, "\rstudy [%s] %3.0f%% %s%s%s\033[K", cells, 100 * share, p->what,
                *left ? ", " : "", *left ? left : "");
        if (*left) fputs(" left", stderr);
        fflush(stderr);
        line->shown = true;
        return;
    }
    if (share < line->told) return;
    line->told = share + 0.05;
    fprintf(stderr, "study %.0f%%: %s%s%s%s\n", 100 * share, p->what, *left ? ", " : "", left,
            *left ? " left" : "");
}
