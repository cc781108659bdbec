/* SPDX-License-Identifier: Apache-2.0
 *
 * adapter: see adapter.h. */
#include "model/adapter.h"

#include <stdio.h>
#include <string.h>

#define KOHYA "a LoRA (kohya)"
#define LOCON ".lora_mid.weight" /* beside .lora_down, where convolutions are changed */

/* A module is counted by one of its tensors, the one with this ending; `rank_dim` of it is the rank
 * (-1: of none). The first ending that fits counts. */
typedef struct ending {
    const char *text;
    int rank_dim;
    const char *what;
} ending;

static const ending endings[] = {
    {".hada_w1_a", 1, "a LoHa (LyCORIS)"},
    {".lokr_w1", -1, "a LoKr (LyCORIS)"},
    {".lokr_w1_a", 1, "a LoKr (LyCORIS)"},
    {".on_input", -1, "an (IA)^3 (LyCORIS)"},
    {LOCON, 0, ""},
    {".lora_down.weight", 0, KOHYA},
    {"_lora.down.weight", 0, "a LoRA (diffusers before 0.22)"},
    {".lora.down.weight", 0, "a LoRA (diffusers)"},
    {".lora_linear_layer.down.weight", 0, "a LoRA (diffusers)"},
    {".lora_A.weight", 0, "a LoRA (PEFT)"},
    {".lora_A.default.weight", 0, "a LoRA (PEFT)"},
    {":down", 0, "a LoRA (cloneofsimo)"},
};

static const ending *ending_of(const char *name)
{
    size_t length = strlen(name);
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        size_t n = strlen(endings[i].text);
        if (length > n && !strcmp(name + length - n, endings[i].text)) return &endings[i];
    }
    return NULL;
}

/* lora_te_, lora_te1_, text_encoder., text_encoder:, base_model.model.text_model. ... */
static bool is_text(const char *name)
{
    return !strncmp(name, "lora_te", 7) || strstr(name, "text_encoder") ||
           strstr(name, "text_model") || !strncmp(name, "te_", 3);
}

static void take_rank(adapter *a, const safetensors_entry *t, int dim)
{
    if (dim < 0 || dim >= t->rank) return;
    int64_t rank = t->dim[dim];
    if (!a->rank_low || rank < a->rank_low) a->rank_low = rank;
    if (rank > a->rank_high) a->rank_high = rank;
}

adapter adapter_look(const weight_files *files)
{
    adapter a = {0};
    bool mid = false, wide = false; /* what tells a LoCon */
    const safetensors_entry *t;
    for (size_t i = 0; (t = weight_files_entry(files, i)); i++) {
        const ending *found = ending_of(t->name);
        a.dora = a.dora || strstr(t->name, ".dora_scale") || strstr(t->name, ".lora_magnitude_");
        if (!found) continue;
        if (!strcmp(found->text, LOCON)) {
            mid = true;
            continue;
        }
        if (!a.what) a.what = found->what;
        wide = wide || (t->rank == 4 && (t->dim[2] > 1 || t->dim[3] > 1));
        take_rank(&a, t, found->rank_dim);
        *(is_text(t->name) ? &a.text : &a.unet) += 1;
        a.xl = a.xl || !strncmp(t->name, "lora_te2_", 9) || strstr(t->name, "text_encoder_2");
    }
    if (a.what && !strcmp(a.what, KOHYA) && (mid || wide))
        a.what = "a LoRA of convolutions too (LoCon)";
    return a;
}

void adapter_text(const adapter *a, char *out, size_t size)
{
    int n = snprintf(out, size, "%s%s%s", a->what, a->dora ? " with lengths (DoRA)" : "",
                     a->xl ? " for Stable Diffusion XL" : "");
    if (a->rank_low && a->rank_low == a->rank_high)
        n += snprintf(out + n, size - (size_t)n, ", rank %lld", (long long)a->rank_low);
    else if (a->rank_low)
        n += snprintf(out + n, size - (size_t)n, ", ranks %lld to %lld", (long long)a->rank_low,
                      (long long)a->rank_high);
    if (a->unet && a->text)
        snprintf(out + n, size - (size_t)n, ", %zu modules of the UNet and %zu of the text encoder",
                 a->unet, a->text);
    else
        snprintf(out + n, size - (size_t)n, ", %zu modules of the %s", a->unet + a->text,
                 a->unet ? "UNet" : "text encoder");
}
