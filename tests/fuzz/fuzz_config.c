/* SPDX-License-Identifier: Apache-2.0 */
/* Any text as a model's configuration: parsed or refused. */
#include "tools/attention-convert/config.h"
#include "tools/attention-convert/pool.h"
#include "tools/attention-convert/report.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    report result = {0};
    refuge here = {.report = &result};
    char *text = malloc(size + 1);
    memcpy(text, data, size);
    text[size] = '\0';
    reader_refuge = &here;
    if (setjmp(here.escape) == 0) {
        const config_model *model = config_parse(text);
        for (size_t i = 0; model && i < model->count; i++)
            if (!model->layers[i].name || !model->layers[i].class_name || !snake_case(model->layers[i].class_name))
                abort();
    } else if (result.code == 0 || !*result.message)
        abort();
    config_release();
    pool_release();
    free(text);
    return 0;
}
