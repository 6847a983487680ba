/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/imdb/rows.h"

#include "bench/program.h"

#include <string.h>

const imdb_row rows[ROWS] = {
    [ROW_WITH] = {"with", "with attention", true, false, {88.76, 87.62, 0.14}},
    [ROW_WITHOUT] = {"without", "without attention", false, false, {88.22, 87.02, 0.18}},
    [ROW_RANGES] = {"ranges", "with attention, valid ranges", true, true, {0}},
};

int row_find(const char *name) {
    int found = 0;
    while (found < ROWS && strcmp(rows[found].name, name) != 0) found++;
    return found;
}

nn_model *row_model(const imdb_row *r, uint64_t seed, int threads) {
    nn_model *const model =
        nn_model_create(&(nn_options){.timesteps = CORPUS_STEPS, .batch = ROW_BATCH, .threads = threads, .seed = seed});
    if (!model) fail("out of memory");
    nn_model_add_embedding(model, CORPUS_TOKENS, 32);
    nn_model_add_dropout(model, 0.5);
    nn_model_add_lstm(model, 100, r->attention);
    if (r->attention)
        nn_model_add_attention(model, ATTN_SCORE_LUONG, 128);
    else
        nn_model_add_dense(model, 350, NN_RELU); /* as many parameters as the attention layer, roughly */
    nn_model_add_dropout(model, 0.5);
    nn_model_add_dense(model, 1, NN_SIGMOID);
    if (!nn_model_compile(model, NN_BINARY_CROSSENTROPY, NN_ADAM)) fail("%s", nn_model_error(model));
    return model;
}

nn_data row_data(const imdb_row *r, const corpus_part *part, float *targets) {
    for (size_t i = 0; i < part->count; i++) targets[i] = part->label[i];
    return (nn_data){
        .items = part->count, .tokens = part->tokens, .starts = r->ranges ? part->start : NULL, .y = targets};
}
