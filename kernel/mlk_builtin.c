// SPDX-License-Identifier: GPL-2.0-only
/*
 * Programs that are part of the kernel: a model that has one is in service from the
 * moment it is registered, without anybody in user space.
 */
#include <linux/string.h>
#include <linux/vmalloc.h>

#include "mlk_core.h"

/* mlk_images.h, made by Kbuild, has MLK_IMAGE(number, model, file) for each */
#define MLK_IMAGE(i, name, file) \
	asm(".pushsection .rodata\n" \
	    ".balign 16\n" \
	    "mlk_image_" #i ":\n" \
	    ".incbin \"" file "\"\n" \
	    "mlk_image_" #i "_end:\n" \
	    ".popsection\n"); \
	extern const u8 mlk_image_##i[], mlk_image_##i##_end[];
#include "mlk_images.h"
#undef MLK_IMAGE

static const struct {
	const char *name;
	const u8 *start;
	const u8 *end;
} images[] = {
#define MLK_IMAGE(i, name, file) { name, mlk_image_##i, mlk_image_##i##_end },
#include "mlk_images.h"
#undef MLK_IMAGE
};

/* The states and the mode in which a built-in program decides */
static int mlk_builtin_start(struct mlk_model *model)
{
	static const enum mlk_command commands[] = { MLK_CMD_INIT,
						     MLK_CMD_START,
						     MLK_CMD_RUN };
	int mode = match_string(mlk_mode_words, MLK_RECOMMENDATION + 1,
				MLK_IMAGES_MODE);
	int i, err;

	if (mode < 0)
		return mode;
	for (i = 0; i < ARRAY_SIZE(commands); i++) {
		err = mlk_state_change(model, commands[i]);
		if (err)
			return err;
	}
	return mlk_mode_request(model, mode);
}

/* If it fails the model is as any other: out of service, with its default. */
void mlk_builtin_load(struct mlk_model *model)
{
	const u8 *start;
	void *image;
	size_t size;
	int i, err;

	for (i = 0; i < ARRAY_SIZE(images); i++)
		if (!strcmp(images[i].name, model->name))
			break;
	if (i == ARRAY_SIZE(images))
		return;
	start = images[i].start;
	size = images[i].end - start;
	image = vmalloc(size);
	err = -ENOMEM;
	if (image) {
		memcpy(image, start, size);
		mutex_lock(&model->mutex);
		err = mlk_image_load(model, image, size);
		if (!err)
			err = mlk_builtin_start(model);
		mutex_unlock(&model->mutex);
	}
	if (err)
		pr_warn("mlk: built-in program of %s: %d, %s\n", model->name,
			err, model->program_text);
}
