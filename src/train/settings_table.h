/* SPDX-License-Identifier: Apache-2.0
 *
 * settings_table: every setting of a training, once. What includes this says what SETTING makes of
 * a line, as often as it wants; flags, help, ranges, plans' keys, checkpoints and docs/TRAINING.md
 * follow from it.
 *
 *     SETTING(name, kind, effect, standard, range, advice, value, group, help)
 *
 * name: of the field and the flag. kind: SETTING_kind. effect: EFFECT_effect, when it can change a
 * byte of the trained model. standard: its default; texts have none. range: what its numbers may
 * be. advice: what a message says besides, NULL: nothing. value: what stands for it in help, NULL:
 * it is a switch. group: GROUP_group. */
SETTING(instance_data_dir, TEXT, NEVER, 0, ANY, NULL, "DIR", WHAT, "pictures of the subject")
SETTING(instance_prompt, TEXT, ALWAYS, 0, ANY, NULL, "TEXT", WHAT,
        "what they show: \"a photo of sks dog\"")
SETTING(class_data_dir, TEXT, NEVER, 0, ANY, NULL, "DIR", PRIOR, "where they are, or will be")
SETTING(class_prompt, TEXT, WITH_PRIOR, 0, ANY, NULL, "TEXT", PRIOR,
        "what they show: \"a photo of a dog\"")
SETTING(output_dir, TEXT, NEVER, 0, ANY, NULL, "DIR", WHERE,
        "the trained model, train.jsonl, train.json, checkpoint-N")
SETTING(resolution, INT, ALWAYS, 0, AT_LEAST_OR_NONE(8), "leave it out for the model's own size",
        "N", WHAT, "side of the pictures it trains on (default: the model's own)")
SETTING(center_crop, BOOL, ALWAYS, 0, ANY, NULL, NULL, WHAT,
        "the middle of each picture, not a random part")
SETTING(train_batch_size, INT, ALWAYS, 4, AT_LEAST(1), NULL, "N", LENGTH, "pictures at once")
SETTING(gradient_accumulation_steps, INT, ALWAYS, 1, AT_LEAST(1), NULL, "N", LENGTH,
        "batches an update")
SETTING(max_train_steps, LONG, ALWAYS, 0, AT_LEAST_OR_UNSET(1),
        "leave it out to train --num_train_epochs epochs", "N", LENGTH,
        "updates (default: as --num_train_epochs says)")
SETTING(num_train_epochs, INT, WITH_EPOCHS, 1, AT_LEAST(1), NULL, "N", LENGTH,
        "times through the pictures")
SETTING(learning_rate, DOUBLE, ALWAYS, 0, NUMBER_ABOVE_OR_UNSET(0),
        "try 5e-6, or 2e-6 together with --train_text_encoder", "X", LENGTH,
        "how far an update goes (default: 5e-6; with --lora_rank or --textual_inversion 5e-4)")
SETTING(scale_lr, BOOL, ALWAYS, 0, ANY, NULL, NULL, LENGTH, "times the pictures of an update")
SETTING(lr_scheduler, SCHEDULE, ALWAYS, RATE_CONSTANT, ANY, NULL, "NAME", LENGTH,
        "how the rate goes on")
SETTING(lr_warmup_steps, LONG, WITH_WARMUP, 500, AT_LEAST(0), NULL, "N", LENGTH,
        "updates in which it rises")
SETTING(lr_num_cycles, INT, WITH_CYCLES, 1, AT_LEAST(1), NULL, "N", LENGTH,
        "of cosine_with_restarts")
SETTING(lr_power, DOUBLE, WITH_POWER, 1, NUMBER_FROM(0), "1 is usual", "X", LENGTH, "of polynomial")
SETTING(optimizer, OPTIMIZER, ALWAYS, OPTIMIZER_ADAMW, ANY, NULL, "NAME", HOW,
        "adamw8bit takes a quarter of the memory for its state")
SETTING(adam_beta1, DOUBLE, ALWAYS, 0.9, NUMBER_FROM_TO(0, 1), "0.9 is usual", "X", HOW,
        "decay of the mean gradient")
SETTING(adam_beta2, DOUBLE, ALWAYS, 0.999, NUMBER_FROM_TO(0, 1), "0.999 is usual", "X", HOW,
        "decay of its square")
SETTING(adam_weight_decay, DOUBLE, ALWAYS, 1e-2, NUMBER_FROM(0), "1e-2 is usual", "X", HOW,
        "towards 0, each update")
SETTING(adam_epsilon, DOUBLE, ALWAYS, 1e-8, NUMBER_ABOVE(0), "1e-8 is usual", "X", HOW,
        "keeps from dividing by 0")
SETTING(max_grad_norm, DOUBLE, ALWAYS, 1, ABOVE(0),
        "1 is usual, and a very large number turns clipping off", "X", HOW,
        "longer gradients are shortened to it")
SETTING(seed, SEED, ALWAYS, 0, ANY, NULL, "N", HOW,
        "(default: from the clock, recorded; a run that goes on has its own)")
SETTING(train_text_encoder, BOOL, ALWAYS, 0, ANY, NULL, NULL, WHAT, "the text encoder too")
SETTING(lora_rank, INT, ALWAYS, 0, AT_LEAST_OR_UNSET(1),
        "4 is usual; without it all weights are trained", "N", LORA,
        "of the matrices that are trained, 4 is usual")
SETTING(lora_alpha, DOUBLE, WITH_LORA, 0, NUMBER_ABOVE_OR_UNSET(0), "leave it out for the rank's",
        "X", LORA, "they count X / rank times (default: the rank, so once)")
SETTING(output_kohya_format, BOOL, NEVER, 0, ANY, NULL, NULL, LORA,
        "in kohya's names too, for other programs")
SETTING(textual_inversion, BOOL, ALWAYS, 0, ANY, NULL, NULL, INVERSION,
        "a new word's rows of the text encoder's embedding alone")
SETTING(placeholder_token, TEXT, WITH_INVERSION, 0, ANY, NULL, "TEXT", INVERSION,
        "the new word: \"<dog>\"")
SETTING(initializer_token, TEXT, WITH_INVERSION, 0, ANY, NULL, "TEXT", INVERSION,
        "the word that it begins as: dog")
SETTING(learnable_property, TEXT, WITH_INVERSION, 0, ANY, NULL, "NAME", INVERSION,
        "object or style: what the prompts say that it is (default: object)")
SETTING(num_vectors, INT, WITH_INVERSION, 1, AT_LEAST(1), NULL, "N", INVERSION, "rows of the word")
SETTING(repeats, INT, WITH_INVERSION, 100, AT_LEAST(1), NULL, "N", INVERSION,
        "of every picture in an epoch")
SETTING(gradient_checkpointing, BOOL, NEVER, 0, ANY, NULL, NULL, HOW, "less memory, more time")
SETTING(snr_gamma, DOUBLE, ALWAYS, 0, NUMBER_FROM_OR_NONE(0),
        "5 is usual, and without the flag it is off", "X", HOW,
        "min-SNR weights, 5 is usual (default: off)")
SETTING(offset_noise, BOOL, ALWAYS, 0, ANY, NULL, NULL, HOW,
        "noise that is the same all over a picture, besides")
SETTING(offset_noise_factor, DOUBLE, WITH_OFFSET, 0.1, NUMBER, "0.1 is usual", "X", HOW,
        "how much of it")
SETTING(with_prior_preservation, BOOL, ALWAYS, 0, ANY, NULL, NULL, PRIOR,
        "on pictures of the class, too")
SETTING(prior_loss_weight, DOUBLE, WITH_PRIOR, 1, NUMBER_FROM(0), "1 is usual", "X", PRIOR,
        "against the subject's loss")
SETTING(num_class_images, INT, WITH_CLASS_PICTURES, 100, AT_LEAST(1), NULL, "N", PRIOR,
        "missing ones are made")
SETTING(prior_from_base, BOOL, ALWAYS, 0, ANY, NULL, NULL, PRIOR,
        "without pictures: the base model's own predictions are kept")
SETTING(cache_latents, BOOL, NEVER, 1, ANY, NULL, NULL, HOW,
        "pictures are encoded once where crops are fixed (the default)")
SETTING(checkpointing_steps, LONG, NEVER, 500, AT_LEAST(1), NULL, "N", WHERE,
        "updates from one checkpoint to the next")
SETTING(checkpoints_total_limit, INT, NEVER, 0, AT_LEAST_OR_NONE(1),
        "leave it out to keep all checkpoints", "N", WHERE,
        "older ones are removed (default: none is)")
SETTING(resume_from_checkpoint, TEXT, NEVER, 0, ANY, NULL, "NAME", WHERE,
        "latest, checkpoint-N, or a folder")
SETTING(validation_prompt, TEXT, NEVER, 0, ANY, NULL, "TEXT", WHERE,
        "of pictures that are made as it learns")
SETTING(num_validation_images, INT, NEVER, 4, AT_LEAST(1), NULL, "N", WHERE, "how many at once")
SETTING(validation_steps, LONG, NEVER, 100, AT_LEAST(1), NULL, "N", WHERE,
        "updates from one time to the next")
