/* SPDX-License-Identifier: Apache-2.0 */
#include "examples/plot/canvas.h"

#include <errno.h>
#include <png.h>
#include <string.h>

bool canvas_write(const canvas *c, const char *path) {
    if (!c->pixels) {
        errno = ENOMEM;
        return false;
    }
    png_image image;
    memset(&image, 0, sizeof image);
    image.version = PNG_IMAGE_VERSION;
    image.width = (png_uint_32)c->width, image.height = (png_uint_32)c->height;
    image.format = PNG_FORMAT_RGB;
    errno = 0;
    if (png_image_write_to_file(&image, path, 0, c->pixels, 0, NULL)) return true;
    if (!errno) errno = EIO;
    return false;
}
