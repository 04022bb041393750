/* SPDX-License-Identifier: Apache-2.0
 *
 * The text of tests/golden/key_vectors.txt, as this build computes it: printed by make_key_vectors, compared by
 * test_hash.
 */
#ifndef KVT_KEY_VECTORS_H
#define KVT_KEY_VECTORS_H

#include <stdio.h>

/* Lines of a hash that is not built in are left out. */
void key_vectors_print(FILE *out);

#endif
