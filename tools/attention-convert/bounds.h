/* SPDX-License-Identifier: Apache-2.0 */
/* What the converter takes from a file before it refuses. Real models stay far below. */
#ifndef ATTN_CONVERT_BOUNDS_H
#define ATTN_CONVERT_BOUNDS_H

#define LIMIT_FILE ((size_t)1 << 30)       /* bytes of input; mapped, so only what is read takes memory */
#define LIMIT_TENSORS ((size_t)192 << 20)  /* bytes of weights converted */
#define LIMIT_HEAP ((size_t)224 << 20)     /* the reader's heap: libraries, tree, an archive's member */
#define LIMIT_MEMBER ((size_t)176 << 20)   /* bytes of an archive's member, uncompressed */
#define LIMIT_CONFIG ((size_t)8 << 20)     /* bytes of a model's configuration */
#define LIMIT_ATTRIBUTE ((size_t)16 << 20) /* bytes of any attribute's strings together */
#define LIMIT_OBJECTS 50000                /* groups, datasets and links of an HDF5 file */
#define LIMIT_DEPTH 24                     /* of nested groups and of nested models */
#define LIMIT_MEMBERS 64                   /* of an archive */
#define LIMIT_RATIO 50                     /* of an archive's member, uncompressed to compressed */
#define LIMIT_NAME 1024                    /* bytes of a name */
#define LIMIT_RANK 8                       /* dimensions of a weight */
#define LIMIT_CPU_SECONDS 6                /* of the reader */
#define LIMIT_WALL_MILLISECONDS 8000       /* of the reader, waited for */

#endif
