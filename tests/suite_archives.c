/* SPDX-License-Identifier: Apache-2.0 */
/* attention-convert: archives made to be refused. */
#include "tests/convert_files.h"
#include "tests/suite.h"

#include <unistd.h>
#include <zip.h>

#define MODELS TEST_DATA "/keras"

/* ---- Archives ------------------------------------------------------------------------------------------------------------------ */

typedef struct member {
    const char *name;
    const char *data;
    size_t size;
    bool deflate;
} member;

static void make_archive(const char *path, const member *members, size_t count) {
    unlink(path);
    zip_t *archive = zip_open(path, ZIP_CREATE, NULL);
    cr_assert(archive != NULL);
    for (size_t i = 0; i < count; i++) {
        const zip_int64_t index =
            zip_file_add(archive, members[i].name, zip_source_buffer(archive, members[i].data, members[i].size, 0), 0);
        cr_assert(index >= 0, "%s", zip_strerror(archive));
        zip_set_file_compression(archive, (zip_uint64_t)index, members[i].deflate ? ZIP_CM_DEFLATE : ZIP_CM_STORE, 0);
    }
    cr_assert(zip_close(archive) == 0);
}

static char *read_member(const char *path, const char *name, size_t *size) {
    zip_t *archive = zip_open(path, ZIP_RDONLY, NULL);
    zip_stat_t about;
    cr_assert(archive && zip_stat(archive, name, 0, &about) == 0);
    char *data = malloc(about.size + 1);
    zip_file_t *file = zip_fopen(archive, name, 0);
    *size = (size_t)zip_fread(file, data, about.size);
    data[*size] = '\0';
    zip_fclose(file);
    zip_discard(archive);
    return data;
}

Test(convert, archives) {
    static char zeros[8 << 20];
    const char *sound = MODELS "/bidirectional_bahdanau_tf2.15.keras", *path = in_scratch("bad.keras");
    size_t config_size, weights_size;
    char *config = read_member(sound, "config.json", &config_size),
         *weights = read_member(sound, "model.weights.h5", &weights_size);
    const char *version = "{\"keras_version\": \"3.1.0\"}";
    const member good[] = {{"config.json", config, config_size, true},
                           {"model.weights.h5", weights, weights_size, true},
                           {"metadata.json", version, strlen(version), false}};
    make_archive(path, good, 3);
    CONVERT(path, in_scratch("good.safetensors"));
    cr_assert(got.code == 0, "%s", got.out);
    make_archive(path, good, 1);
    expect_refusal(path, 2, "no member model.weights.h5");
    make_archive(path, good + 1, 1);
    expect_refusal(path, 2, "no member config.json");
    const member paths[] = {good[0], good[1], {"../evil", "x", 1, false}},
                 inner[] = {good[0], good[1], {"assets/x", "x", 1, false}};
    make_archive(path, paths, 3);
    expect_refusal(path, 2, "\"../evil\" has a path");
    make_archive(path, inner, 3);
    expect_refusal(path, 2, "\"assets/x\" has a path");
    const member bomb[] = {good[0], {"model.weights.h5", zeros, sizeof zeros, true}};
    make_archive(path, bomb, 2);
    expect_refusal(path, 2, "absurd ratio");
    const member text[] = {good[0], {"model.weights.h5", "no HDF5", 7, false}};
    make_archive(path, text, 2);
    expect_refusal(path, 2, "not an HDF5 file");
    const char *other = "{\"class_name\":\"Sequential\",\"config\":{\"layers\":[{\"class_name\":\"Dense\",\"config\":{"
                        "\"name\":\"d\",\"units\":1}}]}}";
    const member keras3[] = {{"config.json", other, strlen(other), false}, good[1], good[2]};
    make_archive(path, keras3, 3);
    expect_refusal(path, 3, "Keras 3.1.0");
    size_t size;
    char *archive = read_file(sound, &size);
    archive[size / 2] ^= 1; /* within the weights */
    write_file(path, archive, size);
    expect_refusal(path, 2, "model.weights.h5");
    free(archive);
    free(config);
    free(weights);
    clean_up();
}
