/* SPDX-License-Identifier: Apache-2.0
 *
 * cli: what the program's commands share: exit statuses, flags, the progress line, interrupts. Only
 * this room prints, and it sees only likeness.h. */
#ifndef LIKENESS_CLI_CLI_H
#define LIKENESS_CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>

#include "likeness.h"
#include "likeness_study.h"

enum { STATUS_DONE = 0, STATUS_FAILED = 1, STATUS_WRONG_USAGE = 2, STATUS_INTERRUPTED = 130 };

int command_generate(int argc, char **argv);
int command_inspect(int argc, char **argv);
int command_devices(int argc, char **argv);
int command_samplers(int argc, char **argv);
int command_train(int argc, char **argv);
int command_convert(int argc, char **argv);
int command_study(int argc, char **argv);

/* One line on stderr: "likeness: ...", control characters made harmless. Returns status. */
int fail(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same for a failure of the library: STATUS_WRONG_USAGE for what the user asked for,
 * STATUS_INTERRUPTED for what he stopped, else STATUS_FAILED. */
int fail_error(const lk_error *error);

/* An lk_log_callback: warnings, each as a line on stderr. */
void tell_warning(void *user, lk_level level, const char *line);

/* ---- options.c ---- */

typedef struct text_list {
    const char **item;
    size_t count;
} text_list; /* item malloc'ed */

typedef enum option_kind {
    OPTION_FLAG,      /* bool * */
    OPTION_TEXT,      /* const char ** */
    OPTION_TEXTS,     /* text_list *: may be given several times */
    OPTION_INT,       /* int * */
    OPTION_LONG,      /* int64_t * */
    OPTION_FLOAT,     /* float * */
    OPTION_DOUBLE,    /* double * */
    OPTION_CALL,      /* option_call *: takes a text */
    OPTION_CALL_FLAG, /* option_call *: takes none, and is called with "true" */
} option_kind;

/* A flag whose value is somebody else's business; returns a status. */
typedef struct option_call {
    int (*set)(void *user, const char *name, const char *text);
    void *user;
    const char *name;
} option_call;

typedef struct option {
    const char *names; /* "-s --seed --seeds"; '-' is '_' in long names; NULL ends a list */
    option_kind kind;
    void *value;
} option;

/* Reads argv[0..argc-1]: --flag VALUE, --flag=VALUE, -f VALUE, -fVALUE; "--" ends the flags. Other
 * words go to rest. Returns STATUS_DONE, or after a line on stderr STATUS_WRONG_USAGE or
 * STATUS_FAILED. */
int options_parse(const option *list, int argc, char **argv, const char *command, text_list *rest);
/* Gives one option its value; flag: what messages call it. Returns a status as options_parse does.
 */
int option_set(const option *o, const char *flag, const char *text);
/* Of names, parted by spaces, the one whose spelling is nearest to word's n bytes and nearer than
 * *best (which falls); its length, and where it is in *nearest; 0: none is near. */
size_t name_nearest(const char *names, const char *word, size_t n, const char **nearest, int *best);
bool text_list_add(text_list *list, const char *text); /* false when memory is out */

/* ---- models.c ---- */

/* The context and the one session that a command works in; and a line on stderr where fewer threads
 * were to be had than were asked for. */
typedef struct workplace {
    lk_context *context;
    lk_session *session;
} workplace;
bool workplace_open(workplace *w, const lk_context_options *options, lk_error *error);
void workplace_close(workplace *w); /* after the models */

typedef struct model_list {
    text_list given;      /* the values of -m: PATH or NAME=PATH */
    text_list embeddings; /* of --embedding: [TOKEN=]FILE */
    const char *taesd;    /* of --taesd; NULL: none */
    text_list loras;      /* of --lora: [NAME=]FILE[:WEIGHT] */
    size_t count,
        given_count;   /* the first are of -m, the others have LoRAs beside these's weights */
    char **name;       /* [count], malloc'ed; NULL: a plain path */
    const char **path; /* NULL: the pocket model, or a model of -m */
    lk_model **opened;
    lk_lora *lora;           /* [loras.count], paths malloc'ed */
    lk_embedding *embedding; /* [embeddings.count], tokens malloc'ed */
    size_t *lora_model;      /* [loras.count]: which model it is for; SIZE_MAX: for all */
    char **lora_name;        /* [loras.count], malloc'ed: what the schedule calls it; or NULL */
    lk_schedule_variant *variant; /* [count - given_count] */
    const char *schedule;         /* that asks for them; NULL: there is none */
} model_list;

/* Fills name, path, lora and lora_model. needs_names: the flag for whose sake every model must have
 * a name; NULL: there is at most one model (none: the pocket model). Returns a status, as
 * options_parse. */
int models_read(model_list *list, const char *needs_names);
/* Finds the models with LoRAs that a schedule asks for, which join the list: *schedule becomes what
 * names them, for lk_free. Returns a status. */
int models_read_schedule(model_list *list, const char *text, char **schedule);
bool models_open(model_list *list, lk_context *context, const char *vae, const char *tokenizer,
                 lk_error *error);
void models_close(model_list *list); /* frees all of it */

/* ---- outputs.c ---- */

enum { OUTPUT_FILES = 2 }; /* a picture, and its latents */

/* A result of a run. base (malloc'ed, NULL: not wanted) is what its files are called by themselves,
 * path what they will be called. */
typedef struct output {
    char *base[OUTPUT_FILES], *path[OUTPUT_FILES];
    bool is_named[OUTPUT_FILES]; /* by the user: it gets no number */
    char *settings;              /* what the files will say of themselves; NULL: not asked yet */
    int number;
} output;

typedef struct outputs {
    bool overwrite;                                   /* --overwrite: what is there gives way */
    text_list inputs;                                 /* paths of files that the run reads */
    char *(*settings)(void *user, const output *out); /* for lk_free; NULL after a line on stderr */
    void *user;
    void *claims;
    size_t numbered;
    const output *first_numbered;
} outputs;

/* Gives a result its paths, and them to no later one; nothing is written. Returns a status. */
int output_settle(outputs *all, output *out);
void outputs_tell(const outputs *all); /* on stderr, that results were numbered */
/* Just before writing: where another run has written there meanwhile, the result gets another path,
 * with a warning. False when memory is out. */
bool output_recheck(outputs *all, output *out, const char *settings);
void output_close(output *out);
void outputs_close(outputs *all);

/* ---- progress.c ---- */

typedef struct progress_line {
    bool terminal; /* a bar on one line; else plain lines, seldom */
    bool shown;    /* the bar is on the screen */
    double told;   /* seconds at the last plain line */
    int picture;   /* the last that a plain line was begun for */
} progress_line;

void progress_start(progress_line *line);
/* current: the first picture that is not made yet, and its steps. */
void progress_show(progress_line *line, const lk_progress *p, const char *current, int steps);
void progress_train(progress_line *line, const lk_train_progress *p);
void progress_study(progress_line *line, const lk_study_progress *p);
void progress_clear(progress_line *line); /* the bar leaves the screen */

/* From here on Ctrl-C (and SIGTERM, and the terminal's end) only sets a flag, where they are not
 * ignored; another changes nothing. */
void interrupt_watch(void);
bool interrupt_seen(void);

#endif
