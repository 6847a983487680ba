/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a Keras file, through the sandbox as the program reads them: an answer within the limits, and a sound
 * weights file when it is yes. libhdf5 may fail on broken files; here that must stay an answer. */
#include "attention/weights.h"
#include "tools/attention-convert/sandbox.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const reader_options options = {.layer = NULL};
    if (!reader_knows(data, size)) return 0;
    report result;
    int made = -1;
    const int input = memfd_create("input", MFD_CLOEXEC);
    if (input < 0 || write(input, data, size) != (ssize_t)size) abort();
    const int code = sandbox_run(input, size, &options, &result, &made);
    close(input);
    if (code != EXIT_CONVERTED) {
        if (code < EXIT_REFUSED || code > EXIT_LIMIT || !*result.message) abort();
        return 0;
    }
    attn_weights_file *file;
    if (attn_weights_open_fd(made, 0, &file) != ATTN_OK || attn_weights_count(file) == 0) abort();
    attn_weights_close(file);
    close(made);
    return 0;
}
