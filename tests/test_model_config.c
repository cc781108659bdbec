/* SPDX-License-Identifier: Apache-2.0
 *
 * Configurations: the published ones, defaults where a file says nothing, and a refusal by name for
 * everything that would mean other mathematics. */
#include "support.h"

#include <jansson.h>

#include "device/device.h"
#include "model/config.h"

static char path[1100];

static void setup_path(void) { snprintf(path, sizeof path, "%s/config.json", scratch_dir()); }

static void write_text(const char *text)
{
    setup_path();
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

/* The base object with some fields laid over it. */
static void write_merged(const char *base, const char *over)
{
    json_t *root = json_loads(base, 0, NULL), *changes = json_loads(over, 0, NULL);
    assert_non_null(root);
    if (!changes) fail_msg("not JSON: %s", over);
    json_object_update(root, changes);
    char *text = json_dumps(root, 0);
    write_text(text);
    free(text);
    json_decref(root);
    json_decref(changes);
}

static void expect(bool ok, const error *e, const char *part, const char *over)
{
    if (ok) fail_msg("%s was taken", over);
    if (!strstr(e->text, part) || !strstr(e->text, "config.json") || strchr(e->text, '\n'))
        fail_msg("\"%s\" does not say \"%s\"", e->text, part);
}

static void good(bool ok, const error *e)
{
    if (!ok) fail_msg("%s", e->text);
}

/* ---- UNet ---- */

static const char sd1[] =
    "{\"_class_name\":\"UNet2DConditionModel\",\"_diffusers_version\":\"0.6.0\",\"act_fn\":"
    "\"silu\","
    "\"attention_head_dim\":8,\"block_out_channels\":[320,640,1280,1280],\"center_input_sample\":"
    "false,"
    "\"cross_attention_dim\":768,\"down_block_types\":[\"CrossAttnDownBlock2D\","
    "\"CrossAttnDownBlock2D\","
    "\"CrossAttnDownBlock2D\",\"DownBlock2D\"],\"downsample_padding\":1,\"flip_sin_to_cos\":true,"
    "\"freq_shift\":0,\"in_channels\":4,\"layers_per_block\":2,\"mid_block_scale_factor\":1,"
    "\"norm_eps\":1e-05,\"norm_num_groups\":32,\"out_channels\":4,\"sample_size\":64,\"up_block_"
    "types\":"
    "[\"UpBlock2D\",\"CrossAttnUpBlock2D\",\"CrossAttnUpBlock2D\",\"CrossAttnUpBlock2D\"]}";

static const char cat[] =
    "{\"_class_name\":\"UNet2DModel\",\"_diffusers_version\":\"0.0.4\",\"act_fn\":\"silu\","
    "\"attention_head_dim\":null,\"block_out_channels\":[128,128,256,256,512,512],"
    "\"center_input_sample\":false,\"down_block_types\":[\"DownBlock2D\",\"DownBlock2D\","
    "\"DownBlock2D\","
    "\"DownBlock2D\",\"AttnDownBlock2D\",\"DownBlock2D\"],\"downsample_padding\":0,\"flip_sin_to_"
    "cos\":false,"
    "\"freq_shift\":1,\"in_channels\":3,\"layers_per_block\":2,\"mid_block_scale_factor\":1,\"norm_"
    "eps\":1e-06,"
    "\"norm_num_groups\":32,\"out_channels\":3,\"sample_size\":256,\"time_embedding_type\":"
    "\"positional\","
    "\"up_block_types\":[\"UpBlock2D\",\"AttnUpBlock2D\",\"UpBlock2D\",\"UpBlock2D\",\"UpBlock2D\","
    "\"UpBlock2D\"]}";

static unet_config read_unet(const char *base, const char *over)
{
    unet_config c;
    error e = {0};
    write_merged(base, over);
    good(unet_config_read(&c, path, &e), &e);
    return c;
}

/* Member by member: what lies between them is nobody's. */
static void same_unet(const unet_config *a, const unet_config *b)
{
#define SAME(member) assert_memory_equal(&a->member, &b->member, sizeof a->member)
    SAME(conditional), SAME(in_channels), SAME(out_channels), SAME(sample_size), SAME(blocks);
    SAME(channels), SAME(layers), SAME(down_attention), SAME(up_attention), SAME(heads);
    SAME(head_size), SAME(transformer_layers), SAME(cross_dim), SAME(linear_projection);
    SAME(mid_block), SAME(mid_attention), SAME(groups), SAME(eps), SAME(downsample_padding);
    SAME(flip_sin_to_cos), SAME(freq_shift);
#undef SAME
}

static void published_unets(void **state)
{
    (void)state;
    unet_config want, c = read_unet(sd1, "{}");
    unet_config_sd1(&want);
    same_unet(&c, &want);
    c = read_unet(cat, "{}");
    assert_false(c.conditional);
    assert_int_equal(c.blocks, 6);
    assert_int_equal(c.head_size, 0);
    assert_int_equal(c.downsample_padding, 0);
    assert_int_equal(c.sample_size, 256);
    assert_true(c.down_attention[4] && !c.down_attention[3] && c.up_attention[1] &&
                c.mid_attention);
    assert_true(c.eps == 1e-6f && c.freq_shift == 1 && !c.flip_sin_to_cos);
}

static void unet_defaults(void **state)
{
    (void)state;
    unet_config want,
        c = read_unet("{\"_class_name\":\"UNet2DConditionModel\",\"cross_attention_dim\":768}",
                      "{}");
    unet_config_sd1(&want);
    same_unet(&c, &want);
    c = read_unet("{\"_class_name\":\"UNet2DModel\",\"sample_size\":32}", "{}");
    assert_int_equal(c.channels[0], 224);
    assert_int_equal(c.head_size, 8);
    assert_true(!c.down_attention[0] && c.down_attention[1] && c.up_attention[0] &&
                !c.up_attention[3]);
    assert_int_equal(c.downsample_padding, 1);
    c = read_unet("{\"sample_size\":32}", "{}"); /* no class: a UNet2DModel */
    assert_false(c.conditional);
}

static void unet_variants(void **state)
{
    (void)state;
    /* files of the first versions say 32 and mean 64; later ones mean what they say */
    assert_int_equal(read_unet(sd1, "{\"sample_size\":32}").sample_size, 64);
    assert_int_equal(
        read_unet(sd1, "{\"sample_size\":32,\"_diffusers_version\":\"0.10.2\"}").sample_size, 32);
    assert_int_equal(read_unet(sd1, "{\"sample_size\":[96,96]}").sample_size, 96);
    unet_config c = read_unet(sd1,
                              "{\"attention_head_dim\":[5,10,20,20],\"layers_per_block\":[1,2,3,4],"
                              "\"transformer_layers_per_block\":[1,2,3,1],\"cross_attention_dim\":"
                              "[768,768,768,768],\"use_linear_projection\":true}");
    assert_int_equal(c.heads[2], 20);
    assert_int_equal(c.layers[3], 4);
    assert_int_equal(c.transformer_layers[1], 2);
    assert_true(c.linear_projection && c.cross_dim == 768);
    c = read_unet(sd1, "{\"mid_block_type\":null}");
    assert_false(c.mid_block);
    c = read_unet(sd1, "{\"mid_block_type\":\"UNetMidBlock2D\"}");
    assert_true(c.mid_block && !c.mid_attention);
    c = read_unet(
        cat, "{\"add_attention\":false,\"attention_head_dim\":64,\"down_block_types\":["
             "\"UNetResDownBlock2D\","
             "\"DownBlock2D\",\"DownBlock2D\",\"DownBlock2D\",\"DownBlock2D\",\"DownBlock2D\"]}");
    assert_true(!c.mid_attention && c.head_size == 64);
}

static void unet_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *base, *over, *part;
    } list[] = {
        {sd1, "{\"in_channels\":8}", "this is an InstructPix2Pix model"},
        {sd1, "{\"cross_attention_dim\":1024}", "this is Stable Diffusion 2"},
        {sd1, "{\"addition_embed_type\":\"text_time\"}", "this is Stable Diffusion XL"},
        {sd1, "{\"_class_name\":\"SD3Transformer2DModel\"}", "this is Stable Diffusion 3"},
        {sd1, "{\"_class_name\":\"FluxTransformer2DModel\"}", "this is Flux"},
        {sd1, "{\"_class_name\":\"UNet3DConditionModel\"}",
         "\"UNet3DConditionModel\", which is not supported"},
        {sd1, "{\"addition_embed_type\":\"text\"}",
         "\"addition_embed_type\" is \"text\", which is not supported"},
        {sd1, "{\"class_embed_type\":\"timestep\"}", "\"class_embed_type\" is \"timestep\""},
        {sd1, "{\"num_class_embeds\":1000}", "\"num_class_embeds\" is 1000"},
        {sd1, "{\"dual_cross_attention\":true}", "\"dual_cross_attention\" is true"},
        {sd1, "{\"only_cross_attention\":[true,true,true,false]}",
         "\"only_cross_attention\" is [true,true"},
        {sd1, "{\"resnet_time_scale_shift\":\"scale_shift\"}",
         "\"resnet_time_scale_shift\" is \"scale_shift\""},
        {sd1, "{\"time_embedding_type\":\"fourier\"}", "\"time_embedding_type\" is \"fourier\""},
        {sd1, "{\"time_cond_proj_dim\":256}", "\"time_cond_proj_dim\" is 256"},
        {sd1, "{\"num_attention_heads\":8}", "\"num_attention_heads\" is 8"},
        {sd1, "{\"resnet_out_scale_factor\":1.4}", "\"resnet_out_scale_factor\" is 1.4"},
        {sd1, "{\"encoder_hid_dim\":512}", "\"encoder_hid_dim\" is 512"},
        {sd1, "{\"attention_type\":\"gated\"}", "\"attention_type\" is \"gated\""},
        {sd1, "{\"center_input_sample\":true}", "\"center_input_sample\" is true"},
        {sd1, "{\"conv_in_kernel\":5}", "\"conv_in_kernel\" is 5"},
        {sd1, "{\"act_fn\":\"mish\"}", "\"act_fn\" is \"mish\""},
        {sd1, "{\"cross_attention_dim\":[768,768,768,512]}", "differs between blocks"},
        {sd1, "{\"layers_per_block\":[1,2]}",
         "\"layers_per_block\" has 2 entries; there are 4 blocks"},
        {sd1, "{\"layers_per_block\":\"two\"}",
         "\"layers_per_block\" should be an integer, not a string"},
        {sd1, "{\"layers_per_block\":[2,2,2.5,2]}", "should be an integer"},
        {sd1, "{\"block_out_channels\":[320,640]}",
         "\"down_block_types\" has 4 entries, \"block_out_channels\" 2"},
        {sd1, "{\"block_out_channels\":[]}", "\"block_out_channels\" has 0 entries"},
        {sd1, "{\"block_out_channels\":320}", "\"block_out_channels\" should be a list"},
        {sd1, "{\"block_out_channels\":[320,640,1280,1281]}", "1281 channels do not divide"},
        {sd1, "{\"block_out_channels\":[320,640,1280,99999999]}", "it should be in 1..16384"},
        {sd1, "{\"attention_head_dim\":7}", "do not divide into 7 attention heads"},
        {sd1,
         "{\"down_block_types\":[\"CrossAttnDownBlock2D\",\"SimpleCrossAttnDownBlock2D\","
         "\"DownBlock2D\","
         "\"DownBlock2D\"]}",
         "names block \"SimpleCrossAttnDownBlock2D\", which is not supported"},
        {sd1, "{\"up_block_types\":[1,2,3,4]}", "should be a list of strings"},
        {sd1, "{\"up_block_types\":\"UpBlock2D\"}", "\"up_block_types\" should be a list"},
        {sd1, "{\"mid_block_type\":\"UNetMidBlock2DSimpleCrossAttn\"}",
         "\"UNetMidBlock2DSimpleCrossAttn\""},
        {sd1, "{\"norm_eps\":\"small\"}", "\"norm_eps\" should be a number, not a string"},
        {sd1, "{\"flip_sin_to_cos\":1}",
         "\"flip_sin_to_cos\" should be true or false, not an integer"},
        {sd1, "{\"sample_size\":[64,96]}", "\"sample_size\" is 64x96"},
        {sd1, "{\"_class_name\":[]}", "\"_class_name\" should be a string, not a list"},
        {sd1, "{\"downsample_padding\":2}", "\"downsample_padding\" is 2"},
        {cat, "{\"downsample_type\":\"resnet\"}", "\"downsample_type\" is \"resnet\""},
        {cat, "{\"attn_norm_num_groups\":8}", "\"attn_norm_num_groups\" is 8"},
        {cat, "{\"attention_head_dim\":60}", "attention heads of size 60"},
        {cat, "{\"sample_size\":null}", "\"sample_size\" is missing"},
        {cat, "{\"down_block_types\":[\"SkipDownBlock2D\",\"a\",\"a\",\"a\",\"a\",\"a\"]}",
         "\"SkipDownBlock2D\""},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        unet_config c;
        error e = {0};
        write_merged(list[i].base, list[i].over);
        expect(unet_config_read(&c, path, &e), &e, list[i].part, list[i].over);
    }
}

/* ---- VAE, text encoder ---- */

static const char vae[] =
    "{\"_class_name\":\"AutoencoderKL\",\"_diffusers_version\":\"0.6.0\",\"act_fn\":\"silu\","
    "\"block_out_channels\":[128,256,512,512],\"down_block_types\":[\"DownEncoderBlock2D\","
    "\"DownEncoderBlock2D\",\"DownEncoderBlock2D\",\"DownEncoderBlock2D\"],\"in_channels\":3,"
    "\"latent_channels\":4,\"layers_per_block\":2,\"norm_num_groups\":32,\"out_channels\":3,"
    "\"sample_size\":512,"
    "\"up_block_types\":[\"UpDecoderBlock2D\",\"UpDecoderBlock2D\",\"UpDecoderBlock2D\","
    "\"UpDecoderBlock2D\"]}";

static void autoencoders(void **state)
{
    (void)state;
    vae_config c, want;
    error e = {0};
    write_text(vae);
    good(vae_config_read(&c, path, &e), &e);
    vae_config_sd1(&want);
    assert_memory_equal(&c, &want, sizeof c);
    write_merged(vae, "{\"scaling_factor\":0.5,\"shift_factor\":0.25,\"use_quant_conv\":false,"
                      "\"use_post_quant_conv\":false,\"mid_block_add_attention\":false}");
    good(vae_config_read(&c, path, &e), &e);
    assert_true(c.scaling_factor == 0.5f && c.shift_factor == 0.25f);
    assert_false(c.quant_conv || c.post_quant_conv || c.mid_attention);
    write_text("{}");
    good(vae_config_read(&c, path, &e), &e);
    assert_true(c.blocks == 1 && c.channels[0] == 64 && c.layers == 1);
    static const char *const bad[][2] = {
        {"{\"_class_name\":\"AutoencoderTiny\"}", "\"AutoencoderTiny\", which is not supported"},
        {"{\"act_fn\":\"relu\"}", "\"act_fn\" is \"relu\""},
        {"{\"norm_num_groups\":48}", "128 channels do not divide"},
        {"{\"scaling_factor\":0}", "\"scaling_factor\" should be above 0"},
        {"{\"scaling_factor\":true}", "\"scaling_factor\" should be a number, not a boolean"},
        {"{\"down_block_types\":[\"AttnDownEncoderBlock2D\",\"a\",\"a\",\"a\"]}",
         "\"AttnDownEncoderBlock2D\""},
        {"{\"latent_channels\":0}", "\"latent_channels\" is 0"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        e = (error){0};
        write_merged(vae, bad[i][0]);
        expect(vae_config_read(&c, path, &e), &e, bad[i][1], bad[i][0]);
    }
}

static const char text[] =
    "{\"architectures\":[\"CLIPTextModel\"],\"bos_token_id\":0,\"eos_token_id\":2,\"hidden_act\":"
    "\"quick_gelu\","
    "\"hidden_size\":768,\"intermediate_size\":3072,\"layer_norm_eps\":1e-05,\"max_position_"
    "embeddings\":77,"
    "\"model_type\":\"clip_text_model\",\"num_attention_heads\":12,\"num_hidden_layers\":12,\"pad_"
    "token_id\":1,"
    "\"projection_dim\":768,\"torch_dtype\":\"float32\",\"vocab_size\":49408}";

static void text_encoders(void **state)
{
    (void)state;
    clip_config c, want;
    error e = {0};
    write_text(text);
    good(clip_config_read(&c, path, &e), &e);
    clip_config_sd1(&want);
    assert_memory_equal(&c, &want, sizeof c);
    write_text(
        "{\"model_type\":\"clip\",\"text_config\":{\"hidden_size\":96,\"hidden_act\":\"gelu\"}}");
    good(clip_config_read(&c, path, &e), &e);
    assert_true(c.hidden == 96 && c.activation == UNARY_GELU && c.heads == 8 &&
                c.intermediate == 2048);
    static const char *const bad[][2] = {
        {"{\"model_type\":\"t5\"}", "\"model_type\" is \"t5\""},
        {"{\"hidden_act\":\"relu\"}", "\"hidden_act\" is \"relu\""},
        {"{\"num_attention_heads\":7}", "\"hidden_size\" 768 does not divide into 7 heads"},
        {"{\"vocab_size\":-1}", "\"vocab_size\" is -1"},
        {"{\"hidden_size\":\"wide\"}", "\"hidden_size\" should be an integer, not a string"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        e = (error){0};
        write_merged(text, bad[i][0]);
        expect(clip_config_read(&c, path, &e), &e, bad[i][1], bad[i][0]);
    }
}

/* ---- scheduler ---- */

static void schedulers(void **state)
{
    (void)state;
    scheduler_config c;
    error e = {0};
    write_text(
        "{\"_class_name\":\"PNDMScheduler\",\"beta_end\":0.012,\"beta_schedule\":\"scaled_linear\","
        "\"beta_start\":0.00085,\"num_train_timesteps\":1000,\"set_alpha_to_one\":false,"
        "\"skip_prk_steps\":true,\"steps_offset\":1,\"trained_betas\":null,\"clip_sample\":false}");
    good(scheduler_config_read(&c, path, &e), &e);
    assert_string_equal(c.class_name, "PNDMScheduler");
    assert_true(c.beta_start == 0.00085f && c.betas == BETA_SCALED_LINEAR && !c.trained_betas);
    assert_true(c.has_steps_offset && c.steps_offset == 1 && c.has_clip_sample && !c.clip_sample);
    assert_true(!c.has_spacing && !c.has_variance && c.predicts == PREDICT_EPSILON);
    write_text("{}");
    good(scheduler_config_read(&c, path, &e), &e);
    assert_true(c.train_steps == 1000 && c.betas == BETA_LINEAR && c.beta_start == 1e-4f &&
                c.beta_end == 0.02f);
    assert_false(c.has_steps_offset || c.has_clip_sample || c.has_set_alpha_to_one);
    write_text("{\"num_train_timesteps\":3,\"trained_betas\":[0.1,0.2,0.3],\"timestep_spacing\":"
               "\"trailing\","
               "\"variance_type\":\"learned_range\",\"prediction_type\":\"v_prediction\","
               "\"rescale_betas_zero_snr\":true,\"thresholding\":true}");
    good(scheduler_config_read(&c, path, &e), &e);
    assert_true(c.trained_betas[2] == 0.3f && c.spacing == SPACING_TRAILING && c.has_spacing);
    assert_true(c.variance == VARIANCE_LEARNED_RANGE && c.predicts == PREDICT_V && c.zero_snr);
    assert_true(c.thresholding && c.threshold_ratio == 0.995f);
    scheduler_config_close(&c);
    static const char *const bad[][2] = {
        {"{\"beta_schedule\":\"cosine\"}",
         "\"beta_schedule\" is \"cosine\", which is not supported (linear, "
         "scaled_linear, squaredcos_cap_v2, sigmoid are)"},
        {"{\"prediction_type\":\"flow_prediction\"}", "\"prediction_type\" is \"flow_prediction\""},
        {"{\"timestep_spacing\":3}", "\"timestep_spacing\" should be a string, not an integer"},
        {"{\"num_train_timesteps\":0}", "\"num_train_timesteps\" is 0"},
        {"{\"beta_end\":1.5}", "should lie between 0 and 1"},
        {"{\"beta_start\":-0.1}", "should lie between 0 and 1"},
        {"{\"trained_betas\":[0.1]}", "\"trained_betas\" should be a list of"},
        {"{\"num_train_timesteps\":2,\"trained_betas\":[0.1,\"x\"]}", "\"trained_betas\" entry 1"},
        {"{\"clip_sample\":\"no\"}", "\"clip_sample\" should be true or false"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        e = (error){0};
        write_text(bad[i][0]);
        expect(scheduler_config_read(&c, path, &e), &e, bad[i][1], bad[i][0]);
        assert_null(c.trained_betas);
    }
    scheduler_config_sd1(&c);
    assert_true(c.betas == BETA_SCALED_LINEAR && c.steps_offset == 1);
}

/* ---- files that are no configuration at all ---- */

static void not_json(void **state)
{
    (void)state;
    unet_config c;
    static const char *const bad[][2] = {
        {"", "not valid JSON"},
        {"{\"a\":1", "not valid JSON (line 1"},
        {"[]", "should be a JSON object"},
        {"{\"a\":1,\"a\":2}", "not valid JSON"},
        {"{\"a\":1e999}", "not valid JSON"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        error e = {0};
        write_text(bad[i][0]);
        expect(unet_config_read(&c, path, &e), &e, bad[i][1], bad[i][0]);
    }
    char *bomb = malloc(200001);
    memset(bomb, '[', 200000);
    bomb[200000] = 0;
    error e = {0};
    write_text(bomb);
    free(bomb);
    expect(unet_config_read(&c, path, &e), &e, "not valid JSON", "a JSON bomb");
    e = (error){0};
    setup_path();
    expect(unet_config_read(&c, path, &e), &e, "config.json", "a missing file");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_unets), cmocka_unit_test(unet_defaults),
        cmocka_unit_test(unet_variants),   cmocka_unit_test(unet_refusals),
        cmocka_unit_test(autoencoders),    cmocka_unit_test(text_encoders),
        cmocka_unit_test(schedulers),      cmocka_unit_test(not_json),
    };
    return cmocka_run_group_tests_name("configurations", tests, NULL, NULL);
}
