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

/* Every entry's compression method, in its own header and in the directory. */
static void set_method(const char *path, char method) {
    size_t size;
    char *data = read_file(path, &size);
    for (size_t i = 0; i + 12 < size; i++) {
        if (memcmp(data + i, "PK\003\004", 4) == 0) data[i + 8] = method;
        if (memcmp(data + i, "PK\001\002", 4) == 0) data[i + 10] = method;
    }
    write_file(path, data, size);
    free(data);
}

Test(archives, members) {
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
                 inner[] = {good[0], good[1], {"assets/../x", "x", 1, false}};
    make_archive(path, paths, 3);
    expect_refusal(path, 2, "\"../evil\" has a path");
    make_archive(path, inner, 3);
    expect_refusal(path, 2, "\"assets/../x\" has a path");
    make_archive(path, good, 3);
    set_method(path, 14);
    expect_refusal(path, 2, "compressed by method 14 (LZMA)");
    const char *nul = "{\"class_name\":\"a\\u0000\"}";
    const member words[] = {{"config.json", nul, strlen(nul), false}, good[1]};
    make_archive(path, words, 2);
    expect_refusal(path, 2, "a string with the character NUL");
    const member assets[] = {good[0], good[1], {"assets/layers/text_vectorization/vocabulary.txt", "x", 1, false}};
    make_archive(path, assets, 3);
    CONVERT(path, in_scratch("good.safetensors"));
    cr_assert(got.code == 0, "%s", got.out);
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

/* ---- Members that are not what they seem ---- */

static const char *const sound_file = MODELS "/functional_bahdanau_tf2.15.keras";

static void fill(member *members) {
    static const char *const names[] = {"config.json", "model.weights.h5", "metadata.json"};
    for (size_t i = 0; i < 3; i++) {
        members[i] = (member){.name = names[i]};
        members[i].data = read_member(sound_file, names[i], &members[i].size);
    }
}

static void release(const member *members) {
    for (size_t i = 0; i < 3; i++) free((void *)members[i].data);
}

/* Applies a change to each place where the archive holds some bytes. */
static void replace_bytes(const char *path, const char *from, const char *to) {
    size_t size, found = 0;
    char *data = read_file(path, &size);
    const size_t length = strlen(from);
    for (size_t i = 0; i + length <= size; i++)
        if (memcmp(data + i, from, length) == 0) {
            memcpy(data + i, to, length);
            found++;
        }
    cr_assert(found >= 2, "%s: %zu places", from, found);
    write_file(path, data, size);
    free(data);
}

Test(archives, twice_the_same_member) {
    member members[4];
    const char *path = in_scratch("twice.keras");
    fill(members);
    members[3] = (member){"config.jsom", "{}", 2, false};
    make_archive(path, members, 4);
    replace_bytes(path, "config.jsom", "config.json");
    expect_refusal(path, 2, "");
    release(members);
    clean_up();
}

Test(archives, names_that_lead_elsewhere) {
    static const char *const names[] = {"xxetcxpasswd", "xxxxxxxxxxxx"}, *const lead[] = {"/etc/passwd_",
                                                                                          "..\\..\\a\\bcd"};
    member members[4];
    const char *path = in_scratch("elsewhere.keras");
    fill(members);
    for (size_t i = 0; i < 2; i++) {
        members[3] = (member){names[i], "x", 1, false};
        make_archive(path, members, 4);
        replace_bytes(path, names[i], lead[i]);
        expect_refusal(path, 2, "has a path");
    }
    release(members);
    clean_up();
}

Test(archives, symbolic_link) {
    member members[3];
    const char *path = in_scratch("link.keras");
    fill(members);
    const char *config = members[0].data;
    const size_t size = members[0].size;
    members[0].data = "/etc/passwd";
    members[0].size = strlen(members[0].data);
    make_archive(path, members, 3);
    zip_t *archive = zip_open(path, 0, NULL);
    cr_assert(archive && zip_file_set_external_attributes(archive, 0, 0, ZIP_OPSYS_UNIX, 0120777u << 16) == 0);
    cr_assert(zip_close(archive) == 0);
    expect_refusal(path, 2, "model_config: byte");
    members[0].data = config;
    members[0].size = size;
    release(members);
    clean_up();
}

Test(archives, encrypted_member) {
    member members[3];
    const char *path = in_scratch("secret.keras");
    fill(members);
    make_archive(path, members, 3);
    zip_t *archive = zip_open(path, 0, NULL);
    cr_assert(archive && zip_file_set_encryption(archive, 1, ZIP_EM_TRAD_PKWARE, "word") == 0);
    cr_assert(zip_close(archive) == 0);
    expect_refusal(path, 2, "\"model.weights.h5\" is encrypted");
    release(members);
    clean_up();
}

Test(archives, too_many_members) {
    static member members[70];
    static char names[70][16];
    const char *path = in_scratch("many.keras");
    fill(members);
    for (size_t i = 3; i < 70; i++) {
        snprintf(names[i], sizeof names[i], "member%zu", i);
        members[i] = (member){names[i], "x", 1, false};
    }
    make_archive(path, members, 70);
    expect_refusal(path, 2, "70 members, at most 64");
    release(members);
    clean_up();
}

/* A hole of a file as the member, so that only its size is large. */
Test(archives, size_past_the_limit) {
    member members[3];
    const char *path = in_scratch("large.keras"), *hole = in_scratch("hole");
    fill(members);
    write_file(hole, "", 0);
    cr_assert(truncate(hole, (off_t)200 << 20) == 0);
    make_archive(path, members, 1);
    zip_t *archive = zip_open(path, 0, NULL);
    cr_assert(archive != NULL);
    const zip_int64_t index = zip_file_add(archive, "model.weights.h5", zip_source_file(archive, hole, 0, -1), 0);
    cr_assert(index >= 0 && zip_set_file_compression(archive, (zip_uint64_t)index, ZIP_CM_STORE, 0) == 0);
    cr_assert(zip_close(archive) == 0);
    expect_refusal(path, 5, "209715200 bytes, at most 184549376 are read");
    release(members);
    clean_up();
}
