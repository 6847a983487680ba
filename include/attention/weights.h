/* libattention: weights in and out of safetensors files.
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * A safetensors file is a header (JSON: names, dtypes, shapes, offsets, and string metadata) followed by the
 * bytes of the tensors. It holds no code and is read here with every rule of the format enforced, so a file from
 * anywhere can be opened: a broken one answers ATTN_ERROR_FORMAT, within time and memory bounded by its size.
 *
 *   attn_weights_open -> attn_weights_load_layer -> attn_layer_forward      from a file to a running layer
 *   attn_weights_open -> attn_weights_find -> attn_weights_read             any tensor
 *   attn_weights_write, attn_weights_save_layer                             back to a file
 *
 * Rules enforced on reading: a regular file; header length at most ATTN_WEIGHTS_HEADER_LIMIT and inside the file;
 * header valid UTF-8 JSON, an object, opened by '{' and padded by whitespace alone; no duplicate key; __metadata__ a
 * map of strings to strings; each tensor exactly dtype, shape and data_offsets; at most ATTN_WEIGHTS_MAX_RANK
 * dimensions, none negative or -0; sizes whose product fits; offsets that span exactly that size (of a dtype that is
 * not in the list below: nothing where there are no elements, something where there are); tensors that cover the rest
 * of the file without hole, overlap or remainder; at most ATTN_WEIGHTS_VALUE_LIMIT JSON values.
 * The format allows names that are empty and strings that hold NUL: they are refused, by a message that says so.
 *
 * Threads: an open file may be used by many threads at once; opening and closing it is the caller's to order.
 * Memory: malloc. The header is held in parsed form, tensors are not kept.
 * Byte order: files are little-endian, and so must the machine be.
 */
#ifndef ATTENTION_WEIGHTS_H
#define ATTENTION_WEIGHTS_H

#include "attention/attention.h"

#ifdef __cplusplus
extern "C" {
#endif

#define ATTN_WEIGHTS_HEADER_LIMIT 100000000 /* bytes, the format's own limit */
#define ATTN_WEIGHTS_VALUE_LIMIT 4000000    /* JSON values in a header: about half a million tensors */
#define ATTN_WEIGHTS_MAX_RANK 16

typedef enum attn_weights_dtype {
    ATTN_WEIGHTS_BOOL = 0, /* one byte, 0 or 1 */
    ATTN_WEIGHTS_U8 = 1,
    ATTN_WEIGHTS_I8 = 2,
    ATTN_WEIGHTS_U16 = 3,
    ATTN_WEIGHTS_I16 = 4,
    ATTN_WEIGHTS_U32 = 5,
    ATTN_WEIGHTS_I32 = 6,
    ATTN_WEIGHTS_U64 = 7,
    ATTN_WEIGHTS_I64 = 8,
    ATTN_WEIGHTS_F16 = 9,
    ATTN_WEIGHTS_BF16 = 10,
    ATTN_WEIGHTS_F32 = 11,
    ATTN_WEIGHTS_F64 = 12,
    /* Tensors of these are listed with all that the header says of them; their data is neither read nor written. */
    ATTN_WEIGHTS_C64 = 13, /* two F32 */
    ATTN_WEIGHTS_F8_E4M3 = 14,
    ATTN_WEIGHTS_F8_E5M2 = 15,
    ATTN_WEIGHTS_F8_E8M0 = 16,
    ATTN_WEIGHTS_F8_E4M3FNUZ = 17,
    ATTN_WEIGHTS_F8_E5M2FNUZ = 18,
    ATTN_WEIGHTS_F6_E2M3 = 19, /* packed, as the following */
    ATTN_WEIGHTS_F6_E3M2 = 20,
    ATTN_WEIGHTS_F4 = 21,
    ATTN_WEIGHTS_UNKNOWN = 22 /* any other name: attn_weights_tensor.dtype_name */
} attn_weights_dtype;

/* The dtype's name in a file, such as "BF16"; "" for ATTN_WEIGHTS_UNKNOWN and a value that is none. */
ATTN_API const char *attn_weights_dtype_name(attn_weights_dtype dtype);

/* Bytes of one element; 0 where an element is no whole number of them, for ATTN_WEIGHTS_UNKNOWN and a value that is
 * none. */
ATTN_API size_t attn_weights_dtype_size(attn_weights_dtype dtype);

/* One tensor of a file. The strings and arrays belong to the file and live as long as it is open. */
typedef struct attn_weights_tensor {
    const char *name; /* UTF-8, not empty */
    attn_weights_dtype dtype;
    int rank;
    int64_t shape[ATTN_WEIGHTS_MAX_RANK]; /* the first rank entries; the rest are 0 */
    size_t elements;                      /* product of the shape; 1 for rank 0 */
    size_t bytes;                         /* elements times the dtype's size, which counts over the whole tensor */
    const char *dtype_name;               /* as the file has it: UTF-8, anything for ATTN_WEIGHTS_UNKNOWN */
} attn_weights_tensor;

/* ---- Reading ------------------------------------------------------------------------------------- */

typedef struct attn_weights_file attn_weights_file;

/* Map the file, so that attn_weights_view works and loading copies nothing. If another process shortens a mapped
 * file, touching what is gone ends this process by SIGBUS: map only files that nobody rewrites in place. Without
 * this flag every byte goes through read calls, and a shortened file is an ATTN_ERROR_IO. */
#define ATTN_WEIGHTS_MAP UINT64_C(1)

/* Opens a file for reading. FIFOs, devices and directories are refused without waiting for them.
 * Free with attn_weights_close. On error *file is NULL.
 * ATTN_ERROR_INVALID_ARGUMENT, ATTN_ERROR_UNSUPPORTED (unknown flag), ATTN_ERROR_IO, ATTN_ERROR_FORMAT,
 * ATTN_ERROR_OUT_OF_MEMORY. */
ATTN_API attn_status attn_weights_open(const char *path, uint64_t flags, attn_weights_file **file);

/* The same from a descriptor of a regular file, read from its beginning. The descriptor is duplicated and its
 * position left alone: the caller may close its own at once. */
ATTN_API attn_status attn_weights_open_fd(int descriptor, uint64_t flags, attn_weights_file **file);

/* The same from size bytes of memory, which must stay unchanged while the file is open. Views point into it. */
ATTN_API attn_status attn_weights_open_memory(const void *data, size_t size, attn_weights_file **file);

/* Closes; NULL is a no-op. Views of a mapped file end here. */
ATTN_API void attn_weights_close(attn_weights_file *file);

/* How many tensors the file holds; 0 for NULL. */
ATTN_API size_t attn_weights_count(const attn_weights_file *file);

/* Tensor index, in the order of the data; NULL past the end. */
ATTN_API const attn_weights_tensor *attn_weights_tensor_at(const attn_weights_file *file, size_t index);

/* The tensor of that name; NULL when there is none (no message is left: absence is an answer). */
ATTN_API const attn_weights_tensor *attn_weights_find(const attn_weights_file *file, const char *name);

/* How many metadata strings the file holds; 0 for NULL. */
ATTN_API size_t attn_weights_metadata_count(const attn_weights_file *file);

/* Metadata index in the order of the file: its key, and its value in *value unless that is NULL. NULL past the end. */
ATTN_API const char *attn_weights_metadata_at(const attn_weights_file *file, size_t index, const char **value);

/* The metadata of that key; NULL when there is none. */
ATTN_API const char *attn_weights_metadata(const attn_weights_file *file, const char *key);

/* Reads a whole tensor into the caller's buffer of size bytes, which must hold its elements as dtype; more is left
 * alone. dtype is the tensor's own, or a wider float: F16 and BF16 as F32 or F64, F32 as F64, all exact.
 * No alignment is needed. After ATTN_ERROR_IO the buffer's content is unspecified.
 * ATTN_ERROR_INVALID_ARGUMENT (NULL, or a tensor of another file), ATTN_ERROR_RANGE (the buffer is too small),
 * ATTN_ERROR_UNSUPPORTED (a conversion that is not in the list, a dtype that is listed alone), ATTN_ERROR_OVERFLOW,
 * ATTN_ERROR_IO. */
ATTN_API attn_status attn_weights_read(const attn_weights_file *file, const attn_weights_tensor *tensor,
                                       attn_weights_dtype dtype, void *buffer, size_t size);

/* Points *data at the tensor's bytes, of a file that was mapped or opened from memory. The format does not align
 * tensors: *data may be unaligned for its dtype (files that this library writes are aligned).
 * ATTN_ERROR_INVALID_ARGUMENT, ATTN_ERROR_UNSUPPORTED (neither mapped nor memory, a dtype that is listed alone). */
ATTN_API attn_status attn_weights_view(const attn_weights_file *file, const attn_weights_tensor *tensor,
                                       const void **data);

/* ---- Writing ------------------------------------------------------------------------------------- */

typedef struct attn_weights_entry {
    const char *name;
    attn_weights_dtype dtype;
    int rank;
    const int64_t *shape; /* may be NULL for rank 0 */
    const void *data;     /* dense, row-major; may be NULL without elements */
} attn_weights_entry;

typedef struct attn_weights_metadata_entry {
    const char *key;
    const char *value;
} attn_weights_metadata_entry;

/* Writes a file: all of it or nothing. The bytes go to a file of the same folder that has no name, are synced, and
 * take the name at once; a reader sees the old file or the new one, and a process that ends on the way leaves none
 * (where the file system has no files without a name, it may leave one called .attention-*.tmp with a random part).
 * Tensors come in the order that the format's reference implementation has: by dtype U64, I64, F64, F32, U32, I32,
 * BF16, F16, U16, I16, I8, U8, BOOL, then by name in byte order, so that each is aligned and the same input gives the
 * same bytes, the reference's own but for metadata, which is sorted by key. metadata may be NULL when metadata_count
 * is 0. An existing path must be a regular file that may be written; the new one gets its mode and owner. A symbolic
 * link is replaced, not followed. In the calling thread SIGXFSZ is blocked while it writes, so that a limit on file
 * sizes is an error, and every signal for the moment in which names change; the handlers are not touched.
 * ATTN_ERROR_INVALID_ARGUMENT (NULL, names that are empty, duplicate, reserved or not UTF-8), ATTN_ERROR_SHAPE,
 * ATTN_ERROR_OVERFLOW, ATTN_ERROR_UNSUPPORTED (dtype), ATTN_ERROR_RANGE (past a limit of the format), ATTN_ERROR_IO,
 * ATTN_ERROR_OUT_OF_MEMORY. */
ATTN_API attn_status attn_weights_write(const char *path, const attn_weights_entry *tensors, size_t count,
                                        const attn_weights_metadata_entry *metadata, size_t metadata_count);

/* ---- The layer ----------------------------------------------------------------------------------- */

#define ATTN_ANY (-1) /* a field of attn_weights_layer_options: take what the file holds */

#define ATTN_WEIGHTS_REFUSE_NAN UINT64_C(1) /* a NaN among the weights is an ATTN_ERROR_MISMATCH, not counted */

/* What the caller expects of a layer. */
typedef struct attn_weights_layer_options {
    size_t struct_size;
    uint64_t flags;         /* ATTN_WEIGHTS_REFUSE_NAN; an unknown bit is refused */
    int score;              /* an attn_score, or ATTN_ANY: by the tensors' names. ATTN_SCORE_DOT must be asked for */
    attn_dtype dtype;       /* what the weights are given as; narrower floats of the file are widened, F64 never narrowed */
    int64_t features;       /* D, or ATTN_ANY, as the following */
    int64_t query_features; /* Dq */
    int64_t score_width;    /* A, bahdanau only */
    int64_t units;          /* U; 0: there must be no w_c */
} attn_weights_layer_options;

#ifdef __cplusplus
#define ATTN_WEIGHTS_LAYER_OPTIONS_INIT attn_weights_layer_options_init()
#else
#define ATTN_WEIGHTS_LAYER_OPTIONS_INIT                                                                           \
    {.struct_size = sizeof(attn_weights_layer_options), .score = ATTN_ANY, .features = ATTN_ANY,                  \
     .query_features = ATTN_ANY, .score_width = ATTN_ANY, .units = ATTN_ANY}
#endif

/* A layer's weights, with the sizes that a descriptor of a plan takes. */
typedef struct attn_weights_layer {
    size_t struct_size;
    attn_score score;
    attn_dtype dtype;
    int64_t features;       /* D */
    int64_t query_features; /* Dq */
    int64_t score_width;    /* A; 0 but for bahdanau */
    int64_t units;          /* U; 0: no w_c */
    uint64_t nan_count;     /* NaN among the weights */
    void *storage;          /* the library's; freed by attn_weights_layer_free */
    attn_layer_weights weights;
} attn_weights_layer;

#ifdef __cplusplus
#define ATTN_WEIGHTS_LAYER_INIT attn_weights_layer_init()
#else
#define ATTN_WEIGHTS_LAYER_INIT                                                                                   \
    {.struct_size = sizeof(attn_weights_layer), .weights = ATTN_LAYER_WEIGHTS_INIT}
#endif

/* Loads one attention layer.
 *
 *     tensor                  shape                 score
 *     <prefix>/luong_w        (D, Dq)               luong
 *     <prefix>/bahdanau_v     (A, 1) or (A)         bahdanau
 *     <prefix>/bahdanau_w1    (Dq, A)               bahdanau
 *     <prefix>/bahdanau_w2    (D, A)                bahdanau
 *     <prefix>/w_c            (D + Dq, U)           any; absent: units 0
 *
 * The score follows from the names, D, Dq, A and U from the shapes; they are checked against each other and against
 * options (NULL: anything) before anything large is allocated. prefix NULL takes the only layer of the file; "" takes
 * names without a prefix. Dot has no weights of its own, so w_c alone is taken for it only when options say so (D = Dq
 * is then half the rows of w_c); a dot layer of units 0 has nothing to load.
 * The weights are copies, aligned to ATTN_WORKSPACE_ALIGNMENT, independent of the file; of a mapped file
 * (ATTN_WEIGHTS_MAP) or memory, tensors of the right dtype and alignment are views, which end when it is closed.
 * Free with attn_weights_layer_free. On error *layer is left as it was.
 * ATTN_ERROR_INVALID_ARGUMENT, ATTN_ERROR_UNSUPPORTED, ATTN_ERROR_NOT_FOUND (no such layer, or part of it),
 * ATTN_ERROR_MISMATCH (shapes or dtypes against each other or against options, several layers for prefix NULL, NaN
 * where refused), ATTN_ERROR_IO, ATTN_ERROR_OUT_OF_MEMORY. */
ATTN_API attn_status attn_weights_load_layer(const attn_weights_file *file, const char *prefix,
                                             const attn_weights_layer_options *options, attn_weights_layer *layer);

/* Frees what attn_weights_load_layer allocated and clears the pointers; NULL is a no-op. */
ATTN_API void attn_weights_layer_free(attn_weights_layer *layer);

/* Writes one layer as attn_weights_load_layer reads it, under prefix (NULL or "": names without one), by
 * attn_weights_write: same input, same bytes. Sizes are taken from the structure. Statuses of attn_weights_write. */
ATTN_API attn_status attn_weights_save_layer(const char *path, const char *prefix, const attn_weights_layer *layer,
                                             const attn_weights_metadata_entry *metadata, size_t metadata_count);

/* The initialisers for C++, which has no designated ones before C++20. */
#ifdef __cplusplus
static inline attn_weights_layer_options attn_weights_layer_options_init() {
    attn_weights_layer_options options = attn_weights_layer_options();
    options.struct_size = sizeof options;
    options.score = ATTN_ANY;
    options.features = options.query_features = options.score_width = options.units = ATTN_ANY;
    return options;
}

static inline attn_weights_layer attn_weights_layer_init() {
    attn_weights_layer layer = attn_weights_layer();
    layer.struct_size = sizeof layer;
    layer.weights = attn_layer_weights_init();
    return layer;
}
#endif

#ifdef __cplusplus
}
#endif

#endif
