/* SPDX-License-Identifier: Apache-2.0
 *
 * lora_names: see lora_names.h. A name is a prefix (which network), a module, and an ending (which
 * part of the change); modules are compared with underscores for dots, since kohya writes them so.
 */
#include "model/lora_names.h"

#include <stdio.h>
#include <string.h>

static const struct ending {
    const char *text;
    lora_part part;
} endings[] = {
    {".lora_down.weight", LORA_DOWN},
    {".lora_up.weight", LORA_UP},
    {".lora_mid.weight", LORA_MID},
    {".alpha", LORA_ALPHA},
    {".dora_scale", DORA_SCALE},
    {".lora_magnitude_vector", DORA_OUTPUT},
    {".lora_magnitude_vector.weight", DORA_OUTPUT},
    {".lora_magnitude_vector.default.weight", DORA_OUTPUT},
    {"_lora.down.weight", LORA_DOWN},
    {"_lora.up.weight", LORA_UP},
    {".lora.down.weight", LORA_DOWN},
    {".lora.up.weight", LORA_UP},
    {".lora_linear_layer.down.weight", LORA_DOWN},
    {".lora_linear_layer.up.weight", LORA_UP},
    {".lora_A.weight", LORA_DOWN},
    {".lora_B.weight", LORA_UP},
    {".lora_A.default.weight", LORA_DOWN},
    {".lora_B.default.weight", LORA_UP},
    {".hada_w1_a", LOHA_1A},
    {".hada_w1_b", LOHA_1B},
    {".hada_w2_a", LOHA_2A},
    {".hada_w2_b", LOHA_2B},
    {".hada_t1", LOHA_T1},
    {".hada_t2", LOHA_T2},
    {".lokr_w1", LOKR_1},
    {".lokr_w1_a", LOKR_1A},
    {".lokr_w1_b", LOKR_1B},
    {".lokr_w2", LOKR_2},
    {".lokr_w2_a", LOKR_2A},
    {".lokr_w2_b", LOKR_2B},
    {".lokr_t2", LOKR_T2},
};

/* Longest first where one begins with another; without one of the last kind a name tells by itself
 * whether it is the text encoder's. */
static const struct prefix {
    const char *text;
    network network;
    bool open; /* the module's own name tells the network */
} prefixes[] = {
    {"lora_unet_", NETWORK_UNET, false},
    {"lora_te1_", NETWORK_CLIP, false},
    {"lora_te_", NETWORK_CLIP, false},
    {"unet.", NETWORK_UNET, false},
    {"text_encoder.", NETWORK_CLIP, false},
    {"base_model.model.", NETWORK_UNET, true},
    {"", NETWORK_UNET, true},
};

/* Takes `what` out of the text, once, and puts `with` in its place. */
static void replace(char text[NAME_LENGTH], const char *what, const char *with)
{
    char *at = strstr(text, what), rest[NAME_LENGTH];
    if (!at) return;
    snprintf(rest, sizeof rest, "%s", at + strlen(what));
    snprintf(at, NAME_LENGTH - (size_t)(at - text), "%s%s", with, rest);
}

/* diffusers' attention processors name a layer by its role. */
static void from_processor(lora_name *n)
{
    static const char *const roles[][3] = {{".to_q", ".to_q", ".q_proj"},
                                           {".to_k", ".to_k", ".k_proj"},
                                           {".to_v", ".to_v", ".v_proj"},
                                           {".to_out", ".to_out.0", ".out_proj"}};
    replace(n->key, ".processor", "");
    size_t length = strlen(n->key);
    for (int i = 0; i < 4; i++) {
        size_t role = strlen(roles[i][0]);
        if (length <= role || strcmp(n->key + length - role, roles[i][0]) != 0) continue;
        snprintf(n->key + length - role, NAME_LENGTH - (length - role), "%s",
                 roles[i][n->network == NETWORK_CLIP ? 2 : 1]);
        return;
    }
}

static void flatten(char key[NAME_LENGTH])
{
    for (; *key; key++)
        if (*key == '.') *key = '_';
}

static bool read_numbered(lora_name *out, const char *name)
{
    static const struct {
        const char *format;
        network network;
    } kinds[] = {{"unet:%d:%7[a-z]%n", NETWORK_UNET}, {"text_encoder:%d:%7[a-z]%n", NETWORK_CLIP}};
    for (int i = 0; i < 2; i++) {
        char what[8];
        int index, end = 0;
        if (sscanf(name, kinds[i].format, &index, what, &end) != 2 || name[end] || index < 0)
            continue;
        bool down = !strcmp(what, "down");
        if (!down && strcmp(what, "up") != 0) continue;
        *out = (lora_name){
            .part = down ? LORA_DOWN : LORA_UP, .network = kinds[i].network, .index = index};
        return true;
    }
    return false;
}

bool lora_name_read(lora_name *out, const char *name)
{
    const struct ending *e = NULL;
    const struct prefix *p = prefixes;
    size_t length = strlen(name), end = 0;
    if (read_numbered(out, name)) return true;
    for (size_t i = 0; !e && i < sizeof endings / sizeof *endings; i++) {
        end = strlen(endings[i].text);
        if (length > end && !strcmp(name + length - end, endings[i].text)) e = &endings[i];
    }
    if (!e || length >= NAME_LENGTH - 16) return false;
    while (strncmp(name, p->text, strlen(p->text)) != 0) p++;
    size_t begin = strlen(p->text);
    if (begin + end >= length) return false;
    *out = (lora_name){.part = e->part, .network = p->network, .index = -1};
    snprintf(out->key, sizeof out->key, "%.*s", (int)(length - end - begin), name + begin);
    if (p->open && !strncmp(out->key, "text_model.", 11)) out->network = NETWORK_CLIP;
    if (e->text[0] == '_' || strstr(out->key, ".processor.")) from_processor(out);
    flatten(out->key);
    return true;
}

bool lora_key_of(const char *weight_name, char out[NAME_LENGTH])
{
    size_t length = strlen(weight_name), end = strlen(".weight");
    if (length <= end || strcmp(weight_name + length - end, ".weight") != 0) return false;
    snprintf(out, NAME_LENGTH, "%.*s", (int)(length - end), weight_name);
    flatten(out);
    return true;
}

/* ---- cloneofsimo's count ---- */

static uint64_t unet_place(const char *name, bool late)
{
    static const struct {
        const char *name;
        int early, late;
    } layers[] = {{"attn1.to_q", 1, 1},     {"attn1.to_k", 2, 2},    {"attn1.to_v", 3, 3},
                  {"attn1.to_out.0", 4, 4}, {"ff.net.0.proj", 5, 9}, {"attn2.to_q", 6, 5},
                  {"attn2.to_k", 7, 6},     {"attn2.to_v", 8, 7},    {"attn2.to_out.0", 9, 8}};
    int group = 0, block = 0, attention, depth, at = 0;
    if (sscanf(name, "down_blocks.%d.attentions.%d.transformer_blocks.%d.%n", &block, &attention,
               &depth, &at) == 3 &&
        at)
        group = 1;
    else if (sscanf(name, "up_blocks.%d.attentions.%d.transformer_blocks.%d.%n", &block, &attention,
                    &depth, &at) == 3 &&
             at)
        group = 2;
    else if (sscanf(name, "mid_block.attentions.%d.transformer_blocks.%d.%n", &attention, &depth,
                    &at) == 2 &&
             at)
        group = 3;
    for (size_t i = 0; group && i < sizeof layers / sizeof *layers; i++) {
        size_t n = strlen(layers[i].name);
        if (strncmp(name + at, layers[i].name, n) != 0 || strcmp(name + at + n, ".weight") != 0)
            continue;
        return (uint64_t)group << 32 | (uint64_t)(block & 0xff) << 24 |
               (uint64_t)(attention & 0xff) << 16 | (uint64_t)(depth & 0xff) << 8 |
               (uint64_t)(late ? layers[i].late : layers[i].early);
    }
    return 0;
}

static uint64_t clip_place(const char *name)
{
    static const char *const layers[] = {"k_proj.weight", "v_proj.weight", "q_proj.weight",
                                         "out_proj.weight"};
    int layer, at = 0;
    if (sscanf(name, "text_model.encoder.layers.%d.self_attn.%n", &layer, &at) != 1 || !at)
        return 0;
    for (uint64_t i = 0; i < 4; i++)
        if (!strcmp(name + at, layers[i])) return (uint64_t)(layer & 0xffff) << 8 | (i + 1);
    return 0;
}

uint64_t lora_place(network n, const char *weight_name, bool late)
{
    return n == NETWORK_UNET ? unet_place(weight_name, late) : clip_place(weight_name);
}
