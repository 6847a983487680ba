/* SPDX-License-Identifier: Apache-2.0 */
/* attention-convert: Keras files to safetensors and back. */
#include "attention/weights.h"
#include "bounds.h"
#include "lib/quote.h"
#include "sandbox.h"
#include "shards.h"
#include "tools/streams.h"
#include "tools/table.h"
#include "write_h5.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char usage[] =
    "Usage: attention-convert [--layer NAME] MODEL WEIGHTS.safetensors\n"
    "       attention-convert --list FILE\n"
    "       attention-convert WEIGHTS.safetensors MODEL.h5\n"
    "\n"
    "Converts the weights of a Keras model with attention layers to safetensors, and back.\n"
    "MODEL is a .h5, .weights.h5 or .keras file of Keras 2.8 to 2.15, or tf_keras to 2.21. The format is told by the "
    "content.\n"
    "\n"
    "  --layer NAME  convert this layer alone\n"
    "  --list        show what a file holds, of either kind\n"
    "  --help        this text\n"
    "  --version     the version of libattention\n"
    "\n"
    "Tensors are named LAYER/WEIGHT: luong_w, w_c, bahdanau_v, bahdanau_w1, bahdanau_w2, kernel, recurrent_kernel,\n"
    "bias, embeddings; after forward_ or backward_ in a Bidirectional layer.\n"
    "\n"
    "Exit codes: 0 done; 1 wrong usage; 2 the file is broken or uses what is not read; 3 it holds no such layer;\n"
    "            4 opening, reading or writing failed; 5 it needs more time or memory than is allowed.\n";

typedef struct arguments {
    const char *layer, *input, *output;
    bool list;
} arguments;

static int fail(int code, const char *subject, const char *message) {
    char quoted_subject[ATTN_QUOTE_SIZE];
    fprintf(stderr, "attention-convert: %s: %s\n", attn_quote(quoted_subject, subject), message);
    return code;
}

static int code_of(attn_status status) {
    switch (status) {
    case ATTN_OK:
        return EXIT_CONVERTED;
    case ATTN_ERROR_IO:
        return EXIT_IO;
    case ATTN_ERROR_OUT_OF_MEMORY:
        return EXIT_LIMIT;
    default:
        return EXIT_REFUSED;
    }
}

static bool ends_in(const char *text, const char *end) {
    const size_t length = strlen(text), end_length = strlen(end);
    return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

/* ---- From Keras ---- */

static void print_notes(const char *notes) {
    for (const char *line = notes; *line;) {
        const size_t length = strcspn(line, "\n");
        char text[256];
        snprintf(text, sizeof text, "%.*s", (int)(length < 200 ? length : 200), line);
        char quoted_text[ATTN_QUOTE_SIZE];
        fprintf(stderr, "attention-convert: note: %s\n",
                strlen(text) < ATTN_QUOTE_SIZE - 4 ? attn_quote(quoted_text, text) : text);
        line += length + (line[length] == '\n');
    }
}

/* The file is the product; what is said of it needs no reader. */
static void say_done(const char *output, size_t count) {
    if (streams_has_output()) printf("%s: %zu tensors\n", output, count);
}

/* Copies what the reader made, checked like any file, to where it belongs. */
static attn_status save_copy(const attn_weights_file *made, const char *path) {
    const size_t count = attn_weights_count(made), metadata_count = attn_weights_metadata_count(made);
    attn_weights_entry *entries = calloc(count + 1, sizeof *entries);
    attn_weights_metadata_entry *metadata = calloc(metadata_count + 1, sizeof *metadata);
    attn_status status = entries && metadata ? ATTN_OK : ATTN_ERROR_OUT_OF_MEMORY;
    for (size_t i = 0; i < count && status == ATTN_OK; ++i) {
        const attn_weights_tensor *tensor = attn_weights_tensor_at(made, i);
        entries[i] = (attn_weights_entry){
            .name = tensor->name, .dtype = tensor->dtype, .rank = tensor->rank, .shape = tensor->shape};
        status = attn_weights_view(made, tensor, &entries[i].data);
    }
    for (size_t i = 0; i < metadata_count && status == ATTN_OK; ++i)
        metadata[i].key = attn_weights_metadata_at(made, i, &metadata[i].value);
    if (status == ATTN_OK) status = attn_weights_write(path, entries, count, metadata, metadata_count);
    free(entries);
    free(metadata);
    return status;
}

static int from_keras(int input, size_t size, const arguments *wanted) {
    report result;
    int made = -1;
    if (size > LIMIT_FILE) return fail(EXIT_LIMIT, wanted->input, "is larger than 1 GiB");
    const reader_options options = {.layer = wanted->layer, .list = wanted->list};
    const int code = sandbox_run(input, size, &options, &result, &made);
    if (code != EXIT_CONVERTED) return fail(code, wanted->input, result.message);
    attn_weights_file *file;
    attn_status status = attn_weights_open_fd(made, ATTN_WEIGHTS_MAP, &file);
    close(made);
    if (status != ATTN_OK) return fail(EXIT_REFUSED, wanted->input, attn_last_error_message());
    print_notes(result.notes);
    shards_report(wanted->input);
    if (wanted->list)
        table_print(file);
    else
        status = save_copy(file, wanted->output);
    const size_t count = attn_weights_count(file);
    attn_weights_close(file);
    if (status != ATTN_OK) return fail(code_of(status), wanted->output, attn_last_error_message());
    if (!wanted->list) say_done(wanted->output, count);
    return EXIT_CONVERTED;
}

/* ---- From safetensors ---- */

/* What is told of a file that is neither: by its start, or by its name where TensorFlow's checkpoints have theirs. */
static const char *name_other(int input, const char *path) {
    char start[4096] = {0};
    if (pread(input, start, sizeof start - 1, 0) > 0 && start[0] == '{' && strstr(start, "\"weight_map\""))
        return "is the list of shards of a Keras 3 model, whose weights lie in several files; in Python: "
               "m.load_weights(\"model.weights.json\"); m.save_weights(\"model.weights.h5\")";
    if (ends_in(path, ".index") || strstr(path, ".data-0"))
        return "is a part of a TensorFlow checkpoint, which TensorFlow alone reads; in Python, with the model built: "
               "m.load_weights(PREFIX); m.save_weights(\"model.h5\")";
    return "is neither a Keras file nor safetensors";
}

static int from_safetensors(int input, const arguments *wanted) {
    attn_weights_file *file;
    attn_status status = attn_weights_open_fd(input, 0, &file);
    if (status != ATTN_OK)
        return fail(code_of(status), wanted->input,
                    status == ATTN_ERROR_FORMAT ? name_other(input, wanted->input) : attn_last_error_message());
    int code = EXIT_CONVERTED;
    report result = {0};
    if (wanted->list) {
        table_print(file);
    } else if (!ends_in(wanted->output, ".h5")) {
        code = fail(EXIT_USAGE, wanted->output, "the input is safetensors, so this must be a .h5 file");
    } else if (wanted->layer) {
        code = fail(EXIT_USAGE, "--layer", "works from Keras files only");
    } else if ((code = write_h5(file, wanted->output, &result)) != EXIT_CONVERTED) {
        fail(code, wanted->output, result.message);
    } else {
        print_notes(result.notes);
        say_done(wanted->output, attn_weights_count(file));
    }
    attn_weights_close(file);
    return code;
}

/* ---- Start ---- */

static int convert(const arguments *wanted) {
    struct stat about;
    const int input = open(wanted->input, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (input < 0) return fail(EXIT_IO, wanted->input, strerrordesc_np(errno));
    int code;
    if (fstat(input, &about) != 0)
        code = fail(EXIT_IO, wanted->input, strerrordesc_np(errno));
    else if (S_ISDIR(about.st_mode) && faccessat(input, "saved_model.pb", F_OK, 0) == 0)
        code = fail(EXIT_REFUSED, wanted->input,
                    "is a SavedModel folder, which TensorFlow alone reads; in Python, with TensorFlow 2.15: "
                    "m = tf.keras.models.load_model(FOLDER); m.save(\"model.h5\")");
    else if (!S_ISREG(about.st_mode))
        code = fail(EXIT_IO, wanted->input, "is not a regular file");
    else {
        char start;
        if (pread(input, &start, 1, 0) < 0)
            code = fail(EXIT_IO, wanted->input, strerrordesc_np(errno));
        else if (!reader_knows(input, (size_t)about.st_size))
            code = from_safetensors(input, wanted);
        else if (wanted->output && !ends_in(wanted->output, ".safetensors"))
            code = fail(EXIT_USAGE, wanted->output, "the input is a Keras file, so this must be a .safetensors file");
        else
            code = from_keras(input, (size_t)about.st_size, wanted);
    }
    close(input);
    return code;
}

int main(int count, char **values) {
    static const struct option options[] = {
        {"layer", required_argument, NULL, 'l'},
        {"list", no_argument, NULL, 't'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'v'},
        {NULL, 0, NULL, 0},
    };
    arguments wanted = {0};
    streams_begin("attention-convert", EXIT_IO);
    for (int option; (option = getopt_long(count, values, "", options, NULL)) != -1;) {
        switch (option) {
        case 'l':
            wanted.layer = optarg;
            break;
        case 't':
            wanted.list = true;
            break;
        case 'h':
            fputs(usage, stdout);
            return EXIT_CONVERTED;
        case 'v':
            printf("attention-convert (libattention) %s\n", attn_version());
            return EXIT_CONVERTED;
        default:
            fputs(usage, stderr);
            return EXIT_USAGE;
        }
    }
    const int files = count - optind;
    if (files != (wanted.list ? 1 : 2)) {
        fputs(usage, stderr);
        return EXIT_USAGE;
    }
    wanted.input = values[optind];
    wanted.output = wanted.list ? NULL : values[optind + 1];
    return convert(&wanted);
}
