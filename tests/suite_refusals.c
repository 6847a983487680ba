/* SPDX-License-Identifier: Apache-2.0 */
/* attention-convert: HDF5 files made to be refused, and spoiled files of both kinds: an error or a right result, never a crash. */
#include "tests/convert_files.h"
#include "tests/suite.h"

#include "tools/attention-convert/sandbox.h"

#include <hdf5.h>
#include <sys/mman.h>
#include <unistd.h>

#define MODELS TEST_DATA "/keras"

/* ---- Hostile files --------------------------------------------------------------------------------------------------------- */

/* A copy of a sound model whose luong_w has been removed, open for a test to put something else there. */
#define LUONG_W "/model_weights/attention/attention/luong_w/kernel:0"

static hid_t spoil(const char *path) {
    size_t size;
    char *data = read_file(MODELS "/sequential_luong_tf2.8.h5", &size);
    write_file(path, data, size);
    free(data);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    const hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    cr_assert(file >= 0 && H5Ldelete(file, LUONG_W, H5P_DEFAULT) >= 0);
    return file;
}

static void put(hid_t file, hid_t type, int rank, const hsize_t *shape, hid_t plan, bool write) {
    const hid_t space = rank ? H5Screate_simple(rank, shape, NULL) : H5Screate(H5S_SCALAR);
    const hid_t dataset = H5Dcreate2(file, LUONG_W, type, space, H5P_DEFAULT, plan, H5P_DEFAULT);
    float zeros[4096] = {0};
    cr_assert(dataset >= 0);
    if (write) cr_assert(H5Dwrite(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, zeros) >= 0);
    H5Dclose(dataset);
    H5Sclose(space);
}

static const hsize_t eight_by_eight[] = {8, 8};

static hid_t follow(const char *name, hid_t group, const void *data, size_t size, hid_t plan, hid_t transfer) {
    (void)name;
    (void)group;
    (void)data;
    (void)size;
    (void)plan;
    (void)transfer;
    return -1;
}

Test(refusals, links_are_refused) {
    const char *path = in_scratch("bad.h5");
    hid_t file = spoil(path);
    H5Lcreate_soft("/model_weights/lstm", file, LUONG_W, H5P_DEFAULT, H5P_DEFAULT);
    H5Fclose(file);
    expect_refusal(path, 2, "kernel:0: is a soft link");
    file = spoil(path);
    H5Lcreate_external("/etc/passwd", "/", file, LUONG_W, H5P_DEFAULT, H5P_DEFAULT);
    H5Fclose(file);
    expect_refusal(path, 2, "kernel:0: is an external link");
    const H5L_class_t own = {
        .version = H5L_LINK_CLASS_T_VERS, .id = H5L_TYPE_UD_MIN + 9, .comment = "own", .trav_func = follow};
    cr_assert(H5Lregister(&own) >= 0);
    file = spoil(path);
    cr_assert(H5Lcreate_ud(file, LUONG_W, own.id, "x", 1, H5P_DEFAULT, H5P_DEFAULT) >= 0);
    H5Fclose(file);
    expect_refusal(path, 2, "kernel:0: is a link of an unknown kind");
    file = spoil(path);
    H5Lcreate_hard(file, "/", file, "/model_weights/attention/loop", H5P_DEFAULT, H5P_DEFAULT);
    H5Fclose(file);
    expect_refusal(path, 2, "nested more than");
    clean_up();
}

Test(refusals, storage_is_refused) {
    const char *path = in_scratch("bad.h5");
    const struct {
        int kind;
        const char *message;
    } rows[] = {{0, "has filters"}, {1, "has external storage"}, {2, "has virtual storage"}, {3, "has chunked storage"},
                {4, "has no data"}, {5, "has filters"},          {6, "has filters"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const hid_t file = spoil(path), plan = H5Pcreate(H5P_DATASET_CREATE),
                    space = H5Screate_simple(2, eight_by_eight, NULL);
        const bool chunked = rows[i].kind == 0 || rows[i].kind == 3 || rows[i].kind > 4;
        if (chunked) H5Pset_chunk(plan, 2, eight_by_eight);
        if (rows[i].kind == 0) H5Pset_deflate(plan, 6);
        if (rows[i].kind == 5) H5Pset_shuffle(plan);
        if (rows[i].kind == 6) H5Pset_fletcher32(plan);
        if (rows[i].kind == 1) H5Pset_external(plan, "/etc/passwd", 0, 256);
        if (rows[i].kind == 2) H5Pset_virtual(plan, space, "/etc/passwd", "/x", space);
        put(file, H5T_IEEE_F32LE, 2, eight_by_eight, plan, chunked);
        H5Sclose(space);
        H5Pclose(plan);
        H5Fclose(file);
        expect_refusal(path, 2, rows[i].message);
    }
    clean_up();
}

Test(refusals, wrong_weights_are_refused) {
    const char *path = in_scratch("bad.h5");
    const hsize_t huge[] = {1 << 20, 1 << 20}, wrong[] = {8, 9}, cube[] = {8, 8, 1}, none[] = {0, 0};
    const struct {
        hid_t type;
        int rank;
        const hsize_t *shape;
        const char *message;
    } rows[] = {{H5T_IEEE_F32BE, 2, eight_by_eight, "little-endian"},
                {H5T_C_S1, 2, eight_by_eight, "little-endian"},
                {H5T_STD_I32LE, 2, eight_by_eight, "not of floating point"},
                {H5T_IEEE_F32LE, 2, wrong, "luong_w has"},
                {H5T_IEEE_F32LE, 3, cube, "not a matrix"},
                {H5T_IEEE_F32LE, 0, NULL, "not a matrix"},
                {H5T_IEEE_F32LE, 2, none, "without elements"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const hid_t file = spoil(path);
        put(file, rows[i].type, rows[i].rank, rows[i].shape, H5P_DEFAULT, rows[i].type != H5T_C_S1);
        H5Fclose(file);
        expect_refusal(path, 2, rows[i].message);
    }
    const hid_t file = spoil(path), late = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_alloc_time(late, H5D_ALLOC_TIME_LATE);
    put(file, H5T_IEEE_F32LE, 2, huge, late, false);
    H5Pclose(late);
    H5Fclose(file);
    expect_refusal(path, 2, "larger than its file");
    clean_up();
}

Test(refusals, types_that_no_weight_has) {
    const char *path = in_scratch("bad.h5");
    const hid_t pair = H5Tcreate(H5T_COMPOUND, 8), choice = H5Tenum_create(H5T_STD_I32LE),
                odd = H5Tcopy(H5T_IEEE_F32LE);
    H5Tinsert(pair, "a", 0, H5T_IEEE_F32LE);
    H5Tinsert(pair, "b", 4, H5T_IEEE_F32LE);
    H5Tenum_insert(choice, "one", &(int){1});
    H5Tset_fields(odd, 30, 22, 8, 0, 22);
    const hid_t types[] = {pair,
                           choice,
                           odd,
                           H5Tvlen_create(H5T_IEEE_F32LE),
                           H5Tarray_create2(H5T_IEEE_F32LE, 1, (hsize_t[]){3}),
                           H5Tcreate(H5T_OPAQUE, 4),
                           H5T_STD_B32LE,
                           H5T_STD_REF_OBJ};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        const hid_t file = spoil(path);
        put(file, types[i], 2, eight_by_eight, H5P_DEFAULT, false);
        H5Fclose(file);
        expect_refusal(path, 2, "attention/luong_w/kernel:0: is not of little-endian numbers");
    }
    const hsize_t shape[] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
    hid_t file = spoil(path);
    put(file, H5T_IEEE_F32LE, 9, shape, H5P_DEFAULT, true);
    H5Fclose(file);
    expect_refusal(path, 2, "more dimensions than a weight");
    file = spoil(path);
    cr_assert(H5Tcommit2(file, LUONG_W, odd, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT) >= 0);
    H5Tclose(odd); /* it would keep the file open */
    H5Fclose(file);
    expect_refusal(path, 2, "neither a group nor a dataset");
    clean_up();
}

/* ---- Attributes ---- */

#define ATTENTION_GROUP "/model_weights/attention"

/* Gives a group of the model an attribute of texts, or of a number when there are none, in the place of another. */
static void replace_list(const char *path, const char *group, const char *name, const char *text, hsize_t count) {
    const hid_t file = spoil(path), at = H5Gopen2(file, group, H5P_DEFAULT), type = H5Tcopy(H5T_C_S1);
    const hid_t space = H5Screate_simple(1, (hsize_t[]){count ? count : 1}, NULL);
    put(file, H5T_IEEE_F32LE, 2, eight_by_eight, H5P_DEFAULT, true);
    H5Adelete(at, name);
    if (count) {
        H5Tset_size(type, strlen(text) / count);
        const hid_t list = H5Acreate2(at, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
        cr_assert(list >= 0 && H5Awrite(list, type, text) >= 0);
        H5Aclose(list);
    } else if (text) {
        const hid_t list = H5Acreate2(at, name, H5T_STD_I32LE, space, H5P_DEFAULT, H5P_DEFAULT);
        cr_assert(list >= 0);
        H5Aclose(list);
    }
    H5Sclose(space);
    H5Tclose(type);
    H5Gclose(at);
    H5Fclose(file);
}

Test(refusals, lists_of_names) {
    const char *path = in_scratch("bad.h5");
    const struct {
        const char *group, *name, *text;
        hsize_t count;
        const char *message;
    } rows[] = {
        {"/model_weights", "layer_names", "", 0, "\"layer_names\": is not of strings"},
        {"/model_weights", "layer_names", "nobody", 1, "layer_names lists \"nobody\""},
        {"/model_weights", "layer_names", "..", 1, "layer_names lists \"..\""},
        {"/model_weights", "layer_names", NULL, 0, "without the groups that Keras writes"},
        {"/model_weights", "layer_names", "attentionattention", 2, "two layers named \"attention\""},
        {ATTENTION_GROUP, "weight_names", "", 0, "\"weight_names\": is not of strings"},
        {ATTENTION_GROUP, "weight_names", NULL, 0, "/model_weights/attention: has no weight_names"},
        {ATTENTION_GROUP, "weight_names", "../../model_weights/lstm/lstm/lstm_cell/kernel:0", 1, "which is not there"},
        {ATTENTION_GROUP, "weight_names", "/etc/passwd", 1, "which is not there"},
        {ATTENTION_GROUP, "weight_names", "attention", 1, "lists \"attention\", which is not there"},
        {ATTENTION_GROUP, "weight_names", "attention/attention_vector/kernel:0", 1,
         "its 1 weights are neither luong_w and w_c"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        replace_list(path, rows[i].group, rows[i].name, rows[i].text, rows[i].count);
        expect_refusal(path, 2, rows[i].message);
    }
    clean_up();
}

static void replace_config(const char *path, const char *text) {
    const hid_t file = spoil(path), type = H5Tcopy(H5T_C_S1), space = H5Screate(H5S_SCALAR);
    put(file, H5T_IEEE_F32LE, 2, eight_by_eight, H5P_DEFAULT, true);
    H5Adelete(file, "model_config");
    H5Tset_size(type, strlen(text) + 1);
    const hid_t plan = H5Acreate2(file, "model_config", type, space, H5P_DEFAULT, H5P_DEFAULT);
    cr_assert(plan >= 0 && H5Awrite(plan, type, text) >= 0);
    H5Aclose(plan);
    H5Sclose(space);
    H5Tclose(type);
    H5Fclose(file);
}

#define ATTENTION_CONFIG(units, score)                                                                                 \
    "{\"class_name\":\"Sequential\",\"config\":{\"name\":\"s\",\"layers\":[{\"class_name\":\"LSTM\",\"config\":{"      \
    "\"name\":\"lstm\",\"units\":8}},"                                                                                 \
    "{\"class_name\":\"Attention\",\"config\":{\"name\":\"attention\",\"units\":" units ",\"score\":\"" score "\"}},"  \
    "{\"class_name\":\"Dense\",\"config\":{\"name\":\"dense\",\"units\":1}}]}}"

Test(refusals, weights_against_the_configuration) {
    const char *path = in_scratch("bad.h5");
    replace_config(path, ATTENTION_CONFIG("6", "luong"));
    CONVERT(path, in_scratch("good.safetensors"));
    cr_assert(got.code == 0, "%s", got.out);
    replace_config(path, ATTENTION_CONFIG("7", "luong"));
    expect_refusal(path, 2, "its configuration says luong with 7");
    replace_config(path, ATTENTION_CONFIG("6", "bahdanau"));
    expect_refusal(path, 2, "its configuration says bahdanau");
    replace_config(path, "{\"class_name\":\"Sequential\",\"config\":{\"layers\":[]}}");
    expect_refusal(path, 3, "no attention layer");
    replace_config(path, "{\"class_name\":");
    expect_refusal(path, 2, "model_config: byte");
    clean_up();
}

/* The parser's own texts name its flags and quote what it met; a message has our words and the place. */
Test(refusals, broken_json_in_our_words) {
    static const struct {
        const char *text, *message;
    } rows[] = {
        {"{\"class_name\":", "model_config: byte 14: the JSON ends too early"},
        {"{\"a\":1,}", "model_config: byte 8: not valid JSON"},
        {"{\"a\":1} x", "model_config: byte 9: more text after the end of the JSON"},
        {"{\"a\":1,\"a\":2}", "duplicate name in an object"},
        {"{\"a\":\"\\u0000\"}", "a string with the character NUL"},
        {"{\"\\u0000\":1}", "the character NUL"},
        {"{\"a\":\"\377\"}", "text that is not UTF-8"},
        {"{\"a\":99999999999999999999}", "a number out of range"},
        {"{\"a\":\"\n\"}", "a newline within a string"},
        {"{\"a\":\"\001\"}", "a control character within a string"},
        {"{\"a\":\"\\q\"}", "an unknown escape in a string"},
        {"{\"a\":1e999}", "a number out of range"},
    };
    const char *path = in_scratch("bad.h5");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        replace_config(path, rows[i].text);
        expect_refusal(path, 2, rows[i].message);
        cr_assert(!strstr(got.out, "JSON_") && !strstr(got.out, "near"), "%s", got.out);
    }
    clean_up();
}

/* Which attention a model has instead, by name and class, at any depth. */
Test(refusals, other_attention_is_named) {
    const char *path = in_scratch("bad.h5");
    replace_config(path, "{\"class_name\":\"Sequential\",\"config\":{\"layers\":["
                         "{\"class_name\":\"Attention\",\"config\":{\"name\":\"own\",\"use_scale\":true}},"
                         "{\"class_name\":\"TimeDistributed\",\"config\":{\"name\":\"each\",\"layer\":{\"class_name\":"
                         "\"Functional\",\"config\":{\"name\":\"inner\",\"layers\":[{\"class_name\":"
                         "\"Attention\",\"config\":{\"name\":\"deep\",\"score_mode\":\"dot\"}}]}}}}]}}");
    expect_refusal(path, 3,
                   "the attention layers in it are of other kinds: \"own\" (Attention), \"deep\" (Attention)"
                   "; written by Keras 2.8.0");
    clean_up();
}

/* A file of Keras's own making without the layer: an LSTM and a Dense with the attention's group renamed away. */
Test(refusals, no_attention_layer) {
    const char *path = in_scratch("none.h5");
    const hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    H5Fclose(file);
    expect_refusal(path, 2, "without the groups that Keras writes");
    write_file(path, "\211HDF\r\n\032\n", 8);
    expect_refusal(path, 2, "not a readable HDF5 file");
    write_file(path, "hello", 5);
    expect_refusal(path, 2, "neither a Keras file nor safetensors");
    write_file(path, "", 0);
    expect_refusal(path, 2, "neither a Keras file nor safetensors");
    clean_up();
}

Test(refusals, too_many_objects) {
    const char *path = in_scratch("many.h5");
    const hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    const hid_t group = H5Gcreate2(file, "g", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    for (int i = 0; i < 60000; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d", i);
        H5Lcreate_hard(file, "g", group, name, H5P_DEFAULT, H5P_DEFAULT);
    }
    H5Gclose(group);
    H5Fclose(file);
    expect_refusal(path, 2, "more objects than are read");
    clean_up();
}

/* ---- Every truncation, many flips: an error or a right result, never a crash ------------------------------------------------------ */

/* Reads a spoiled file as the program does, without the start of a program. */
static int read_spoiled(const char *data, size_t size, report *result) {
    const reader_options options = {.layer = NULL};
    const int input = memfd_create("spoiled", MFD_CLOEXEC);
    int made = -1;
    cr_assert(input >= 0 && write(input, data, size) == (ssize_t)size);
    const int code = sandbox_run(input, size, &options, result, &made);
    close(input);
    if (code != EXIT_CONVERTED) return code;
    attn_weights_file *file;
    cr_assert(attn_weights_open_fd(made, 0, &file) == ATTN_OK && attn_weights_count(file) > 0, "%s",
              attn_last_error_message());
    attn_weights_close(file);
    close(made);
    return code;
}

static void truncate_at_steps(const char *path, char *data, size_t size, size_t step) {
    report result;
    for (size_t kept = 1; kept < size; kept += step) {
        const int code = read_spoiled(data, kept, &result);
        cr_assert(code >= EXIT_REFUSED && code <= EXIT_LIMIT && *result.message, "%s: %zu bytes: %d", path, kept, code);
    }
}

/* Whether it converted all the same: then the bit was of no matter, or of a weight. */
static bool flip(const char *path, char *data, size_t size, size_t bit) {
    report result;
    data[bit / 8] = (char)(data[bit / 8] ^ 1 << bit % 8);
    const int code = read_spoiled(data, size, &result);
    cr_assert(code == EXIT_CONVERTED || (code >= EXIT_REFUSED && code <= EXIT_LIMIT && *result.message),
              "%s: bit %zu: %d", path, bit, code);
    data[bit / 8] = (char)(data[bit / 8] ^ 1 << bit % 8);
    return code == EXIT_CONVERTED;
}

/* With ATTN_TEST_SLOW every truncation, and every bit of the file's start and end, where its headers are. */
static void spoil_all(const char *path, size_t step, size_t flips) {
    enum { START = 1024, END = 512 };
    const bool slow = getenv("ATTN_TEST_SLOW") != NULL;
    size_t size, converted = 0;
    char *data = read_file(path, &size);
    report result;
    cr_assert(read_spoiled(data, size, &result) == EXIT_CONVERTED, "%s: %s", path, result.message);
    truncate_at_steps(path, data, size, slow ? 1 : step);
    uint64_t state = 7;
    for (size_t i = 0; i < flips; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        converted += flip(path, data, size, (size_t)(state >> 20) % (size * 8));
    }
    for (size_t byte = 0; slow && byte < size; byte = byte + 1 == START ? size - END : byte + 1)
        for (size_t bit = 0; bit < 8; bit++) flip(path, data, size, byte * 8 + bit);
    cr_assert(converted < flips, "%s: every flip converted", path);
    free(data);
}

Test(refusals, spoiled_hdf5) { spoil_all(MODELS "/functional_luong_tf2.8.weights.h5", 61, 400); }
Test(refusals, spoiled_archive) { spoil_all(MODELS "/functional_bahdanau_tf2.15.keras", 173, 300); }
