/* SPDX-License-Identifier: Apache-2.0 */
/* Keras 3 may lay the weights of a model into several files, its shards: x_00000.weights.h5 and so on, listed in
 * x.weights.json. */
#ifndef ATTN_CONVERT_SHARDS_H
#define ATTN_CONVERT_SHARDS_H

/* Says on standard error which weights a shard lacks, as the list beside it tells, when path names a shard. */
void shards_report(const char *path);

#endif
