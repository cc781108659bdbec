/* SPDX-License-Identifier: Apache-2.0
 *
 * generate: likeness generate. Prompts x settings are rows, seeds are columns; every cell is one
 * picture. All that can be found wrong is found before the first step. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/cli.h"

static const char help[] =
    "likeness generate -p TEXT [flags]       pictures from a prompt\n"
    "\n"
    "What\n"
    "  -p, --prompt TEXT          may be given several times; not for unconditional models\n"
    "  -n, --negative_prompt TEXT what the picture should not be\n"
    "  -s, --seed SEEDS           42, or 42,43,44, or 42-45 (default 42); one picture for each;\n"
    "                             -1: a random one, which is told and recorded\n"
    "  -W, --width N  -H, --height N   default: what the model was trained on\n"
    "\n"
    "With\n"
    "  -m, --model PATH           diffusers folder, .safetensors or .ckpt file (default: pocket)\n"
    "  -m NAME=PATH ...           several models, for a schedule\n"
    "      --schedule \"base x15, tuned x35\"   which predicts which steps (the last: tuned "
    "rest);\n"
    "                             also \"0.3*base+0.7*tuned x10\", and \"base|tuned\": the\n"
    "                             unconditional prediction by base, the conditional by tuned\n"
    "      --lora FILE[:0.8]      merged into the model (LoRA, LoCon, LoHa, LoKr); may be given\n"
    "                             several times; NAME=FILE: into the model of that name alone\n"
    "      --embedding [WORD=]FILE   a textual inversion: prompts may use its word (of the file,\n"
    "                             or the file's name)\n"
    "      --vae PATH             another autoencoder, folder or file\n"
    "      --tokenizer DIR        tokenizer files for a single-file model\n"
    "      --precision f32|bf16|f16   (default f32; f16 is a GPU's)\n"
    "      --device NAME          auto, cpu, cuda, cuda:1 (default auto: the GPU where one "
    "serves)\n"
    "  -t, --threads N            (default: every core)\n"
    "\n"
    "How\n"
    "      --sampler NAME         likeness samplers lists them (default: the model's); also with\n"
    "                             sigmas, \"DPM++ 2M Karras\"\n"
    "      --sigmas NAME|LIST     model, karras, exponential, beta, trailing, or 14.6,7,2,0\n"
    "      --steps N              (default 50)\n"
    "      --guidance X           also --guidance_scale, --cfg-scale (default 7.5; 1 is off)\n"
    "      --guidance_rescale X   0 to 1 (default 0)\n"
    "      --eta X                DDIM, TCD: 0 no noise, 1 as much as DDPM (default 0)\n"
    "      --variance NAME        DDPM: fixed_small, fixed_large, ... (default: the model's)\n"
    "      --spacing NAME         leading, trailing, linspace (default: the model's)\n"
    "      --clip-skip N          leave out the text encoder's last N layers (default 0)\n"
    "      --init-latents FILE    start from this noise: safetensors, \"latents\" [1,4,h,w]\n"
    "      --sweep \"sampler=ddpm,ddim steps=200,50,10\"   every combination\n"
    "\n"
    "Where (folders are made)\n"
    "  -o, --output FILE.png|DIR/ one picture, or DIR/<prompt>-<seed>.png (default: here)\n"
    "      --save-latents FILE|DIR/  the noise it started from, and the latents before decoding\n"
    "      --grid FILE.png        also one labelled grid: a column for each seed\n"
    "      --overwrite            write over files that other settings made\n"
    "\n"
    "Files carry their settings: likeness inspect FILE.png shows them. A file is written over\n"
    "only by the picture that has the same; another in a folder gets a number (cat-42-2.png), and "
    "one\n"
    "that -o, --grid or --save-latents names is refused before the work.\n";

/* out is first: what is asked of an output is asked of its cell. */
typedef struct cell {
    output out;
    lk_generate_options options;
    char *what;        /* "a photo of a dog, ddim-50, seed 42" */
    lk_image *picture; /* kept for the grid */
} cell;

typedef struct task {
    /* flags */
    bool help;
    text_list prompts, rest;
    model_list models;
    const char *negative, *seed_text, *schedule, *vae, *tokenizer, *precision, *sampler, *variance,
        *spacing, *sigmas, *init_latents, *save_latents, *output, *sweep_text, *grid;
    int width, height, steps, clip_skip, threads;
    float guidance, guidance_rescale, eta;
    /* what they mean */
    lk_generate_options base;
    lk_context_options context_options;
    uint64_t *seeds;
    size_t seed_count;
    lk_sweep *sweep;
    lk_latents *latents;
    cell *cells; /* rows x seed_count, row by row: prompts, and in each its settings */
    size_t rows, count;
    char **row_label, **seed_label;
    outputs outputs;
    output grid_file; /* --grid */
    /* at work */
    workplace work;
    progress_line line;
    size_t made; /* cells whose files are written */
    int status;  /* of writing them */
    lk_error error;
} task;

static int no_memory(void) { return fail(STATUS_FAILED, "not enough memory"); }
static int failed(const task *t) { return fail_error(&t->error); }

static char *text_format(const char *format, ...) __attribute__((format(printf, 1, 2)));
static char *text_format(const char *format, ...)
{
    char *out = NULL;
    __builtin_va_list list;
    __builtin_va_start(list, format);
    if (vasprintf(&out, format, list) < 0) out = NULL;
    __builtin_va_end(list);
    return out;
}

/* ---- flags --------------------------------------------------------------------------------- */

static int flags_read(task *t, int argc, char **argv)
{
    const option list[] = {
        {"-h --help", OPTION_FLAG, &t->help},
        {"-p --prompt", OPTION_TEXTS, &t->prompts},
        {"-n --negative_prompt --negative", OPTION_TEXT, &t->negative},
        {"-m --model", OPTION_TEXTS, &t->models.given},
        {"--schedule", OPTION_TEXT, &t->schedule},
        {"-s --seed --seeds", OPTION_TEXT, &t->seed_text},
        {"--steps --num_inference_steps", OPTION_INT, &t->steps},
        {"--sampler --sampling_method", OPTION_TEXT, &t->sampler},
        {"--sigmas --scheduler --schedule_type", OPTION_TEXT, &t->sigmas},
        {"--guidance --guidance_scale --cfg_scale", OPTION_FLOAT, &t->guidance},
        {"--guidance_rescale", OPTION_FLOAT, &t->guidance_rescale},
        {"-W --width", OPTION_INT, &t->width},
        {"-H --height", OPTION_INT, &t->height},
        {"--eta", OPTION_FLOAT, &t->eta},
        {"--variance", OPTION_TEXT, &t->variance},
        {"--spacing", OPTION_TEXT, &t->spacing},
        {"--clip_skip", OPTION_INT, &t->clip_skip},
        {"--init_latents", OPTION_TEXT, &t->init_latents},
        {"--save_latents", OPTION_TEXT, &t->save_latents},
        {"--precision", OPTION_TEXT, &t->precision},
        {"--device", OPTION_TEXT, &t->context_options.device},
        {"-t --threads", OPTION_INT, &t->threads},
        {"-o --output", OPTION_TEXT, &t->output},
        {"--grid", OPTION_TEXT, &t->grid},
        {"--overwrite", OPTION_FLAG, &t->outputs.overwrite},
        {"--sweep", OPTION_TEXT, &t->sweep_text},
        {"--lora", OPTION_TEXTS, &t->models.loras},
        {"--embedding", OPTION_TEXTS, &t->models.embeddings},
        {"--vae", OPTION_TEXT, &t->vae},
        {"--tokenizer", OPTION_TEXT, &t->tokenizer},
        {NULL, OPTION_FLAG, NULL},
    };
    return options_parse(list, argc, argv, "generate", &t->rest);
}

enum { NOT_GIVEN = INT_MIN }; /* --steps */

/* A list of sigmas says how many steps there are, unless the user does. */
static int sigmas_check(task *t)
{
    int steps = 0;
    if (!t->sigmas) return STATUS_DONE;
    if (!lk_sigmas_check(t->sigmas, &steps, &t->error))
        return fail(STATUS_WRONG_USAGE, "--sigmas: %s", t->error.text);
    t->base.sigmas = lk_sigmas_name(t->sigmas);
    if (!t->base.sigmas) t->base.sigmas = t->sigmas;
    if (t->steps == NOT_GIVEN && steps) t->steps = steps;
    return STATUS_DONE;
}

/* Names of choices, and numbers that no model could take. */
static int flags_check(task *t)
{
    lk_generate_options *o = &t->base;
    if (t->rest.count)
        return fail(STATUS_WRONG_USAGE, "\"%s\" is no flag; a prompt is given with -p",
                    t->rest.item[0]);
    if (t->sampler && !lk_sampler_choose(o, t->sampler, &t->error))
        return fail(STATUS_WRONG_USAGE, "--sampler: %s", t->error.text);
    if (sigmas_check(t) != STATUS_DONE) return STATUS_WRONG_USAGE;
    if (t->variance && !lk_variance_parse(&o->variance, t->variance))
        return fail(STATUS_WRONG_USAGE,
                    "--variance %s: there are fixed_small, fixed_small_log, fixed_large, "
                    "fixed_large_log, learned, learned_range",
                    t->variance);
    if (t->spacing && !lk_spacing_parse(&o->spacing, t->spacing))
        return fail(STATUS_WRONG_USAGE, "--spacing %s: there are leading, trailing, linspace",
                    t->spacing);
    if (!lk_precision_parse(&t->context_options.precision, t->precision))
        return fail(STATUS_WRONG_USAGE, "--precision %s: there are f32, bf16, f16", t->precision);
    if (t->threads < 0)
        return fail(STATUS_WRONG_USAGE, "-t %d: threads cannot be negative", t->threads);
    if (t->width < 0 || t->height < 0)
        return fail(STATUS_WRONG_USAGE, "-W and -H cannot be negative");
    t->context_options.threads = t->threads;
    o->negative = t->negative;
    o->width = t->width;
    o->height = t->height;
    if (t->steps != NOT_GIVEN) o->steps = t->steps;
    o->guidance = t->guidance;
    o->guidance_rescale = t->guidance_rescale;
    o->eta = t->eta;
    o->clip_skip = t->clip_skip;
    return STATUS_DONE;
}

/* ---- cells --------------------------------------------------------------------------------- */

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcasecmp(text + n - m, end) == 0;
}

static bool is_image_name(const char *path)
{
    return ends_with(path, ".png") || ends_with(path, ".jpg") || ends_with(path, ".jpeg") ||
           ends_with(path, ".webp");
}

/* A folder says so, is there, or has a name that no picture could have. */
static bool is_folder(const char *path)
{
    struct stat s;
    const char *slash = strrchr(path, '/');
    return stat(path, &s) == 0 ? S_ISDIR(s.st_mode) : !strchr(slash ? slash + 1 : path, '.');
}

/* DIR/<prompt>[-<setting>]-<seed><ending> */
static char *cell_path(const char *folder, const cell *c, const char *setting, const char *ending)
{
    /* Of a name's 255 bytes, seed, number, ending and the writing's own marks need some 70. */
    enum { WORDS = 180, LEAST = 20 };
    size_t taken = setting ? strlen(setting) + 1 : 0;
    char *slug = lk_slug(c->options.prompt, taken + LEAST < WORDS ? WORDS - taken : LEAST);
    if (!slug) return NULL;
    char *path = text_format(
        "%s%s%s%s%s-%llu%s", folder, *folder && !ends_with(folder, "/") ? "/" : "", slug,
        setting ? "-" : "", setting ? setting : "", (unsigned long long)c->options.seed, ending);
    lk_free(slug);
    return path;
}

static bool cell_name(const task *t, cell *c, const char *setting, const char *label)
{
    const char *prompt = c->options.prompt;
    c->what = text_format("%s%s%s%sseed %llu", prompt, *prompt ? ", " : "", label ? label : "",
                          label ? ", " : "", (unsigned long long)c->options.seed);
    static const char *const ending[OUTPUT_FILES] = {".png", ".safetensors"};
    const char *where[OUTPUT_FILES] = {t->output, t->save_latents};
    bool ok = c->what != NULL;
    for (int i = 0; ok && i < OUTPUT_FILES; i++) {
        if (!where[i]) continue;
        c->out.is_named[i] = !is_folder(where[i]);
        c->out.base[i] = c->out.is_named[i] ? strdup(where[i])
                                            : cell_path(where[i], c, setting, ending[i]);
        ok = c->out.base[i] != NULL;
    }
    return ok;
}

/* Fills cells and row labels from prompts, sweep and seeds. */
static int cells_make(task *t)
{
    size_t settings = t->sweep ? lk_sweep_count(t->sweep) : 1;
    t->rows = t->prompts.count * settings;
    t->count = t->rows * t->seed_count;
    t->cells = calloc(t->count, sizeof *t->cells);
    t->row_label = calloc(t->rows, sizeof *t->row_label);
    t->seed_label = calloc(t->seed_count, sizeof *t->seed_label);
    if (!t->cells || !t->row_label || !t->seed_label) return no_memory();
    for (size_t s = 0; s < t->seed_count; s++) {
        t->seed_label[s] = text_format("seed %llu", (unsigned long long)t->seeds[s]);
        if (!t->seed_label[s]) return no_memory();
    }
    for (size_t r = 0; r < t->rows; r++) {
        const char *prompt = t->prompts.item[r / settings];
        const char *setting = t->sweep ? lk_sweep_name(t->sweep, r % settings) : NULL;
        const char *label = t->sweep ? lk_sweep_label(t->sweep, r % settings) : NULL;
        if (label)
            t->row_label[r] = text_format("%s%s%s", t->prompts.count > 1 ? prompt : "",
                                          t->prompts.count > 1 ? ", " : "", label);
        else
            t->row_label[r] = strdup(prompt);
        if (!t->row_label[r]) return no_memory();
        for (size_t s = 0; s < t->seed_count; s++) {
            cell *c = &t->cells[r * t->seed_count + s];
            c->options = t->base;
            if (t->sweep) lk_sweep_apply(t->sweep, r % settings, &c->options);
            c->options.prompt = prompt;
            c->options.seed = t->seeds[s];
            if (!cell_name(t, c, setting, label)) return no_memory();
        }
    }
    return STATUS_DONE;
}

static int names_check(const task *t)
{
    if (!is_folder(t->output) && !is_image_name(t->output))
        return fail(STATUS_WRONG_USAGE,
                    "-o %s: the name of a picture ends in .png, .jpg or .webp, that of a "
                    "folder in /",
                    t->output);
    if (!is_folder(t->output) && t->count > 1)
        return fail(STATUS_WRONG_USAGE,
                    "-o %s is one picture, but %zu will be made; give a folder: -o DIR/", t->output,
                    t->count);
    if (t->save_latents && !is_folder(t->save_latents) && t->count > 1)
        return fail(STATUS_WRONG_USAGE,
                    "--save-latents %s is one file, but %zu pictures will be made; give a "
                    "folder: --save-latents DIR/",
                    t->save_latents, t->count);
    if (t->grid && !is_image_name(t->grid))
        return fail(STATUS_WRONG_USAGE,
                    "--grid %s: the name of a picture ends in .png, .jpg or .webp", t->grid);
    return STATUS_DONE;
}

/* ---- where they go ------------------------------------------------------------------------- */

/* Every label on one line, "; " between them; malloc'ed. */
static char *join(char *const *label, size_t count)
{
    char *text = strdup("");
    for (size_t i = 0; text && i < count; i++) {
        char *longer = text_format("%s%s%s", text, i ? "; " : "", label[i]);
        free(text);
        text = longer;
    }
    return text;
}

static char *cell_settings(task *t, const cell *c)
{
    char *text = NULL;
    bool ok = t->schedule ? lk_generate_settings_mixed(&text, t->work.session, t->models.opened,
                                                       (const char *const *)t->models.name,
                                                       (int)t->models.count, t->schedule,
                                                       &c->options, &t->error)
                          : lk_generate_settings(&text, t->work.session, t->models.opened[0],
                                                 &c->options, &t->error);
    if (!ok) failed(t);
    return text;
}

/* A grid says what its first picture says, and how the others differ. */
static char *grid_settings(task *t)
{
    char *first = cell_settings(t, &t->cells[0]), *rows = join(t->row_label, t->rows), *half = NULL;
    char *columns = join(t->seed_label, t->seed_count), *text = NULL;
    if (first && (!rows || !columns)) no_memory();
    if (first && rows && columns &&
        (!lk_settings_add(&half, first, "Rows", rows, &t->error) ||
         !lk_settings_add(&text, half, "Columns", columns, &t->error)))
        failed(t);
    lk_free(half);
    lk_free(first);
    free(columns);
    free(rows);
    return text;
}

static char *output_settings(void *user, const output *out)
{
    task *t = user;
    return out == &t->grid_file ? grid_settings(t) : cell_settings(t, (const cell *)out);
}

static bool list_inputs(task *t)
{
    bool ok = !t->init_latents || text_list_add(&t->outputs.inputs, t->init_latents);
    ok = ok && (!t->vae || text_list_add(&t->outputs.inputs, t->vae));
    for (size_t i = 0; ok && i < t->models.loras.count; i++)
        ok = text_list_add(&t->outputs.inputs, t->models.lora[i].path);
    for (size_t i = 0; ok && i < t->models.embeddings.count; i++)
        ok = text_list_add(&t->outputs.inputs, t->models.embedding[i].path);
    for (size_t i = 0; ok && i < t->models.count; i++)
        ok = !t->models.path[i] || text_list_add(&t->outputs.inputs, t->models.path[i]);
    return ok;
}

static int outputs_check(task *t)
{
    int status = STATUS_DONE;
    t->outputs.settings = output_settings;
    t->outputs.user = t;
    if (t->grid) {
        t->grid_file.is_named[0] = true;
        t->grid_file.base[0] = strdup(t->grid);
    }
    if ((t->grid && !t->grid_file.base[0]) || !list_inputs(t)) return no_memory();
    for (size_t i = 0; status == STATUS_DONE && i < t->count; i++)
        status = output_settle(&t->outputs, &t->cells[i].out);
    if (status == STATUS_DONE && t->grid) status = output_settle(&t->outputs, &t->grid_file);
    if (status == STATUS_DONE) outputs_tell(&t->outputs);
    return status;
}

static int folders_check(task *t)
{
    bool ok = true;
    for (size_t i = 0; ok && i < t->count; i++)
        for (int k = 0; ok && k < OUTPUT_FILES; k++) {
            const char *path = t->cells[i].out.path[k];
            ok = !path || lk_can_write(path, i == 0, &t->error); /* all lie beside the first */
        }
    ok = ok && (!t->grid || lk_can_write(t->grid_file.path[0], true, &t->error));
    return ok ? STATUS_DONE : failed(t);
}

/* ---- work ---------------------------------------------------------------------------------- */

/* Each setting may have its own number of steps. */
static int schedule_check(task *t)
{
    size_t settings = t->sweep ? lk_sweep_count(t->sweep) : 1;
    const model_list *m = &t->models;
    for (size_t i = 0; t->schedule && i < settings; i++) {
        lk_generate_options o = t->base;
        if (t->sweep) lk_sweep_apply(t->sweep, i, &o);
        if (!lk_schedule_check(t->schedule, (const char *const *)m->name, (int)m->count, o.steps,
                               &t->error))
            return failed(t);
    }
    return STATUS_DONE;
}

static int open_all(task *t)
{
    lk_model_info info;
    if (!workplace_open(&t->work, &t->context_options, &t->error) ||
        !models_open(&t->models, t->work.context, t->vae, t->tokenizer, &t->error))
        return failed(t);
    lk_model_describe(t->models.opened[0], &info);
    if (!info.unconditional && !t->prompts.count)
        return fail(STATUS_WRONG_USAGE, "what should be in the picture? Say it with -p \"...\"");
    if (!t->prompts.count && !text_list_add(&t->prompts, "")) return no_memory();
    return STATUS_DONE;
}

/* Says each line of notes that was not said yet. */
static bool tell_notes(text_list *said, char *notes)
{
    for (char *line = notes, *end; line && (end = strchr(line, '\n')); line = end + 1) {
        bool known = false;
        *end = '\0';
        for (size_t i = 0; !known && i < said->count; i++) known = strcmp(said->item[i], line) == 0;
        if (known) continue;
        char *copy = strdup(line);
        if (!copy || !text_list_add(said, copy)) {
            free(copy);
            return false;
        }
        fail(STATUS_DONE, "warning: %s", line);
    }
    return true;
}

/* Rows differ in what can be wrong with them; a row's seeds do not. */
static int rows_check(task *t)
{
    text_list said = {0};
    int status = STATUS_DONE;
    for (size_t r = 0; status == STATUS_DONE && r < t->rows; r++) {
        const cell *c = &t->cells[r * t->seed_count];
        char *notes = NULL;
        bool ok = t->schedule ? lk_generate_check_mixed(t->work.session, t->models.opened,
                                                        (const char *const *)t->models.name,
                                                        (int)t->models.count, t->schedule,
                                                        &c->options, &notes, &t->error)
                              : lk_generate_check(t->work.session, t->models.opened[0], &c->options,
                                                  &notes, &t->error);
        if (!ok)
            status = failed(t);
        else if (!tell_notes(&said, notes))
            status = no_memory();
        lk_free(notes);
    }
    for (size_t i = 0; i < said.count; i++) free((char *)(uintptr_t)said.item[i]);
    free(said.item);
    return status;
}

/* Writes what was made, to where no other run has written meanwhile. */
static bool cell_save(task *t, cell *c)
{
    output *out = &c->out;
    if (!output_recheck(&t->outputs, out, lk_image_settings(c->picture))) {
        no_memory();
        return false;
    }
    bool ok = lk_image_save(c->picture, out->path[0], &t->error) &&
              (!out->path[1] || lk_image_save_latents(c->picture, out->path[1], &t->error));
    if (!ok) failed(t);
    return ok;
}

static int on_progress(void *user, const lk_progress *p)
{
    task *t = user;
    if (p->picture < p->pictures) {
        const cell *c = &t->cells[p->picture];
        progress_show(&t->line, p, c->what, c->options.steps);
    }
    return interrupt_seen();
}

static int on_made(void *user, size_t i, lk_image *picture)
{
    task *t = user;
    cell *c = &t->cells[i];
    progress_clear(&t->line);
    c->picture = picture;
    if (!cell_save(t, c)) return t->status = STATUS_FAILED;
    puts(c->out.path[0]);
    fflush(stdout);
    t->made++;
    if (!t->grid) lk_image_close(&c->picture);
    return 0;
}

static int run(task *t, lk_job *jobs, const lk_job **job)
{
    lk_many_options o;
    lk_many_defaults(&o);
    o.made = on_made;
    o.progress = on_progress;
    o.user = t;
    for (size_t i = 0; i < t->count; i++) {
        lk_job_defaults(&jobs[i]);
        jobs[i].models = t->models.opened;
        jobs[i].names = (const char *const *)t->models.name;
        jobs[i].count = t->schedule ? (int)t->models.count : 1;
        jobs[i].schedule = t->schedule;
        jobs[i].options = &t->cells[i].options;
        job[i] = &jobs[i];
    }
    bool ok = lk_generate_many(t->work.session, job, t->count, &o, &t->error);
    progress_clear(&t->line);
    if (ok || t->status != STATUS_DONE)
        return t->status; /* a picture could not be saved: that was said */
    if (t->error.code != LK_CANCELLED) return failed(t);
    return fail(STATUS_INTERRUPTED, "stopped; %zu of %zu pictures are done", t->made, t->count);
}

static int cells_run(task *t)
{
    lk_job *jobs = calloc(t->count, sizeof *jobs);
    const lk_job **job = calloc(t->count, sizeof *job);
    int status = jobs && job ? run(t, jobs, job) : no_memory();
    free(jobs);
    free(job);
    return status;
}

static int grid_write(task *t)
{
    const lk_image **picture = calloc(t->count, sizeof *picture);
    lk_image *grid = NULL;
    char *about = picture ? grid_settings(t) : NULL;
    for (size_t i = 0; picture && i < t->count; i++) picture[i] = t->cells[i].picture;
    bool ok = about &&
              lk_image_grid(&grid, picture, (int)t->rows, (int)t->seed_count,
                            (const char *const *)t->row_label, (const char *const *)t->seed_label,
                            &t->error) &&
              lk_image_set_settings(grid, about, &t->error);
    if (about && !ok) failed(t);
    if (!picture || (ok && !output_recheck(&t->outputs, &t->grid_file, about))) {
        no_memory();
        ok = false;
    }
    if (ok && !lk_image_save(grid, t->grid_file.path[0], &t->error)) {
        failed(t);
        ok = false;
    }
    lk_image_close(&grid);
    lk_free(about);
    free(picture);
    if (ok) puts(t->grid_file.path[0]);
    return ok ? STATUS_DONE : STATUS_FAILED;
}

static int work(task *t)
{
    progress_start(&t->line);
    interrupt_watch();
    int status = cells_run(t);
    if (status == STATUS_DONE && t->grid) status = grid_write(t);
    if (status == STATUS_DONE && fflush(stdout) != 0)
        status = fail(STATUS_FAILED, "standard output cannot be written");
    return status;
}

/* ---- all of it ----------------------------------------------------------------------------- */

/* Whether a word of the list is -1, which "42-100" has not. */
static bool has_random_seed(const char *list)
{
    for (const char *p = list; (p = strchr(p, '-')); p++)
        if (p == list || strchr(", ", p[-1])) return true;
    return false;
}

static int prepare(task *t)
{
    if (t->init_latents && !lk_latents_open(&t->latents, t->init_latents, &t->error))
        return failed(t);
    t->base.latents = t->latents;
    if (!lk_seeds_parse(&t->seeds, &t->seed_count, t->seed_text, &t->error)) return failed(t);
    for (size_t i = 0; has_random_seed(t->seed_text) && i < t->seed_count; i++)
        fprintf(stderr, "seed %llu\n", (unsigned long long)t->seeds[i]);
    if (t->sweep_text && !lk_sweep_parse(&t->sweep, t->sweep_text, &t->base, &t->error))
        return failed(t);
    int status = models_read(&t->models, t->schedule ? "--schedule" : NULL);
    if (status == STATUS_DONE) status = schedule_check(t);
    if (status == STATUS_DONE) status = open_all(t);
    if (status == STATUS_DONE) status = cells_make(t);
    if (status == STATUS_DONE) status = names_check(t);
    if (status == STATUS_DONE) status = rows_check(t);
    if (status == STATUS_DONE) status = outputs_check(t);
    if (status == STATUS_DONE) status = folders_check(t);
    return status;
}

static void task_free(task *t)
{
    for (size_t i = 0; t->cells && i < t->count; i++) {
        free(t->cells[i].what);
        output_close(&t->cells[i].out);
        lk_image_close(&t->cells[i].picture);
    }
    free(t->cells);
    for (size_t r = 0; t->row_label && r < t->rows; r++) free(t->row_label[r]);
    free(t->row_label);
    for (size_t i = 0; t->seed_label && i < t->seed_count; i++) free(t->seed_label[i]);
    free(t->seed_label);
    output_close(&t->grid_file);
    outputs_close(&t->outputs);
    models_close(&t->models);
    workplace_close(&t->work);
    lk_latents_close(&t->latents);
    lk_sweep_close(&t->sweep);
    lk_free(t->seeds);
    free(t->prompts.item);
    free(t->rest.item);
}

int command_generate(int argc, char **argv)
{
    task t = {.steps = NOT_GIVEN, .seed_text = "42", .precision = "f32", .output = ""};
    lk_generate_defaults(&t.base);
    lk_context_defaults(&t.context_options);
    t.context_options.log = tell_warning;
    t.guidance = t.base.guidance;
    int status = flags_read(&t, argc, argv);
    if (status == STATUS_DONE && t.help) {
        fputs(help, stdout);
    } else {
        if (status == STATUS_DONE) status = flags_check(&t);
        if (status == STATUS_DONE) status = prepare(&t);
        if (status == STATUS_DONE) status = work(&t);
    }
    task_free(&t);
    return status;
}
